"""Backlog: how many alerts wait, how old they are, and how many come back after they were closed.

Enters: a scope. Leaves: `Answer`s. Layer: metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from tocsin.answers import Answer
from tocsin.calendars import HOUR, Calendar, instant_us
from tocsin.lifecycle.frames import TIME
from tocsin.lifecycle.words import SEVERITIES, TRANSITIONS, WAITING
from tocsin.metrics.coverage import BEFORE_UNKNOWN, known_before
from tocsin.metrics.deeds import within
from tocsin.metrics.scope import MetricError
from tocsin.stats.rates import wilson
from tocsin.views import Chart

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tocsin.lifecycle import History
    from tocsin.metrics.scope import Scope

    Ints = NDArray[np.int64]
    Flags = NDArray[np.bool_]

NEVER = np.iinfo(np.int64).max
QUANTILES = (0.5, 0.9)


class Spells(NamedTuple):
    """Stretches in which alerts waited, ``begin <= t < end`` in microseconds; ``alert`` is the row in ``history.alerts``."""

    alert: Ints
    begin: Ints
    end: Ints


def spells(history: History) -> Spells:
    """Return every stretch in which an alert waited.

    From its creation until it was closed, suppressed or merged; and again from being opened again, or from the end of its
    suppression. A stretch that is not over ends `NEVER`.
    """
    created = history.alerts["created_at"].dt.epoch("us").to_numpy()
    rows = history.events.select("alert", pl.col("at", "until").dt.epoch("us"), "type").filter(
        pl.col("type").is_in(list(TRANSITIONS))
    )
    alert = rows["alert"].cast(pl.Int64).to_numpy()
    at = np.maximum(rows["at"].to_numpy(), created[alert])  # what is said to be before its creation happens with it
    states = {name: state in WAITING for name, (_, state) in TRANSITIONS.items()}
    waits = rows["type"].replace_strict(states, return_dtype=pl.Boolean).to_numpy()
    suppressed = (rows["type"] == "suppressed").to_numpy()
    if suppressed.any():
        until = rows["until"].fill_null(NEVER).to_numpy()
        alert, at, waits = _expired(alert, at, waits, suppressed, until)
    # Of what is said of one moment the last holds: a wait that begins again as it ends goes on.
    last = np.append((np.diff(alert) != 0) | (np.diff(at) != 0), True)[: alert.size]
    return _stretches(created, alert[last], at[last], waits[last])


def _expired(alert: Ints, at: Ints, waits: Flags, suppressed: Flags, until: Ints) -> tuple[Ints, Ints, Flags]:
    """Add a row where a suppression ends by itself: the alert then stands as before it."""
    n = alert.size
    place = np.arange(n)
    base = np.maximum.accumulate(np.where(suppressed, -1, place))
    same = (base >= 0) & (alert[np.maximum(base, 0)] == alert)
    before = np.where(same, waits[np.maximum(base, 0)], True)  # nothing came before: it was new
    run = np.cumsum(~suppressed | (np.diff(alert, prepend=-1) != 0))  # suppressions upon each other: the longest holds
    ends = pl.DataFrame({"run": run[suppressed], "until": until[suppressed]}).select(
        pl.col("until").cum_max().over("run")
    )
    over = np.full(n, NEVER)
    over[suppressed] = np.maximum(ends["until"].to_numpy(), at[suppressed])
    following = np.append(at[1:], NEVER)
    following[:-1][alert[1:] != alert[:-1]] = NEVER
    new = np.flatnonzero(suppressed & (over < following))
    return (
        np.insert(alert, new + 1, alert[new]),
        np.insert(at, new + 1, over[new]),
        np.insert(waits, new + 1, before[new]),
    )


def _stretches(created: Ints, alert: Ints, at: Ints, waits: Flags) -> Spells:
    """Return the stretches of waiting; rows are in order of alert and time, and each alert waits from its creation on."""
    n = created.size
    size = n + alert.size
    mine = np.arange(alert.size) + alert + 1  # where each row comes to lie once each alert begins with its creation
    heads = np.arange(n) + np.searchsorted(alert, np.arange(n))
    who, when, waiting = np.empty(size, np.int64), np.empty(size, np.int64), np.ones(size, np.bool_)
    who[heads], when[heads] = np.arange(n), created
    who[mine], when[mine], waiting[mine] = alert, at, waits
    before = np.append(False, waiting[:-1])[:size]
    before[heads] = False
    turns = np.flatnonzero(waiting != before)
    begins = np.flatnonzero(waiting[turns])
    after = np.minimum(begins + 1, turns.size - 1)
    ended = (begins + 1 < turns.size) & (who[turns[after]] == who[turns[begins]])
    return Spells(
        who[turns[begins]], when[turns[begins]], np.where(ended, when[turns[after]], NEVER)
    )  # fmt: skip


def backlog(scope: Scope, *, every: str = "1d") -> Answer:
    """Count the alerts that wait at each local midnight (or hour) of the span and at its end, and say how old they are.

    ``every`` is "1h", "1d" or "1w". All alerts that wait count, also those raised before the span; test alerts as the scope
    says. Age is the time since the wait began: since creation, or since the alert was opened again.

    >>> from datetime import UTC, datetime
    >>> from tocsin.lifecycle import History
    >>> from tocsin.metrics import Scope
    >>> at = lambda d, h=0: datetime(2026, 1, d, h, tzinfo=UTC)
    >>> alerts = pl.DataFrame({"alert_id": ["a", "b"], "created_at": [at(5, 6), at(5, 12)], "severity": ["low", "high"]})
    >>> closed = pl.DataFrame({"alert_id": ["a"], "at": [at(6, 6)], "type": ["closed"]})
    >>> answer = backlog(Scope(History.of(alerts, closed), at(5), at(7)))
    >>> answer.table.select("waiting", "high", "oldest_hours").rows()
    [(0, 0, None), (2, 1, 18.0), (1, 1, 36.0)]
    """
    from tocsin.stats.waiting import waiting_at

    if every not in ("1h", "1d", "1w"):
        raise MetricError(f'every={every!r}: the backlog is told every "1h", "1d" or "1w".')
    title = "How many alerts wait, and how old are they?"
    history, earlier = scope.history, known_before(scope)
    waits = spells(history)
    alerts = history.current.select("severity_now", "is_test")
    counted = np.ones(alerts.height, np.bool_) if scope.tests else ~alerts["is_test"].to_numpy()
    kept = counted[waits.alert]
    waits = Spells(*(column[kept] for column in waits))
    level = alerts["severity_now"].gather(waits.alert)
    grid = _grid(scope, every)
    near = (waits.end > grid[:1].sum()) & (waits.begin <= grid[-1:].sum())  # others wait at none of these times
    found = waiting_at(waits.begin[near], waits.end[near], grid, QUANTILES)
    ages = {name: column / HOUR for name, column in zip(("median", "p90"), found.ages.T, strict=True)}
    columns = {
        "time": pl.Series(grid, dtype=pl.Int64).cast(TIME).dt.convert_time_zone(scope.zone), "waiting": found.count,
        **{f"{name}_hours": pl.Series(ages[name], nan_to_null=True) for name in ages},
        "oldest_hours": pl.Series(found.oldest / HOUR, nan_to_null=True),
        "begun": _between(waits.begin, grid), "ended": _between(waits.end, grid),
    }  # fmt: skip
    some = set(level.unique())
    present = [name for name in SEVERITIES[::-1] if name in some]
    for name in present:
        mine = (level == name).to_numpy()
        columns[name] = _upto(waits.begin[mine], grid) - _upto(waits.end[mine], grid)
    table = pl.DataFrame(columns)
    now = _summary(scope, waits)
    past = _summary(earlier, waits) if earlier is not None else {}
    compared = pl.DataFrame(
        [{"measure": name, "span": now[name], "before": past.get(name)} for name in now],
        schema={"measure": pl.String, "span": pl.Float64, "before": pl.Float64},
    )
    definition = (
        f"Alerts that wait ({', '.join(WAITING)}) at each time, whenever they were raised; by the severity they have now. Age is the "
        "time since the wait began: since creation, since the alert was opened again, or since its suppression ended. Begun and ended "
        f"are waits since the time before. {int((~counted).sum()):,} test alerts are left out; merged alerts wait until they are merged. "
        f"{scope.words()}"
    )
    data = table.select("time", *present).unpivot(index="time", variable_name="label", value_name="value")
    chart = Chart("stacked", title, data, x=f"time ({scope.zone})", y="waiting alerts", words={"order": present})
    return Answer(
        title, definition, table, () if earlier is not None else (BEFORE_UNKNOWN,),
        {"This span and the one before": compared}, chart, "" if table.height and alerts.height else "There is no alert.",
        now, n=int(counted.sum()), as_of=scope.as_of,
    )  # fmt: skip


def _grid(scope: Scope, every: str) -> Ints:
    """Return the begins of local hours, days or weeks in the span, and its end."""
    if scope.span is None:
        return np.zeros(0, np.int64)
    since, until = (instant_us(t) for t in scope.span)
    calendar = Calendar(every, scope.zone)
    begins = {calendar.begin(n) for n in calendar.touched(since, until)}
    return np.array(sorted({b for b in begins if b >= since} | {until}), np.int64)


def _between(times: Ints, grid: Ints) -> Ints:
    """Return how many times lie after the one grid time up to the next; at the first, none."""
    upto = _upto(times, grid)
    return np.diff(upto, prepend=upto[:1])


def _upto(times: Ints, grid: Ints) -> Ints:
    """Return how many times there are up to each grid time, that included."""
    return np.cumsum(np.bincount(np.searchsorted(grid, times), minlength=grid.size + 1)[: grid.size])


def _summary(scope: Scope, waits: Spells) -> dict[str, float | None]:
    """Return the numbers that two spans are compared by."""
    from tocsin.stats.waiting import waiting_at

    hours = _grid(scope, "1h")
    count = _upto(waits.begin, hours) - _upto(waits.end, hours)
    now = hours[-1:]
    still = (waits.begin <= now.sum()) & (waits.end > now.sum())
    found = waiting_at(waits.begin[still], waits.end[still], now, QUANTILES)
    some = hours.size > 0
    last = found.ages / HOUR

    def known(value: float) -> float | None:
        return None if np.isnan(value) else value

    return {
        "waiting at the end": float(count[-1]) if some else None,
        "waiting on average": float(count.mean()) if some else None,
        "waiting at most": float(count.max()) if some else None,
        "median age at the end, hours": known(float(last[0, 0])) if some else None,
        "90 % age at the end, hours": known(float(last[0, 1])) if some else None,
        "oldest at the end, hours": known(float(found.oldest[-1]) / HOUR) if some else None,
    }


def reopened(scope: Scope) -> Answer:
    """Return which share of closed alerts was opened again, whole and by rule, and how long after.

    >>> from datetime import UTC, datetime
    >>> from tocsin.lifecycle import History
    >>> from tocsin.metrics import Scope
    >>> at = lambda h: datetime(2026, 1, 5, h, tzinfo=UTC)
    >>> alerts = pl.DataFrame({"alert_id": ["a", "b"], "created_at": [at(1), at(2)], "rule_id": ["r", "r"]})
    >>> said = {"alert_id": ["a", "b", "a"], "at": [at(3), at(4), at(9)], "type": ["closed", "closed", "reopened"]}
    >>> row = reopened(Scope(History.of(alerts, pl.DataFrame(said)))).table.row(0, named=True)
    >>> row["closed"], row["reopened"], row["share"], row["median_hours_until"]
    (2, 1, 0.5, 6.0)
    """
    title = "How many closed alerts were opened again?"
    earlier = known_before(scope)
    again = _reopenings(scope.history)
    table = _by_rule(scope, again)
    if earlier is not None:
        past = _by_rule(earlier, again).select("rule", closed_before="closed", share_before="share")
        table = table.join(past, on="rule", how="left", maintain_order="left")
    else:
        table = table.with_columns(closed_before=pl.lit(None, pl.Int64), share_before=pl.lit(None, pl.Float64))
    total = table.row(0, named=True) if table.height else {"closed": 0, "reopened": 0}
    definition = (
        "Of the alerts that were closed at least once, those opened again afterwards, with Wilson's 95 % interval; the time is from a "
        "close to the next opening, first ones only. Alerts closed of late have had less time to come back. "
        + scope.words()
    )
    notes = [] if earlier is not None else [BEFORE_UNKNOWN]
    summary = scope.alerts.filter(pl.col("history") == "summary").height
    if summary:
        notes.append(f"Of {summary:,} alerts only first and last times are known: openings between them are not seen.")
    rules = table.filter(pl.col("rule") != ALL).head(15).select(label="rule", count=(pl.col("share") * 100).round(2))
    chart = Chart("bars", title, rules, x="closed alerts opened again, %")
    return Answer(
        title, definition, table, tuple(notes), chart=chart,
        empty="" if total["closed"] else "No alert of this span was closed.",
        facts={"closed": total["closed"], "reopened": total["reopened"], "never closed": scope.alerts.height - total["closed"]},
        n=total["closed"], as_of=scope.as_of,
    )  # fmt: skip


ALL = "all rules"


def _reopenings(history: History) -> pl.DataFrame:
    """Return the alerts that were ever closed: ``alert``, and ``hours`` until the first opening after a close, else null."""
    rows = history.events.filter(pl.col("type").is_in(["closed", "reopened"])).select("alert", "at", "type")
    # Rows are in order of alert and time, so that the one before is the alert's own if it has its number.
    after_a_close = (pl.col("type").shift(1) == "closed") & (pl.col("alert").shift(1) == pl.col("alert"))
    hours = (pl.col("at") - pl.col("at").shift(1)).dt.total_microseconds() / HOUR
    back = rows.with_columns(hours.alias("hours")).filter((pl.col("type") == "reopened") & after_a_close)
    first = back.unique("alert", keep="first", maintain_order=True).select("alert", "hours")
    closed = rows.filter(pl.col("type") == "closed").select("alert").unique(maintain_order=True)
    return closed.join(first, on="alert", how="left", maintain_order="left")


def _by_rule(scope: Scope, again: pl.DataFrame) -> pl.DataFrame:
    rows = within(again, scope).join(scope.alerts.select("alert", rule=pl.col("rule_id").fill_null("-")), on="alert")
    every = pl.concat([rows.with_columns(rule=pl.lit(ALL)), rows])
    counted = every.group_by("rule").agg(
        pl.len().cast(pl.Int64).alias("closed"), pl.col("hours").count().cast(pl.Int64).alias("reopened"),
        pl.col("hours").median().alias("median_hours_until"), pl.col("hours").max().alias("longest_hours_until"),
    )  # fmt: skip
    share = wilson(counted["reopened"].to_numpy(), counted["closed"].to_numpy())
    return counted.select(
        "rule", "closed", "reopened", pl.Series("share", share.estimate), pl.Series("share_low", share.low),
        pl.Series("share_high", share.high), "median_hours_until", "longest_hours_until",
    ).sort([pl.col("rule") == ALL, pl.col("reopened"), pl.col("closed"), pl.col("rule")], descending=[True, True, True, False])  # fmt: skip
