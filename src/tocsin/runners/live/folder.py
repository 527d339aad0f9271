"""The state folder: where everything lies that a running engine keeps, and who may write there.

Enters: a path. Leaves: `StateFolder`, the paths by their names, locked for one process. Layer: runners.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path
from typing import IO, Self

from tocsin.durable import write_durably
from tocsin.errors import StateError

KEY_BYTES = 16


class StateFolder:
    """A folder that one process writes to; others may read the status in it.

    Raises:
        StateError: It cannot be made or written, or another process has it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.batches = self.path / "batches"
        """The batch log."""
        self.snapshots = self.path / "snapshots"
        self.versions = self.path / "versions"
        """Rules and reference data as they were, by digest."""
        self.decoders = self.path / "decoders"
        """How each source is read, by digest."""
        self.spool = self.path / "spool"
        """What came in and cannot be asked for again, a folder for each source."""
        self.tables = self.path / "tables"
        """Fitted tables, published by version."""
        self.windows = self.path / "windows"
        """Closed windows, from which tables are fitted."""
        self.scores = self.path / "scores"
        """Every event's score by batch, where the settings ask for it."""
        self.dead_letters = self.path / "dead-letters.db"
        self.status = self.path / "status.json"
        self._lock: IO[str] | None = None

    def lock(self) -> Self:
        """Make the folder where there is none, and keep every other process from writing to it until `unlock`."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.batches, self.snapshots, self.versions, self.decoders, self.spool):
                folder.mkdir(mode=0o700, exist_ok=True)
            lock = (self.path / "lock").open("a+")
        except OSError as error:
            raise StateError(
                f"{self.path}: the state folder cannot be written ({error.strerror}). Give the engine a folder of its own with --state."
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise StateError(
                f"{self.path}: the process {holder} works with this state folder. Stop it first, or give another folder with --state."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock
        return self

    def unlock(self) -> None:
        """Let others have the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def key(self) -> bytes:
        """Return the secret that event ids and entities are hashed with; it is made once and never leaves the folder."""
        path = self.path / "key"
        if not path.exists():
            write_durably(path, secrets.token_bytes(KEY_BYTES))
        key = path.read_bytes()
        if len(key) != KEY_BYTES:
            raise StateError(f"{path}: the key is damaged; without it the state in {self.path} cannot be read on.")
        return key
