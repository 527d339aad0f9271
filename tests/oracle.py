"""The slow reference: every measure and fit recomputed from the whole list of past events, at every event.

Enters: an arrival log (rows as dictionaries, and control records), specs (which events, whose, measure, fit).
Leaves: for every row its fate; for every spec and accepted event its columns (@value, @ref.*, ...) as plain
Python values, in release order. Layer: tests.

There is no incremental state here that could go wrong. What is remembered (``_memo``) is only the answer of a pure
function that would be asked again with the same question. Sums add in the order the contract names.
"""

from __future__ import annotations

import math
import zoneinfo
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from tests.oracle_time import Calendar, Judged, Record, Row, duration_us, from_us, judge, to_us
from tocsin import fits, measures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Columns = dict[str, Any]
COUNTING = (measures.Count, measures.Sum, measures.Distinct)  # a window without events is a true zero


@dataclass(frozen=True)
class Spec:
    """What the oracle needs to know of a detection. It fires where ``score > threshold``.

    ``context``: specs without fits whose value, at every event, is a column of this one. ``quiet_after``: it is asked
    when windows close (`oracle_close`), until so many covered windows of an entity in a row were without events.
    """

    id: str
    on: pl.Expr
    entity: str | None
    measure: measures.Measure | None
    against: fits.Fit | Mapping[str, fits.Fit] | None = None
    score: pl.Expr | None = None
    threshold: float = math.inf
    context: Mapping[str, Spec] = field(default_factory=dict)
    quiet_after: int | None = None

    @property
    def fits(self) -> dict[str, fits.Fit]:
        """What its columns are called after `ref.`, and each fit."""
        if self.against is None:
            return {}
        return (
            {"": self.against} if isinstance(self.against, fits.Fit) else {f"{n}_": f for n, f in self.against.items()}
        )

    @property
    def limit(self) -> fits.Limit | None:
        """The limit it is compared with, if that is what it does."""
        return self.against if isinstance(self.against, fits.Limit) else None


@dataclass(frozen=True)
class Match:
    """A row that takes part in a spec: whose it is, what is measured, its window, and from which window it is seen."""

    judged: Judged
    entity: Any
    us: int
    x: Any
    num: bool
    den: bool
    window: int
    seen_from: int
    measured: bool = True  # False: only asks for a limit and adds nothing to it

    @property
    def late(self) -> bool:
        return self.judged.fate == "late"

    def seen_in(self, window: int) -> bool:
        """Is this row part of the closed past when `window` begins?"""
        return self.window < window and self.seen_from <= window


@dataclass(frozen=True)
class Answer:
    """``fates`` in arrival order; ``columns[spec.id]`` is a list of (event_id, columns) in release order, as ``frame`` is."""

    fates: list[tuple[str, str]]
    columns: dict[str, list[tuple[str, Columns]]]
    released: list[Judged]
    frame: pl.DataFrame


# ------------------------------------------------------------------------------------------ one set of events -> value
def units(x: float, scale: int) -> int:
    """The integer that stands for `x` in the state."""
    return round(x * scale) if isinstance(x, float) else x * scale


def value_of(measure: measures.Measure, rows: Sequence[Match]) -> float | None:
    """The measure over exactly these events; None where it has no value."""
    if isinstance(measure, measures.Count):
        return float(sum(m.num for m in rows))
    if isinstance(measure, measures.Distinct):
        return float(min(len({m.x for m in rows}), measure.bound))
    if isinstance(measure, measures.Ratio):
        denominator = sum(m.den for m in rows)
        return sum(m.num for m in rows) / denominator if denominator else None
    scale = getattr(measure, "scale", None) or 1
    whole = [units(m.x, scale) for m in rows]
    if isinstance(measure, measures.Sum):
        return sum(whole) / scale
    if not whole:
        return None
    if isinstance(measure, measures.Mean):
        return sum(whole) / (len(whole) * scale)
    if isinstance(measure, measures.Min):
        return min(whole) / scale
    if isinstance(measure, measures.Max):
        return max(whole) / scale
    raise TypeError(measure)


# ---------------------------------------------------------------------------------------------------- running measures
def spanned(measure: measures.Spanned, past: Sequence[Match]) -> Columns:
    """A calendar, sliding or endless span that ends with the last of `past`, the event being scored."""
    now = past[-1]
    if measure.per is not None:
        inside = [m for m in past if m.window == now.window]
    elif measure.sliding is not None:
        oldest = now.us - duration_us(measure.sliding)
        inside = [m for m in past if oldest < m.us <= now.us]
    else:
        inside = since_silence(past, measure.forget_after)
    return {"@value": value_of(measure, inside)}


def since_silence(past: Sequence[Match], forget_after: str | None) -> list[Match]:
    """The events after the last silence that was longer than `forget_after`."""
    allowed = math.inf if forget_after is None else duration_us(forget_after)
    start = 0
    for i in range(1, len(past)):
        if past[i].us - past[i - 1].us > allowed:
            start = i
    return list(past[start:])


def hours(measure: measures.Hours, past: Sequence[Match]) -> Columns:
    zone = zoneinfo.ZoneInfo(measure.zone)

    def hour(m: Match) -> int:
        return from_us(m.us).astimezone(zone).hour

    now = past[-1]
    return {"@value": float(sum(hour(m) == hour(now) for m in past)), "@total": float(len(past))}


def previous(measure: measures.Previous, past: Sequence[Match]) -> Columns:
    before = past[-2] if len(past) > 1 else None
    if before is not None and measure.forget_after and past[-1].us - before.us > duration_us(measure.forget_after):
        before = None
    return {f"@prev.{c}": None if before is None else before.judged.row.get(c) for c in measure.columns}


def first_seen(measure: measures.FirstSeen, past: Sequence[Match]) -> Columns:
    """Told again from the entity's first event on; `known` is how often the answer was "first" before this event."""
    allowed = math.inf if measure.forget_after is None else duration_us(measure.forget_after)
    last_sighting: dict[Any, int] = {}
    is_first: list[bool] = []
    for m in past:
        is_first.append(m.x not in last_sighting or m.us - last_sighting[m.x] > allowed)
        last_sighting[m.x] = m.us
    return {"@value": float(is_first[-1]), "@known": float(sum(is_first[:-1]))}


RUNNING: dict[type, Callable[[Any, Sequence[Match]], Columns]] = {
    measures.Hours: hours,
    measures.Previous: previous,
    measures.FirstSeen: first_seen,
}


def running(measure: measures.Measure, past: Sequence[Match]) -> Columns:
    """The columns of any measure at the last event of `past`."""
    return RUNNING.get(type(measure), spanned)(measure, past)


# ---------------------------------------------------------------------------------------------------------- statistics
def added(values: Iterable[float]) -> float:
    """Plain float additions from left to right; `sum` is not used because newer Pythons compensate it."""
    total = 0.0
    for v in values:
        total += v
    return total


def mean(values: Sequence[float]) -> float | None:
    return added(values) / len(values) if values else None


def sd(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    m = added(values) / len(values)
    return math.sqrt(added((v - m) * (v - m) for v in values) / (len(values) - 1))


def median(values: Sequence[float]) -> float | None:
    if not values:
        return None
    s, half = sorted(values), len(values) // 2
    return s[half] if len(s) % 2 else (s[half - 1] + s[half]) / 2


def mad(values: Sequence[float]) -> float | None:
    m = median(values)
    return None if m is None else median([abs(v - m) for v in values])


def quantile(values: Sequence[float], q: float) -> float | None:
    """Hyndman and Fan's definition 7."""
    if not values:
        return None
    s = sorted(values)
    h = (len(s) - 1) * q
    low = math.floor(h)
    return s[low] if low + 1 >= len(s) else s[low] + (h - low) * (s[low + 1] - s[low])


STATISTICS = {"mean": mean, "sd": sd, "median": median, "mad": mad}


def summary(fit: fits.Fit, values: Sequence[float]) -> Columns:
    """All the statistics a fit asks for, or all null when there are too few values."""
    if len(values) < fit.at_least:
        return dict.fromkeys(fit.outputs)
    found = [STATISTICS[s](values) for s in fit.stats] + [quantile(values, q) for q in fit.quantiles]
    return dict(zip(fit.outputs, [*found, float(len(values))], strict=True))


# ---------------------------------------------------------------------------------------------------------------- fits
@dataclass
class Fitting:
    """The fits of one spec: pure functions of the matches and of what has fired in earlier windows."""

    spec: Spec
    calendar: Calendar
    gaps: tuple[tuple[int, int], ...]
    mine: dict[Any, list[Match]]
    fired: set[tuple[Any, int]] = field(default_factory=set)
    _memo: dict[Any, Any] = field(default_factory=dict)

    def columns(self, entity: Any, window: int) -> Columns:
        found: Columns = {}
        for prefix, fit in self.spec.fits.items():
            key = (prefix, entity if isinstance(fit, fits.OwnHistory) else None, window)
            if key not in self._memo:
                self._memo[key] = self._fit(fit, entity, window)
            found |= {named(prefix, c): x for c, x in self._memo[key].items()}
        return found

    def _fit(self, fit: fits.Fit, entity: Any, window: int) -> Columns:
        if isinstance(fit, fits.OwnHistory):
            return summary(fit, self.own_values(fit, entity, window))
        if isinstance(fit, fits.Population):
            return summary(fit, sorted(self.population_values(fit, window)))
        return summary(fit, self.event_values(fit, window))

    def own_values(self, fit: fits.OwnHistory, entity: Any, window: int) -> list[float]:
        """The baseline windows' values, oldest first, without those that are missing."""
        past = [m for m in self.mine[entity] if m.seen_in(window)]
        if not past:
            return []
        first = min(m.window for m in past)
        by_window = defaultdict(list)
        for m in past:
            by_window[m.window].append(m)
        back = self.calendar.same_weekday if fit.same_weekday else self.calendar.previous
        skipped = back(window, fit.skip)
        candidates = [w for w in back(window, fit.windows + fit.skip) if w not in skipped]
        values = []
        for w in candidates:
            alerted = fit.exclude_alerted and (entity, w) in self.fired
            if w >= first and not alerted:
                values.append(self._window_value(by_window[w], w))
        return [v for v in values if v is not None]

    def _window_value(self, inside: list[Match], window: int) -> float | None:
        assert self.spec.measure is not None
        if inside:
            return value_of(self.spec.measure, inside)
        if not isinstance(self.spec.measure, COUNTING) or self.calendar.touched(window, self.gaps):
            return None
        return 0.0

    def population_values(self, fit: fits.Population, window: int) -> list[float]:
        """One value of each entity that has an event in the window before, in no order."""
        assert self.spec.measure is not None
        before = self.calendar.before(window)
        values: list[float | None] = []
        for entity, rows in self.mine.items():
            inside = [m for m in rows if m.window == before and m.seen_in(window)]
            if inside and fit.of is None:
                values.append(value_of(self.spec.measure, inside))
            elif inside:
                own = summary(fit.of, self.own_values(fit.of, entity, window))
                values.append(own[fit.of.outputs[0]])
        return [v for v in values if v is not None]

    def event_values(self, fit: fits.Limit, window: int) -> list[float]:
        """The column of every single matching event in the last windows."""
        windows = set(self.calendar.previous(window, fit.windows))
        return [float(m.x) for rows in self.mine.values() for m in rows if m.window in windows and m.seen_in(window)]


# -------------------------------------------------------------------------------------------------------- all together
def answer(
    log: list[Record],
    specs: Iterable[Spec],
    *,
    schema: dict[str, Any],
    lateness: int,
    dedup_horizon: int,
    future_skew: int | None = None,
    gaps: tuple[tuple[int, int], ...] = (),
) -> Answer:
    """Judge the log, then answer every spec for every accepted event. Times and durations are microseconds."""
    specs = list(specs)
    read = frozenset(c for s in specs for c in columns_read(s))
    judged, _ = judge(log, lateness=lateness, dedup_horizon=dedup_horizon, future_skew=future_skew, read=read)
    released = sorted((j for j in judged if j.fate == "ok"), key=lambda j: j.order)
    late = [j for j in judged if j.fate == "late"]
    frame = pl.DataFrame([j.row for j in [*released, *late]], schema=schema)
    columns = {s.id: answer_spec(s, released, late, frame, gaps) for s in specs}
    return Answer([(j.row["event_id"], j.fate) for j in judged], columns, released, frame[: len(released)])


def named(prefix: str, output: str) -> str:
    """`@ref.mean` of the fit called `recent` is `@ref.recent_mean`."""
    return output.replace("@ref.", f"@ref.{prefix}")


def with_context(
    spec: Spec, released: list[Judged], late: list[Judged], frame: pl.DataFrame, gaps: tuple[tuple[int, int], ...]
) -> pl.DataFrame:
    """The frame with the value of each context; a late event has none."""
    for name, context in spec.context.items():
        said = [cells["@value"] for _, cells in answer_spec(context, released, late, frame, gaps)]
        frame = frame.with_columns(pl.Series(f"@ctx.{name}", said + [None] * len(late), dtype=pl.Float64))
    return frame


def answer_spec(
    spec: Spec, released: list[Judged], late: list[Judged], frame: pl.DataFrame, gaps: tuple[tuple[int, int], ...]
) -> list[tuple[str, Columns]]:
    calendar = calendar_of(spec)
    frame = with_context(spec, released, late, frame, gaps)
    beside = frame.select(f"@ctx.{name}" for name in spec.context).to_dicts() if spec.context else [{}] * frame.height
    matches = matching(spec, calendar, [*released, *late], frame)
    mine: dict[Any, list[Match]] = defaultdict(list)
    for m in matches:
        if m is not None and m.measured:
            mine[m.entity].append(m)
    fitting = Fitting(spec, calendar, gaps, mine)
    nothing = dict.fromkeys(outputs(spec))
    found: list[tuple[str, Columns]] = []
    on_time: dict[Any, list[Match]] = defaultdict(list)
    for row, m, context in zip(released, matches, beside, strict=False):  # the late ones stand at the end of matches
        cells = nothing | context
        if m is not None:
            on_time[m.entity].append(m)
            cells = context | ({} if spec.measure is None else running(spec.measure, on_time[m.entity]))
            cells = cells | fitting.columns(m.entity, m.window)
            excludes = any(getattr(fit, "exclude_alerted", False) for fit in spec.fits.values())
            if excludes and fires(spec, row.row, cells, frame.schema):
                fitting.fired.add((m.entity, m.window))
        found.append((row.row["event_id"], cells))
    return found


def columns_read(spec: Spec) -> set[str]:
    """The event columns that this spec looks at."""
    expressions = [spec.on, spec.score, *(getattr(spec.measure, name, None) for name in ("num", "den", "where"))]
    found = {n for e in expressions if e is not None for n in e.meta.root_names() if not n.startswith("@")}
    found |= {n for context in spec.context.values() for n in columns_read(context)}
    columns = [spec.entity, getattr(spec.measure, "column", None), getattr(spec.limit, "column", None)]
    return found | {n for n in columns if n} | set(getattr(spec.measure, "columns", ()))


def calendar_of(spec: Spec) -> Calendar:
    if spec.limit is not None:
        return Calendar("1d", spec.limit.zone)
    return Calendar(getattr(spec.measure, "per", None) or "1d", getattr(spec.measure, "zone", "UTC"))


def outputs(spec: Spec) -> list[str]:
    compared = [named(prefix, c) for prefix, fit in spec.fits.items() for c in fit.outputs]
    return [*(spec.measure.outputs if spec.measure else ()), *compared, *(f"@ctx.{name}" for name in spec.context)]


def matching(spec: Spec, calendar: Calendar, rows: list[Judged], frame: pl.DataFrame) -> list[Match | None]:
    """For each row its match, or None where it takes no part."""
    true, where = pl.lit(True), getattr(spec.measure, "where", None)
    num = getattr(spec.measure, "num", true if where is None else where)
    tests = {"on": spec.on, "num": num, "den": getattr(spec.measure, "den", true)}
    flags = evaluated(frame, **{k: e.fill_null(False) for k, e in tests.items()})
    column = getattr(spec.limit, "column", None) or getattr(spec.measure, "column", None)
    stateless = spec.limit is not None
    found: list[Match | None] = []
    for j, (on, num, den) in zip(rows, flags, strict=True):
        entity = j.row.get(spec.entity) if spec.entity else ""
        x = j.row.get(column) if column else 0
        measured = x is not None and not (isinstance(x, float) and math.isnan(x))
        if not on or not (stateless or (entity is not None and measured)):
            found.append(None)
            continue
        seen_from = 0 if j.bar_us is None else calendar.window(j.bar_us) + 1
        us = to_us(j.row["timestamp"])
        found.append(Match(j, entity, us, x, num, den, calendar.window(us), seen_from, measured))
    return found


def fires(spec: Spec, row: Row, cells: Columns, schema: Mapping[str, Any]) -> bool:
    """Is the score finite and above the threshold?"""
    assert spec.score is not None
    types = dict.fromkeys(cells, pl.Float64)
    score = evaluated(pl.DataFrame([row | cells], schema=dict(schema) | types), score=spec.score.cast(pl.Float64))[0][0]
    return score is not None and math.isfinite(score) and score > spec.threshold


def evaluated(frame: pl.DataFrame, **expressions: pl.Expr) -> list[tuple[Any, ...]]:
    """The rows of a select. Never of one row alone: Polars divides one row by a constant differently than two."""
    padded = pl.concat([frame, frame[-1:]], rechunk=True) if frame.height else frame
    said = padded.select(**expressions, like=pl.int_range(pl.len())).rows()  # `like`: a literal alone has one row
    return [row[:-1] for row in said[: frame.height]]
