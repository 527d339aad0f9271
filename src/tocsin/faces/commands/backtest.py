"""`tocsin backtest`: replay rules over a history and show what they would have done.

Enters: the command's arguments. Leaves: a report on stdout (or one JSON document), a file of findings. Layer: faces.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from tocsin.faces import export
from tocsin.faces.options import (
    LOOKING_UP,
    READING,
    SPAN,
    Flag,
    ReferenceOptions,
    Several,
    Source,
    SourceOptions,
    SpanOptions,
    UsageError,
    gaps_of,
    instant,
    load_detections,
    open_events,
    open_references,
    strict_failed,
)
from tocsin.faces.source_report import reference_values, show_rejects, show_source, source_values
from tocsin.faces.terminal import Column, make_table, moment, new_console, number, numeric, progress_bar, safe, whole

if TYPE_CHECKING:
    from tocsin.detection import Detection
    from tocsin.engine.replay import Backtest
    from tocsin.references import References
    from tocsin.runners.compare import Comparison
    from tocsin.sources import Events

FAILED = 1
_PLACES = {"latitude", "longitude", "city"}


@Parameter(name="*")
@dataclass(frozen=True)
class ReportOptions:
    """What is shown and written."""

    top: Annotated[int, Parameter(help="How many entities to rank, by findings and by score.")] = 5
    out: Annotated[Path | None, Parameter(help="Write the findings: .parquet, .jsonl or .csv.", metavar="FILE")] = None
    log: Annotated[
        str | None,
        Parameter(
            help="Write the findings into this alert log too; it is made where there is none.", metavar="FILE|URL"
        ),
    ] = None
    json: Annotated[bool, Flag, Parameter(help="Print one JSON document and nothing else.")] = False
    svg: Annotated[Path | None, Parameter(show=False)] = None


REPORT = ReportOptions()


def backtest(
    source: Source,
    /,
    *,
    reading: SourceOptions = READING,
    looking_up: ReferenceOptions = LOOKING_UP,
    rules: Annotated[
        tuple[Path, ...],
        Several,
        Parameter(help="Rule files to run instead of the rules that ship. A rule file is code.", metavar="FILE.py"),
    ] = (),
    span: SpanOptions = SPAN,
    compare: Annotated[
        tuple[Path, Path] | None,
        Parameter(help="Replay both rule files; show findings gained and lost.", metavar="OLD.py NEW.py", negative=()),
    ] = None,
    compat: Annotated[
        Literal["notebook"] | None, Parameter(help="Use the workshop notebook's own arithmetic where it differs.")
    ] = None,
    report: ReportOptions = REPORT,
) -> int:
    """Replay rules over a history: each event is compared only with what was known before it.

    Prints what was read and rejected, a table by detection, the entities with most findings and the highest scores.
    Rules that the source or the reference data cannot feed are listed with the reason.
    """
    if report.top < 0:
        raise UsageError("--top: the number of entities cannot be negative.")
    if compare and rules:
        raise UsageError("--compare names its two rule files itself; leave --rules out.")
    export.check_target(report.out)
    export.check_target(report.svg, (".svg",))
    options: dict[str, Any] = {
        "since": instant(span.since, "--since"),
        "until": instant(span.until, "--until"),
        "gaps": gaps_of(span.gap),
        "compat": compat,
    }
    sets = [load_detections((f,)) for f in compare] if compare else [load_detections(rules)]
    events, refs = open_events(source, reading), open_references(looking_up)
    if strict_failed(events, reading):
        show_rejects(new_console(stderr=True), events)
        return FAILED
    past = [_replay(detections, events, refs, options) for detections in sets]
    new = past[-1]
    if report.out:
        export.write_frame(new.findings, report.out)
    added = None if report.log is None else _log(new, report.log)
    comparison = _compared(past)
    if report.json:
        export.print_json("backtest", _document(events, refs, new, report, comparison) | {"log": added})
    else:
        _show(events, refs, new, report, comparison)
        if added:
            words = f"{whole(added['alerts'])} new alerts of {whole(added['findings'])} new findings; {whole(added['known'])} were known"
            new_console().print(f"{words}: {safe(report.log)}" if "://" not in str(report.log) else words)
    return 0


def _log(past: "Backtest", where: str) -> dict[str, int]:
    """Write the findings into an alert log, each rule's in windows of its own length; return what was new."""
    from tocsin.alerts import Alerts, Grouping

    with Alerts(where, grouping=Grouping.of_rules(past.engine.detections)) as log:
        return asdict(log.add(past.findings, source="backtest"))


def _replay(
    detections: "tuple[Detection, ...]", events: "Events", refs: "References | None", options: dict[str, Any]
) -> "Backtest":
    from tocsin.engine.replay import backtest as run

    with progress_bar(f"replaying {events.name}", events.records) as progress:
        return run(detections, events, refs, progress=progress, **options)


def _compared(past: "list[Backtest]") -> "Comparison | None":
    if len(past) == 1:
        return None
    from tocsin.runners.compare import compare

    return compare(past[0], past[1])


def _show(
    events: "Events",
    refs: "References | None",
    past: "Backtest",
    report: ReportOptions,
    comparison: "Comparison | None",
) -> None:
    console = new_console(record=report.svg is not None)
    show_source(console, events, refs)
    _show_history(console, past)
    _show_detections(console, past)
    if comparison is not None:
        _show_comparison(console, comparison, report.top)
    if report.top:
        _show_top(console, past, report.top)
    if report.out:
        console.print(f"{whole(past.findings.height)} findings written to {safe(report.out)}")
    if report.svg:
        from tocsin.faces.picture import save_picture

        save_picture(console, report.svg, "tocsin backtest")


def _show_history(console: Console, past: "Backtest") -> None:
    counts = past.counts
    told = [f"{whole(counts['late'])} late", f"{whole(counts['duplicate'])} duplicates"]
    told += [
        f"{whole(counts[key])} {words}"
        for key, words in (("conflict", "duplicates with other content"), ("future", "in the future"))
        if counts[key]
    ]
    console.print(f"{number(past.days)} days of history; {', '.join(told)}, {whole(counts['rejected'])} rejected")
    console.print()


def _severity(value: Any) -> str:
    return {"informational": "info"}.get(value, safe(value))


_DETECTIONS = [
    Column("detection", "detection", least=40, style="bold"),
    Column("severity", "severity", _severity, rank=6),
    numeric("tier", "tier", rank=7),
    numeric("events", "events", rank=5),
    numeric("scored", "scored", rank=8),
    numeric("fired", "fired"),
    numeric("entities", "entities"),
    numeric("alerts", "alerts", rank=9),
    numeric("alerts_a_day", "alerts/day", number),
    numeric("suppressed", "suppressed", rank=10),
    numeric("unscored", "unscored", rank=1),
    numeric("late", "late", rank=3),
    numeric("errors", "errors", rank=2),
]


def detection_rows(past: "Backtest") -> list[dict[str, Any]]:
    """Return a row per detection for people and for JSON: `by_detection` with the unscored events by reason."""
    rows, rules = past.by_detection().to_dicts(), {d.id: d for d in past.engine.detections}
    for row in rows:
        tally = past.state.tallies.get(row["detection"])
        reasons = (
            {r: n for r, n in tally.unscored.items() if r != "error" and n}
            if tally and row["fired"] is not None
            else {}
        )
        row |= {
            "unscored_reasons": reasons,
            "late": reasons.get("late", 0),
            "run": row["detection"] not in past.engine.skipped,
        }
        if not row["run"]:
            row["idle"] = _why_idle(rules[row["detection"]], past.engine.refs) or row["note"].removeprefix("not run: ")
        else:
            row["idle"] = (
                ""
                if row["events"]
                else _why_idle(rules[row["detection"]], past.engine.refs) or "no event takes part in it"
            )
        del row["unscored_why"]
    return rows


def _why_idle(detection: "Detection", refs: "References | None") -> str:
    """Return why a rule could not run, or no event took part in it, as far as reference data is the reason."""
    asked = {name.partition("_")[2] for name in detection.reads if name.startswith(("src_", "dst_", "user_"))}
    if asked & _PLACES and not (refs and any(t.frame["latitude"].count() for t in refs.geo)):
        return "no geo table with places was given (--geo FILE; the country table has none)"
    if asked & {"country"} and not (refs and refs.geo):
        return "no geo table was given (--geo FILE or --geo country)"
    if asked & {"listed", "threat"} and not (refs and refs.threats):
        return "no threat list was given (--threats FILE)"
    if asked & {"asset"} and not (refs and refs.assets):
        return "no asset list was given (--assets FILE)"
    return ""


def _show_detections(console: Console, past: "Backtest") -> None:
    rows = detection_rows(past)
    run = [row for row in rows if row["run"]]
    if run:
        columns = [c for c in _DETECTIONS if c.key not in {"suppressed", "late"} or any(row[c.key] for row in run)]
        console.print(make_table(run, columns, console.width, "By detection"))
    for row in run:
        if row["unscored_reasons"]:
            reasons = ", ".join(
                f"{whole(n)} {r}" for r, n in sorted(row["unscored_reasons"].items(), key=lambda x: -x[1])
            )
            console.print(Text.assemble("  unscored ", (safe(row["detection"]), "bold"), f": {reasons}"))
        if row["errors"]:
            console.print(Text.assemble("  error ", (safe(row["detection"]), "bold red"), f": {safe(row['note'])}"))
    for row in rows:
        if row["idle"]:
            words = "nothing to judge" if row["run"] else "not run"
            console.print(Text.assemble(f"  {words} ", (safe(row["detection"]), "bold"), f": {safe(row['idle'])}"))
    console.print()


def _show_top(console: Console, past: "Backtest", top: int) -> None:
    entities = past.top_entities(top).to_dicts()
    if entities:
        columns = [
            Column("entity", "entity", least=40, style="bold"),
            Column("entity_kind", "kind", rank=4, least=8),
            numeric("detections", "rules"),
            numeric("findings", "findings"),
            Column("first", "first", moment, rank=3),
            Column("last", "last", moment, rank=2),
            Column("fired", "detections", least=20, rank=1),
        ]
        console.print(make_table(entities, columns, console.width, "Entities with findings of most rules"))
        console.print()
    ranked = []
    for detection, rows in top_scores(past, top).items():
        told = [row for row in rows if row["score"]]  # nothing ranks among scores of zero
        ranked += [
            {**row, "detection": "" if i else detection, "fires": "" if i else row["fires"]}
            for i, row in enumerate(told)
        ]
    if ranked:
        columns = [
            Column("detection", "detection", least=40, style="bold"),
            Column("entity", "entity", least=40),
            numeric("score", "score", number),
            Column("time", "when", moment, rank=1),
            Column("fires", "fires when", rank=2),
        ]
        console.print(make_table(ranked, columns, console.width, "Highest scores, fired or not"))
        console.print()


def top_scores(past: "Backtest", top: int) -> dict[str, list[dict[str, Any]]]:
    """Return the entities with the most extreme scores of each detection that was run."""
    from tocsin.readable import condition_words

    found = {}
    for detection in past.engine.detections:
        if detection.id not in past.engine.skipped:
            rows = export.rows_of(past.top(detection.id, top))
            found[detection.id] = [{**row, "fires": condition_words(detection.when)} for row in rows]
    return found


def _show_comparison(console: Console, comparison: "Comparison", top: int) -> None:
    columns = [
        Column("detection", "detection", least=40, style="bold"),
        numeric("fired_old", "fired old"),
        numeric("fired_new", "new"),
        numeric("gained", "gained"),
        numeric("lost", "lost"),
        numeric("alerts_a_day_old", "alerts/day old", number, rank=2),
        numeric("alerts_a_day_new", "new", number, rank=1),
    ]
    console.print(make_table(comparison.by_detection.to_dicts(), columns, console.width, "Old rules against new rules"))
    console.print()
    about = [
        Column("detection_id", "detection", least=40, style="bold"),
        Column("entity", "entity", least=40),
        Column("time", "when", moment),
        numeric("score", "score", number),
        Column("title", "title", least=20, rank=1),
    ]
    for title, frame in (("Gained", comparison.gained), ("Lost", comparison.lost)):
        if frame.height and top:
            told = f"{title}: {whole(frame.height)}, the first {min(top, frame.height)}"
            console.print(make_table(frame.head(top).to_dicts(), about, console.width, told))
            console.print()


def _document(
    events: "Events",
    refs: "References | None",
    past: "Backtest",
    report: ReportOptions,
    comparison: "Comparison | None",
) -> dict[str, Any]:
    document = {
        "source": source_values(events),
        "references": reference_values(refs),
        "days": past.days,
        "counts": past.counts,
        "detections": detection_rows(past),
        "findings": {"count": past.findings.height, "file": report.out},
        "top_entities": export.rows_of(past.top_entities(report.top)),
        "top_scores": top_scores(past, report.top),
        "comparison": None,
    }
    if comparison is not None:
        document["comparison"] = {
            "by_detection": export.rows_of(comparison.by_detection),
            "gained": export.rows_of(comparison.gained),
            "lost": export.rows_of(comparison.lost),
        }
    return document
