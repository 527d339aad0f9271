"""Whether an engine runs, as far as its state folder tells.

Enters: a state folder and the time. Leaves: `Seen`: a verdict, why, and the status it rests on. Layer: faces.
"""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tocsin.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    Status = Mapping[str, Any]

FAILED: Final = 1
STALE_SECONDS: Final = 10
"""The engine writes each second; a status older than this is not of now."""
TROUBLE_SECONDS: Final = 300
"""Trouble that is older than this, held against the status it stands in, is history."""
LONGEST_STATUS: Final = 16 << 20
STATUS_FORMAT: Final = 1
_STARTING: Final = "It has started and has not said anything yet."
_MODES: Final = {
    "live": "It is running.",
    "shadow": "It is running in the shadow: no alert is written.",
    "recovering": "It is recovering: it reads on from its last snapshot.",
    "waiting": "It is waiting.",
}


@dataclass(frozen=True)
class Seen:
    """What was found in a state folder.

    verdict: live, shadow, recovering, waiting, stopping, starting, trouble, stuck, stopped or gone. words: why, in words.
    """

    verdict: str
    words: str
    status: "Status | None"
    now: datetime

    @property
    def running(self) -> bool:
        """Whether a process works with the folder."""
        return self.verdict not in {"stopped", "gone"}

    @property
    def code(self) -> int:
        """The exit code: 0 where all is well."""
        return 0 if self.verdict in {"live", "shadow", "recovering", "waiting"} else FAILED


def look(folder: Path, now: datetime) -> Seen:
    """Return what the state folder says of its engine at a time.

    Raises:
        StateError: There is no such folder, or its status cannot be read.
    """
    found = _read(folder)
    if found is None:
        if _holder(folder) is not None:
            return Seen("starting", _STARTING, None, now)
        return Seen("gone", f"It never ran with this folder. To start it: tocsin run --state {folder}", None, now)
    at, mode, pid = time_of(found, "at"), str(found.get("mode")), found.get("pid")
    age = (now - at).total_seconds() if at else float("inf")
    told = f"its last status is {span(age)} old" if at else "its status names no time"
    fresh = abs(age) < STALE_SECONDS
    # The lock is asked for only where the file leaves doubt: asking takes it for a moment.
    if not (fresh and mode != "stopped" and _is_alive(pid)):
        holder = _holder(folder)
        if holder is None and mode == "stopped":
            return Seen("stopped", f"It is not running: it was stopped {span(age)} ago.", found, now)
        if holder is None:
            words = f"It is not running: {told}, and no process holds this folder. It was not stopped, it ended."
            return Seen("gone", words, found, now)
        if not fresh or mode == "stopped":
            if holder != str(pid):
                return Seen("starting", _STARTING, found, now)
            return Seen("stuck", f"It is stuck: process {holder} holds this folder, but {told}.", found, now)
    trouble = _newest_trouble(found, at)
    if trouble is not None:
        return Seen("trouble", f"It is running, with trouble: {trouble}", found, now)
    return Seen(mode, _MODES.get(mode, f"It is {mode}."), found, now)


def _newest_trouble(found: "Status", at: datetime | None) -> object:
    """Return what the newest trouble is, if it is not history yet; else None."""
    for told in reversed(found.get("trouble") or ()):
        noted = time_of(told, "at")
        if noted is None or at is None or (at - noted).total_seconds() <= TROUBLE_SECONDS:
            return told.get("what")
    return None


def _read(folder: Path) -> "Status | None":
    if not folder.is_dir():
        raise StateError(f"There is no state folder {folder}. `tocsin run --state {folder}` makes one.")
    import json

    path = folder / "status.json"
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(LONGEST_STATUS), parse_constant=lambda _: None)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("format") != STATUS_FORMAT:
        raise StateError(f"{path} is damaged, or was written by another version of tocsin.")
    return found


def _holder(folder: Path) -> str | None:
    """Return the process that has the folder's lock; None where nobody has it."""
    import fcntl

    try:
        with (folder / "lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read(32).strip() or "unknown"
    except FileNotFoundError:
        pass
    return None


def _is_alive(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def time_of(found: "Status", key: str) -> datetime | None:
    """Return a time of the status; None where there is none, or none that can be read."""
    try:
        at = datetime.fromisoformat(found[key])
    except (KeyError, TypeError, ValueError):
        return None
    return at if at.tzinfo else None


def span(seconds: float) -> str:
    """Return a length of time in its two largest units.

    >>> [span(s) for s in (0.4, 59, 61, 7500, 200_000)]
    ['0 s', '59 s', '1 min 1 s', '2 h 5 min', '2 d 7 h']
    """
    if seconds == float("inf"):
        return "very"
    left = int(max(seconds, 0))
    told: list[str] = []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if left >= size or (unit == "s" and not told):
            told.append(f"{left // size} {unit}")
            left %= size
    return " ".join(told[:2])
