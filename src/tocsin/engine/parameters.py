"""Parameters of a population, read off a whole history: the Poisson parameter and everybody's operating hours.

Enters: events. Leaves: a ``Table``, valid from the first midnight after the history. Layer: engine.
These are fits without a rule that applies them event by event; they answer a question, or seed a threshold.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import polars as pl

from tocsin.calendars import DAY, load_zone, moment
from tocsin.errors import RuleError
from tocsin.stats.poisson import population_of_sums
from tocsin.tables import Table

if TYPE_CHECKING:
    from tocsin.sources import Events

HOURS = tuple(f"h{hour:02}" for hour in range(24))


def poisson_parameter(
    events: Events,
    column: str = "nr_recipients",
    *,
    entity: str = "user_id",
    on: pl.Expr | None = None,
    at_least: int = 10,
) -> Table:
    """Estimate the parameter of a Poisson distribution from which each entity's mean of ``column`` was drawn.

    One row: ``lambda`` (the mean of the entities' means, each weighing the same), ``low`` and ``high`` (95 % t interval
    over entities), ``dispersion`` (variance of the means, less what sampling alone adds, over lambda: 1 for a Poisson
    distribution) and ``n`` (entities with at least ``at_least`` values). A mean over events instead would weigh busy
    entities more; its interval then misses the parameter most of the time.

    Where values below 1 cannot occur, as with recipients of a mail, small means are biased upwards.

    Raises:
        RuleError: Fewer than two entities have enough values.
    """
    values = events.filter(
        on if on is not None else pl.lit(value=True), pl.col(column).is_not_null(), pl.col(entity).is_not_null()
    )
    x = pl.col(column).cast(pl.Int128)
    sums = (
        values.group_by(entity)
        .agg(n=pl.len(), s=x.sum(), s2=(x * x).sum())
        .filter(pl.col("n") >= max(at_least, 2))
        .sort(entity)
        .collect()
    )
    users = sums.height
    if users < 2:
        raise RuleError(
            f'Only {users} of "{entity}" have {at_least} values of "{column}"; a population needs at least two.'
        )
    n, s, s2 = (sums[c].cast(pl.Int128).to_list() for c in ("n", "s", "s2"))
    squares = [(k * q - a * a) / k for k, a, q in zip(n, s, s2, strict=True)]  # of whole numbers, so nothing cancels
    found = population_of_sums(n, s, squares)
    row = {
        "column": column,
        "lambda": found.mean,
        "low": found.low,
        "high": found.high,
        "dispersion": found.dispersion,
        "n": found.members,
    }
    return Table("poisson", pl.DataFrame([row]), ("column",), tuple(row)[1:], moment(_valid_from(events)), tier=4)


def operating_hours(events: Events, zone: str = "UTC", *, entity: str = "user_id", at_least: int = 10) -> Table:
    """Return each entity's distribution over the local clock hours.

    ``h00`` to ``h23`` are shares, ``mean_hour`` their circular mean (0 to 24), ``concentration`` the length of the mean
    vector (0: spread evenly, 1: always the same hour), ``n`` the number of events, at least ``at_least``.
    """
    load_zone(zone)
    hour = pl.col("timestamp").dt.convert_time_zone(zone).dt.hour()
    counts = (
        events.filter(pl.col(entity).is_not_null())
        .group_by(entity)
        .agg((hour == h).sum().alias(name) for h, name in enumerate(HOURS))
    )
    n = pl.sum_horizontal(HOURS)
    shares = (
        counts.with_columns(n.alias("n"))
        .filter(pl.col("n") >= at_least)
        .with_columns(pl.col(h) / pl.col("n") for h in HOURS)
    )
    angle = [2 * math.pi * (h + 0.5) / 24 for h in range(24)]
    east = pl.sum_horizontal(pl.col(name) * math.cos(a) for name, a in zip(HOURS, angle, strict=True))
    north = pl.sum_horizontal(pl.col(name) * math.sin(a) for name, a in zip(HOURS, angle, strict=True))
    mean_hour = (pl.arctan2(north, east) * (12 / math.pi)) % 24
    frame = (
        shares.with_columns(mean_hour=mean_hour, concentration=(east.pow(2) + north.pow(2)).sqrt())
        .sort(entity)
        .collect()
    )
    return Table(
        "operating-hours",
        frame,
        (entity,),
        (*HOURS, "mean_hour", "concentration", "n"),
        moment(_valid_from(events)),
        tier=3,
    )


def _valid_from(events: Events) -> int:
    last = events.frame().select(pl.col("timestamp").max().dt.epoch("us")).collect().item()
    return ((last or 0) // DAY + 1) * DAY
