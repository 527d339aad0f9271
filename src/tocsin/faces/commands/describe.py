"""`tocsin describe`: what is in a source, column by column.

Enters: the command's arguments. Leaves: tables with small charts, or one JSON document. Layer: faces.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from tocsin.faces import export
from tocsin.faces.options import READING, Flag, Several, Source, SourceOptions, UsageError, open_events, strict_failed
from tocsin.faces.source_report import show_rejects, show_source, source_values
from tocsin.faces.terminal import (
    Column,
    bar,
    make_table,
    new_console,
    number,
    numeric,
    safe,
    share,
    sparkline,
    spinner,
    whole,
)

if TYPE_CHECKING:
    from tocsin.sources.describe import ColumnSummary, Description

FAILED = 1
TOP_SHOWN = 10
BAR_CELLS = 40


def describe(
    source: Source,
    /,
    *,
    columns: Annotated[
        tuple[str, ...], Several, Parameter(help="Show these columns in full: quantiles, top values, histogram, rate.")
    ] = (),
    reading: SourceOptions = READING,
    json: Annotated[bool, Flag, Parameter(help="Print one JSON document and nothing else.")] = False,
) -> int:
    """Describe a source: numbers, quantiles, top values, histogram and rate per day of each column."""
    from tocsin.errors import SourceError

    events = open_events(source, reading)
    if strict_failed(events, reading):
        show_rejects(new_console(stderr=True), events)
        return FAILED
    try:
        with spinner(f"describing {events.name}"):
            found = events.describe(columns or None)
    except SourceError as error:
        raise UsageError(str(error)) from None
    if json:
        export.print_json(
            "describe",
            {
                "source": source_values(events),
                "rows": found.rows,
                "columns": {n: _values(c) for n, c in found.columns.items()},
            },
        )
        return 0
    console = new_console()
    show_source(console, events)
    if columns:
        for name in columns:
            _show_column(console, found.columns[name])
    else:
        _show_overview(console, found)
    return 0


_OVERVIEW = [
    Column("name", "column", least=16, style="bold"),
    Column("type", "type", rank=8, least=8),
    numeric("count", "values"),
    numeric("null_count", "null", rank=3),
    Column("distinct", "distinct", right=True),
    Column("min", "min", right=True, rank=5),
    Column("median", "median", right=True, rank=4),
    Column("q95", "q95", right=True, rank=7),
    Column("max", "max", right=True, rank=4),
    Column("mean", "mean", right=True, rank=9),
    Column("chart", "histogram", rank=2, style="cyan"),
    Column("top", "most frequent", least=16, rank=1),
    Column("top_count", "times", right=True, rank=1),
]


def _show_overview(console: Console, found: "Description") -> None:
    rows = [_row(c) for c in found.columns.values()]
    console.print(make_table(rows, _OVERVIEW, console.width))
    console.print()
    _show_rate(console, found.columns["timestamp"])


def _row(c: "ColumnSummary") -> dict[str, Any]:
    quantiles = (
        {"median": number(c.quantiles.get(0.5)), "q95": number(c.quantiles.get(0.95))}
        if c.quantiles
        else {"median": "", "q95": ""}
    )
    top = c.top.row(0) if len(c.top) else (None, 0)
    top = top if top[1] > 1 or c.distinct == 1 else (None, 0)  # where nothing occurs twice, nothing is most frequent
    return {
        "name": c.name,
        "type": str(c.dtype),
        "count": c.count,
        "null_count": c.null_count,
        "distinct": "" if c.dtype.is_temporal() else whole(c.distinct) if c.exact else f">={whole(c.distinct)}",
        "min": _extreme(c.min),
        "max": _extreme(c.max),
        "mean": "" if c.mean is None else number(c.mean),
        **quantiles,
        "chart": sparkline(c.histogram["count"].to_list(), 15),
        "top": safe(top[0], 60) if top[1] else "",
        "top_count": whole(top[1]) if top[1] else "",
    }


def _extreme(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:%Y-%m-%d}" if hasattr(value, "strftime") else number(value)


def _show_column(console: Console, c: "ColumnSummary") -> None:
    distinct = "" if c.dtype.is_temporal() else f", {'' if c.exact else 'at least '}{whole(c.distinct)} distinct"
    console.print(
        Text.assemble(
            (safe(c.name), "bold"), f" ({c.dtype}): {whole(c.count)} values, {whole(c.null_count)} null{distinct}"
        )
    )
    if c.min is not None:
        low, high = (f"{v:%Y-%m-%d %H:%M:%S} UTC" if hasattr(v, "strftime") else number(v) for v in (c.min, c.max))
        moments = "" if c.mean is None else f", mean {number(c.mean)}, standard deviation {number(c.sd)}"
        console.print(f"  from {low} to {high}{moments}")
    if c.quantiles:
        console.print("  quantiles: " + ", ".join(f"{share(q)} {number(v)}" for q, v in c.quantiles.items()))
    if len(c.histogram):
        top = int(c.histogram["count"].max())  # type: ignore[arg-type]
        rows = [{**row, "bar": bar(row["count"], top, BAR_CELLS)} for row in c.histogram.to_dicts()]
        columns = [
            numeric("low", "from", number),
            numeric("high", "to", number),
            numeric("count", "values"),
            Column("bar", "", style="cyan", rank=1),
        ]
        console.print(make_table(rows, columns, console.width))
    if len(c.top):
        rows = [{**row, "share": row["count"] / max(c.count, 1)} for row in c.top.head(TOP_SHOWN).to_dicts()]
        columns = [numeric("count", "times"), numeric("share", "share", share), Column("value", "value", least=20)]
        console.print(make_table(rows, columns, console.width))
    _show_rate(console, c)
    console.print()


def _show_rate(console: Console, c: "ColumnSummary") -> None:
    """Print the rate per day as a line of blocks, days without values included."""
    if not len(c.per_day):
        return
    by_day = dict(c.per_day.iter_rows())
    first, last = min(by_day), max(by_day)
    days = (last - first).days + 1
    rates = [by_day.get(first + timedelta(days=i), 0) for i in range(days)]
    busiest = max(by_day, key=lambda d: by_day[d])
    console.print(
        f"Per day, {first} to {last} ({whole(days)} days): mean {number(sum(rates) / days)}, most {whole(by_day[busiest])} on {busiest}"
    )
    console.print(Text(sparkline(rates, min(console.width, 90)), style="cyan"))


def _values(c: "ColumnSummary") -> dict[str, Any]:
    return {
        "type": str(c.dtype),
        "count": c.count,
        "null_count": c.null_count,
        "distinct": c.distinct,
        "exact": c.exact,
        "mean": c.mean,
        "sd": c.sd,
        "min": c.min,
        "max": c.max,
        "quantiles": {str(q): v for q, v in c.quantiles.items()},
        "top": export.rows_of(c.top),
        "histogram": export.rows_of(c.histogram),
        "per_day": export.rows_of(c.per_day),
    }
