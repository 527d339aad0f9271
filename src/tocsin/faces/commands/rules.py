"""`tocsin rules`: list, show, check and test detections; write their catalogue.

Enters: ids and rule files. Leaves: text; exit code 1 where a rule has a problem or fails its own example. Layer: faces.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from rich.text import Text

from tocsin.errors import RuleError, did_you_mean
from tocsin.faces import export
from tocsin.faces.options import Flag, Several, load_detections, pick
from tocsin.faces.terminal import Column, Trimmed, make_table, new_console, numeric, safe, whole

if TYPE_CHECKING:
    from tocsin.detection import Detection
    from tocsin.runners.rulefiles import ExampleResult

FAILED = 1
Files = Annotated[
    tuple[Path, ...], Parameter(name="FILE", help="Rule files; without any, the rules that ship. A rule file is code.")
]
AsJson = Annotated[bool, Flag, Parameter(help="Print one JSON document and nothing else.")]
rules = App(name="rules", help="List, show, check and test rules.")


@rules.command(name="list", help_epilogue="Example:\n  tocsin rules list mine.py")
def list_rules(files: Files = (), /, *, json: AsJson = False) -> int:
    """List rules: id, severity, tier and title."""
    rows = [_summary(d) for d in load_detections(files)]
    if json:
        export.print_json("rules list", {"rules": rows})
        return 0
    console = new_console()
    columns = [
        Column("id", "rule", least=40, style="bold"),
        Column("severity", "severity"),
        numeric("tier", "tier"),
        Column("entity", "about", rank=2),
        Column("title", "title", least=24, rank=1),
    ]
    console.print(make_table(rows, columns, console.width))
    return 0


def _summary(d: "Detection") -> dict[str, Any]:
    return {
        "id": d.id,
        "version": d.version,
        "severity": d.severity,
        "tier": d.tier,
        "entity": d.entity,
        "title": d.title,
        "reads": d.reads,
        "tags": list(d.tags),
        "examples": len(d.examples),
    }


@rules.command(help_epilogue="Example:\n  tocsin rules show mail.volume-vs-self")
def show(
    rule: Annotated[str, Parameter(name="ID", help="The rule's id.")],
    /,
    *,
    rules: Annotated[
        tuple[Path, ...],
        Several,
        Parameter(help="Rule files to look in instead of the rules that ship.", metavar="FILE.py"),
    ] = (),
) -> int:
    """Show a rule: what it reads, counts and compares, when it fires, its false positives and examples."""
    from rich.table import Table

    from tocsin.readable import example_words, rule_facts

    (detection,) = pick(load_detections(rules), (rule,))
    console = new_console()
    console.print(Text(safe(detection.title, None), style="bold"))
    console.print(
        Text(safe(detection.description, None)) if detection.description else "",
        end="\n\n" if detection.description else "\n",
    )
    facts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True, style="bold")
    facts.add_column(overflow="fold")
    told = [("false positives", detection.false_positives or "none known")]
    told += [("must fire" if e.fires else "must not fire", example_words(e)) for e in detection.examples]
    for word, text in [*rule_facts(detection), *told]:
        facts.add_row(Text(word), Text(safe(text, None)))
    console.print(Trimmed(facts))
    return 0


@rules.command(help_epilogue="Example:\n  tocsin rules check mine.py --source mail.jsonl.gz")
def check(
    files: Annotated[
        tuple[Path, ...],
        Parameter(name="FILE", help="Rule files. A rule file is code: check only files you would run."),
    ],
    /,
    *,
    source: Annotated[
        str | None, Parameter(help="A source whose columns the rules may use beside the standard ones.")
    ] = None,
) -> int:
    """Report every problem of rule files with file and line. Exit code 1 if there is any."""
    from tocsin.runners.rulefiles import check_rules

    columns: tuple[str, ...] = ()
    if source is not None:
        from tocsin.sources import read

        columns = tuple(read(source).columns)
    for file in files:
        _must_exist(file)
    problems = [p for file in files for p in check_rules(file, columns)]
    console = new_console()
    for problem in problems:
        console.print(safe(problem, None), soft_wrap=True)
    count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
    console.print(f"{len(files)} file{'s' if len(files) != 1 else ''} checked: {count if problems else 'no problems'}")
    return FAILED if problems else 0


def _must_exist(file: Path) -> None:
    if not file.is_file():
        near = [p.name for p in file.parent.glob("*.py")] if file.parent.is_dir() else []
        raise RuleError(f"no rule file {file}.{did_you_mean(file.name, near)}")


@rules.command(name="test", help_epilogue="Example:\n  tocsin rules test mine.py")
def run_examples(files: Files = (), /, *, json: AsJson = False) -> int:
    """Run the examples of rules: those that must fire and those that must not. Exit code 1 if one does otherwise."""
    from tocsin.runners.rulefiles import test_rules

    for file in files:
        _must_exist(file)
    detections = load_detections(files)
    results = test_rules(detections)
    failed = [r for r in results if not r.passed]
    if json:
        export.print_json(
            "rules test", {"rules": len(detections), "examples": len(results), "failed": [_result(r) for r in failed]}
        )
        return FAILED if failed else 0
    console = new_console()
    for result in failed:
        row = _result(result)
        expected = "must fire" if result.expected else "must not fire"
        told = f"error: {row['error']}" if row["error"] else "it fired" if result.fired else "it did not"
        console.print(
            f"{safe(row['file'])}:{row['line']}: {safe(row['rule'])}: example {row['example']} {expected}; {safe(told, None)}",
            soft_wrap=True,
        )
    console.print(f"{whole(len(detections))} rules, {whole(len(results))} examples, {whole(len(failed))} failed")
    return FAILED if failed else 0


def _result(r: "ExampleResult") -> dict[str, Any]:
    return {
        "rule": r.detection.id,
        "example": r.example_index + 1,
        "expected": r.expected,
        "fired": r.fired,
        "error": r.error,
        "file": r.detection.where[0],
        "line": r.detection.where[1],
    }


@rules.command(help_epilogue="Example:\n  tocsin rules docs docs/my-rules mine.py")
def docs(folder: Annotated[Path, Parameter(name="FOLDER", help="Where the pages go.")], files: Files = (), /) -> int:
    """Write a catalogue of rules: one Markdown page each, and an index."""
    from tocsin.faces.catalogue import write_pages

    written = write_pages(load_detections(files), folder)
    new_console().print(f"{len(written)} pages written to {safe(folder)}")
    return 0
