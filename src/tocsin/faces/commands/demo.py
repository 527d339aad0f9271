"""`tocsin demo`: simulate, backtest blindly, compare with the truth.

Enters: a seed and a folder. Leaves: tables of stories and challenges, pages with charts; exit code 1 below a floor.
Layer: faces.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.text import Text

from tocsin.faces import export
from tocsin.faces.answers import show_tiles
from tocsin.faces.options import Flag, UsageError
from tocsin.faces.terminal import Column, make_table, new_console, numeric, safe, share, spinner, whole

if TYPE_CHECKING:
    from rich.console import Console

    from tocsin.demo.desk import Triaged
    from tocsin.demo.run import DemoReport

FAILED = 1


def demo(
    *,
    seed: Annotated[int, Parameter(help="Of the simulation.")] = 7,
    folder: Annotated[Path, Parameter(help="Where the simulated files and the findings go.")] = Path("build/demo"),
    users: Annotated[int, Parameter(help="How many users to simulate.")] = 1000,
    days: Annotated[int, Parameter(help="How many days to simulate.")] = 70,
    json: Annotated[bool, Flag, Parameter(help="Print one JSON document and nothing else.")] = False,
    svg: Annotated[Path | None, Parameter(show=False)] = None,
) -> int:
    """Simulate mail and logins with planted stories, replay the rules in a process that cannot see the truth, compare.

    Exit code 1 if a rule finds less, or flags more innocents, than its floors allow, or a challenge is answered wrongly.
    """
    from tocsin.demo import challenges
    from tocsin.demo.run import LEAST_DAYS, LEAST_USERS, run_demo

    if users < LEAST_USERS or days < LEAST_DAYS:
        raise UsageError(
            f"{users} users over {days} days do not hold all stories. Try at least {LEAST_USERS} users and {LEAST_DAYS} days."
        )
    export.check_target(svg, (".svg",))
    with spinner("demo") as tell:
        report = run_demo(seed, folder, users, days, tell)
    if json:
        stories = export.rows_of(report.to_frame())
        body: dict[str, Any] = {
            "seed": seed,
            "events": report.events,
            "findings": report.findings,
            "passed": report.passed,
            "stories": stories,
            "challenges": export.rows_of(challenges.to_frame(report.solved)),
            "rules": export.rows_of(report.rules),
            "pages": [str(page) for page in report.pages],
            "alerts": report.triaged.alerts,
            "report": str(report.triaged.page),
        }
        export.print_json("demo", body | {"innocents": export.rows_of(report.traps)})
    else:
        _show(report, svg)
    return 0 if report.passed else FAILED


def _show(report: "DemoReport", svg: Path | None) -> None:
    console = new_console(record=svg is not None)
    console.print(
        f"{whole(report.events)} events of {whole(report.users)} users over {whole(report.days)} days (seed {report.seed}) simulated in "
        f"{report.simulate_seconds:.1f} s; {whole(report.findings)} findings in "
        f"{report.worker_seconds:.1f} s, by a process without the truth"
    )
    console.print()
    rows = [_row(row) for row in report.to_frame().to_dicts()]
    columns = [
        Column("story", "story", least=20, style="bold"),
        Column("detection", "detection", least=40, rank=2),
        Column("told", "found", right=True),
        numeric("wrong", "wrong"),
        numeric("innocents", "traps", rank=3),
        numeric("in_top", "in top", rank=4),
        Column("recall", "recall", right=True, rank=1),
        Column("precision", "precision", right=True, rank=1),
        Column("verdict", ""),
    ]
    console.print(
        make_table(
            rows,
            columns,
            console.width,
            "Stories, counted in users (networks for the spray)",
        )
    )
    console.print("found: of those planted; wrong: flagged without cause; traps: innocents among these; (floor)")
    console.print()
    solved = [
        Column("challenge", "challenge", style="bold"),
        Column("asked", "asked", least=20, rank=1),
        Column("answer", "answer", least=20),
        Column("truth", "truth", least=10),
        Column("right", ""),
    ]
    told = [
        {
            "challenge": s.challenge,
            "asked": s.asked,
            "answer": s.answer,
            "truth": s.truth,
            "right": "right" if s.right else "WRONG",
        }
        for s in report.solved
    ]
    console.print(make_table(told, solved, console.width, "The workshop's challenges, asked of the events alone"))
    console.print()
    traps = [
        Column("trap", "innocents", style="bold"),
        numeric("users", "users"),
        numeric("flagged", "flagged"),
        Column("detections", "by", least=20, rank=1),
    ]
    title = "Innocent look-alikes, flagged by rules of medium severity or above"
    console.print(make_table(report.traps.to_dicts(), traps, console.width, title))
    console.print()
    for result in report.results:
        if result.missed:
            console.print(f"missed of {safe(result.expected.story)}: {safe(', '.join(result.missed))}")
    verdict = (
        Text("Every rule is at or above its floors, and every challenge is answered rightly.", style="bold green")
        if report.passed
        else Text("Below a floor, or a challenge is answered wrongly.", style="bold red")
    )
    console.print(verdict)
    console.print()
    _show_week(console, report.triaged)
    if report.pages:
        console.print(f"{len(report.pages)} pages with charts: {safe(report.pages[0].parent)}/*.html", soft_wrap=True)
    names = ("events.parquet", "geo.csv.gz", "networks.csv.gz", "threats.csv")
    events, geo, networks, threats = (safe(report.folder / name) for name in names)
    more = f"tocsin backtest {events} --geo {geo} --networks {networks} --threats {threats}"
    console.print(f"Look further: {more}", soft_wrap=True)
    if svg is not None:
        from tocsin.faces.picture import save_picture

        save_picture(console, svg, "tocsin demo")


def _show_week(console: "Console", triaged: "Triaged") -> None:
    week = triaged.report
    console.print(f"{whole(triaged.alerts)} alerts, triaged by simulated analysts: {safe(week.title)}")
    show_tiles(console, week.tiles)
    console.print(f"The week on one page: {safe(triaged.page)}", soft_wrap=True)


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return row | {
        "recall": f"{share(row['recall'])} ({share(row['recall_floor'])})",
        "precision": f"{share(row['precision'])} ({share(row['precision_floor'])})",
        "verdict": "ok" if row["passed"] else "BELOW",
        "told": f"{row['found']} of {row['planted']}",
    }
