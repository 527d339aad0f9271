"""`tocsin fit`: write the baselines that a history makes as versioned tables.

Enters: a source and rules, or the state folder of an engine that keeps closed windows. Leaves: one Parquet file per rule with
a fit; or what late data changed in the tables the engine published. Layer: faces.
"""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tocsin.faces import export
from tocsin.faces.options import (
    LOOKING_UP,
    READING,
    Flag,
    ReferenceOptions,
    Several,
    Source,
    SourceOptions,
    UsageError,
    gaps_of,
    instant,
    load_detections,
    open_events,
    open_references,
    strict_failed,
)
from tocsin.faces.source_report import show_rejects, show_source, source_values
from tocsin.faces.terminal import Column, make_table, moment, new_console, numeric, progress_bar, safe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tocsin.tables import Table

FAILED = 1


def fit(
    source: Source | None = None,
    /,
    *,
    out: Annotated[
        Path | None, Parameter(help="Folder for the tables, one Parquet file per rule.", metavar="FOLDER")
    ] = None,
    state: Annotated[
        Path | None,
        Parameter(help="Instead of SOURCE: the state folder of an engine that keeps closed windows.", metavar="FOLDER"),
    ] = None,
    at: Annotated[
        str | None,
        Parameter(help="With --state: the tables that hold at this time. Default: the newest.", metavar="TIME"),
    ] = None,
    corrections: Annotated[
        bool, Flag, Parameter(help="With --state: list what late data changed in tables the engine had published.")
    ] = False,
    reading: SourceOptions = READING,
    looking_up: ReferenceOptions = LOOKING_UP,
    rules: Annotated[
        tuple[Path, ...],
        Several,
        Parameter(help="Rule files instead of the rules that ship. A rule file is code.", metavar="FILE.py"),
    ] = (),
    until: Annotated[str | None, Parameter(help="Fit on events before this time only.", metavar="TIME")] = None,
    gap: Annotated[
        tuple[str, ...], Several, Parameter(help="Times in which the source was not covered.", metavar="START..END")
    ] = (),
    json: Annotated[bool, Flag, Parameter(help="Print one JSON document and nothing else.")] = False,
) -> int:
    """Fit the baselines of rules on a history and write them as tables, valid from its end on.

    With --state the history is what a running engine kept of closed windows; it may run meanwhile, nothing of it is touched.
    """
    if (source is None) == (state is None):
        raise UsageError("Give a SOURCE, or --state with the state folder of an engine, not both.")
    if state is not None:
        return _show_corrections(state, json=json) if corrections else _fit_state(state, out, at, gap, json=json)
    if at or corrections:
        raise UsageError("--at and --corrections go with --state.")
    if out is None or source is None:
        raise UsageError("Where to? Give a folder for the tables with --out.")
    from tocsin.engine.fitting import fit as run

    end, gaps = instant(until, "--until"), gaps_of(gap)
    detections = load_detections(rules)
    events, refs = open_events(source, reading), open_references(looking_up)
    if strict_failed(events, reading):
        show_rejects(new_console(stderr=True), events)
        return FAILED
    with progress_bar(f"fitting {events.name}", events.records) as progress:
        tables = run(detections, events, refs, until=end, gaps=gaps, progress=progress)
    rows = _saved(tables, out)
    if json:
        export.print_json("fit", {"source": source_values(events), "tables": rows})
        return 0
    show_source(new_console(), events, refs)
    _show(rows, out)
    return 0


def _saved(tables: "Mapping[str, Table]", out: Path | None) -> list[dict[str, Any]]:
    """Write the tables where a folder is given, and return a line for each."""
    return [
        {
            "rule": name,
            "tier": table.tier,
            "valid_from": table.valid_from,
            "key": list(table.key),
            "values": list(table.values),
            "rows": table.frame.height,
            "digest": table.digest,
            "file": None if out is None else table.save(out / f"{name}.parquet"),
        }
        for name, table in tables.items()
    ]


def _show(rows: list[dict[str, Any]], out: Path | None) -> None:
    console = new_console()
    columns = [
        Column("rule", "rule", least=40, style="bold"),
        numeric("tier", "tier", rank=2),
        numeric("rows", "rows"),
        Column("valid_from", "valid from (UTC)", moment),
    ]
    if out is not None:
        columns.append(Column("file", "file", least=20, rank=1))
    console.print(make_table(rows, columns, console.width))
    console.print(
        f"{len(rows)} tables " + (f"written to {safe(out)}" if out is not None else "fitted; --out writes them")
    )


def _fit_state(state: Path, out: Path | None, at: str | None, gap: tuple[str, ...], *, json: bool) -> int:
    """Fit the tables from the closed windows of a state folder."""
    from tocsin.runners.live.tables import fit_kept

    rows = _saved(fit_kept(state, instant(at, "--at"), gaps_of(gap)), out)
    if json:
        export.print_json("fit", {"state": state, "tables": rows})
    else:
        _show(rows, out)
    return 0


def _show_corrections(state: Path, *, json: bool) -> int:
    """List what late data changed in tables that the engine had published."""
    from tocsin.runners.live.folder import StateFolder
    from tocsin.runners.live.tables import notes

    found = [n for n in notes(StateFolder(state).tables) if n["correction"] is not None]
    if json:
        export.print_json("fit corrections", {"state": state, "corrections": found})
        return 0
    console = new_console()
    rows = [_line(n) for n in sorted(found, key=lambda n: (n["valid_from"], n["table"]))]
    columns = [
        Column("rule", "rule", least=30, style="bold"),
        Column("of", "table valid from (UTC)", moment),
        Column("known", "known from (UTC)", moment, rank=2),
        numeric("late", "late counts", rank=1),
        numeric("changed", "rows changed"),
        Column("largest", "largest change", least=20, rank=1),
    ]
    if rows:
        console.print(make_table(rows, columns, console.width))
    console.print(f"{len(rows)} corrections of published tables by late data")
    return 0


def _line(note: dict[str, Any]) -> dict[str, Any]:
    correction = note["correction"]
    largest = next((f"{c}: {_change(x['largest'])}" for c, x in correction["columns"].items() if x["largest"]), "")
    return {
        "rule": note["table"], "of": datetime.fromisoformat(correction["of"]["valid_from"]),
        "known": datetime.fromisoformat(note["valid_from"]), "late": correction["late"], "changed": correction["rows"],
        "largest": largest,
    }  # fmt: skip


def _change(largest: dict[str, Any]) -> str:
    return f"{largest['entity']} {largest['before']:.6g} to {largest['after']:.6g}"
