"""The batch log: what was decided before each batch was applied, so that a restart decides nothing anew.

Enters: entries, one by one. Leaves: the same entries after a crash, in their order. Layer: runners.

An entry is written and synced before anything of it is applied. It says which records of which partitions made up the batch,
in which order, and when they were received; or that a partition went silent or is expected to speak, that other rules hold
from here on, that the input has ended. Whoever folds the entries over the records gets the same scores, wherever the
process stopped in between.

The log is made of files named by their first entry. A line is ``CRC JSON``. The last line of the last file may be torn by a
crash (its end is missing, or pages of it are zeros): it was never acted upon, and is cut. Damage anywhere else is an
error that names the file and line.
"""

from __future__ import annotations

import itertools
import json
import os
import zlib
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any, ClassVar

from tocsin.durable import OWNER_ONLY, sync_folder
from tocsin.errors import StateError
from tocsin.sources.live import Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SEGMENT_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Batch:
    """Events: when they were received (microseconds), and which records they are, in this order."""

    received_at: int
    spans: tuple[Span, ...]
    kind: ClassVar[str] = "batch"


@dataclass(frozen=True, slots=True)
class Silent:
    """A partition, as the engine names it, holds the others back no longer, until it speaks again."""

    partition: str
    kind: ClassVar[str] = "silent"


@dataclass(frozen=True, slots=True)
class Expected:
    """A partition has records that were not read yet: it holds the others back until it speaks or is silent."""

    partition: str
    kind: ClassVar[str] = "expected"


@dataclass(frozen=True, slots=True)
class Version:
    """From here on these rules and reference data hold, and records are read in this way (digests, by source)."""

    rules: str
    decoders: Mapping[str, str]
    kind: ClassVar[str] = "version"


@dataclass(frozen=True, slots=True)
class Finish:
    """The input has ended for good: everything that waits is released."""

    kind: ClassVar[str] = "finish"


Entry = Batch | Silent | Expected | Version | Finish
_KINDS: dict[str, type[Any]] = {c.kind: c for c in (Batch, Silent, Expected, Version, Finish)}


class BatchLog:
    """The log in a folder. ``last`` is the number of the newest entry, 0 where there is none.

    Raises:
        StateError: An entry is damaged, or one is missing.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder, self._segment_bytes = folder, segment_bytes
        self._file: IO[bytes] | None = None
        self._size = 0
        self.first, self.last = self._check()

    def _segments(self) -> list[Path]:
        return sorted(self._folder.glob("*.log"))

    def _check(self) -> tuple[int, int]:
        """Read everything once, cut a torn tail, and return the first and the last number."""
        segments = self._segments()
        if not segments:
            return 1, 0
        first = _number_of(segments[0])
        expected = first
        for path in segments:
            if _number_of(path) != expected:
                raise _damage(path, 1, f"it begins with entry {_number_of(path)}, but {expected} comes next")
            expected = self._check_segment(path, expected, may_be_torn=path == segments[-1])
        return first, expected - 1

    @staticmethod
    def _check_segment(path: Path, expected: int, *, may_be_torn: bool) -> int:
        whole_bytes = 0
        with path.open("rb+") as file:
            for n, line in enumerate(file, 1):
                why = _why_unreadable(line, expected)
                if why:
                    torn = may_be_torn and (not line.endswith(b"\n") or b"\0" in line)  # a whole line was acted upon
                    if not torn or file.read(1):
                        raise _damage(path, n, why)
                    file.truncate(whole_bytes)
                    os.fsync(file.fileno())
                    break
                whole_bytes += len(line)
                expected += 1
        return expected

    def append(self, entry: Entry) -> int:
        """Write an entry and return its number once it is durable.

        Raises:
            OSError: It could not be written; the log is as it was, and may be written to again.
        """
        number = self.last + 1
        body = json.dumps({"n": number, "kind": entry.kind, **asdict(entry)}, separators=(",", ":")).encode()
        line = b"%08x %b\n" % (zlib.crc32(body), body)
        file = self._open(number)
        try:
            _write_all(file, line)
            os.fdatasync(file.fileno())
        except OSError:
            self._undo(file)
            raise
        self._size += len(line)
        self.last = number
        return number

    def _open(self, number: int) -> IO[bytes]:
        """Return the file to append to: the last one, or a new one where that is full or there is none."""
        if self._file is not None and self._size < self._segment_bytes:
            return self._file
        segments = self._segments()
        if self._file is None and segments and segments[-1].stat().st_size < self._segment_bytes:
            path = segments[-1]
        else:
            path = self._folder / f"{number:020}.log"
        self.close()
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, OWNER_ONLY)
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._size = path.stat().st_size
        sync_folder(self._folder)
        return self._file

    def _undo(self, file: IO[bytes]) -> None:
        """Cut what was written of an entry; where even that fails, the next opening of the log does it."""
        try:
            os.ftruncate(file.fileno(), self._size)
        finally:
            self.close()

    def entries(self, after: int) -> Iterator[tuple[int, Entry]]:
        """Yield number and entry of everything after a number.

        Raises:
            StateError: Entries after it were forgotten: the state is older than the log.
        """
        if after + 1 < self.first:
            raise StateError(
                f"{self._folder}: the log begins with entry {self.first}, but the state stands at {after}: snapshots are missing."
                " Put them back, or start anew with an empty state folder."
            )
        segments = self._segments()
        for i, path in enumerate(segments):
            if i + 1 < len(segments) and _number_of(segments[i + 1]) <= after + 1:
                continue
            with path.open("rb") as file:
                for line in file:
                    found = json.loads(line[9:])
                    if found["n"] > self.last:
                        return
                    if found["n"] > after:
                        yield found["n"], _entry(found)

    def forget(self, before: int) -> None:
        """Remove files all of whose entries have numbers up to ``before``."""
        segments = self._segments()
        for path, following in itertools.pairwise(segments):
            if _number_of(following) > before + 1:
                break
            path.unlink()
            self.first = _number_of(following)
        sync_folder(self._folder)

    def close(self) -> None:
        """Close the file; the log may be used again."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _write_all(file: IO[bytes], line: bytes) -> None:
    """Write every byte: where room is short, an unbuffered file takes a part of them and calls that a success."""
    view = memoryview(line)
    while view:
        view = view[file.write(view) :]


def _number_of(path: Path) -> int:
    try:
        return int(path.stem)
    except ValueError:
        raise _damage(path, 1, "its name is no number; it is not of this log") from None


def _why_unreadable(line: bytes, expected: int) -> str:
    if not line.endswith(b"\n"):
        return "the line is cut short"
    body = line[9:-1]
    if line[:9] != b"%08x " % zlib.crc32(body):
        return "its checksum is wrong"
    try:
        number = json.loads(body)["n"]
    except (ValueError, KeyError, TypeError):
        return "it is no entry"
    return "" if number == expected else f"it is entry {number}, but {expected} comes next"


def _entry(found: dict[str, Any]) -> Entry:
    kind = _KINDS[found.pop("kind")]
    del found["n"]
    if kind is Batch:
        found["spans"] = tuple(Span(**span) for span in found["spans"])
    entry: Entry = kind(**found)
    return entry


def _damage(path: Path, line: int, why: str) -> StateError:
    return StateError(
        f"{path}:{line}: the batch log is damaged: {why}. Restore the folder from a copy, or start anew with an empty state folder."
    )
