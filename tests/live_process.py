"""Real engines in processes of their own: started, watched through their status, killed, and compared with the replay.

Layer: tests. How hard they are tried is said by ``TOCSIN_SOAK``: unset for the short form that runs with every suite, 1 for
the long one behind ``make soak``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from polars.testing import assert_frame_equal

import tocsin as tc
from tests.conftest import CHECKOUT
from tests.live_fixtures import as_lines, mails
from tocsin.alerts import Alerts
from tocsin.engine import End
from tocsin.engine import Engine as Fold
from tocsin.engine.replay import Backtest, _all_findings, _all_scores
from tocsin.runners.live.deadletters import DeadLetters, Kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

SOAK = os.environ.get("TOCSIN_SOAK", "") not in {"", "0"}
DEADLINE_SECONDS = 600 if SOAK else 300  # a first start compiles for a minute or two
POLL_SECONDS = 0.02
# Dozens of engines are started; each compiling the whole package again would take longer than all the tests.
CACHED = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(CHECKOUT / "build" / "pycache")}
MAIL = '[[sources]]\nkind = "file"\nname = "mail"\npath = "mail.jsonl"\n'
"""The source that most tests have: a file that grows."""
FEW = """import tocsin as tc

ABOUT = {{"on": tc.col("kind") == "mail", "entity": "user_id"}}
DETECTIONS = (
    tc.Detection(
        id="test.many", title="Many", severity="low", score=tc.col("nr_recipients"), when=tc.score > {above}, **ABOUT,
    ),
    tc.Detection(
        id="test.own", title="Own", severity="medium", measure=tc.Count(per="1d"),
        against=tc.own_history(mean=True, at_least=2), score=tc.value / tc.ref.mean, when=tc.score > 1.2, **ABOUT,
    ),
    tc.Detection(
        id="test.all", title="All", severity="medium", measure=tc.Sum("size", per="1d"),
        against=tc.population(mean=True, sd=True), score=(tc.value - tc.ref.mean) / tc.ref.sd, when=tc.score > 1.2, **ABOUT,
    ),
{more})
"""
"""A few rules, one of each tier that needs no list: an engine that has only these starts quickly."""


PLAIN = {"NO_COLOR": "1", "PYTHONFAULTHANDLER": "1"}


class Engine:
    """One `tocsin run` in its own process. What it says goes to a file, so that it never waits for us."""

    def __init__(
        self, folder: Path, *arguments: str, env: Mapping[str, str] | None = None, stdin: Any = None, **popen: Any
    ):
        self.state, self.said = folder / "state", folder / "said.jsonl"
        self._log = self.said.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tocsin", "run", *arguments], cwd=folder, stdin=stdin or subprocess.DEVNULL, stdout=self._log,
            stderr=self._log, start_new_session=True, env=os.environ | CACHED | PLAIN | dict(env or {}), **popen,
        )  # fmt: skip

    def status(self) -> dict[str, Any]:
        """The status it wrote last; empty before the first."""
        try:
            found: dict[str, Any] = json.loads((self.state / "status.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return found if found.get("pid") == self.process.pid else {}

    def log(self) -> list[dict[str, Any]]:
        """The lines it logged that are JSON."""
        lines = []
        for line in self.said.read_text("utf-8", "replace").splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                continue
        return lines

    def until(self, what: Callable[[dict[str, Any]], bool], why: str) -> dict[str, Any]:
        """Wait until its status is so, and return that."""
        end = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < end:
            status = self.status()
            if status and what(status):
                return status
            assert self.process.poll() is None, f"{why}: it ended with {self.process.returncode}: {self.tail()}"
            time.sleep(POLL_SECONDS)
        raise AssertionError(f"{why}: it did not come to that: {json.dumps(self.status())[:2000]} {self.tail()}")

    def until_log(self, what: Callable[[dict[str, Any]], bool], why: str) -> dict[str, Any]:
        """Wait until it logs such a line, and return that."""
        end = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < end:
            if found := [line for line in self.log() if what(line)]:
                return found[0]
            assert self.process.poll() is None, f"{why}: it ended with {self.process.returncode}: {self.tail()}"
            time.sleep(POLL_SECONDS)
        raise AssertionError(f"{why}: it did not come to that: {self.tail()}")

    def tail(self) -> str:
        """The end of what it said."""
        return self.said.read_text("utf-8", "replace")[-6000:]

    def words(self) -> str:
        """All it said, as one line."""
        return " ".join(self.said.read_text("utf-8", "replace").split())

    def kill(self) -> None:
        """Kill -9 the whole group."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._log.close()

    def close(self) -> None:
        """See that nothing of it is left."""
        if self.process.poll() is None:
            self.kill()
        self._log.close()

    def stop(self) -> float:
        """SIGTERM; return how many seconds it took to end cleanly."""
        began = time.monotonic()
        self.process.terminate()
        try:
            code = self.process.wait(DEADLINE_SECONDS / 2)
        except subprocess.TimeoutExpired:
            os.kill(self.process.pid, signal.SIGABRT)  # it says where its threads are
            code = self.process.wait()
        self._log.close()
        assert code == 0, f"it ended with {code}: {self.tail()}"
        return time.monotonic() - began

    def wait(self) -> int:
        """Wait until it ends by itself."""
        code = self.process.wait(DEADLINE_SECONDS)
        self._log.close()
        return code


@contextmanager
def engine(folder: Path, *arguments: str, **options: Any) -> Iterator[Engine]:
    """An engine that is surely gone afterwards."""
    started = Engine(folder, *arguments, **options)
    try:
        yield started
    finally:
        started.close()


@cache
def log_of(n: int, seed: int = 3) -> list[dict[str, Any]]:
    """An event log to run on: mails and logins, nearly in order, some events twice."""
    return mails(np.random.default_rng(seed), n, users=max(8, n // 200), days=15)


def settings(
    folder: Path, *, sources: str = MAIL, more: str = "", rows: int = 500, state: str = "state", **top: str
) -> str:
    """Write a settings file whose batches are small and whose snapshots come often; return its name.

    more: further tables. top: more of the first lines, as TOML.
    """
    first = {"state": f'"{state}"', "log": '"soc.db"', "keep_scores": "true", **top}
    lines = [f"{k} = {v}" for k, v in first.items()]
    lines += [f"[batches]\nrows = {rows}", "[snapshots]\nevery_seconds = 0.3\nfull_every = 5"]
    (folder / "soc.toml").write_text("\n".join([*lines, more, sources]))
    return "soc.toml"


def few_rules(folder: Path, *, above: float = 25, more: str = "") -> str:
    """Write a few rules to ``few.py`` in the folder; return the table of the settings that names them."""
    part = folder / "few.part"
    part.write_text(FEW.format(above=above, more=more))
    part.replace(folder / "few.py")
    return '[rules]\nfiles = ["few.py"]\ncheck_seconds = 0.1\n'


def write_log(path: Path, events: list[dict[str, Any]]) -> Path:
    """Write events as JSON lines."""
    path.write_bytes(b"".join(line + b"\n" for line in as_lines(events)))
    return path


def append(path: Path, events: Iterable[Mapping[str, Any]] | bytes) -> None:
    """Let a log grow."""
    with path.open("ab") as file:
        file.write(events if isinstance(events, bytes) else b"".join(line + b"\n" for line in as_lines(events)))


def replay(path: Path, rules: Iterable[tc.Detection] | Path = tc.rules.ALL, **options: Any) -> Backtest:
    """What a backtest of the file says, every score kept. rules: detections, or the file that holds them."""
    chosen = rules if not hasattr(rules, "read_text") else tc.load_rules(rules)
    return tc.backtest(chosen, tc.read(path, **options), keep_scores=True)


def replay_arrivals(path: Path, rules: Iterable[tc.Detection] = tc.rules.ALL, **options: Any) -> Backtest:
    """What one batch of the whole file says, in the order in which its events arrived: some of them too late."""
    events = tc.read(path, order="arrival", **options)
    fold = Fold(list(rules), events.columns, lateness="1h", keep_scores=True)
    state, first = fold.step(fold.new_state(), fold.prepare(events.frame().collect()))
    state, last = fold.step(state, End())
    both = [first, last]
    counts = state.counts | {"rejected": events.counts.rejected}
    return Backtest(_all_findings(both), counts, 1.0, fold, state, _all_scores(both))


@contextmanager
def dead_letters(folder: Path) -> Iterator[DeadLetters]:
    """The dead letters of the engine in a folder."""
    letters = DeadLetters(
        folder / "state" / "dead-letters.db", keep_days=9999, clock=lambda: datetime.now(UTC), create=False
    )
    try:
        yield letters
    finally:
        letters.close()


def letters_of(folder: Path) -> list[Kept]:
    """The dead letters of the engine in a folder, the oldest first."""
    with dead_letters(folder) as letters:
        return list(letters.letters(state=None))[::-1]


def kept_scores(state: Path) -> pl.DataFrame:
    """Every score that an engine kept, in an order that depends on nothing but them."""
    files = sorted((state / "scores").glob("*.arrow"))
    return pl.concat([pl.read_ipc(f) for f in files]).sort("detection", "event_id", "score", "fired")


def assert_same(
    folder: Path, past: Backtest, log: str = "soc.db", *, rules: Iterable[str] = (), without: str | None = None
) -> None:
    """Every score and every finding of the engine in the folder equals the replay's.

    rules: only of these detections. without: the event that came last, to let go what was before it.
    """
    ran = set(rules) or {p.detection.id for p in past.engine.plan.planned}
    expected = pl.concat([s.with_columns(detection=pl.lit(d)) for d, s in past.scores.items() if d in ran])
    counted = pl.col("detection").is_in(ran) & (pl.col("event_id") != (without or ""))
    got = kept_scores(folder / "state").filter(counted)
    assert_frame_equal(got, expected.filter(counted).sort("detection", "event_id", "score", "fired"))
    counted = pl.col("detection_id").is_in(ran) & (pl.col("event_id") != (without or ""))
    with Alerts(log if "://" in log else folder / log) as opened:
        found = opened.history().findings.filter(counted).sort("finding_id")
    wanted = past.findings.filter(counted).sort("finding_id")
    wanted = wanted.with_columns(pl.col("entity").str.replace_all("\x00", "\ufffd", literal=True))  # as PostgreSQL must
    found = found.with_columns(pl.col("entity").str.replace_all("\x00", "\ufffd", literal=True))
    shared = [c for c in wanted.columns if c in found.columns and c != "peak_score"]
    assert_frame_equal(found.select(shared), wanted.select(shared), check_dtypes=False)
    assert found["finding_id"].is_unique().all()
