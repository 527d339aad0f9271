"""`tocsin verify`: prove on given events that rules score the same however the events arrive, also in the live process.

Enters: a rule file and a source. Leaves: a table of runs and the first difference; exit code 1 if there is one.
Layer: faces.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from tocsin.faces import export
from tocsin.faces.options import (
    LOOKING_UP,
    READING,
    Flag,
    ReferenceOptions,
    SourceOptions,
    UsageError,
    load_detections,
    open_events,
    open_references,
    strict_failed,
)
from tocsin.faces.source_report import show_rejects, show_source, source_values
from tocsin.faces.terminal import Column, make_table, new_console, numeric, safe, spinner

FAILED = 1
SHIPPED = "shipped"
KILLS = 3


def verify(
    rules: Annotated[
        str, Parameter(name="RULES", help=f'A rule file, or "{SHIPPED}" for the rules that ship. A rule file is code.')
    ],
    events: Annotated[
        str, Parameter(name="EVENTS", help="File, folder, glob or URL of events.", allow_leading_hyphen=True)
    ],
    /,
    *,
    reading: SourceOptions = READING,
    looking_up: ReferenceOptions = LOOKING_UP,
    rows: Annotated[int, Parameter(help="How many events to use, from the first.")] = 100_000,
    seed: Annotated[int, Parameter(help="Of the random cuts, delays and repetitions.")] = 7,
    live: Annotated[
        bool,
        Flag,
        Parameter(help="Also run `tocsin run` over a growing file of the events, kill it and start it again."),
    ] = False,
    kills: Annotated[
        int | None, Parameter(help=f"How often --live kills a run, {KILLS} times where nothing is said.")
    ] = None,
    json: Annotated[bool, Flag, Parameter(help="Print one JSON document and nothing else.")] = False,
) -> int:
    """Replay rules over the same events in many ways and compare every score of every event.

    One batch, random batches, single events, shuffled within lateness, repeated events, late events, saved and loaded
    in between; with --live also the real engine in processes of its own, killed at random moments. Prints the first
    difference and exits with 1 if there is one.
    """
    from tocsin.runners.verify import verify as run

    if rows < 1 or seed < 0:
        raise UsageError("--rows must be at least 1 and --seed not negative.")
    if kills is not None and (kills < 1 or not live):
        raise UsageError("--kills goes with --live, and must be at least 1.")
    files = () if rules == SHIPPED else (Path(rules),)
    detections = load_detections(files)
    source, refs = open_events(events, reading), open_references(looking_up)
    if strict_failed(source, reading):
        show_rejects(new_console(stderr=True), source)
        return FAILED
    with spinner(f"verifying {source.name}") as progress:
        report = run(
            detections, source, refs, seed=seed, rows=rows, live=live, kills=kills or KILLS, rule_files=files,
            reference_files=asdict(looking_up), progress=progress,
        )  # fmt: skip
    if json:
        body = {
            "source": source_values(source),
            "passed": report.passed,
            "runs": export.rows_of(report.runs),
            "first_difference": report.first_difference,
        }
        export.print_json("verify", body | {"not_run": report.skipped})
        return 0 if report.passed else FAILED
    console = new_console()
    show_source(console, source, refs)
    columns = [
        Column("name", "run", least=42 if live else 30, style="bold"),
        numeric("batches", "batches"),
        numeric("events", "events", rank=2),
        numeric("compared", "scores"),
        numeric("differences", "differences"),
        numeric("late", "late", rank=1),
        Column("note", "note", least=24, fold=True, rank=3),
    ]
    named = report.runs.rename({"run": "name"}) if "run" in report.runs.columns else report.runs
    console.print(make_table(named.to_dicts(), columns, console.width))
    for rule, reason in report.skipped.items():
        console.print(Text.assemble("  not run ", (safe(rule), "bold"), f": {safe(reason)}"))
    if report.passed:
        console.print(Text("The same score for every event in every run.", style="bold green"))
        return 0
    console.print(Text.assemble(("Not the same. ", "bold red"), safe(report.first_difference, None)))
    return FAILED
