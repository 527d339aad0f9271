"""The demo from beginning to end.

Enters: a seed and an empty folder. Leaves: the folder's files and a ``DemoReport``: what was planted, found and
wrongly flagged, against stated floors, the workshop's challenges against the truth, and the report of a week in which
simulated analysts triaged what was found. Layer: demo.

The truth stays in this process's memory until findings and answers are on disk; only then is it written and compared.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from tocsin.demo import challenges, desk, judging
from tocsin.demo.worker import PAGES
from tocsin.errors import TocsinError
from tocsin.sources.simulate import Truth, simulate, write_truth

if TYPE_CHECKING:
    from collections.abc import Callable

LEAST_USERS, LEAST_DAYS = 120, 40
WORKER_TIMEOUT_SECONDS = 600


class DemoError(TocsinError):
    """The demo could not be run to its end (this is not a missed floor: that is ``DemoReport.passed``)."""


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demo found; ``to_frame`` is its table, ``passed`` its verdict.

    ``traps`` has one row a kind of innocents: ``trap, users, flagged, detections``, by rules of medium severity or above.
    ``rules`` is the backtest's table by detection. ``pages`` are the files with charts.
    """

    seed: int
    folder: Path
    users: int
    days: int
    events: int
    findings: int
    simulate_seconds: float
    worker_seconds: float
    results: tuple[judging.StoryResult, ...]
    solved: tuple[challenges.Solved, ...]
    traps: pl.DataFrame
    rules: pl.DataFrame
    pages: tuple[Path, ...]
    triaged: desk.Triaged

    @property
    def passed(self) -> bool:
        """Whether every story reached its floors and every challenge was answered rightly."""
        return all(result.passed for result in self.results) and all(one.right for one in self.solved)

    def to_frame(self) -> pl.DataFrame:
        """Return one row a story kind, in the order of ``judging.EXPECTED``."""
        return judging.to_frame(self.results)


def run_demo(
    seed: int = 7,
    folder: str | Path = "demo",
    users: int = 1000,
    days: int = 70,
    progress: Callable[[str], None] | None = None,
) -> DemoReport:
    """Simulate, replay and ask blindly, compare. Needs no network and, at the default size, under two minutes.

    Writes events, references, findings, answers, pages and at last ``truth.json`` and ``population.parquet`` into
    ``folder``. ``progress`` is told what begins. Raises ``DemoError`` if the blind process fails or the size is too small
    for all stories.
    """
    if users < LEAST_USERS or days < LEAST_DAYS:
        msg = (
            f"demo: {users} users over {days} days do not hold all stories. "
            f"Try at least {LEAST_USERS} users and {LEAST_DAYS} days."
        )
        raise DemoError(msg)
    target, tell = Path(folder), progress or (lambda _: None)
    for leftover in ("truth.json", "population.parquet", "findings.parquet", "rules.parquet", "answers.json"):
        (target / leftover).unlink(missing_ok=True)  # of an earlier run: the worker must find none of it
    shutil.rmtree(target / PAGES, ignore_errors=True)
    began = time.monotonic()
    tell(f"simulating {users:,} users over {days:,} days")
    simulation = simulate(users, days, seed)
    simulation.write(target, truth=False)
    simulated = time.monotonic()
    tell("replaying the rules and asking the questions, in a process that cannot see the truth")
    findings, answers = work_blindly(target)
    finished = time.monotonic()
    tell("comparing with the truth")
    write_truth(target, simulation.truth, simulation.population)
    truth = Truth.of(simulation.truth)
    tell("raising alerts, and letting simulated analysts triage them")
    per_day = simulation.events.group_by(day=pl.col("timestamp").dt.date()).agg(events=pl.len()).sort("day")
    triaged = desk.triage_findings(target, findings, truth, per_day, seed)
    return DemoReport(
        seed=seed, folder=target, users=users, days=days, events=simulation.events.height, findings=findings.height,
        simulate_seconds=simulated - began, worker_seconds=finished - simulated,
        results=judging.judge(truth, findings), solved=challenges.solve(truth, findings, answers),
        traps=judging.judge_traps(truth, findings), rules=pl.read_parquet(target / "rules.parquet"),
        pages=tuple(sorted((target / PAGES).glob("*.html"))), triaged=triaged,
    )  # fmt: skip


def work_blindly(folder: Path) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Run the worker in its own process; return the findings and answers it wrote."""
    command = [sys.executable, "-m", "tocsin.demo.worker", str(folder.resolve())]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=WORKER_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        msg = f"demo: the backtest took more than {WORKER_TIMEOUT_SECONDS} s. Try fewer users or days."
        raise DemoError(msg) from error
    if done.returncode:
        tail = "\n".join(done.stderr.strip().splitlines()[-12:])
        msg = f"demo: the backtest of {folder / 'events.parquet'} failed (exit {done.returncode}):\n{tail}"
        raise DemoError(msg)
    return pl.read_parquet(folder / "findings.parquet"), json.loads(
        (folder / "answers.json").read_text(encoding="utf-8")
    )
