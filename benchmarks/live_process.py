"""A running engine to be measured: its settings, its process, and what its notes say.

Enters: sources, rules, a folder. Leaves: `Ran`. Layer: none (outside the package).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.live_run import KILL_AFTER, NOTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parent.parent
Settings = dict[str, Any]


def settings_of(folder: Path, source: Mapping[str, Any], **tables: Mapping[str, Any]) -> Settings:
    """Return settings of an engine that keeps state and alert log in a folder."""
    return {"state": str(folder / "state"), "log": str(folder / "soc.db"), "sources": [dict(source)], **tables}


def write_toml(settings: Settings, path: Path) -> Path:
    """Write settings as TOML: a text, number, truth or list is written there as in JSON."""
    plain = [f"{k} = {json.dumps(v)}" for k, v in settings.items() if not isinstance(v, dict) and k not in _TABLES]
    several = [(f"[[{k}]]", table) for k in _TABLES for table in settings.get(k, ())]
    single = [(f"[{k}]", v) for k, v in settings.items() if isinstance(v, dict)]
    for head, table in several + single:
        plain += [head, *(f"{k} = {json.dumps(v)}" for k, v in table.items() if v is not None)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(plain) + "\n", encoding="utf-8")
    return path


_TABLES = ("sources", "outputs")


class Process:
    """A started `tocsin run`."""

    def __init__(self, settings: Settings, folder: Path, *, env: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._notes, self._said = folder / "notes.json", folder / "said.txt"
        self._notes.unlink(missing_ok=True)
        self.status_path = Path(settings["state"]) / "status.json"
        paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        given = {NOTES: str(self._notes), "PYTHONPATH": paths, "NO_COLOR": "1"} | dict(env or {})
        self._log = self._said.open("wb")
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.live_run", str(write_toml(settings, folder / "settings.toml"))],
            cwd=ROOT, env=os.environ | given, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip

    def status(self) -> dict[str, Any]:
        """The status it wrote last; empty before the first."""
        try:
            found: dict[str, Any] = json.loads(self.status_path.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if found.get("pid") == self.process.pid else {}

    def until(self, mode: str, timeout_seconds: float = 120) -> None:
        """Wait until it says that it is in a mode."""
        end = time.monotonic() + timeout_seconds
        while self.status().get("mode") != mode:
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the engine did not become {mode}: {self.said()}")
            time.sleep(0.05)

    def said(self) -> str:
        """The end of what it said."""
        return self._said.read_text("utf-8", "replace")[-3000:]

    def ended(self, expected: int = 0, timeout_seconds: float = 1200) -> Ran:
        """Wait for its end, and return its notes; of one that was killed there are none."""
        try:
            code = self.process.wait(timeout_seconds)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self._log.close()
        if code != expected:
            raise RuntimeError(f"the engine ended with {code}: {self.said()}")
        notes = json.loads(self._notes.read_bytes()) if self._notes.exists() else {}
        if skipped := notes.get("status", {}).get("skipped"):
            raise AssertionError(f"rules that cannot run: {skipped}")  # they would cost nothing and flatter the figure
        return Ran(self.started, notes)

    def stop(self) -> Ran:
        """End it cleanly."""
        self.process.terminate()
        return self.ended()


def run(settings: Settings, folder: Path, *, kill_after: int = 0) -> Ran:
    """Start an engine and wait until it ends."""
    env = {KILL_AFTER: str(kill_after)} if kill_after else {}
    return Process(settings, folder, env=env).ended(-9 if kill_after else 0)


@dataclass(frozen=True)
class Ran:
    """What the notes of a run say; times are of `time.monotonic`."""

    started: float
    notes: dict[str, Any]

    @property
    def recovery_seconds(self) -> float:
        """From the start of the process until it follows its sources."""
        return next(at for at, mode in self.notes["modes"] if mode in {"live", "shadow"}) - self.started

    @property
    def to_recover_seconds(self) -> float:
        """Of these, what is left once the process has come up: from locking the folder on."""
        return self.started + self.recovery_seconds - self.notes["modes"][0][0]

    def batches(self, after_events: int = 0) -> tuple[np.ndarray, float, float]:
        """Return the batches after the run-in, when the first of them was cut, and the CPU seconds when the run-in was durable."""
        noted = np.array(self.notes["batches"], dtype=float)
        first = int(np.searchsorted(np.cumsum(noted[:, 1]), after_events)) + 1 if after_events else 0
        return noted[first:], float(noted[first, 0] - noted[first, 2]), float(noted[first - 1, 4]) if first else 0.0

    def measured(self, run_in: int) -> dict[str, Any]:
        """Return events a second and latency of what came after the run-in, until all of it and a snapshot are durable."""
        rest, began, cpu = self.batches(run_in)
        saved = max((at for at, *_ in self.notes["snapshots"]), default=rest[-1, 0])
        seconds, events = float(rest[-1, 0] - began), int(rest[:, 1].sum())
        whole = max(saved - began, seconds)
        p50, p99 = np.percentile(rest[:, 2], [50, 99]) * 1e3
        return {
            "events": events,
            "batches": len(rest),
            "findings": int(rest[:, 3].sum()),
            "seconds": {"durable": seconds, "with the last snapshot": whole},
            "cpu_seconds": float(rest[-1, 4] - cpu),
            "events_per_second": events / whole,
            "events_per_second_without_the_last_snapshot": events / seconds,
            "p50_ms": float(p50),
            "p99_ms": float(p99),
            "start_seconds": self.recovery_seconds,
            "load": os.getloadavg()[0],
        }

    def resident(self, at_events: Iterator[int] | list[int]) -> dict[str, float]:
        """Return the resident megabytes when so many events had become durable, and the most of all."""
        noted = np.array(self.notes["batches"], dtype=float)
        events, megabytes = np.cumsum(noted[:, 1]), noted[:, 5] / 1e6
        at = {str(n): float(megabytes[min(np.searchsorted(events, n), len(events) - 1)]) for n in at_events}
        return at | {"most": float(megabytes.max())}
