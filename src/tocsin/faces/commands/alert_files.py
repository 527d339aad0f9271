"""`tocsin alerts import` and `export`: histories of other systems into the log, and the log into files.

Enters: the command's arguments. Leaves: counts on stdout, or one JSON document; files. Layer: faces.
"""

import json as json_text
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from tocsin.errors import SourceError
from tocsin.faces import export
from tocsin.faces.options import UsageError, instant
from tocsin.faces.said import AsJson, Log, open_log
from tocsin.faces.terminal import new_console, safe, spinner, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.lifecycle import History
    from tocsin.sources.histories import Imported

IMPORT_EXAMPLES = (
    "Examples:\n  tocsin alerts import export.csv --map expel-metrics --log soc.db\n"
    "  tocsin alerts import raw/ --name workbench --log soc.db"
)
EXPORT_EXAMPLES = (
    "Examples:\n  tocsin alerts export alerts.csv --log soc.db\n"
    "  tocsin alerts export ocsf.jsonl --what ocsf --as-of 2026-11-01"
)
SHOWN_REJECTS = 5
What = Literal["alerts", "activities", "findings", "journal", "ocsf"]


def import_alerts(
    source: Annotated[str, Parameter(name="SOURCE", help="A file or folder of alerts, or raw answers of a Workbench.")],
    /,
    *,
    log: Log = None,
    mapping: Annotated[
        str | None,
        Parameter(
            name="--map",
            help="Mapping: a TOML file or a shipped name. Default: recognised by the fields.",
            metavar="FILE|NAME",
        ),
    ] = None,
    zone: Annotated[str | None, Parameter(help="Time zone of times that name none.")] = None,
    name: Annotated[
        str | None, Parameter(help="What the source is called in the log. Default: as its mapping says.")
    ] = None,
    rejects: Annotated[
        Path | None,
        Parameter(help="Write what could not be read to this file: .parquet, .jsonl or .csv.", metavar="FILE"),
    ] = None,
    json: AsJson = False,
) -> int:
    """Write the alerts of another system down, and what happened to them. What is there already stays as it is.

    The log is made where there is none. An import is whole or did not happen; again, it brings only what is new.
    """
    from tocsin.sources.histories import read_history

    if not log:
        open_log(log)
    export.check_target(rejects)
    with spinner(f"reading {source}"):
        found = read_history(source, mapping=mapping, zone=zone)
    if not found.counts["read"]:
        raise SourceError(f"{source} holds no alerts: there is nothing below its header.")
    if rejects is not None:
        export.write_frame(found.rejected, rejects)
    with open_log(log, create=True) as opened, spinner("writing"):
        added = opened.import_history(found.history, source=name)
    if json:
        counts = {"counts": dict(found.counts), "dropped": dict(found.dropped), "caveats": list(found.caveats)}
        left = {"ignored": list(found.ignored), "rejected": found.rejected.head(SHOWN_REJECTS).to_dicts()}
        export.print_json("alerts import", {"added": asdict(added), **counts, **left, "rejects": rejects})
        return 0
    console = new_console()
    console.print(
        f"{whole(added.alerts)} new alerts, {whole(added.activities)} new activities; {whole(added.known)} rows were known"
    )
    for reason, n in found.dropped.items():
        console.print(f"  {safe(reason)}: {whole(n)}")
    for line in (*found.caveats, *_left_out(found, rejects)):
        console.print(f"  {safe(line, None)}", soft_wrap=True)
    return 0


def _left_out(found: "Imported", rejects: Path | None) -> "Iterator[str]":
    """Yield what the log does not know now: columns nobody asked for, and values that could not be read."""
    from tocsin.sources.times import NO_ZONE

    if found.ignored:
        yield f"columns not used: {', '.join(found.ignored)}"
    rows = found.rejected
    if not rows.height:
        return
    yield f"{whole(rows.height)} values or rows could not be read" + (f", written to {rejects}:" if rejects else ":")
    for row in rows.head(SHOWN_REJECTS).iter_rows(named=True):
        value = "nothing" if row["value"] is None else f'"{safe(row["value"], 60)}"'
        place = f"{row['file']} line {row['line']}" + (f", {row['column']}" if row["column"] else "")
        yield f"  {place}: {value}: {row['reason']}"
    if rows.height > SHOWN_REJECTS and rejects is None:
        yield "  ... all of them: --rejects FILE.csv"
    if (rows["reason"] == NO_ZONE).any():
        yield "If the times are local times, name their zone: --zone Europe/Berlin (or UTC)."


def export_alerts(
    target: Annotated[Path, Parameter(name="FILE", help="Where to: .parquet, .jsonl or .csv.")],
    /,
    *,
    log: Log = None,
    what: Annotated[
        What, Parameter(help="Alerts as they stand, rows of the log, or OCSF findings (.jsonl).")
    ] = "alerts",
    as_of: Annotated[str | None, Parameter(help="As it was at a time.", metavar="TIME")] = None,
    known_at: Annotated[str | None, Parameter(help="As it was known at a time.", metavar="TIME")] = None,
    json: AsJson = False,
) -> int:
    """Write the log, or how its alerts stand, into a file. In CSV no cell can start a formula."""
    export.check_target(target, (".jsonl",) * 2 if what == "ocsf" else export.FORMATS)
    if as_of and known_at:
        raise UsageError("--as-of and --known-at are two questions; ask one.")
    then, known = instant(as_of, "--as-of"), instant(known_at, "--known-at")
    with open_log(log) as opened, spinner("reading"):
        history = opened.as_of(then) if then else opened.as_known_at(known) if known else opened.history()
    written = _write(history, what, target)
    if json:
        export.print_json("alerts export", {"what": what, "rows": written, "file": target})
        return 0
    new_console().print(f"{whole(written)} rows written to {safe(target)}")
    return 0


def _write(history: "History", what: What, target: Path) -> int:
    if what == "ocsf":
        from tocsin.lifecycle.ocsf import to_ocsf

        lines = [json_text.dumps(event, ensure_ascii=False, default=_plain) for event in to_ocsf(history)]
        export.write_text("".join(f"{line}\n" for line in lines), target)
        return len(lines)
    frame = history.current.drop("alert") if what == "alerts" else getattr(history, what)
    export.write_frame(frame, target)
    return int(frame.height)


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
