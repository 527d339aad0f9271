"""Apply: one detection over the events of a step.

Enters: a planned detection, rows, the columns its measure and fit made, its tally and firing state. Leaves: new
findings, raised peaks, and on request the score of every event. Layer: engine, last stage.

Expressions see only the columns they name; everything a finding shows is gathered for the few events that fire.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tocsin.engine import findings as fnd
from tocsin.engine.plan import SHOWN
from tocsin.engine.score import score
from tocsin.expressions import root_names
from tocsin.kernels.streams import keep_peaks
from tocsin.kernels.windows import NEVER
from tocsin.measures import Spanned
from tocsin.tables import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tocsin.detection import Detection
    from tocsin.engine.plan import Planned
    from tocsin.engine.score import Scored
    from tocsin.references import References
    from tocsin.running import Arrays, Part, Rows


@dataclass
class Tally:
    """What one detection did so far."""

    events: int = 0
    scored: int = 0
    fired: int = 0
    findings: int = 0
    suppressed: int = 0
    unscored: dict[str, int] = field(default_factory=dict)
    error: str = ""

    def skip(self, reason: str, n: int) -> None:
        """Count ``n`` events as unscored."""
        if n:
            self.unscored[reason] = self.unscored.get(reason, 0) + n


@dataclass
class Applied:
    """What one detection gave for some events. ``slot`` and ``window``: whom and when it fired, for fits that feed back."""

    slot: NDArray[np.int64]
    window: NDArray[np.int64]
    findings: pl.DataFrame | None = None
    peaks: pl.DataFrame | None = None
    scores: pl.DataFrame | None = None


def apply(
    planned: Planned,
    rows: Rows,
    columns: Mapping[str, Arrays],
    tally: Tally,
    firing: fnd.Firing,
    *,
    refs: References | None = None,
    reported: bool = True,
    keep_scores: bool = False,
) -> Applied | None:
    """Score the events that take part, count what was not scored, and write findings for what fires.

    ``reported=False``: the events are history; only what feeds back into fits is returned.
    """
    detection = planned.detection
    part = rows.part(detection.on, detection.entity)
    if reported:
        tally.events += part.n_on
        tally.skip("no_entity", part.n_on - len(part))
    if not len(part):
        return None
    scored = score(detection, _scope(planned, part, columns), tally.unscored.get("error", 0))
    fired = np.flatnonzero(scored.fired)
    if part.index is not None:
        fired = part.index[fired]
    window = (
        rows.windows(detection.measure.calendar)
        if detection.windowed and isinstance(detection.measure, Spanned)
        else None
    )
    applied = Applied(rows.slots[detection.entity][fired], fired if window is None else window[fired])
    if not reported:
        return applied
    failed = _first_error(planned, part, scored) if scored.error and not tally.error else None
    count_scored(tally, scored, len(part))
    slots, t = part.some(rows.slots[detection.entity]), part.some(rows.t)
    keep_peaks(slots, scored.score, t, fnd.sign(detection), firing.best, firing.best_t)
    if keep_scores:
        applied.scores = _scores(part, scored)
    if fired.size:
        tally.fired += fired.size
        _write(applied, planned, rows, columns, _Fired(fired, scored.score[scored.fired], window), tally, firing, refs)
    if failed is not None:
        applied.findings = failed if applied.findings is None else pl.concat([failed, applied.findings])
    return applied


def _first_error(planned: Planned, part: Part, scored: Scored) -> pl.DataFrame:
    """Return the finding for the first event on which a rule raised."""
    at = scored.error_row if part.index is None else int(part.index[scored.error_row])
    return fnd.write_error(planned.detection, part.rows.frame[at : at + 1], scored.error)


@dataclass(frozen=True)
class _Fired:
    """The events that fired: their rows, their scores, and the window numbers of all rows (None without windows)."""

    rows: NDArray[np.int64]
    score: NDArray[np.float64]
    window: NDArray[np.int64] | None

    def only(self, places: NDArray[np.int64]) -> _Fired:
        """Return some of them."""
        return _Fired(self.rows[places], self.score[places], self.window)


def _write(
    applied: Applied,
    planned: Planned,
    rows: Rows,
    columns: Mapping[str, Arrays],
    fired: _Fired,
    tally: Tally,
    firing: fnd.Firing,
    refs: References | None,
) -> None:
    """Turn fired events into findings; those of an allow-listed entity are marked, never dropped."""
    detection, new = planned.detection, fired
    if fired.window is not None:
        slot = rows.slots[detection.entity][fired.rows]
        first, raised = firing.open_windows(slot, fired.window[fired.rows], fired.score, fnd.sign(detection))
        new = fired.only(first)
        if raised.size:
            applied.peaks = fnd.peaks(
                detection, _fired_frame(planned, rows, {}, fired.only(raised), [detection.entity])
            )
    if not new.rows.size:
        return
    shown = [*SHOWN, *detection.reads, *detection.evidence, *planned.contexts]
    written = fnd.write(detection, _fired_frame(planned, rows, columns, new, shown), refs.digest if refs else "")
    applied.findings = refs.suppress(written) if refs is not None else written
    tally.findings += written.height
    tally.suppressed += written.height - applied.findings["suppressed_by"].null_count()


def count_scored(tally: Tally, scored: Scored, n: int) -> None:
    """Count what was scored of ``n`` rows, and why the others were not."""
    for reason, count in scored.unscored.items():
        tally.skip(reason, count)
    tally.scored += n - sum(scored.unscored.values())
    tally.error = tally.error or scored.error


def _scores(part: Part, scored: Scored) -> pl.DataFrame:
    ids = part.column("event_id")
    return pl.DataFrame({"event_id": ids, "score": pl.Series(scored.score).fill_nan(None), "fired": scored.fired})


def _scope(planned: Planned, part: Part, columns: Mapping[str, Arrays]) -> pl.DataFrame:
    """Return the columns that score and condition name, for the events that take part."""
    detection = planned.detection
    names = {n for e in (detection.score, detection.when.expression) for n in root_names(e)}
    if isinstance(detection.against, Table):
        names |= {*detection.against.key, "timestamp"}
    series = [part.column(c) for c in sorted(names) if c in part.rows.frame.columns]
    made = names | {"@prev.timestamp"}  # tells "no previous event" from "undefined"
    series += [made_series(n, part.some(columns[key][c])) for n, (key, c) in planned.columns.items() if n in made]
    return joined(detection, pl.DataFrame(series or {"@row": np.arange(len(part))}))


def joined(detection: Detection, frame: pl.DataFrame) -> pl.DataFrame:
    """Add the columns of a fitted or reference table that was given as ``against=``."""
    if not isinstance(detection.against, Table):
        return frame
    table = detection.against
    joined = table.join(frame.select(*table.key, *({"timestamp"} - set(table.key))))
    return frame.with_columns(joined[v].alias(f"@ref.{v}") for v in table.values)


def _fired_frame(
    planned: Planned, rows: Rows, columns: Mapping[str, Arrays], fired: _Fired, shown: Sequence[str]
) -> pl.DataFrame:
    """Gather what is shown of the events that fired, the columns made for them, and who, when and how much."""
    series = [rows.frame[c][fired.rows] for c in rows.frame.columns if c in shown]
    if columns:
        series += [made_series(name, columns[key][c][fired.rows]) for name, (key, c) in planned.columns.items()]
    frame = joined(planned.detection, pl.DataFrame(series)) if columns else pl.DataFrame(series)
    window = [None] * fired.rows.size if fired.window is None else fired.window[fired.rows]
    return frame.hstack(
        [
            pl.Series("@slot", rows.slots[planned.detection.entity][fired.rows]),
            pl.Series("@score", fired.score),
            pl.Series("@window", window, pl.Int64),
        ]
    )


def made_series(name: str, array: Any) -> pl.Series:
    """Return a column the engine made: NaN is null, a time is a time."""
    if name.endswith("@prev.timestamp"):
        series = pl.Series(name, array)
        return series.set(series == int(NEVER), None).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if array.dtype == object:
        return pl.Series(name, array.tolist(), dtype=pl.String)
    return pl.Series(name, np.ascontiguousarray(array), nan_to_null=True)
