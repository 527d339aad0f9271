"""Coverage: when which feed delivered, and which days a series may be made of. No data is never zero.

Enters: a scope. Leaves: an `Answer`; `Days`, the whole local days of the span with those that were not covered marked; the
span before, where something is known of it. Layer: metrics.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tocsin.answers import Answer
from tocsin.calendars import DAY, HOUR, Calendar, complement, instant_us, moment, union
from tocsin.views import Chart

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from tocsin.metrics.scope import Scope

    Spans = list[tuple[int, int]]

COLUMNS = {
    "feed": pl.String, "share_covered": pl.Float64, "share_covered_before": pl.Float64, "covered_hours": pl.Float64,
    "gap_hours": pl.Float64, "not_recorded_hours": pl.Float64, "gaps": pl.Int64, "longest_gap_hours": pl.Float64,
    "days_with_a_gap": pl.Int64,
}  # fmt: skip


@dataclass(frozen=True)
class Days:
    """The whole local days of a span.

    numbers: the days, as `Calendar` numbers them (days since 1970). known: whether each was covered by every feed. partial:
    dates that the span holds only in part, and which are therefore left out. uncovered: date -> feeds that had a gap in it.
    """

    calendar: Calendar
    numbers: range
    known: NDArray[np.bool_]
    partial: tuple[str, ...]
    uncovered: dict[str, str]

    @property
    def first(self) -> str | None:
        """The first date, as ISO text."""
        return date_of(self.numbers[0]) if self.numbers else None

    def place(self, rows: pl.DataFrame, column: str = "created_at") -> NDArray[np.int64]:
        """Return the place of each row's day among the days; below 0 or beyond the last outside of them."""
        return self.calendar.number(rows[column].dt.epoch("us").to_numpy()) - self.numbers.start

    def words(self) -> str:
        """Say which days are left out, and which are unknown."""
        said = f"{int(self.known.sum())} whole days ({self.calendar.zone})"
        if self.partial:
            said += f"; left out as partial: {', '.join(self.partial)}"
        if self.uncovered:
            some = ", ".join(f"{day} ({feeds})" for day, feeds in list(self.uncovered.items())[:5])
            more = f" and {len(self.uncovered) - 5} more" if len(self.uncovered) > 5 else ""
            said += f"; unknown for want of data: {some}{more}"
        return said + "."


def date_of(number: int) -> str:
    """Return the date of a day's number as ISO text."""
    return str(np.datetime64(number, "D"))


@dataclass(frozen=True)
class Feed:
    """One feed of the journal inside a span: since when anything is recorded of it, and where it has gaps."""

    name: str
    since: int
    gaps: Spans


def feeds(scope: Scope) -> list[Feed]:
    """Return the feeds of the journal, their gaps cut to the span.

    Before its first row nothing is recorded of a feed: that is neither covered nor a gap. From there to the end of the span it
    has a gap wherever no ``covered`` row reaches, or a ``gap`` row does; a feed with ``gap`` rows alone is covered elsewhere.
    A row without an end lasts until the history is looked at.
    """
    if scope.span is None:
        return []
    since, until = (instant_us(t) for t in scope.span)
    now = instant_us(scope.as_of) if scope.as_of is not None else until
    told: dict[str, dict[str, Spans]] = defaultdict(lambda: {"covered": [], "gap": []})
    rows = scope.history.journal.filter(pl.col("kind").is_in(["covered", "gap"])).sort("name", "at", "until")
    columns = rows.select("kind", "name", pl.col("at", "until").dt.epoch("us"))
    for kind, name, at, end in columns.iter_rows():
        told[name or "?"][kind].append((at, now if end is None else end))
    found = []
    for name, spans in told.items():
        begin = max(since, min(a for a, _ in spans["covered"])) if spans["covered"] else since
        covered, gaps = (np.array(spans[kind], np.int64).reshape(-1, 2) for kind in ("covered", "gap"))
        open_ = complement(covered, begin, until) if len(covered) else covered
        missing = union(np.concatenate([open_, gaps.clip(begin, until)]))
        found.append(Feed(name, min(begin, until), [(a, b) for a, b in missing.tolist()]))
    return found


def covered_days(scope: Scope, among: Iterable[str] | None = None) -> Days:
    """Return the whole local days of the span, those on which a feed had a gap marked as unknown.

    ``among`` names the feeds that matter; left out, all do. A date that the zone skipped is unknown too.
    """
    from tocsin.stats.changepoints import count_windows  # loads a compiler, which most metrics do without

    calendar = Calendar("1d", scope.zone)
    if scope.span is None:
        return Days(calendar, range(0), np.zeros(0, np.bool_), (), {})
    since, until = (instant_us(t) for t in scope.span)
    chosen = None if among is None else set(among)
    relevant = [feed for feed in feeds(scope) if chosen is None or feed.name in chosen]
    touched = calendar.touched(since, until)
    edges = np.array(sorted({calendar.begin(n) for n in range(touched.start, touched.stop + 1)}), np.int64)
    whole = count_windows([], edges, since=since, until=until, gaps=[gap for feed in relevant for gap in feed.gaps])
    numbers = calendar.number(whole.begins).tolist()
    days = range(numbers[0], numbers[-1] + 1) if numbers else range(0)
    known = np.zeros(len(days), np.bool_)
    if numbers:
        known[np.array(numbers) - days.start] = np.isfinite(whole.counts)
    partial = tuple(date_of(n) for n in calendar.number(np.array([b for b, _ in whole.dropped], np.int64)).tolist())
    uncovered: dict[str, list[str]] = defaultdict(list)
    for feed in relevant:
        for n in sorted({n for a, b in feed.gaps for n in calendar.touched(a, b)} & set(days)):
            uncovered[date_of(n)].append(feed.name)
    named = {day: ", ".join(uncovered[day]) for day in sorted(uncovered)}
    return Days(calendar, days, known, partial, named)


def known_before(scope: Scope) -> Scope | None:
    """Return the span before, if the history reaches back over it: what was not recorded is no zero to compare with.

    It does if it holds an alert, or coverage of a feed, from the first day of that span or earlier.
    """
    before = scope.before
    if before is None or before.span is None:
        return None
    journal = scope.history.journal.filter(pl.col("kind") == "covered")["at"].min()
    starts = [t for t in (scope.history.alerts["created_at"].min(), journal) if t is not None]
    latest = moment(instant_us(before.span[0]) + DAY)
    return before if any(t < latest for t in starts) else None  # type: ignore[operator]


BEFORE_UNKNOWN = "The history does not reach back over the whole span before: nothing is compared with it."


def coverage(scope: Scope) -> Answer:
    """Say when each feed delivered, where it had gaps, and on which days a rule's silence means nothing.

    >>> from datetime import UTC, datetime
    >>> from tocsin.lifecycle import History
    >>> from tocsin.metrics import Scope
    >>> day = lambda d, h=0: datetime(2026, 1, d, h, tzinfo=UTC)
    >>> alerts = pl.DataFrame({"alert_id": ["a"], "created_at": [day(5)], "rule_id": ["r"], "vendor": ["edr"]})
    >>> journal = pl.DataFrame({"kind": ["covered"], "name": ["edr"], "at": [day(5)], "until": [day(7, 12)]})
    >>> answer = coverage(Scope(History.of(alerts, journal=journal), day(5), day(10)))
    >>> answer.table.select("share_covered", "gap_hours", "days_with_a_gap").rows()
    [(0.5, 60.0, 3)]
    >>> answer.more["Days without an alert, by rule"].select("days_zero", "days_no_data").rows()
    [(1, 3)]
    """
    title = "When did each feed deliver?"
    found, earlier = feeds(scope), known_before(scope)
    past = {feed.name: feed for feed in feeds(earlier)} if earlier is not None else {}
    days = covered_days(scope)
    table = pl.DataFrame(
        [_row(scope, feed, past.get(feed.name), earlier, days.calendar) for feed in found], schema=COLUMNS, orient="row"
    ).sort("share_covered", "feed", nulls_last=True)
    definition = (
        "Covered are the times between a feed's `covered` rows of the journal, less its `gap` rows; from its first row to the end "
        "of the span anything else is a gap, before it nothing was recorded. The share is of the recorded time. A day with a gap "
        f"of any feed is unknown, not a day of few alerts: {days.words()} {scope.words()}"
    )
    gaps = pl.DataFrame(
        [(f.name, moment(a), moment(b), (b - a) / HOUR) for f in found for a, b in f.gaps],
        schema={
            "feed": pl.String,
            "from": pl.Datetime("us", "UTC"),
            "until": pl.Datetime("us", "UTC"),
            "hours": pl.Float64,
        },
        orient="row",
    )
    more = {"Gaps": gaps, "Days without an alert, by rule": _silence(scope, found, days)}
    empty = "" if found else "The journal says nothing about any feed: whether a quiet day was quiet is not known."
    drawn = table.filter(pl.col("share_covered").is_not_null())
    chart = Chart(
        "bars", title, drawn.select(label="feed", count=(pl.col("share_covered") * 100).round(2)), x="covered, % of the time"
    )  # fmt: skip
    facts = {"feeds": len(found), "gaps": gaps.height, "days": len(days.numbers), "days_unknown": len(days.uncovered)}
    return Answer(
        title, definition, table, () if earlier else (BEFORE_UNKNOWN,), more, chart, empty, facts,
        n=len(found), as_of=scope.as_of,
    )  # fmt: skip


def _row(scope: Scope, feed: Feed, past: Feed | None, earlier: Scope | None, calendar: Calendar) -> tuple[Any, ...]:
    assert scope.span is not None
    since, until = (instant_us(t) for t in scope.span)
    lengths = [b - a for a, b in feed.gaps]
    recorded, missed = until - feed.since, sum(lengths)
    share = (recorded - missed) / recorded if recorded else None
    before = None
    if past is not None and earlier is not None and earlier.span is not None:
        length = instant_us(earlier.span[1]) - past.since
        before = 1 - sum(b - a for a, b in past.gaps) / length if length else None
    days = {n for a, b in feed.gaps for n in calendar.touched(a, b)}
    return (
        feed.name, share, before, (recorded - missed) / HOUR, missed / HOUR, (feed.since - since) / HOUR, len(lengths),
        max(lengths, default=0) / HOUR, len(days),
    )  # fmt: skip


def _silence(scope: Scope, found: list[Feed], days: Days) -> pl.DataFrame:
    """Return for each rule how many of the days without an alert are zeros, and how many say nothing.

    A rule depends on the feeds that its alerts name as vendor or source; where they name none, on every feed.
    """
    schema = {
        "rule": pl.String, "feeds": pl.String, "days": pl.Int64, "days_with_alerts": pl.Int64, "days_zero": pl.Int64,
        "days_no_data": pl.Int64,
    }  # fmt: skip
    if not days.numbers:
        return pl.DataFrame(schema=schema)
    missing = {feed.name: {n for a, b in feed.gaps for n in days.calendar.touched(a, b)} for feed in found}
    rows = scope.alerts.select(
        pl.col("rule_id").fill_null("-"), "vendor", "source", place=pl.Series(days.place(scope.alerts), dtype=pl.Int64)
    )
    inside = pl.col("place").is_between(0, len(days.numbers) - 1)
    by_rule = rows.group_by("rule_id").agg(
        pl.col("place").filter(inside).unique(), pl.col("vendor").unique(), pl.col("source").unique()
    )
    made = []
    for rule, places, vendors, sources in by_rule.sort("rule_id").iter_rows():
        mine = sorted(missing.keys() & {*vendors, *sources}) or sorted(missing)
        silent = set(days.numbers) - {p + days.numbers.start for p in places}
        unknown = silent & set().union(*(missing[name] for name in mine))
        made.append(
            (rule, ", ".join(mine), len(days.numbers), len(places), len(silent) - len(unknown), len(unknown))
        )  # fmt: skip
    return pl.DataFrame(made, schema=schema, orient="row").sort(["days_no_data", "rule"], descending=[True, False])
