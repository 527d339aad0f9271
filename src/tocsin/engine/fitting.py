"""Fit: the tables that a history makes, written out as versioned tables.

Enters: detections with a fit, events. Leaves: one ``Table`` per detection, valid from the first boundary after the
history. Layer: engine. The running engine keeps the same numbers current by itself; a written table is for the
audit, for another system, or to freeze a baseline: it may be given to a detection as ``against=``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tocsin.calendars import moment
from tocsin.detection import ref_name
from tocsin.engine.replay import backtest
from tocsin.errors import RuleError
from tocsin.fits import Limit, OwnHistory, Population
from tocsin.kernels.statistics import summarise
from tocsin.kernels.windows import NEVER, gather_baseline
from tocsin.running.windowed import WindowState, codes_of
from tocsin.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from tocsin.detection import Detection
    from tocsin.engine.replay import Backtest
    from tocsin.fits import Fit
    from tocsin.references import References
    from tocsin.sources import Events


def fit(
    detections: Iterable[Detection],
    events: Events,
    refs: References | None = None,
    *,
    until: datetime | None = None,
    **options: Any,
) -> dict[str, Table]:
    """Return the table of each detection that has a fit, as it holds for the window after the history.

    An own-history table has a row per entity, a population or limit table one row. ``valid_from`` is the begin of that
    window. A detection with several fits has a table for each, named ``<id>.<name>``. ``options`` are those of ``backtest``.

    Raises:
        RuleError: None of the detections has a fit.
    """
    fitted = [d for d in detections if d.fits]
    if not fitted:
        raise RuleError("None of these detections has a fit (against=own_history(...), population(...) or limit(...)).")
    past = backtest(fitted, events, refs, until=until, **options)
    run = [d for d in fitted if d.id not in past.engine.skipped]
    return {f"{d.id}.{name}" if name else d.id: _table(d, name, fit, past) for d in run for name, fit in d.fits.items()}


def _table(detection: Detection, name: str, fit: Fit, past: Backtest) -> Table:
    planned = next(p for p in past.engine.plan.planned if p.detection.id == detection.id)
    key, column = planned.columns[ref_name(name, fit.columns[0])]
    state: Any = past.state.running[key]
    if isinstance(fit, Limit):
        return _limit_table(detection, fit, state)
    next_window = _next_window(state)
    if isinstance(fit, Population):
        state.close(next_window)
        index = int(column.split(".")[0].removeprefix("pop"))
        return _one_row(detection, fit, state.pop[index], state.calendar.begin(next_window), state.width)
    assert isinstance(fit, OwnHistory)
    return _own_table(detection, fit, state, past, next_window)


def _next_window(state: WindowState) -> int:
    seen = state.win[state.win != NEVER]
    return max(int(seen.max()) + 1, state.current) if seen.size else 0


def _limit_table(detection: Detection, fit: Limit, state: Any) -> Table:
    day = 0 if state.today is None else state.today + 1
    state.open(day)
    return _one_row(detection, fit, np.array(state.row), state.calendar.begin(day), 1)


def _one_row(detection: Detection, fit: Fit, row: Any, valid_from: int, width: int) -> Table:
    names = fit.columns
    values = [*row[: len(names) - 1].tolist(), float(row[width])]
    frame = pl.DataFrame({"entity_kind": [detection.entity]} | {n: [v] for n, v in zip(names, values, strict=True)})
    return Table(
        detection.id,
        frame.with_columns(pl.col(names).fill_nan(None)),
        ("entity_kind",),
        names,
        moment(valid_from),
        detection.tier,
    )


def _own_table(detection: Detection, own: OwnHistory, state: WindowState, past: Backtest, window: int) -> Table:
    state.enter_late(window)
    codes, quantiles = (np.array(x) for x in codes_of(own, state.width))
    names = past.state.slots[detection.entity].names
    buffer, out = np.empty(own.windows), np.full((len(names), state.width + 1), np.nan)
    for slot in np.flatnonzero(state.first[: len(names)] != NEVER).tolist():
        n = gather_baseline(
            slot,
            window - own.skip * own.stride,
            own.windows,
            own.stride,
            state.op,
            state.scale,
            state.win,
            state.acc,
            state.ring,
            state.first,
            state.missing,
            state.fired,
            buffer,
        )
        summarise(buffer, n, codes, quantiles, own.at_least, out[slot])
    columns = {c: out[:, i] for i, c in enumerate(own.columns[:-1])} | {"n": out[:, state.width]}
    frame = pl.DataFrame({detection.entity: names} | columns).with_columns(pl.col(own.columns).fill_nan(None))
    frame = frame.filter(pl.col("n").is_not_null()).sort(detection.entity)
    return Table(
        detection.id, frame, (detection.entity,), own.columns, moment(state.calendar.begin(window)), detection.tier
    )
