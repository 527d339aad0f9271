"""The demo: simulate, backtest in a process that cannot see the truth, then compare, story by story.

Enters: a seed and an empty folder. Leaves: the folder's files and a ``DemoReport``: what was planted, found and
wrongly flagged, against stated floors. Layer: runners.

The truth stays in this process's memory until the findings are on disk; only then is it written and compared.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from tocsin.errors import TocsinError
from tocsin.sources.simulate import simulate
from tocsin.sources.simulate.run import write_truth

LEAST_USERS, LEAST_DAYS = 60, 14
WORKER_TIMEOUT_SECONDS = 600


class DemoError(TocsinError):
    """The demo could not be run to its end (this is not a missed floor: that is ``DemoReport.passed``)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Which detection answers a kind of story, and the least recall and precision it must reach by user.

    ``detection`` is None for a story whose rule does not exist yet: it is shown, and has no floor.
    """

    story: str
    detection: str | None
    recall_floor: float = 1.0
    precision_floor: float = 1.0


# The floors of tiers 1 and 2 are exact: these rules can be right or wrong, nothing between. A threshold on a
# noisy count is crossed by chance too (three standard deviations are not rare among a thousand users and seventy
# days), and a newsletter is an outlier by any count; their precision floors say what such rules honestly reach.
ANSWERS: tuple[Answer, ...] = (
    Answer("exe_spray", "mail.exe-many-recipients"),
    Answer("threat_login", "network.listed-address"),
    Answer("volume_burst", "mail.volume-vs-self", precision_floor=0.25),
    Answer("population_outlier", "mail.rate-vs-population", precision_floor=0.1),
    Answer("takeover_travel", "login.travel-speed", precision_floor=0.9),
    Answer("attachment_growth", None),
)


@dataclass(frozen=True, slots=True)
class StoryResult:
    """One kind of story against its detection; all counts are users.

    ``flagged`` have a finding of the detection at all; ``wrong`` have one on a day on which no story explains it,
    and ``innocents`` are those of them that were put there as traps (``trapped`` names the kinds).
    """

    answer: Answer
    planted: int
    found: int
    flagged: int
    wrong: int
    innocents: int
    trapped: tuple[str, ...]
    in_top: int  # planted among the highest-scored users, as many as were planted: what sorting by score would show
    missed: tuple[str, ...]  # user ids, sorted: where to look first when recall is below its floor

    @property
    def recall(self) -> float | None:
        """Found of planted; None when nothing was planted or no detection answers."""
        return self.found / self.planted if self.planted and self.answer.detection else None

    @property
    def precision(self) -> float | None:
        """Found of found and wrong; None when nothing was flagged."""
        return self.found / (self.found + self.wrong) if self.found + self.wrong else None

    @property
    def passed(self) -> bool:
        """Whether both floors hold. A story nobody answers yet passes; one without any planted user does not."""
        if self.answer.detection is None:
            return True
        if self.recall is None or self.precision is None:
            return False
        return self.recall >= self.answer.recall_floor and self.precision >= self.answer.precision_floor


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demo found; ``to_frame`` is its table, ``passed`` its verdict.

    ``traps`` has one row a kind of innocents: ``trap, users, flagged, detections``.
    """

    seed: int
    folder: Path
    users: int
    days: int
    events: int
    findings: int
    simulate_seconds: float
    backtest_seconds: float
    results: tuple[StoryResult, ...]
    traps: pl.DataFrame

    @property
    def passed(self) -> bool:
        """Whether every story reached its floors."""
        return all(result.passed for result in self.results)

    def to_frame(self) -> pl.DataFrame:
        """Return one row a story kind, in the order of ``ANSWERS``."""
        return to_frame(self.results)


def run_demo(seed: int = 7, folder: str | Path = "demo", users: int = 1000, days: int = 70) -> DemoReport:
    """Simulate, backtest blindly, compare. Needs no network and, at the default size, under two minutes.

    Writes ``events.parquet, geo.csv.gz, threats.csv, findings.parquet`` and at last ``truth.json`` and
    ``population.parquet`` into ``folder``. Raises ``DemoError`` if the backtest fails or the size is too small
    for all stories.
    """
    if users < LEAST_USERS or days < LEAST_DAYS:
        msg = (
            f"demo: {users} users over {days} days do not hold all stories. "
            f"Try at least {LEAST_USERS} users and {LEAST_DAYS} days."
        )
        raise DemoError(msg)
    target = Path(folder)
    for leftover in ("truth.json", "population.parquet", "findings.parquet"):
        (target / leftover).unlink(missing_ok=True)  # of an earlier run: the worker must find none of it
    began = time.monotonic()
    simulation = simulate(users, days, seed)
    simulation.write(target, truth=False)
    simulated = time.monotonic()
    findings = _backtest_blindly(target)
    finished = time.monotonic()
    write_truth(target, simulation.truth, simulation.population)
    return DemoReport(
        seed=seed,
        folder=target,
        users=users,
        days=days,
        events=simulation.events.height,
        findings=findings.height,
        simulate_seconds=simulated - began,
        backtest_seconds=finished - simulated,
        results=compare(simulation.truth, findings),
        traps=compare_traps(simulation.truth, findings),
    )


def _backtest_blindly(folder: Path) -> pl.DataFrame:
    """Run the worker in its own process and return what it wrote."""
    command = [sys.executable, "-m", "tocsin.runners.demo_worker", str(folder.resolve())]
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
    return pl.read_parquet(folder / "findings.parquet")


def compare(
    truth: dict[str, Any], findings: pl.DataFrame, answers: tuple[Answer, ...] = ANSWERS
) -> tuple[StoryResult, ...]:
    """Compare findings with the truth, kind by kind.

    A story's user is *found* when the answering detection has a finding for that user on one of the story's days
    (UTC). A finding is *wrong* when no story of any kind has this user on this day: a burst that also stands out
    of the population is no mistake of the population rule. Suppressed findings do not count.
    """
    stories = _user_days(truth["stories"])
    traps = _trapped_users(truth)
    fired = _fired(findings)
    return tuple(_result(answer, stories, traps, fired) for answer in answers)


def compare_traps(truth: dict[str, Any], findings: pl.DataFrame) -> pl.DataFrame:
    """Return one row a kind of innocents: ``trap, users, flagged, detections`` (the ids that flagged them, sorted)."""
    hits = _trapped_users(truth).join(_fired(findings), on="user", how="left")
    flagged = pl.col("user").filter(pl.col("detection_id").is_not_null())
    ids = pl.col("detection_id").drop_nulls().unique().sort()
    return (
        hits.group_by("trap")
        .agg(users=pl.col("user").n_unique(), flagged=flagged.n_unique(), detections=ids.str.join(", "))
        .with_columns(pl.col("detections").fill_null(""))
        .sort("trap")
    )


def _fired(findings: pl.DataFrame) -> pl.DataFrame:
    """Return the highest score of each (detection, user, UTC day) with a finding that nobody suppressed."""
    if "suppressed_by" in findings.columns:
        findings = findings.filter(pl.col("suppressed_by").is_null())
    day = pl.col("time").dt.convert_time_zone("UTC").dt.date()
    keys = findings.select("detection_id", "peak_score", user="entity", day=day)
    return keys.group_by("detection_id", "user", "day").agg(pl.col("peak_score").max())


def _trapped_users(truth: dict[str, Any]) -> pl.DataFrame:
    rows = [(story["kind"], user) for story in truth["innocents"] for user in story["users"]]
    return pl.DataFrame(rows, schema={"trap": pl.String, "user": pl.String}, orient="row")


def _user_days(stories: list[dict[str, Any]]) -> pl.DataFrame:
    """Return one row per kind, user and day of these stories."""
    rows = [(story["kind"], user, day) for story in stories for user in story["users"] for day in story["days"]]
    frame = pl.DataFrame(rows, schema={"kind": pl.String, "user": pl.String, "day": pl.String}, orient="row")
    return frame.with_columns(pl.col("day").str.to_date())


def _result(answer: Answer, stories: pl.DataFrame, traps: pl.DataFrame, fired: pl.DataFrame) -> StoryResult:
    mine = fired.filter(pl.col("detection_id") == (answer.detection or ""))
    planted = stories.filter(pl.col("kind") == answer.story).select("user", "day")
    # What another story explains is neither right nor wrong here, so it takes nobody's place at the top.
    own = mine.join(stories.filter(pl.col("kind") != answer.story), on=["user", "day"], how="anti")
    ranked = own.group_by("user").agg(pl.col("peak_score").max()).sort("peak_score", "user", descending=[True, False])
    found = planted.join(mine, on=["user", "day"], how="semi")
    wrong = mine.join(stories, on=["user", "day"], how="anti").select("user").unique()
    trapped = wrong.join(traps, on="user", how="inner")
    return StoryResult(
        answer=answer,
        planted=planted["user"].n_unique(),
        found=found["user"].n_unique(),
        flagged=mine["user"].n_unique(),
        wrong=wrong.height,
        innocents=trapped["user"].n_unique(),
        trapped=tuple(sorted(set(trapped["trap"].to_list()))),
        in_top=ranked.head(planted["user"].n_unique()).join(found, on="user", how="semi").height,
        missed=tuple(sorted(set(planted["user"]) - set(found["user"]))),
    )


def to_frame(results: tuple[StoryResult, ...]) -> pl.DataFrame:
    """Return results as a frame: one row a story kind; rates are null where they mean nothing."""
    rows = [
        {
            "story": r.answer.story,
            "detection": r.answer.detection,
            "planted": r.planted,
            "found": r.found,
            "flagged": r.flagged,
            "wrong": r.wrong,
            "innocents": r.innocents,
            "trapped": ", ".join(r.trapped),
            "in_top": r.in_top if r.answer.detection else None,
            "recall": r.recall,
            "recall_floor": r.answer.recall_floor if r.answer.detection else None,
            "precision": r.precision,
            "precision_floor": r.answer.precision_floor if r.answer.detection else None,
            "passed": r.passed if r.answer.detection else None,
        }
        for r in results
    ]
    floats = dict.fromkeys(("recall", "recall_floor", "precision", "precision_floor"), pl.Float64)
    return pl.DataFrame(rows, schema_overrides=floats | {"detection": pl.String, "passed": pl.Boolean})
