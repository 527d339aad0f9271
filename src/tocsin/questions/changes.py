"""Whose daily sums changed most, and is that unlike everybody else's (challenge 3)?

Enters: events, a numeric column, a split. Leaves: an `Answer`. The tests are those of `tocsin.stats`. Layer: questions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from tocsin.answers import Answer
from tocsin.calendars import Calendar, instant_us, moment
from tocsin.errors import SourceError
from tocsin.questions.columns import need_column
from tocsin.stats.multiple import benjamini_hochberg, drift_null
from tocsin.stats.welch import INTEGER_VARIANCE, log_change, welch
from tocsin.views import Chart

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from tocsin.sources import Events

    Floats = NDArray[np.float64]

DRAWN = 15
BLOCK_CELLS = 20_000_000
"""Numbers of the matrix of entities by days that are in memory at a time."""
LEAST_DAYS = 4
SIGNIFICANT = 0.05
UNLIKE, CHANGED, STEADY = "unlike the rest", "changed", "not significant"
VERDICTS = (UNLIKE, CHANGED, STEADY)


def largest_changes(
    events: Events,
    column: str = "nr_attachments",
    *,
    per: str = "1d",
    split: datetime | None = None,
    zone: str = "UTC",
    by: str = "user_id",
    n: int = 3,
    on: pl.Expr | None = None,
    gaps: Sequence[tuple[datetime, datetime]] = (),
) -> Answer:
    """Rank entities by how much more of something they have a day after a date than before it.

    The number of a day is the sum of ``column`` (of a list column: of the lengths of its lists; "" counts events). Every
    entity has a number for every complete day of the data, zero where it has no event; days in ``gaps`` are left out.
    ``split`` is the first day after; by default the middle. ``per`` may be another calendar window.

    `p` is Welch's test over days and `q` that adjusted for the number of entities (Benjamini-Hochberg). `q_unlike` judges
    the change against everybody's: where all drift, only those count who drift more. Ranking is by the change itself.

    Raises:
        SourceError: No such column, fewer than four complete days, or a split with fewer than two days on a side.
    """
    calendar = Calendar(per, zone)
    days, names, sums = _sums(events, column, by, calendar, on)
    if len(days) < LEAST_DAYS:
        raise SourceError(
            f"{events.name} has {len(days)} complete windows of {per} in {zone}; comparing needs at least {LEAST_DAYS}."
        )
    missing = sorted({w for a, b in gaps for w in calendar.touched(instant_us(a), instant_us(b))})
    number = int(calendar.number(np.array([instant_us(split)], np.int64))[0]) if split else days[len(days) // 2]
    at = number - days[0]
    left, right = (sum(d not in missing for d in part) for part in (days[: max(at, 0)], days[max(at, 0) :]))
    if min(left, right) < 2:
        raise SourceError(
            f"The split leaves {left} complete windows before and {right} after; both sides need at least two."
        )
    table = _judged(names, sums, days, at, missing)
    return _answer(table, events, column, by, calendar, days, at, n)


def _sums(
    events: Events, column: str, by: str, calendar: Calendar, on: pl.Expr | None
) -> tuple[range, pl.Series, pl.DataFrame]:
    """Return the complete windows, the entities, and entity number, window and sum where there is any event."""
    need_column(events, by)
    value = _value(events, column)
    parts: list[pl.DataFrame] = []
    ends: list[tuple[int, int]] = []
    reads = [by, *([column] if column else []), *(on.meta.root_names() if on is not None else [])]
    for batch in events.batches(reads):
        t = batch["timestamp"].dt.epoch("us")
        if not batch.height:
            continue
        ends.append((int(t.min()), int(t.max())))  # type: ignore[arg-type]
        rows = batch.with_columns(pl.Series("@day", calendar.number(t.to_numpy()), dtype=pl.Int64))
        rows = (rows if on is None else rows.filter(on)).filter(pl.col(by).is_not_null())
        counted = (
            rows.select(entity=pl.col(by).cast(pl.String), day="@day", x=value)
            .group_by("entity", "day")
            .agg(pl.col("x").sum())
        )
        parts = [pl.concat([*parts, counted]).group_by("entity", "day").agg(pl.col("x").sum())]
    if not parts:
        return range(0), pl.Series([], dtype=pl.String), pl.DataFrame()
    days = _complete(calendar, min(a for a, _ in ends), max(b for _, b in ends))
    names = parts[0]["entity"].unique().sort()
    numbered = parts[0].join(pl.DataFrame({"entity": names, "who": np.arange(len(names))}), on="entity")
    return days, names, numbered.filter(pl.col("day").is_between(days.start, days.stop - 1)).sort("who", "day")


def _value(events: Events, column: str) -> pl.Expr:
    if not column:
        return pl.lit(1.0)
    dtype = need_column(events, column)
    if isinstance(dtype, pl.List):
        return pl.col(column).list.len().fill_null(0).cast(pl.Float64)
    if not dtype.is_numeric():
        raise SourceError(
            f'{column} holds {dtype}: there is nothing to sum. Name a numeric or a list column, or "" for events.'
        )
    return pl.col(column).cast(pl.Float64).fill_nan(None)


def _complete(calendar: Calendar, first: int, last: int) -> range:
    """Return the windows that the data covers.

    The first and the last count if events begin, or end, within a twenty-fourth of a window (an hour of a day) of theirs.
    """
    low, high = calendar.number(np.array([first, last], np.int64)).tolist()
    edges = [calendar.begin(n) for n in (low, low + 1, high, high + 1)]
    low += first - edges[0] > (edges[1] - edges[0]) // 24
    high -= edges[3] - last > (edges[3] - edges[2]) // 24
    return range(int(low), int(high) + 1)


def _judged(names: pl.Series, sums: pl.DataFrame, days: range, at: int, missing: Sequence[int]) -> pl.DataFrame:
    """Return one row an entity: means, change, interval, p and q. Blocks of entities bound the memory."""
    block = max(1, BLOCK_CELLS // len(days))
    hidden = [d - days.start for d in missing if d in days]
    found, effects = [], []
    for start in range(0, len(names), block):
        stop = min(start + block, len(names))
        mine = sums.filter(pl.col("who").is_between(start, stop - 1))
        counts = np.zeros((stop - start, len(days)))
        counts[mine["who"].to_numpy() - start, mine["day"].to_numpy() - days.start] = mine["x"].to_numpy()
        counts[:, hidden] = np.nan
        found.append(welch(counts, at, variance_at_least=INTEGER_VARIANCE))
        effects.append(log_change(counts, at))

    def joined(results: list, field: str) -> Floats:  # type: ignore[type-arg]
        return np.concatenate([getattr(r, field) for r in results])

    change = joined(found, "change")
    p = joined(found, "p")
    unlike = np.full(p.size, np.nan)
    effect, error, df = (joined(effects, f) for f in ("change", "error", "df"))
    if np.isfinite(effect / error).sum() >= 4:
        unlike = drift_null(effect, error, df).p
    columns = {
        "entity": names, "before": joined(found, "before"), "after": joined(found, "after"), "change": change,
        "low": joined(found, "low"), "high": joined(found, "high"), "p": p, "q": benjamini_hochberg(p),
        "q_unlike": benjamini_hochberg(unlike),
    }  # fmt: skip
    frame = pl.DataFrame(columns).with_columns(pl.col(pl.Float64).fill_nan(None))
    verdict = (
        pl.when(pl.col("q_unlike") <= SIGNIFICANT, pl.col("q") <= SIGNIFICANT).then(pl.lit(UNLIKE))
        .when(pl.col("q") <= SIGNIFICANT).then(pl.lit(CHANGED))
        .otherwise(pl.lit(STEADY))
    )  # fmt: skip
    first = ("entity", "change", "q", "q_unlike")
    return frame.select(*first, verdict.alias("verdict"), pl.exclude(*first)).sort(
        ["change", "entity"], descending=[True, False], nulls_last=True
    )


def _answer(
    table: pl.DataFrame, events: Events, column: str, by: str, calendar: Calendar, days: range, at: int, n: int
) -> Answer:
    word = {"1d": "day", "1h": "hour", "1w": "week", "1mo": "month"}[calendar.per]
    what = column or "events"
    named = table.rename({c: f"{c}_per_{word}" for c in ("before", "after", "change", "low", "high")})
    when = {
        name: moment(calendar.begin(d))
        for name, d in (("from", days.start), ("split", days.start + at), ("to", days.stop))
    }
    title = f"Whose {what} per {word} grew most?"
    unlike, changed = (int((table["verdict"] == v).sum()) for v in (UNLIKE, CHANGED))
    definition = (
        f"Sums of {what} per {word} ({calendar.zone}) of {table.height:,} {by} in {events.name}, zeros included: the mean of "
        f"the {len(days) - at} {word}s from {when['split']:%Y-%m-%d %H:%M} UTC less the mean of the {at} before. p is Welch's test over "
        f"{word}s, q adjusts it for {table.height:,} tests, q_unlike asks whether the factor of the change is unlike everybody's. "
        f"{unlike + changed:,} changed significantly (q <= {SIGNIFICANT}), {unlike:,} of them more than everybody's drift explains "
        f"(q_unlike <= {SIGNIFICANT} too)."
    )
    facts = {**when, "entities": table.height, "significant": unlike + changed, "unlike_the_rest": unlike}
    if not table.height:
        return Answer(title, definition, named, facts=facts, empty=f"No event has a value in {by}.")
    notes = [] if table["q_unlike"].count() else ["Fewer than four entities: nobody can be compared with the rest."]
    low, high = (float(table["change"].quantile(q) or 0.0) for q in (0.025, 0.975))
    chart = Chart(
        "changes", title, table.head(max(n, DRAWN)).select("change", "low", "high", "verdict", label="entity"),
        x=f"change of {what} per {word}, with 95 % interval",
        words={"band": (low, high), "band_name": "95 % of everybody", "verdicts": VERDICTS},
    )  # fmt: skip
    return Answer(title, definition, named.head(n), tuple(notes), more={"Everybody": named}, chart=chart, facts=facts)
