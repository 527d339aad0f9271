"""One life of a live engine in a process of its own: started, watched, killed, stopped or waited for.

Enters: the arguments of `tocsin`, the state folder. Leaves: nothing; what it did is in the state folder. Layer: runners.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from tocsin.errors import TocsinError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PATIENCE_SECONDS = 600.0
"""How long a process may show no progress. A first run on a machine compiles for minutes."""
LAST_WORDS = 3
_LOOK_SECONDS = 0.05
_MOST_CHARACTERS = 600


class LiveFailedError(TocsinError):
    """A live process ended by itself, with an error, or made no progress. The message has its last words."""


class LiveProcess:
    """A process that runs from `__enter__` to `__exit__` at most. What it says goes to the end of the file ``said``.

    It works in the folder and with the environment of the caller, so that it finds the modules that rule files import.
    """

    def __init__(self, arguments: Sequence[str], state: Path, said: Path) -> None:
        self._arguments, self._state, self._said = arguments, state, said
        self._said_from = said.stat().st_size if said.exists() else 0

    def __enter__(self) -> Self:
        """Start it."""
        with self._said.open("ab") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tocsin", *self._arguments], stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                env=os.environ | {"NO_COLOR": "1"},
            )  # fmt: skip
        return self

    def __exit__(self, *_error: object) -> None:
        """See that it is gone."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def until_following(self) -> None:
        """Wait until it has recovered and reads what comes.

        Raises:
            LiveFailedError: It ended, or showed no progress.
        """
        self._until(lambda: self._status().get("mode") == "live", "begin to follow the events")

    def kill(self) -> None:
        """Kill it at once (SIGKILL).

        Raises:
            LiveFailedError: It had ended by itself.
        """
        self._still_runs("follow the events")
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ask it to stop (SIGTERM), and wait until it has.

        Raises:
            LiveFailedError: It ended with an error, or did not.
        """
        self._still_runs("follow the events")
        self._process.terminate()
        self._ended("stop when it was asked to")

    def finish(self) -> None:
        """Wait until it has come to the end of its input.

        Raises:
            LiveFailedError: It ended with an error, or showed no progress.
        """
        self._ended("read to the end and finish")

    def _ended(self, what: str) -> None:
        self._until(lambda: self._process.poll() is not None, what)
        if self._process.returncode:
            raise self._failed(what)

    def _until(self, done: Callable[[], bool], what: str) -> None:
        seen, until = None, 0.0
        while not done():
            if self._process.poll() is not None:
                if done():
                    return
                raise self._failed(what)
            status = self._status()
            shown = status.get("mode"), status.get("batches")
            if shown != seen or not until:
                seen, until = shown, time.monotonic() + PATIENCE_SECONDS
            if time.monotonic() >= until:
                raise LiveFailedError(
                    f"the live process did not {what}: for {PATIENCE_SECONDS:g} seconds it showed no progress. {self._words()}"
                )
            time.sleep(_LOOK_SECONDS)

    def _still_runs(self, what: str) -> None:
        if self._process.poll() is not None:
            raise self._failed(what)

    def _failed(self, what: str) -> LiveFailedError:
        return LiveFailedError(
            f"the live process did not {what}: it ended with exit code {self._process.returncode}. {self._words()}"
        )

    def _status(self) -> dict[str, Any]:
        """Return the status that this very process wrote last."""
        try:
            found: dict[str, Any] = json.loads((self._state / "status.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return found if found.get("pid") == self._process.pid else {}

    def _words(self) -> str:
        """Return what it said last, plain progress left out."""
        with self._said.open("rb") as file:
            file.seek(self._said_from)
            lines = file.read().decode("utf-8", "replace").splitlines()
        told = [words for line in lines if (words := _of_line(line.strip()))]
        last = " | ".join(told[-LAST_WORDS:])[-_MOST_CHARACTERS:]
        return f"Its last words: {last}" if last else "It said nothing."


def _of_line(line: str) -> str:
    """Return what a line of a log says, nothing where all is well.

    >>> _of_line('{"ts": "-", "level": "warning", "event": "trouble", "what": "no room"}'), _of_line("tocsin: no such file")
    ('no room', 'tocsin: no such file')
    """
    try:
        found = json.loads(line)
    except ValueError:
        return line
    if not isinstance(found, dict):
        return line
    return "" if found.get("level") == "info" else str(found.get("what") or line)
