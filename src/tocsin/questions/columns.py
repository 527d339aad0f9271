"""Questions about one column: what is in it, how it is distributed, what is commonest.

Enters: events and the name of a column. Leaves: an `Answer`. Layer: questions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from tocsin.answers import Answer
from tocsin.errors import SourceError, did_you_mean
from tocsin.questions.binning import bins, drawn, quantile
from tocsin.views import Chart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tocsin.sources import Events

DRAWN_BARS = 30


def need_column(events: Events, column: str) -> pl.DataType:
    """Return the type of a column, or say which ones there are."""
    have = events.columns
    if column not in have:
        raise SourceError(
            f"{events.name} has no column {column!r}.{did_you_mean(column, have)} It has: {', '.join(have)}."
        )
    return have[column]


def describe(events: Events, columns: str | Sequence[str] | None = None) -> Answer:
    """Describe one column, several, or all: numbers of values, quantiles, extremes, commonest value.

    >>> import polars as pl, tocsin as tc
    >>> events = tc.read(pl.DataFrame({"timestamp": ["2026-01-01T00:00Z"] * 4, "nr_recipients": [1, 1, 2, 60]}))
    >>> describe(events, "nr_recipients").table.select("count", "mean", "q50", "max").row(0)
    (4, 16.0, 1.5, '60')
    """
    names = [columns] if isinstance(columns, str) else None if columns is None else list(columns)
    for name in names or ():
        need_column(events, name)
    found = events.describe(names)
    table = found.to_frame()
    if names is not None:
        table = table.filter(pl.col("column").is_in(names))
    definition = (
        f"Each column of the {found.rows:,} events in {events.name}: values present and missing, how many are distinct, mean and "
        "sample standard deviation, quantiles by linear interpolation, and the commonest value with how often it occurs."
    )
    notes = []
    if not table["exact"].all():
        notes.append(
            "Where exact is false there are more than 10,000 distinct values (or the column holds times): distinct is a lower bound, "
            "quantiles are read off 4,096 bins of about equal weight."
        )
    if not found.rows:
        return Answer(f"What is in {events.name}?", definition, table, empty="The source holds no event.")
    if len(table) == 1:
        only = found.columns[table["column"][0]]
        chart = (
            Chart("histogram", f"Values of {only.name}", only.histogram, x=only.name, y="events")
            if len(only.histogram)
            else _bars(f"Commonest values of {only.name}", only.top.head(DRAWN_BARS), "events")
        )
    else:
        counts = table.select(label="column", count="count").head(60)
        chart = _bars("Values present in each column", counts, "events with a value")
    return Answer(
        f"What is in {', '.join(names) if names else events.name}?", definition, table, tuple(notes), chart=chart
    )


def _bars(title: str, frame: pl.DataFrame, x: str) -> Chart:
    named = frame.rename({"value": "label"}) if "value" in frame.columns else frame
    return Chart("bars", title, named.select("label", "count"), x=x)


def histogram(events: Events, column: str, *, limit: float | None = 0.999, on: pl.Expr | None = None) -> Answer:
    """Show how a numeric column is distributed, and the limit that its history suggests for a stateless rule.

    ``limit`` is the quantile that makes the limit: 0.999 lets one event in a thousand through. ``on`` chooses the events.
    Memory holds each distinct value once.

    Raises:
        SourceError: No such column, or one that holds no numbers.

    >>> import polars as pl, tocsin as tc
    >>> events = tc.read(pl.DataFrame({"timestamp": ["2026-01-01T00:00Z"] * 4, "nr_recipients": [1, 1, 2, 4]}))
    >>> answer = histogram(events, "nr_recipients", limit=0.5)
    >>> answer.table["count"].to_list(), answer.facts["limit"]
    ([2, 1, 0, 1], 1.5)
    """
    dtype = need_column(events, column)
    if not dtype.is_numeric():
        raise SourceError(f"{column} holds {dtype}, not numbers. `top` counts the values of any column.")
    if limit is not None and not 0 < limit < 1:
        raise SourceError(f"A limit is a quantile between 0 and 1, such as 0.999, not {limit}.")
    values, counts, missing = _value_counts(events, column, on)
    title = f"How is {column} distributed?"
    n = int(counts.sum())
    chosen = "" if on is None else " that were chosen"
    definition = f"{n:,} values of {column} in {events.name}{chosen}; {missing:,} events have none and are left out."
    frame = bins(values, counts, whole=dtype.is_integer())
    table = frame.with_columns(share=pl.col("count") / max(n, 1))
    if dtype.is_integer():  # both ends belong to the bin
        table = table.with_columns((pl.col("low") + 0.5).cast(pl.Int64), (pl.col("high") - 0.5).cast(pl.Int64))
        definition += " A bin holds its lower and its upper end."
    else:
        definition += " A bin holds its lower end and not its upper one; the last holds both."
    if not n:
        return Answer(title, definition, table, empty=f"No event has a value in {column}.")
    facts: dict[str, float] = {
        "n": n,
        "min": float(values[0]),
        "max": float(values[-1]),
        "mean": float(np.average(values, weights=counts)),
    }
    marks: dict[str, float] = {}
    notes = []
    if limit is not None:
        facts["limit"] = at = quantile(values, counts, limit)
        above = int(counts[values > at].sum())
        facts["above_limit"] = above
        marks[f"limit, {100 * limit:.10g} %: {at:,.6g}"] = at
        definition += f" The limit is the {limit:g} quantile: {at:,.6g}; {above:,} events lie above it."
    shown, beyond = drawn(frame)
    if beyond:
        notes.append(
            f"The chart ends at {shown['high'][-1]:,.6g}; {beyond:,} of the values lie above, up to {values[-1]:,.6g}: see the table."
        )
    chart = Chart(
        "histogram",
        title,
        shown,
        x=column,
        y="events",
        marks={w: m for w, m in marks.items() if m <= shown["high"][-1]},
    )
    return Answer(title, definition, table, tuple(notes), chart=chart, facts=facts)


def _value_counts(
    events: Events, column: str, on: pl.Expr | None
) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    """Return the distinct finite values in order, how often each occurs, and how many events have none."""
    chosen = events.filter(*([on] if on is not None else [])).select(pl.col(column).cast(pl.Float64, strict=False))
    counted = chosen.group_by(column).agg(n=pl.len()).collect(engine="streaming")
    usable = counted.filter(pl.col(column).is_finite()).sort(column)
    missing = int(counted["n"].sum()) - int(usable["n"].sum())
    return usable[column].to_numpy(), usable["n"].cast(pl.Int64).to_numpy(), missing


def top(events: Events, column: str, n: int = 10, *, on: pl.Expr | None = None) -> Answer:
    """Count the values of a column and return the commonest ``n``; of lists, their items are counted.

    >>> import polars as pl, tocsin as tc
    >>> events = tc.read(pl.DataFrame({"timestamp": ["2026-01-01T00:00Z"] * 3, "user_id": ["b", "a", "b"]}))
    >>> top(events, "user_id").table.rows()
    [('b', 2, 0.6666666666666666), ('a', 1, 0.3333333333333333)]
    """
    dtype = need_column(events, column)
    if n < 1:
        raise SourceError(f"top: the number of values must be at least 1, not {n}.")
    chosen = events.filter(*([on] if on is not None else [])).select(value=pl.col(column))
    missing = int(chosen.select(pl.col("value").null_count()).collect(engine="streaming").item())
    items = isinstance(dtype, pl.List)
    if items:
        chosen = chosen.explode("value", keep_nulls=False, empty_as_null=False)
    counted = chosen.drop_nulls().group_by("value").agg(count=pl.len().cast(pl.Int64)).collect(engine="streaming")
    total, distinct = int(counted["count"].sum()), counted.height
    what = "items" if items else "values"
    ordered = counted.sort(["count", "value"], descending=[True, False]) if distinct else counted
    table = ordered.head(n).with_columns(share=pl.col("count") / max(total, 1))
    title = f"The commonest {what} of {column}"
    definition = (
        f"{total:,} {what} of {column} in {events.name}, {distinct:,} of them distinct; "
        f"{missing:,} events have none and are left out. Equal counts are in order of the value."
    )
    if not total:
        return Answer(title, definition, table, empty=f"No event has a value in {column}.")
    chart = Chart(
        "bars", title, table.select(label=pl.col("value").cast(pl.String), count="count").head(DRAWN_BARS), x="events"
    )
    rest = total - int(table["count"].sum())
    notes = (f"{distinct - table.height:,} further values make {rest:,} events.",) if rest else ()
    return Answer(title, definition, table, notes, chart=chart, facts={"total": total, "distinct": distinct})
