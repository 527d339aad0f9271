"""The slow reference of rules that are asked when a window closes: every entity, at every close, from all past events.

Enters: an arrival log, specs with ``quiet_after``. Leaves: for every spec its `Closing`s, one for each window that closed
and each entity that was known before it. Layer: tests. There is no state: a close is a pure function of the whole log.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from tests.oracle import (
    COUNTING,
    Columns,
    Fitting,
    Match,
    Spec,
    calendar_of,
    columns_read,
    evaluated,
    matching,
    value_of,
    with_context,
)
from tests.oracle_time import Calendar, End, Record, judge, to_us

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.oracle_time import Judged

Gaps = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Closing:
    """One entity at one close: its columns and score, or why it was not asked (`gone`, `uncovered`)."""

    entity: str
    begin_us: int
    end_us: int
    why: str
    cells: Columns
    score: float | None
    fired: bool


def closings(
    log: list[Record],
    specs: Sequence[Spec],
    *,
    schema: dict[str, Any],
    lateness: int,
    dedup_horizon: int,
    future_skew: int | None = None,
    gaps: Gaps = (),
) -> dict[str, list[Closing]]:
    """What every spec says at every close, in order of the windows' ends, then of the entities' names."""
    read = frozenset(c for s in specs for c in columns_read(s))
    judged, frontiers = judge(log, lateness=lateness, dedup_horizon=dedup_horizon, future_skew=future_skew, read=read)
    until = _until(log, judged, frontiers)
    released = sorted((j for j in judged if j.fate == "ok"), key=lambda j: j.order)
    late = [j for j in judged if j.fate == "late"]
    frame = pl.DataFrame([j.row for j in [*released, *late]], schema=schema)
    return {s.id: [] if until is None else _closings(s, released, late, frame, gaps, until) for s in specs}


def _until(log: list[Record], judged: list[Judged], frontiers: list[int | None]) -> int | None:
    """Windows that end by then have closed: the frontier, or when the input is over the largest time seen."""
    if log and isinstance(log[-1], End):
        return max((to_us(j.row["timestamp"]) for j in judged if j.fate in {"ok", "late"}), default=None)
    return frontiers[-1] if frontiers else None


def _closings(
    spec: Spec, released: list[Judged], late: list[Judged], frame: pl.DataFrame, gaps: Gaps, until: int
) -> list[Closing]:
    calendar = calendar_of(spec)
    frame = with_context(spec, released, late, frame, gaps)
    mine: dict[Any, list[Match]] = defaultdict(list)
    for m in matching(spec, calendar, [*released, *late], frame):
        if m is not None:
            mine[m.entity].append(m)
    if not mine:
        return []
    fitting = Fitting(spec, calendar, gaps, mine)
    found: list[Closing] = []
    window = min(m.window for rows in mine.values() for m in rows)
    while calendar.span(window)[1] <= until:
        found += _at_the_close_of(window, spec, calendar, gaps, fitting)
        window = calendar.window(calendar.span(window)[1])
    return found


def _at_the_close_of(window: int, spec: Spec, calendar: Calendar, gaps: Gaps, fitting: Fitting) -> list[Closing]:
    found = []
    begin, end = calendar.span(window)
    for entity in sorted(fitting.mine):
        rows = fitting.mine[entity]
        if not any(m.seen_in(window) for m in rows):
            continue
        # What the next window's baseline will know of this one: its events, and late ones whose own clock was within it.
        known = [m for m in rows if m.window <= window and m.seen_from <= window + 1]
        why = _why_not(max(m.window for m in known), window, spec, calendar, gaps)
        if why is None:
            continue
        cells: Columns = {}
        if not why:
            cells = {"@value": _value(spec, [m for m in known if m.window == window])}
            cells |= fitting.columns(entity, window)
        score, fired = _scored(spec, cells) if cells else (None, False)
        found.append(Closing(entity, begin, end, why, cells, score, fired))
    fitting.fired |= {(c.entity, window) for c in found if c.fired}
    return found


def _why_not(heard: int, window: int, spec: Spec, calendar: Calendar, gaps: Gaps) -> str | None:
    """Empty: it is asked. None: it has been gone for longer, and nothing is said about it any more."""
    assert spec.quiet_after is not None
    silent, at = 0, window
    while at > heard and silent <= spec.quiet_after + 1:
        silent += not calendar.touched(at, gaps)
        at = calendar.before(at)
    if calendar.touched(window, gaps):
        return "uncovered" if silent <= spec.quiet_after else None
    if silent > spec.quiet_after:
        return "gone" if silent == spec.quiet_after + 1 else None
    return ""


def _value(spec: Spec, inside: list[Match]) -> float | None:
    if inside:
        return value_of(spec.measure, inside)
    return 0.0 if isinstance(spec.measure, COUNTING) else None


def _scored(spec: Spec, cells: Columns) -> tuple[float | None, bool]:
    assert spec.score is not None
    frame = pl.DataFrame([cells], schema=dict.fromkeys(cells, pl.Float64))
    score = evaluated(frame, score=spec.score.cast(pl.Float64))[0][0]
    if score is None or not math.isfinite(score):
        return None, False
    return score, score > spec.threshold
