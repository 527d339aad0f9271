"""`tocsin fit`: write the baselines that a history makes as versioned tables.

Enters: a source and rules. Leaves: one Parquet file per rule with a fit. Layer: faces.
"""

from pathlib import Path
from typing import Annotated

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
    gaps_of,
    instant,
    load_detections,
    open_events,
    open_references,
    strict_failed,
)
from tocsin.faces.source_report import show_rejects, show_source, source_values
from tocsin.faces.terminal import Column, make_table, moment, new_console, numeric, progress_bar, safe

FAILED = 1


def fit(
    source: Source,
    /,
    *,
    out: Annotated[Path, Parameter(help="Folder for the tables, one Parquet file per rule.", metavar="FOLDER")],
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
    """Fit the baselines of rules on a history and write them as tables, valid from its end on."""
    from tocsin.engine.fitting import fit as run

    end, gaps = instant(until, "--until"), gaps_of(gap)
    detections = load_detections(rules)
    events, refs = open_events(source, reading), open_references(looking_up)
    if strict_failed(events, reading):
        show_rejects(new_console(stderr=True), events)
        return FAILED
    with progress_bar(f"fitting {events.name}", events.records) as progress:
        tables = run(detections, events, refs, until=end, gaps=gaps, progress=progress)
    rows = []
    for name, table in tables.items():
        path = table.save(out / f"{name}.parquet")
        rows.append(
            {
                "rule": name,
                "tier": table.tier,
                "valid_from": table.valid_from,
                "key": list(table.key),
                "values": list(table.values),
                "rows": table.frame.height,
                "digest": table.digest,
                "file": path,
            }
        )
    if json:
        export.print_json("fit", {"source": source_values(events), "tables": rows})
        return 0
    console = new_console()
    show_source(console, events, refs)
    columns = [
        Column("rule", "rule", least=40, style="bold"),
        numeric("tier", "tier", rank=2),
        numeric("rows", "rows"),
        Column("valid_from", "valid from (UTC)", moment),
        Column("file", "file", least=20, rank=1),
    ]
    console.print(make_table(rows, columns, console.width))
    console.print(f"{len(rows)} tables written to {safe(out)}")
    return 0
