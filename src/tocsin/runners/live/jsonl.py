"""A file of JSON lines to which others only look on: whole lines, on the disk before they count, and moved away by anyone.

Enters: alerts. Leaves: lines at the end of a file. Layer: runners.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from typing import TYPE_CHECKING, Final

from tocsin.durable import OWNER_ONLY, sync_folder
from tocsin.runners.live.delivery import NotNowError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tocsin.runners.live.delivery import Told

_BEGINS: Final = b'{"alert_id":"'
_BLOCK_BYTES: Final = 64 << 10
_BATCH_ALERTS: Final = 500


class JsonLines:
    """A file at whose end JSON objects are written, each beginning with its alert's id; made for its owner alone.

    What a crash left of a last line is cut off: whoever wrote it had not been told that it was written.
    """

    at_once = _BATCH_ALERTS

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def __repr__(self) -> str:
        return f"JsonLines({str(self._path)!r})"

    def deliver(self, alerts: Sequence[Told]) -> None:
        """Write each alert as a line."""
        self.append([a.body for a in alerts])

    def append(self, lines: Sequence[bytes]) -> None:
        """Write lines and wait until they are on the disk; all of them or, in whole lines, none.

        Raises:
            NotNowError: They could not be written, or the file is not one to write to.
        """
        try:
            file = self._opened()
            begin = os.fstat(file).st_size
            try:
                _write_all(file, b"".join(line + b"\n" for line in lines))
                os.fsync(file)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(file, begin)
                raise
        except OSError as error:
            self.close()
            raise NotNowError(
                f"{self._path}: {error.strerror or error}. Is there room, and a right to write?"
            ) from None

    def interrupt(self) -> None:
        """Do nothing: writing ends by itself."""

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _opened(self) -> int:
        """Return the file that has the name now; the one before may have been moved away by whoever rotates it."""
        if self._file is not None and not self._still_there(self._file):
            self.close()
        if self._file is None:
            there = self._path.exists()
            # A pipe without a reader would block; it is refused below.
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
            file = os.open(self._path, flags, OWNER_ONLY)
            try:
                self._mend(file)
            except (OSError, NotNowError):
                os.close(file)
                raise
            if not there:
                sync_folder(self._path.parent)
            self._file = file
        return self._file

    def _still_there(self, file: int) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(file))
        except FileNotFoundError:
            return False

    def _mend(self, file: int) -> None:
        """Make the file end with a whole line: a torn one of ours goes, a whole one that lacks its end gets it."""
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise NotNowError(f"{self._path}: this is no file; alerts are appended to files only.")
        begin = _last_line(file, found.st_size)
        tail = os.pread(file, found.st_size - begin, begin)
        if not tail:
            return
        if _is_json(tail):
            _write_all(file, b"\n")
        elif tail[: len(_BEGINS)] == _BEGINS[: len(tail)] or not tail.strip(b"\0"):  # a power cut may leave zeros
            os.ftruncate(file, begin)
        else:
            raise NotNowError(
                f"{self._path}: its last line is not of this program. Move the file away, or end the line."
            )


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _last_line(file: int, size: int) -> int:
    """Return where the part after the last line end begins."""
    end = size
    while end > 0:
        begin = max(0, end - _BLOCK_BYTES)
        found = os.pread(file, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
