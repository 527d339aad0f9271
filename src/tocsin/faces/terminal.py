"""What a terminal is given: plain text, tables that fit its width, and progress on stderr.

Enters: values of any origin. Leaves: lines in which nothing an attacker wrote can act: every string goes through
`safe`, and rich's markup is off. Layer: faces.
"""

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

PIPED_WIDTH = 100
LONGEST_TEXT = 200
GAP = 2
BROKEN_PIPE = 141
BLOCKS = "▁▂▃▄▅▆▇█"


class QuietConsole(Console):
    """A console that reads no markup, guesses no colours, and ends like other tools when its reader goes away."""

    def on_broken_pipe(self) -> None:
        """Leave as `cat` does when `head` has seen enough: silently, with the code of SIGPIPE."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(BROKEN_PIPE)


def new_console(*, stderr: bool = False, record: bool = False, width: int | None = None) -> Console:
    """Return a console for stdout or stderr; without a terminal and without COLUMNS it is 100 columns wide."""
    stream = sys.stderr if stderr else sys.stdout
    if width is None and "COLUMNS" not in os.environ and not stream.isatty():
        width = PIPED_WIDTH
    return QuietConsole(file=stream, markup=False, highlight=False, emoji=False, width=width, record=record)


def safe(value: Any, limit: int | None = LONGEST_TEXT) -> str:
    r"""Return a value as text that cannot act on a terminal; null is a dash.

    >>> safe("\x1b[31mred"), safe(None), safe("[red]")
    ('\\x1b[31mred', '-', '[red]')
    """
    from tocsin.text import escape_terminal  # it imports Polars, for which `--help` does not wait

    return "-" if value is None else escape_terminal(str(value), limit=limit)


def safe_lines(text: str) -> str:
    """Return a message of several lines of our own, each of them made safe."""
    return "\n".join(safe(line, limit=1000) for line in text.splitlines())


def whole(value: int | None) -> str:
    """Return a whole number with thousands separated.

    >>> whole(1234567), whole(None)
    ('1,234,567', '-')
    """
    return "-" if value is None else f"{value:,}"


def number(value: float | None) -> str:
    """Return a number short enough to read, and never rounded to nothing.

    >>> number(1234567.8), number(3.14159), number(0.00123), number(12.0), number(None)
    ('1,234,568', '3.14', '0.00123', '12', '-')
    """
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return "-"
    if value == int(value) if abs(value) < 1e15 else False:
        return f"{int(value):,}"
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:,.2f}".removesuffix(".00") if abs(value) >= 0.1 else f"{value:.3g}"


def share(value: float | None) -> str:
    """Return a part of one as a percentage.

    >>> share(0.125)
    '12.5 %'
    """
    return "-" if value is None else f"{100 * value:.1f} %".replace(".0 %", " %")


def moment(value: datetime | None) -> str:
    """Return a time in UTC to the minute."""
    return "-" if value is None else f"{value:%Y-%m-%d %H:%M}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: where its values come from and what becomes of it when there is little room.

    rank: 0 stays always; otherwise the highest rank is left out first. least: text may be cut to this many columns,
    ending in an ellipsis (or folded, with `fold`); None is for numbers and times, which are never cut.
    """

    key: str
    header: str
    show: Callable[[Any], str] = safe
    right: bool = False
    rank: int = 0
    least: int | None = None
    fold: bool = False
    style: str = ""


def numeric(key: str, header: str, show: Callable[[Any], str] = whole, rank: int = 0) -> Column:
    """Return a column of numbers: to the right, never cut."""
    return Column(key, header, show, right=True, rank=rank)


@dataclass(slots=True)
class _Laid:
    column: Column
    cells: list[str]
    natural: int
    width: int


def lay_out(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], width: int) -> list[_Laid]:
    """Choose the columns that fit `width` and their widths: numbers whole or not at all, text cut last."""
    laid = []
    for column in columns:
        cells = [column.show(row.get(column.key)) for row in rows]
        natural = max(cell_len(text) for text in [column.header, *cells])
        least = natural if column.least is None else min(natural, max(column.least, cell_len(column.header)))
        laid.append(_Laid(column, cells, natural, least))

    def missing() -> int:
        return sum(one.width for one in laid) + GAP * (len(laid) - 1) - width

    while missing() > 0 and any(one.column.rank for one in laid):
        laid.remove(max(laid, key=lambda one: one.column.rank))
    for one in sorted(
        laid, key=lambda one: (one.column.fold, one.natural - one.width)
    ):  # whom little is missing, first
        one.width += max(0, min(one.natural - one.width, -missing()))
    return laid


class Trimmed:
    """A table without blanks at the ends of its lines, so that it can be pasted and compared."""

    def __init__(self, inner: RenderableType) -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines, each cut after its last visible character."""
        for line in console.render_lines(self.inner, options, pad=False):
            while line and not line[-1].text.strip():
                line.pop()
            if line:
                line[-1] = Segment(line[-1].text.rstrip(), line[-1].style)
            yield from line
            yield Segment.line()


def make_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], width: int, title: str = "") -> Trimmed:
    """Return a rich table of `rows` that fits `width`; columns that do not fit are left out, and the caption says so."""
    from rich import box
    from rich.table import Table

    laid = lay_out(rows, columns, width)
    shown = {one.column.key for one in laid}
    absent = [c.header for c in columns if c.key not in shown]
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, GAP - 1, 0, 0),
        title_justify="left",
        header_style="bold",
    )
    table.title = Text(title, style="bold") if title else None
    table.caption_justify = "left"
    table.caption = Text(f"left out at this width: {', '.join(absent)}", style="dim") if absent else None
    for one in laid:
        table.add_column(
            Text(one.column.header),
            justify="right" if one.column.right else "left",
            width=one.width,
            no_wrap=not one.column.fold,
            overflow="fold" if one.column.fold else "ellipsis",
            style=one.column.style,
        )
    for i in range(len(rows)):
        table.add_row(*(Text(one.cells[i]) for one in laid))
    return Trimmed(table)


def sparkline(values: Sequence[float], cells: int = 30) -> str:
    """Return values as a row of blocks, the highest full; nothing is a blank, anything more than nothing is seen.

    >>> sparkline([0, 1, 4, 8])
    ' ▁▄█'
    """
    if len(values) > cells:
        edges = [len(values) * i // cells for i in range(cells + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    top = max(values, default=0)
    return "".join(" " if v <= 0 else BLOCKS[max(0, min(7, round(v / top * 8) - 1))] for v in values)


def bar(value: float, top: float, cells: int) -> str:
    """Return a horizontal bar; anything more than nothing is seen."""
    return "" if value <= 0 or top <= 0 else "█" * max(1, round(value / top * cells))


@contextlib.contextmanager
def progress_bar(what: str, total: int | None, unit: str = "events") -> Iterator[Callable[[int], None] | None]:
    """Show progress on stderr while the block runs; without a terminal there, nothing (and no callback)."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} " + unit),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=new_console(stderr=True), transient=True) as shown:
        task = shown.add_task(safe(what, 60), total=total)
        yield lambda done: shown.update(task, completed=done)


@contextlib.contextmanager
def spinner(what: str) -> Iterator[Callable[[str], None]]:
    """Show on stderr what is being done, for work that cannot say how far it is."""
    if not sys.stderr.isatty():
        yield lambda _text: None
        return
    console = new_console(stderr=True)
    with console.status(Text(safe(what))) as status:
        yield lambda text: status.update(Text(f"{what}: {safe(text)}"))
