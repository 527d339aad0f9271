"""`tocsin report`: a week of a SOC on one page.

Enters: an alert log and a week. Leaves: a page, Markdown, JSON and CSV tables in a folder; same inputs, same bytes.
Layer: faces.
"""

import json as json_format
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from tocsin.errors import SourceError, TocsinError
from tocsin.faces import export
from tocsin.faces.answers import show_tiles
from tocsin.faces.commands.metrics import targets_of
from tocsin.faces.logs import LOG, LogOptions, open_history
from tocsin.faces.options import Flag, Several, UsageError
from tocsin.faces.terminal import new_console, safe, spinner


def report(
    *,
    week: Annotated[
        str | None, Parameter(help="2026-W46, or a day in it. Default: the last whole week of the log.", metavar="WEEK")
    ] = None,
    out: Annotated[Path, Parameter(help="The folder that is written; it is made if need be.", metavar="FOLDER")] = Path(
        "report"
    ),
    zone: Annotated[str, Parameter(help="Zone of days, hours and weeks, such as Europe/Berlin.")] = "UTC",
    hours: Annotated[
        str | None,
        Parameter(help='When people work, such as "Mon-Fri 08:00-18:00", or a TOML file.', metavar="HOURS|FILE"),
    ] = None,
    holidays: Annotated[
        str | None,
        Parameter(help="Days off: a country or part of one (US, DE-BY), or a file of dates.", metavar="CODE|FILE"),
    ] = None,
    target: Annotated[
        tuple[str, ...], Several, Parameter(help="Minutes to the first action by severity.", metavar="SEVERITY=MINUTES")
    ] = (),
    log: LogOptions = LOG,
    json: Annotated[bool, Flag, Parameter(help="Print one JSON document and nothing else.")] = False,
) -> int:
    """Write the weekly report: five numbers against last week, what changed, missed targets, rules to tune.

    The page stands alone and fetches nothing. The same log gives the same bytes.
    """
    from tocsin.reports import weekly

    aims = targets_of(target)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder.")
    try:
        with spinner("reading the alert log"):
            made = weekly(open_history(log, zone), week, zone=zone, hours=hours, holidays=holidays, targets=aims)
    except SourceError:
        raise
    except TocsinError as error:
        raise UsageError(str(error)) from None
    tables = out / "tables"
    tables.mkdir(parents=True, exist_ok=True)
    export.write_text(made.to_html(), out / "report.html")
    export.write_text(made.to_markdown(), out / "report.md")
    export.write_text(json_format.dumps(made.to_dict(), indent=1), out / "report.json")
    for name, frame in made.tables().items():
        export.write_frame(export.flat(frame), tables / f"{name}.csv")
    if json:
        export.print_json("report", {"folder": out, **made.to_dict()})
        return 0
    console = new_console()
    console.print(Text(safe(made.title), style="bold"))
    for words in made.lead:
        console.print(Text(safe(words, None)))
    console.print()
    show_tiles(console, made.tiles)
    console.print()
    console.print(f"{safe(out / 'report.html')}, and the same as report.md, report.json, tables/*.csv", soft_wrap=True)
    return 0
