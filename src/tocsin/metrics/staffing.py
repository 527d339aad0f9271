"""Staffing: how many analysts each hour of the week needs, beside how many are on shift.

Enters: a scope, a handling time, a target. Leaves: an `Answer`. Layer: metrics, above arrivals and handling.

A first estimate by Erlang C, an hour at a time. It is optimistic, and says so.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from tocsin.answers import Answer
from tocsin.calendars import HOUR, Calendar, instant_us
from tocsin.metrics.arrivals import NOTHING, rate_columns, weekly
from tocsin.metrics.exposure import CELLS, cell_hours, exposure, week_cells
from tocsin.metrics.handling import Handling, handling_time
from tocsin.metrics.scope import MetricError
from tocsin.stats.queueing import servers_needed_each
from tocsin.views import Chart
from tocsin.workhours import DAYS, WorkHours, time_before

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tocsin.metrics.scope import Scope

BLOCKS: Final = (1, 2, 3, 4, 6, 8, 12, 24)
OVERDISPERSED: Final = 1.5
"""From this many times a Poisson count's variance on, hours are called bursty."""

PRODUCTIVE_SHARE: Final = 0.7
"""Of an analyst's shift, what goes to alerts: the 70 % of J. Hencinski's published capacity example."""

# Measured in event-by-event simulations of one roster: Poisson arrivals and handling times of coefficient of variation 1; of 2;
# and of 2 with each hour's rate drawn from a gamma distribution of shape 1.
_GAP: Final = (
    "Optimistic: Erlang C takes each hour as steady, alerts as independent, handling times as exponential. In a simulated"
    " roster that served 96.8 % within 30 minutes under those assumptions, handling times twice as spread made it 93.4 %, and"
    " alerts that come in bursts (gamma hours) 75.7 %. Plan with it, then simulate."
)


def staffing(
    scope: Scope,
    *,
    work: WorkHours,
    handling_minutes: float | None = None,
    target_minutes: float = 30.0,
    target_share: float = 0.9,
    productive_share: float = PRODUCTIVE_SHARE,
    cap_minutes: float = 240.0,
    block_hours: int = 1,
) -> Answer:
    """Return the analysts needed in each hour of the week, so that a share of alerts is begun within a target.

    Args:
        scope: Which alerts; their arrivals per hour of exposure are taken for those to come.
        work: Working hours; the answer says how much of what is needed lies outside of them.
        handling_minutes: A person's minutes an alert. Left out: as measured in the log, see `handling_time`.
        target_minutes: Within how many minutes somebody begins.
        target_share: Which share of alerts is to be begun in time.
        productive_share: Which share of a shift goes to alerts; handling takes longer by its inverse.
        cap_minutes: No stretch of measured work counts as longer.
        block_hours: Hours that share one rate: 1 for 168 rows; 2, 3, 4, 6, 8, 12 or 24 where there are few alerts.

    Raises:
        MetricError: No handling time is given or measured; a wish that makes no sense.
    """
    _check(target_minutes, target_share, productive_share, block_hours)
    total, exposed, hours = weekly(scope)
    if not total.sum() and handling_minutes is None:
        handling = Handling(0.0, "the handling time, which is not known")
    else:
        handling = handling_time(scope, handling_minutes, cap_minutes=cap_minutes)
    table = _table(scope, work, exposed, hours, handling, productive_share, (target_minutes, target_share), block_hours)
    n, variance = int(total.sum()), dispersion(scope)
    seen = exposure(scope)
    short = table.filter(pl.col("short") > 0)
    return Answer(
        "How many analysts does each hour of the week need?",
        f"Alerts per hour of exposure, by the clock of {scope.zone}, times {handling}, over a productive"
        f" share of {productive_share:g}, are Erlangs: analysts busy on average. needed is the fewest"
        f" analysts with whom, by Erlang C, {100 * target_share:g} % of alerts are begun within {target_minutes:g} minutes; at least"
        " one. needed_half and needed_double are for half and twice the handling time. rostered is the mean number on shift by"
        f" the journal's roster, null where it has none in this span. Working hours: {work}. {scope.words()}",
        table,
        (_GAP, *_bursts(variance), *_short_words(short), *seen.notes()),
        chart=_chart(table, block_hours, scope, target_minutes, target_share),
        empty="" if n else NOTHING,
        facts={
            "handling_minutes": handling.minutes or None,
            "handling_source": handling.source,
            "handling_alerts": handling.n,
            "dispersion": variance,
            **_sums(table, block_hours),
        },
        n=n,
        as_of=scope.as_of,
    )


def _check(target_minutes: float, target_share: float, productive_share: float, block_hours: int) -> None:
    if not 0 <= target_minutes < math.inf:
        raise MetricError(f"target_minutes is a number not below zero, such as 30; not {target_minutes}.")
    if not 0 < target_share < 1:
        raise MetricError(f"target_share lies between 0 and 1, such as 0.9; not {target_share}.")
    if not 0 < productive_share <= 1:
        raise MetricError(f"productive_share lies above 0 and is at most 1, such as 0.7; not {productive_share}.")
    if block_hours not in BLOCKS:
        raise MetricError(f"block_hours is one of {', '.join(map(str, BLOCKS))}; not {block_hours}.")


def _table(
    scope: Scope,
    work: WorkHours,
    exposed: NDArray[np.int64],
    hours: NDArray[np.float64],
    handling: Handling,
    productive_share: float,
    target: tuple[float, float],
    block_hours: int,
) -> pl.DataFrame:
    """Return one row a block of hours of the week."""
    exposed_before, hours_before = weekly(scope.before, before=True)[1:]
    cells = np.arange(0, CELLS, block_hours)
    alerts, span = _blocks(exposed, block_hours), _blocks(hours, block_hours)
    columns: dict[str, Any] = {
        "weekday": [DAYS[c // 24] for c in cells.tolist()],
        "hour": cells % 24,
        "until_hour": cells % 24 + block_hours,
        "alerts_exposed": alerts,
        "exposed_hours": span,
        **rate_columns(alerts, span),
    }
    rate = columns["alerts_per_hour"]
    minutes = handling.minutes / productive_share
    columns["erlangs"] = rate * (minutes / 60)
    for name, times in (("needed_half", 0.5), ("needed", 1.0), ("needed_double", 2.0)):
        columns[name] = _needed(rate, minutes * times, target)
    before = rate_columns(_blocks(exposed_before, block_hours), _blocks(hours_before, block_hours))["alerts_per_hour"]
    table = pl.DataFrame(
        columns
        | {
            "working_share": _working(scope, work, block_hours),
            "rostered": _rostered(scope, block_hours),
            "alerts_per_hour_before": before,
            "needed_before": _needed(before, minutes, target),
        },
        schema_overrides={"erlangs": pl.Float64, "rostered": pl.Float64, "hour": pl.Int64, "until_hour": pl.Int64},
    )
    table = table.with_columns((pl.col("needed") - pl.col("rostered")).clip(0).alias("short"))
    return table if scope.span is not None else table.clear()


def _blocks(cells: NDArray[Any], block_hours: int) -> NDArray[Any]:
    return np.asarray(cells.reshape(-1, block_hours).sum(axis=1))


def _needed(rate: pl.Series, minutes: float, target: tuple[float, float]) -> pl.Series:
    """Return the analysts needed at each rate; null where there is no rate, or no handling time."""
    known = rate.is_not_null().to_numpy()
    found = np.zeros(rate.len(), np.int64)
    if minutes:
        each = rate.drop_nulls().to_numpy()
        found[known] = servers_needed_each(each, minutes, target_minutes=target[0], in_time=target[1])
    return pl.Series(found).replace(0, None)


def _span_us(scope: Scope) -> NDArray[np.int64]:
    return np.array([] if scope.span is None else [instant_us(t) for t in scope.span], np.int64).reshape(-1, 2)


def _working(scope: Scope, work: WorkHours, block_hours: int) -> pl.Series:
    """Return which share of each block's hours in the span is working time; null for blocks that the span does not touch."""
    span = _span_us(scope)
    worked = [work.spans(*ends) for ends in span.tolist()]
    return _share(np.concatenate([span[:0], *worked]), span, scope.zone, block_hours)


def _share(part: NDArray[np.int64], whole: NDArray[np.int64], zone: str, block_hours: int) -> pl.Series:
    """Return hours of spans over hours of others, by block of the week; null where there are none."""
    hours, of = (_blocks(cell_hours(spans, zone), block_hours) for spans in (part, whole))
    return pl.Series(np.divide(hours, of, out=np.full(hours.size, np.nan), where=of > 0)).fill_nan(None)


def _rostered(scope: Scope, block_hours: int) -> pl.Series:
    """Return the mean number of analysts on shift in each block, by the journal; null where the span has no roster."""
    rows = scope.history.journal.filter((pl.col("kind") == "roster") & pl.col("until").is_not_null())
    shifts, span = rows.select(pl.col("at", "until").dt.epoch("us")).to_numpy(), _span_us(scope)
    if len(span):
        shifts = np.clip(shifts, span[0, 0], span[0, 1])
        shifts = shifts[shifts[:, 0] < shifts[:, 1]]
    if not len(span) or not len(shifts):
        return pl.Series([None] * (CELLS // block_hours), dtype=pl.Float64)
    return _share(shifts, span, scope.zone, block_hours)


def dispersion(scope: Scope) -> float | None:
    """Return the variance of hourly counts over that of Poisson counts with each hour of the week's own mean; 1 is Poisson.

    Pearson's chi-square of all wholly exposed hours over its degrees of freedom; None where there are too few hours.
    """
    if scope.span is None:
        return None
    seen, hours = exposure(scope), Calendar("1h", scope.zone)
    touched = hours.touched(*(instant_us(t) for t in scope.span))
    begins = np.array([hours.begin(n) for n in (*touched, touched.stop)], np.int64)
    whole = np.diff(time_before(seen.spans, begins)) == HOUR
    counts = np.bincount(hours.number(scope.created_us) - touched.start, minlength=len(touched))[whole]
    cells = week_cells(begins[:-1][whole], scope.zone)
    mean = np.bincount(cells, counts, CELLS) / np.maximum(np.bincount(cells, minlength=CELLS), 1)
    used = mean[cells] > 0
    freedom = int(used.sum()) - np.count_nonzero(mean)
    if freedom < CELLS:
        return None
    expected = mean[cells][used]
    return float(((counts[used] - expected) ** 2 / expected).sum() / freedom)


def _bursts(variance: float | None) -> tuple[str, ...]:
    if variance is None:
        return ("Too few whole weeks to say whether alerts come in bursts.",)
    if variance < OVERDISPERSED:
        return ()
    return (
        f"Alerts come in bursts: hourly counts vary {variance:.2g} times as much as this estimate assumes. It is too low.",
    )


def _short_words(short: pl.DataFrame) -> tuple[str, ...]:
    """Say in which hours fewer analysts are on shift than needed, as a week is written."""
    if not short.height:
        return ()
    week: list[list[tuple[int, int]]] = [[] for _ in DAYS]
    for name, start, end in short.select("weekday", "hour", "until_hour").iter_rows():
        day = week[DAYS.index(name)]
        begin = day.pop()[0] if day and day[-1][1] == start * 60 else start * 60
        day.append((begin, end * 60))
    return (f"Fewer on shift than needed: {WorkHours(tuple(map(tuple, week))).text}.",)


def _sums(table: pl.DataFrame, block_hours: int) -> dict[str, float | None]:
    """Return analyst hours of a week: needed, outside of working hours, on shift, short."""
    if not table["needed"].count():
        return dict.fromkeys(
            ("needed_hours_a_week", "needed_off_hours_a_week", "rostered_hours_a_week", "short_hours_a_week")
        )
    off = (table["needed"] * (1 - table["working_share"])).sum()
    rostered = table["rostered"].count() > 0
    return {
        "needed_hours_a_week": float(table["needed"].sum() * block_hours),
        "needed_off_hours_a_week": float(off * block_hours),
        "rostered_hours_a_week": float(table["rostered"].sum() * block_hours) if rostered else None,
        "short_hours_a_week": float(table["short"].sum() * block_hours) if rostered else None,
    }


def _chart(table: pl.DataFrame, block_hours: int, scope: Scope, target_minutes: float, target_share: float) -> Chart:
    data = table.with_row_index("row").select(
        pl.col("row").cast(pl.Int64).mul(block_hours).alias("hour"),
        "needed",
        "rostered",
        low="needed_half",
        high="needed_double",
    )
    words = {
        "band": "half to twice the handling time",
        "needed": f"needed: {100 * target_share:g} % begun within {target_minutes:g} minutes (Erlang C, optimistic)",
        "rostered": "on shift",
        "days": DAYS,
    }
    return Chart(
        "staffing",
        "How many analysts does each hour of the week need?",
        data,
        x=f"hour of the week ({scope.zone})",
        y="analysts",
        words=words,
    )
