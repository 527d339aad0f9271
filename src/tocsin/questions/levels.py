"""When did the level of something change: events a day, over the whole log or those that a condition picks.

Enters: events. Leaves: an `Answer`. The search is that of `tocsin.stats.changepoints`. Layer: questions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tocsin.answers import Answer
from tocsin.calendars import Calendar, instant_us
from tocsin.errors import SourceError
from tocsin.stats import changepoints
from tocsin.views.regimes import chart_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import polars as pl

    from tocsin.sources import Events

LEAST_DAYS = 14


def change_points(
    events: Events,
    *,
    zone: str = "UTC",
    on: pl.Expr | None = None,
    method: str = "counts",
    gaps: Sequence[tuple[datetime, datetime]] = (),
    **options: Any,
) -> Answer:
    """Find the days on which the number of events a day changed for good.

    Days are those of ``zone``, from the first to the last complete one of the log; a day without events is zero, one in
    ``gaps`` is unknown. ``method`` and ``options`` are those of ``tocsin.stats.changepoints.find``; the default knows
    weekdays, sets single odd days apart, and is calibrated to find less than one change in fifty quiet years.

    Raises:
        SourceError: Fewer than 14 complete days.
        StatisticsError: No such method or option.
    """
    calendar = Calendar("1d", zone)
    counts, span = _daily(events, calendar, on)
    days = range(span.start + 1, span.stop - 1)
    if len(days) < LEAST_DAYS:
        raise SourceError(
            f"{events.name} has {max(len(days), 0)} complete days in {zone}; change points need {LEAST_DAYS}."
        )
    values = np.array([counts.get(day, 0) for day in days], np.float64)
    missing = {w for a, b in gaps for w in calendar.touched(instant_us(a), instant_us(b))}
    values[[day in missing for day in days]] = np.nan
    first, last = (str(np.datetime64(day, "D")) for day in (days[0], days[-1]))
    found = changepoints.find(values, method=method, start=first, **options)
    title = f"When did the number of events a day change ({zone})?"
    p_any = (
        f"; the chance that a steady log wanders as this one does is {found.p_any:.3g}"
        if np.isfinite(found.p_any)
        else ""
    )
    definition = (
        f"{len(found)} changes in {len(days):,} complete days, {first} to {last}{p_any}. A row is a "
        "regime: the mean of its days, the level as fitted (weekdays and odd days taken out), the change it begins with as a ratio "
        "(counts) or a difference, p of that change between its neighbours, and the interval of its first day. The first and the last "
        f"day of the log are left out, as they may be cut; {int(np.isnan(values).sum())} days are unknown, {found.outliers.size} set apart."
    )
    facts = {"changes": len(found), "days": len(days), "p_any": found.p_any, "outliers": int(found.outliers.size)}
    chart = chart_of(found, title, f"day ({zone})", "events")
    return Answer(title, definition, found.to_frame(), found.warnings, chart=chart, facts=facts)


def _daily(events: Events, calendar: Calendar, on: pl.Expr | None) -> tuple[dict[int, int], range]:
    """Return the number of picked events by day, and the days from the first event of the log to its last."""
    counts: dict[int, int] = {}
    ends: list[int] = []
    for batch in events.batches(list(on.meta.root_names()) if on is not None else []):
        if batch.height:
            t = batch["timestamp"].dt.epoch("us")
            ends += [int(t.min()), int(t.max())]  # type: ignore[arg-type]
            rows = batch if on is None else batch.filter(on)
            numbers, n = np.unique(calendar.number(rows["timestamp"].dt.epoch("us").to_numpy()), return_counts=True)
            for day, count in zip(numbers.tolist(), n.tolist(), strict=True):
                counts[day] = counts.get(day, 0) + count
    if not ends:
        return {}, range(0)
    first, last = calendar.number(np.array([min(ends), max(ends)], np.int64)).tolist()
    return counts, range(first, last + 1)
