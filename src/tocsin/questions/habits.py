"""Questions about the habits behind events: the parameter of a population (B1), and who shifted their hours (B2).

Enters: events. Leaves: an `Answer`. The statistics are those of `tocsin.stats`. Layer: questions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy import special

from tocsin.answers import Answer
from tocsin.calendars import Calendar, load_zone, moment
from tocsin.errors import SourceError, StatisticsError
from tocsin.questions.columns import need_column
from tocsin.stats import circular, poisson
from tocsin.views import Chart

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tocsin.sources import Events

    Floats = NDArray[np.float64]

WAYS = {
    "means": "mean of the entities' means",
    "truncated": "fit, values below 1 never recorded",
    "clamped": "fit, values below 1 recorded as 1",
}
STRANGE, MOST_STRANGE = 0.01, 0.05
SIGNIFICANT = 0.05
DRAWN_CLOCKS = 4


def poisson_parameter(
    events: Events,
    column: str = "nr_recipients",
    *,
    by: str = "user_id",
    on: pl.Expr | None = None,
    at_least: int = 10,
    way: str = "means",
    strangers: bool = False,
) -> Answer:
    """Estimate the parameter of the Poisson distribution that each entity's own mean of ``column`` was drawn from (B1).

    ``way`` says what is taken to be known of values below 1. "means" presumes nothing: each entity's parameter is the mean
    of its values, whatever is seen of them. "truncated" and "clamped" take each entity's values for Poisson ones, of which
    zeros were not recorded or recorded as 1. The table has all ways that the values allow, the asked one first; the mean
    over events stands beside them because it is the usual mistake: it weighs busy entities more.

    Entities that no Poisson population of this size would have (a newsletter among people: less than 0.01 expected) are
    left out and listed, unless they are more than one in twenty or ``strangers`` is true.

    Raises:
        SourceError: No such column, values that are no counts, or fewer than two entities with enough of them.
    """
    if way not in WAYS:
        raise SourceError(f"way is one of {', '.join(WAYS)}, not {way!r}.")
    member, values, names, few = _counts(events, column, by, on, at_least)
    own = _own(member, values, way)
    strange = np.zeros(own.size, np.bool_) if strangers else _strangers(own)
    ordinary = ~strange[member]
    fits, notes = _fits(member[ordinary], values[ordinary])
    if way not in fits:
        raise SourceError(f"{column} by {by}: {notes[0]}")
    chosen, own = fits[way], own[~strange]
    fit = poisson.fit(np.round(own))
    title = f"Which Poisson parameter is behind the means of {column} by {by}?"
    definition = (
        f"lambda is {chosen.mean:.4g}, with 95 % confidence between {chosen.low:.4g} and {chosen.high:.4g}: {WAYS[way]}, over "
        f"{chosen.members:,} {by} with at least {at_least} values of {column} ({chosen.events:,} values; {few:,} {by} have fewer, "
        f"{int(strange.sum()):,} more are left out as strangers). dispersion is the variance of their own parameters over their "
        "mean: 1 for a Poisson distribution. Goodness of fit of the rounded parameters: chi-square "
        f"{fit.chi_square:.4g} on {fit.df} degrees of freedom, p = {fit.p_chi_square:.3g}."
    )
    if values.min() >= 1 and way == "means":
        notes.append(
            "No value is below 1. If zeros were lost, small means are too large and lambda with them: compare with the fits."
        )
    facts = {
        "lambda": chosen.mean, "low": chosen.low, "high": chosen.high, "dispersion": chosen.dispersion, "entities": chosen.members,
        "values": chosen.events, "strangers": int(strange.sum()), "chi_square": float(fit.chi_square), "df": fit.df, "p": fit.p_chi_square,
    }  # fmt: skip
    observed, expected = _compared(np.round(own).astype(np.int64), chosen.mean)
    data = pl.DataFrame({"value": np.arange(observed.size), "observed": observed, "expected": expected})
    chart = Chart(
        "fitted", title, data, x=f"own mean of {column}, rounded", y=f"number of {by}",
        words={"expected": f"expected of Poisson({chosen.mean:.3g})"}, marks={f"lambda {chosen.mean:.3g}": chosen.mean},
    )  # fmt: skip
    left_out = pl.DataFrame(
        {"entity": names.filter(pl.Series(strange)), "own_mean": _own(member, values, way)[strange]}
    )
    more = {"Strangers, left out": left_out} if left_out.height else {}
    return Answer(title, definition, _ways(fits, way), tuple(notes), more=more, chart=chart, facts=facts)


def _fits(member: NDArray[np.int64], values: NDArray[np.int64]) -> tuple[dict[str, poisson.Population], list[str]]:
    """Return the estimate of each way, and why some of them have none."""
    fits, notes = {}, []
    for name, words in WAYS.items():
        try:
            fits[name] = (
                poisson.population_mean(member, values)
                if name == "means"
                else poisson.population_fit(member, values, support=name, at_least=2)
            )
        except StatisticsError as error:
            notes.append(f"{words}: {error}")
    return fits, notes


def _ways(fits: dict[str, poisson.Population], way: str) -> pl.DataFrame:
    """Return a row for each estimate, the asked one first, the mean over events last."""
    rows: list[tuple[Any, ...]] = [
        (WAYS[k], f.mean, f.low, f.high, f.dispersion, f.members, f.events)
        for k, f in sorted(fits.items(), key=lambda item: item[0] != way)
    ]
    chosen = fits[way]
    rows.append(
        (
            "mean over events (weighs busy entities more)",
            chosen.event_mean,
            None,
            None,
            None,
            chosen.members,
            chosen.events,
        )
    )
    floats = dict.fromkeys(("lambda", "low", "high", "dispersion"), pl.Float64)
    return pl.DataFrame(
        rows, schema={"way": pl.String, **floats, "entities": pl.Int64, "values": pl.Int64}, orient="row"
    )


def _strangers(own: Floats) -> NDArray[np.bool_]:
    """Return who is so far out that fewer than 0.01 such are expected; nobody where more than one in twenty are.

    The parameter is the mean of the others, found by repeating from the median on.
    """
    whole, mean = np.round(own), float(np.median(own))
    strange = np.zeros(own.size, np.bool_)
    for _ in range(20):
        tail = np.minimum(special.pdtrc(np.maximum(whole - 1, 0), mean), special.pdtr(whole, mean))
        found = (tail * own.size < STRANGE) & (whole > 0)
        if (found == strange).all():
            break
        strange, mean = found, float(own[~found].mean()) if (~found).any() else mean
    return strange if strange.mean() <= MOST_STRANGE else np.zeros(own.size, np.bool_)


def _counts(
    events: Events, column: str, by: str, on: pl.Expr | None, at_least: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], pl.Series, int]:
    """Return the number of its entity and the value of each event, the entities with enough values, how many have fewer."""
    for name in (column, by):
        need_column(events, name)
    if not events.columns[column].is_numeric():
        raise SourceError(f"{column} holds {events.columns[column]}, not counts.")
    chosen = (
        events.filter(*([on] if on is not None else []))
        .select(who=by, x=column)
        .drop_nulls()
        .collect(engine="streaming")
    )
    wrong = chosen.filter((pl.col("x") < 0) | (pl.col("x") != pl.col("x").cast(pl.Float64).floor()))
    if wrong.height:
        raise SourceError(
            f"{column} holds {wrong['x'][0]}: a Poisson parameter is one of counts, whole numbers from 0 on."
        )
    enough = chosen.group_by("who").agg(n=pl.len()).with_columns(ok=pl.col("n") >= max(at_least, 2)).sort("who")
    kept = enough.filter("ok").with_row_index("member")
    if kept.height < 2:
        raise SourceError(
            f'Only {kept.height} of "{by}" have {at_least} values of "{column}"; a population needs at least two.'
        )
    joined = chosen.join(kept.select("who", "member"), on="who").sort("member")
    names = kept["who"].cast(pl.String)
    return (
        joined["member"].cast(pl.Int64).to_numpy(),
        joined["x"].cast(pl.Int64).to_numpy(),
        names,
        enough.height - kept.height,
    )


def _own(member: NDArray[np.int64], values: NDArray[np.int64], way: str) -> Floats:
    """Return each entity's own parameter: its mean, freed from what the missing zeros added to it.

    A truncated Poisson mean is m = l / (1 - exp(-l)), a clamped one m = l + exp(-l); both are solved by Lambert's W.
    """
    m = np.bincount(member, values) / np.bincount(member)
    if way == "means":
        return m
    inside = -m * np.exp(-m) if way == "truncated" else -np.exp(-m)
    w = np.nan_to_num(special.lambertw(inside).real, nan=-1.0)  # W(-1/e) is -1; SciPy gives NaN a hair below it
    return np.asarray(np.maximum(m + w, 0.0))


def _compared(own: NDArray[np.int64], mean: float) -> tuple[NDArray[np.int64], Floats]:
    """Return how many entities have each whole parameter, and how many a Poisson distribution expects."""
    top = int(max(own.max(), mean + 4 * np.sqrt(mean) + 1))
    observed = np.bincount(own, minlength=top + 1).astype(np.int64)
    k = np.arange(top + 1)
    return observed, own.size * np.exp(special.xlogy(k, mean) - mean - special.gammaln(k + 1))


def shifted_hours(
    events: Events,
    zone: str = "UTC",
    *,
    by: str = "user_id",
    on: pl.Expr | None = None,
    seed: int = 0,
    min_days: int = 5,
) -> Answer:
    """Find who shifted their daily hours, when, and by how much (B2).

    Every local day of an entity is one vector, the mean direction of its events on the 24-hour clock; days, not events, are
    compared before and after each date. ``q`` is adjusted for the number of entities; at most 5 % of those with q <= 0.05
    are expected to be false. ``seed`` makes the permutations repeatable.

    Raises:
        SourceError: No such column.
        CalendarError: No such zone.
    """
    need_column(events, by)
    load_zone(zone)
    calendar = Calendar("1d", zone)
    who, day, hour, names = _days(events, calendar, by, on)
    title = f"Whose daily hours shifted ({zone})?"
    found = circular.shifts(who, day, hour, seed=seed, entities=len(names), min_days=min_days)
    away = (found.low > 0) | (found.high < 0)  # days may also scatter more or less than before, about the same hour
    shift = (found.q <= SIGNIFICANT) & away
    everybody = _shift_table(names, found, calendar).with_columns(pl.Series("significant", shift))
    everybody = everybody.sort(["q", "p", "entity"], nulls_last=True)
    table = everybody.filter("significant")
    tested = int(np.isfinite(found.p).sum())
    definition = (
        f"Of {len(names):,} {by}, {tested:,} have enough days to be tested and {table.height:,} shifted significantly "
        f"(q <= {SIGNIFICANT}, and the 95 % interval of the shift leaves out zero: scattering more, or less, about the same hour is no "
        f"shift). A day is a vector, the mean direction of its events' local hours in {zone}; p is that of the best split "
        f"of an entity's days into before and after, at least {min_days} days each, under permutation of its days; q is adjusted for "
        f"{tested:,} tests. The change "
        "lies between first_day and last_day with 95 % confidence; shift_hours is later when positive."
    )
    more = {"Everybody": everybody}
    facts = {"entities": len(names), "tested": tested, "shifted": table.height}
    if not table.height:
        why = "Nobody's hours shifted significantly." if tested else f"Nobody has {2 * min_days} days with events."
        return Answer(title, definition, table, more=more, facts=facts, empty=why)
    drawn = table["entity"].to_list()[:DRAWN_CLOCKS]
    chart = Chart("hours", title, _clocks(drawn, names, found, who, day, hour, table))
    notes = (f"The chart shows the {DRAWN_CLOCKS} clearest.",) if table.height > DRAWN_CLOCKS else ()
    return Answer(title, definition, table, notes, more=more, chart=chart, facts=facts)


def _days(events: Events, calendar: Calendar, by: str, on: pl.Expr | None) -> tuple[Any, Any, Any, pl.Series]:
    """Return entity number, local day and local hour of each event, and the entities' names."""
    parts: list[pl.DataFrame] = []
    for batch in events.batches([by, *(on.meta.root_names() if on is not None else [])]):
        rows = (batch if on is None else batch.filter(on)).filter(pl.col(by).is_not_null())
        local = rows["timestamp"].dt.convert_time_zone(calendar.zone)
        clock = (
            local.dt.hour().cast(pl.Float32)
            + local.dt.minute().cast(pl.Float32) / 60
            + local.dt.second().cast(pl.Float32) / 3600
        )
        days = calendar.number(rows["timestamp"].dt.epoch("us").to_numpy())
        parts.append(
            pl.DataFrame({"entity": rows[by].cast(pl.String), "day": pl.Series(days, dtype=pl.Int32), "hour": clock})
        )
    whole = (
        pl.concat(parts) if parts else pl.DataFrame(schema={"entity": pl.String, "day": pl.Int32, "hour": pl.Float32})
    )
    names = whole["entity"].unique().sort()
    numbered = whole.join(
        pl.DataFrame({"entity": names, "who": np.arange(len(names))}), on="entity", maintain_order="left"
    )
    return numbered["who"].to_numpy(), numbered["day"].to_numpy(), numbered["hour"].to_numpy(), names


def _shift_table(names: pl.Series, found: circular.Shifts, calendar: Calendar) -> pl.DataFrame:
    zone = load_zone(calendar.zone)

    def dates(days: NDArray[np.int64]) -> pl.Series:
        told = [moment(calendar.begin(d)).astimezone(zone).date() if d >= 0 else None for d in days.tolist()]
        return pl.Series(told, dtype=pl.Date)

    return pl.DataFrame(
        {
            "entity": names, "changed_on": dates(found.day), "shift_hours": found.shift_hours, "q": found.q,
            "hour_before": found.before, "hour_after": found.after, "first_day": dates(found.first_day),
            "last_day": dates(found.last_day), "low_hours": found.low, "high_hours": found.high, "days": found.days, "p": found.p,
        }
    ).with_columns(pl.col(pl.Float64).fill_nan(None))  # fmt: skip


def _clocks(
    drawn: list[str], names: pl.Series, found: circular.Shifts, who: Any, day: Any, hour: Any, table: pl.DataFrame
) -> pl.DataFrame:
    """Return the share of events in each local hour before and after the change of some entities."""
    rows = []
    for name in drawn:
        number = int(names.search_sorted(name))
        mine = who == number
        hours, later = np.floor(hour[mine]).astype(np.int64), day[mine] >= found.day[number]
        before, after = (np.bincount(hours[side], minlength=24) / max(int(side.sum()), 1) for side in (~later, later))
        about = table.row(by_predicate=pl.col("entity") == name, named=True)
        label = f"{name}: {about['shift_hours']:+.1f} h on {about['changed_on']}"
        rows += [{"label": label, "hour": h, "before": float(before[h]), "after": float(after[h])} for h in range(24)]
    return pl.DataFrame(rows)
