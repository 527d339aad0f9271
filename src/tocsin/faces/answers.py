"""Answers on a terminal: a question is asked, and its answer shown as text, JSON, a page, a file.

Enters: what was typed and the question. Leaves: an exit code. Layer: faces.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from tocsin.errors import TocsinError
from tocsin.faces import export
from tocsin.faces.options import (
    Flag,
    ReferenceOptions,
    Several,
    SourceOptions,
    UsageError,
    open_events,
    open_references,
    strict_failed,
)
from tocsin.faces.source_report import reference_values, show_rejects, show_source, source_values
from tocsin.faces.terminal import Column, make_table, moment, new_console, number, safe, spinner, whole

if TYPE_CHECKING:
    import polars as pl

    from tocsin.answers import Answer
    from tocsin.references import References
    from tocsin.sources import Events
    from tocsin.views.page import Tile

FAILED = 1
MORE_ROWS = 5
LEAST_TEXT = 16


@Parameter(name="*")
@dataclass(frozen=True)
class AnswerOptions:
    """What becomes of an answer."""

    html: Annotated[
        Path | None, Parameter(help="Write a page with chart and tables that needs no network.", metavar="FILE")
    ] = None
    out: Annotated[Path | None, Parameter(help="Write the table: .parquet, .jsonl or .csv.", metavar="FILE")] = None
    rows: Annotated[int, Parameter(help="How many rows to print.")] = 20
    json: Annotated[bool, Flag, Parameter(help="Print one JSON document and nothing else.")] = False


@Parameter(name="*")
@dataclass(frozen=True)
class SpanSince:
    """Which part of a series."""

    since: Annotated[str | None, Parameter(help="Show from here on; what is earlier is history.", metavar="TIME")] = (
        None
    )
    until: Annotated[str | None, Parameter(help="Read events before this time only.", metavar="TIME")] = None


ANSWER, SPAN_SINCE = AnswerOptions(), SpanSince()
Where = Annotated[
    tuple[str, ...], Several, Parameter(help="Only events whose column has this value.", metavar="COLUMN=VALUE")
]
Question = Callable[["Events", "References | None"], "Answer"]


def where_of(conditions: tuple[str, ...]) -> "pl.Expr | None":
    """Return conditions written as COLUMN=VALUE as one expression, None where there are none.

    >>> str(where_of(("kind=mail",)))
    '[(col("kind").strict_cast(String)) == ("mail")]'
    """
    import polars as pl

    found: pl.Expr | None = None
    for text in conditions:
        column, mark, value = text.partition("=")
        if not (mark and column):
            raise UsageError(f"--where: {text!r} is no condition; write kind=mail.")
        one = pl.col(column).cast(pl.String) == value
        found = one if found is None else found & one
    return found


def check(answer: AnswerOptions) -> None:
    """Refuse what could not be written, before anything is read."""
    export.check_target(answer.html, (".html", ".htm"))
    export.check_target(answer.out)
    if answer.rows < 0:
        raise UsageError("--rows: the number of rows cannot be negative.")


def put(
    command: str,
    source: str,
    reading: SourceOptions,
    looking_up: ReferenceOptions | None,
    options: AnswerOptions,
    question: Question,
    *,
    more_rows: int = MORE_ROWS,
) -> int:
    """Read the source, put the question, show the answer; of further tables the first ``more_rows`` rows."""
    check(options)
    events = open_events(source, reading)
    refs = open_references(looking_up) if looking_up else None
    if strict_failed(events, reading):
        show_rejects(new_console(stderr=True), events)
        return FAILED
    try:
        with spinner(f"asking {events.name}"):
            answer = question(events, refs)
    except TocsinError as error:
        raise UsageError(str(error)) from None
    write_answer(answer, options)
    if options.json:
        files = {"html": options.html, "out": options.out}
        body = {"source": source_values(events), "references": reference_values(refs), "files": files}
        export.print_json(command, {**body, "answer": answer.to_dict()})
        return 0
    console = new_console()
    show_source(console, events, refs)
    print_answer(console, answer, options.rows, more_rows)
    for path in (options.html, options.out):
        if path:
            console.print(f"written to {safe(path)}", soft_wrap=True)
    return 0


def write_answer(answer: "Answer", options: AnswerOptions) -> None:
    """Write the page and the table that were asked for."""
    if options.html:
        export.write_text(answer.to_html(), options.html)
    if options.out:
        export.write_frame(answer.table, options.out)


def print_answer(console: Console, answer: "Answer", rows: int, more_rows: int) -> None:
    """Print heading, definition, table, notes and the beginnings of further tables."""
    console.print(Text(safe(answer.question, None), style="bold"))
    console.print(Text(safe(answer.definition, None)))
    console.print()
    if answer.empty:
        console.print(Text(safe(answer.empty, None)))
    _print_table(console, answer.table, rows, "")
    for caption, frame in answer.more.items():
        _print_table(console, frame, more_rows, caption)
    for note in answer.notes:
        console.print(Text(safe(note, None), style="dim"))


def show_tiles(console: Console, tiles: "tuple[Tile, ...]") -> None:
    """Print the numbers at the head of a report."""
    columns = [
        Column("name", "number", style="bold"),
        Column("value", "", right=True),
        Column("beside", "", rank=1),
        Column("meaning", "what it is", least=30, rank=2),
    ]
    console.print(make_table([vars(tile) for tile in tiles], columns, console.width))


def _print_table(console: Console, frame: "pl.DataFrame", rows: int, caption: str) -> None:
    if not frame.height or not rows:
        return
    columns = [_column(name, dtype, i) for i, (name, dtype) in enumerate(frame.schema.items())]
    if frame.height > rows:
        caption = f"{caption or 'table'}: {whole(min(rows, frame.height))} of {whole(frame.height)} rows"
    if caption:
        console.print(Text(safe(caption, None), style="bold"))
    console.print(make_table(frame.head(rows).to_dicts(), columns, console.width))
    console.print()


def _column(name: str, dtype: "pl.DataType", place: int) -> Column:
    header = safe(name.replace("_", " "), 40)
    rank = 0 if place < 2 else place
    if dtype.is_integer():
        return Column(name, header, whole, right=True, rank=rank)
    if dtype.is_float():
        return Column(name, header, number, right=True, rank=rank)
    if dtype.is_temporal():
        return Column(name, header, _time, rank=rank)
    return Column(name, header, _text, least=LEAST_TEXT, rank=rank)


def _time(value: Any) -> str:
    return moment(value) if hasattr(value, "hour") else safe(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return safe(", ".join("-" if v is None else str(v) for v in value))
    return safe(value)
