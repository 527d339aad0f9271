"""Patience: what cannot be done now (a full disk, a database that is away) is tried again until it can, or the engine stops.

Enters: something to do. Leaves: its result. Layer: runners.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, TypeVar

from tocsin.store import StoreError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

T = TypeVar("T")
FIRST_WAIT_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 5.0
PASSING = (OSError, StoreError, sqlite3.OperationalError)
"""Errors that may pass: no room, no right, nobody there."""


class GaveUpError(Exception):
    """The engine was told to stop while something still could not be done; the next start does it."""


def patiently(task: Callable[[], T], trouble: Callable[[str], None], stop: threading.Event, what: str) -> T:
    """Return the task's result, trying again while it fails in a way that may pass.

    Raises:
        GaveUpError: ``stop`` was set before it could be done.
    """
    wait_seconds = FIRST_WAIT_SECONDS
    while True:
        try:
            return task()
        except PASSING as error:
            trouble(f"{what}: {error}")
            if stop.wait(wait_seconds):
                raise GaveUpError(f"{what}: {error}") from error
            wait_seconds = min(2 * wait_seconds, LONGEST_WAIT_SECONDS)
