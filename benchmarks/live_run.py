"""`tocsin run`, the command as it is, with a note taken of each batch that has become durable.

Enters: the arguments of `tocsin run`; `TOCSIN_BENCH_NOTES`, the file for the notes; `TOCSIN_BENCH_KILL_AFTER`, after how many
events it is to kill itself with signal 9 (left out: never). Leaves: the notes, in the clock of `time.monotonic`, which all
processes of a machine share. Layer: none (outside the package).

    python -m benchmarks.live_run settings.toml
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tocsin.faces.cli import main
from tocsin.runners.live import meters

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
NOTES, KILL_AFTER = "TOCSIN_BENCH_NOTES", "TOCSIN_BENCH_KILL_AFTER"


class Noting(meters.Meters):
    """Meters that keep what they are told, and write it down when the run has stopped."""

    def __init__(self, version: str, pid: int, started_at: datetime) -> None:
        super().__init__(version, pid, started_at)
        self._kill_after = int(os.environ.get(KILL_AFTER, "0")) or sys.maxsize
        self._events = 0
        self._notes: dict[str, Any] = {"modes": [], "batches": [], "snapshots": []}

    def batch(self, rows: int, seconds: float, counts: Mapping[str, int], findings: int, at: datetime) -> None:
        """Note when, how many events, seconds from being cut to being durable, findings, CPU seconds, resident bytes."""
        super().batch(rows, seconds, counts, findings, at)
        now = time.monotonic()
        self._events += rows
        self._notes["batches"].append([now, rows, seconds, findings, time.process_time(), _resident_bytes()])
        if self._events >= self._kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    def snapshot(self, number: int, kind: str, at: datetime, size_bytes: int, seconds: float) -> None:
        """Note when it was written, what kind it is, its bytes and seconds."""
        super().snapshot(number, kind, at, size_bytes, seconds)
        self._notes["snapshots"].append([time.monotonic(), kind, size_bytes, seconds])

    def mode(self, mode: str) -> None:
        """Note when it began to do what."""
        super().mode(mode)
        self._notes["modes"].append([time.monotonic(), mode])
        if mode == "stopped":
            told = self.status(_epoch())
            self._notes |= {"status": {k: told[k] for k in ("events", "findings", "skipped", "state", "trouble")}}
            Path(os.environ[NOTES]).write_text(json.dumps(self._notes), encoding="utf-8")


def _epoch() -> datetime:
    from datetime import UTC, datetime

    return datetime.now(UTC)


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - thousands of times, so it has to be quick
        return int(file.read().split()[1]) * PAGE_BYTES


if __name__ == "__main__":
    meters.Meters = Noting  # type: ignore[misc]
    sys.exit(main(["run", *sys.argv[1:]]))
