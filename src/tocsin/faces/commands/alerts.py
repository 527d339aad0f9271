"""`tocsin alerts`: the alert log on the command line: what is in it, and why an alert was raised.

Enters: the command's arguments. Leaves: tables on stdout, or one JSON document. Layer: faces.
"""

import json as json_text
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.text import Text

from tocsin.faces import export
from tocsin.faces.answers import AnswerOptions, put
from tocsin.faces.commands import alert_files, triage
from tocsin.faces.options import (
    LOOKING_UP,
    READING,
    ReferenceOptions,
    Several,
    Source,
    SourceOptions,
    UsageError,
    gaps_of,
    load_detections,
)
from tocsin.faces.said import AlertId, AsJson, Log, in_commands, open_log
from tocsin.faces.terminal import Column, Trimmed, make_table, moment, new_console, number, numeric, safe, whole

if TYPE_CHECKING:
    import polars as pl

ANSWER = AnswerOptions(rows=60)
MORE_ROWS = 20
SHORT_ID = 12
alerts = App(
    name="alerts", help="The alert log: list, show and explain alerts, say what was done with them, import and export."
)


def _short(value: Any) -> str:
    return safe(value)[:SHORT_ID]


_LISTED = [
    Column("alert_id", "alert", _short, style="bold"),
    Column("created_at", "created", moment),
    Column("state", "state"),
    Column("severity_now", "severity", rank=2),
    Column("title", "title", least=20, rank=1),
    Column("entity", "entity", least=12),
    Column("rule_id", "rule", least=12, rank=4),
    Column("assignee", "assignee", least=8, rank=3),
    Column("verdict", "verdict", rank=5),
    numeric("findings", "findings", rank=6),
    Column("last_finding_at", "last finding", moment, rank=7),
    numeric("peak_score", "peak", number, rank=8),
]


@alerts.command(
    name="list",
    help_epilogue="Examples:\n  tocsin alerts list --log soc.db --state new\n  tocsin alerts list --assignee ann --json",
)
def list_alerts(
    *,
    log: Log = None,
    state: Annotated[str | None, Parameter(help="Only alerts in this state now, such as new or on_hold.")] = None,
    severity: Annotated[str | None, Parameter(help="Only alerts of this severity now.")] = None,
    rule: Annotated[str | None, Parameter(help="Only alerts of this rule.")] = None,
    assignee: Annotated[str | None, Parameter(help="Only alerts that this person has.")] = None,
    limit: Annotated[int, Parameter(help="The most alerts to show.")] = 50,
    json: AsJson = False,
) -> int:
    """List alerts as they stand now, those learnt last first."""
    if limit < 1:
        raise UsageError("--limit: at least one alert is shown.")
    with open_log(log) as opened, in_commands():
        rows = opened.alerts(state=state, severity=severity, rule=rule, assignee=assignee, limit=limit)
    if json:
        export.print_json("alerts list", {"alerts": export.rows_of(rows)})
        return 0
    console = new_console()
    if rows.is_empty():
        console.print("No such alert.")
        return 0
    console.print(make_table(rows.to_dicts(), _LISTED, console.width))
    if rows.height == limit:
        console.print(Text(f"the first {whole(limit)}; --limit shows more", style="dim"))
    return 0


@alerts.command(help_epilogue="Example:\n  tocsin alerts show 4f2a --log soc.db")
def show(alert: AlertId, /, *, log: Log = None, json: AsJson = False) -> int:
    """Show an alert: how it stands, its findings, and everything that was said of it, with the keys that `correct` takes."""
    with open_log(log) as opened:
        history = opened.show(alert)
    row, said = history.current.drop("alert").row(0, named=True), history.activities.drop("alert_id")
    found = history.findings.drop("alert_id").sort("time", "finding_id")
    if json:
        body = {"alert": export.rows_of(history.current.drop("alert"))[0], "findings": export.rows_of(found)}
        export.print_json("alerts show", body | {"activities": export.rows_of(said)})
        return 0
    console = new_console()
    _show_facts(console, row)
    _show_rows(console, found, _FOUND, "Findings")
    _show_rows(console, said.with_columns(why=_why()), _SAID, "What was said, in the order it was learnt")
    return 0


_FOUND = [
    Column("finding_id", "finding", _short, style="bold"),
    Column("time", "when", moment),
    numeric("score", "score", number),
    numeric("threshold", "threshold", number, rank=1),
    numeric("peak_score", "peak", number, rank=2),
    Column("evidence", "evidence", least=30, rank=3),
]
_SAID = [
    Column("at", "when", moment),
    Column("type", "what", style="bold"),
    Column("value", "", least=12),
    Column("why", "why", least=16, rank=1),
    Column("actor", "who", least=8),
    Column("key", "key", _short),
]


def _show_facts(console: Console, row: dict[str, Any]) -> None:
    from rich.table import Table

    console.print(Text(safe(row["title"] or row["alert_id"]), style="bold"))
    facts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True, style="bold")
    facts.add_column(overflow="fold")
    told = {
        "alert": safe(row["alert_id"]),
        "state": f"{safe(row['state'])} since {moment(row['state_since'])}",
        "verdict": safe(row["verdict"]),
        "assignee": safe(row["assignee"]),
        "severity": safe(row["severity_now"]),
        "rule": " ".join(safe(v) for v in (row["rule_id"], row["rule_version"]) if v),
        "about": " ".join(safe(v) for v in (row["entity_kind"], row["entity"]) if v),
        "created": moment(row["created_at"]),
        "source": safe(row["source"]),
    }
    observables = json_text.loads(row["observables"])
    told["observables"] = ", ".join(f"{safe(o.get('kind'))} {safe(o.get('value'))}" for o in observables) or "-"
    if row["merged_into"]:
        told["merged into"] = safe(row["merged_into"])
    for word, text in told.items():
        facts.add_row(Text(word), Text(text))
    console.print(Trimmed(facts))


def _why() -> "pl.Expr":
    import polars as pl

    paths = [pl.col("payload").str.json_path_match(f"$.{name}") for name in ("reason", "text", "correction")]
    return pl.coalesce(paths)


def _show_rows(console: Console, rows: "pl.DataFrame", columns: list[Column], title: str) -> None:
    if rows.height:
        console.print()
        console.print(make_table(rows.to_dicts(), columns, console.width, title))


@alerts.command(help_epilogue="Example:\n  tocsin alerts explain 4f2a mail.jsonl.gz --log soc.db")
def explain(
    alert: AlertId,
    source: Source,
    /,
    *,
    log: Log = None,
    finding: Annotated[
        str, Parameter(help="Which of its findings: the beginning of an id. Default: the first.", metavar="FINDING")
    ] = "",
    reading: SourceOptions = READING,
    looking_up: ReferenceOptions = LOOKING_UP,
    rules: Annotated[
        tuple[Path, ...],
        Several,
        Parameter(help="The rule files of the alert. A rule file is code.", metavar="FILE.py"),
    ] = (),
    gap: Annotated[
        tuple[str, ...], Several, Parameter(help="Times in which the source was not covered.", metavar="START..END")
    ] = (),
    answer: AnswerOptions = ANSWER,
) -> int:
    """Say why an alert was raised: its finding in one sentence, with evidence, events and the entity's nearest history.

    Give the source, reference data and rules it came from. Its rule is run once more, up to the finding.
    """
    from tocsin.questions.explanation import explain as run
    from tocsin.questions.explanation import find

    gaps, detections = gaps_of(gap), load_detections(rules)
    with open_log(log) as opened:
        found = opened.show(alert).findings.sort("time", "finding_id")
    if found.is_empty():
        raise UsageError(
            "This alert was imported: there is no finding to explain. `tocsin alerts show` has what its source said."
        )
    row = find(found, finding) if finding else found.row(0, named=True)
    return put(
        "alerts explain",
        source,
        reading,
        looking_up,
        answer,
        lambda e, r: run(row, e, r, detections, gaps=gaps),
        more_rows=MORE_ROWS,
    )


for _verb, _example in triage.VERBS:
    alerts.command(_verb, help_epilogue=f"Example:\n  tocsin alerts {_example}")
alerts.command(alert_files.import_alerts, name="import", help_epilogue=alert_files.IMPORT_EXAMPLES)
alerts.command(alert_files.export_alerts, name="export", help_epilogue=alert_files.EXPORT_EXAMPLES)
