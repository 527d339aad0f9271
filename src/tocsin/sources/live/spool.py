"""A durable spool: records that cannot be asked for again, kept in order until nobody needs them.

Enters: records, from any number of threads and processes. Leaves: their numbers, once they are on the disk; pieces of them
for the engine. Layer: sources.

A folder of segments, each named for the number of its first record. Appends of all processes take turns under one lock
file; those that wait together share one write and one fsync. Readers see only what is on the disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from tocsin.durable import sync_folder
from tocsin.errors import SourceError
from tocsin.sources.live.pieces import LostError
from tocsin.sources.live.spool_frames import DamagedFrameError, Note, Packed, pack, whole_frames

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

MAX_BYTES: Final = 10 << 30
SEGMENT_BYTES: Final = 64 << 20
_SEGMENTS_AT_LEAST: Final = 8
_MOST_FRAME_BYTES: Final = 1 << 30
_SUFFIX: Final = ".spool"
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class SpoolFullError(SourceError):
    """There is no room for more: nothing of the records was kept. Later there may be."""


class SpoolDamagedError(LostError):
    """A segment is not as it was written. The message names the file and the byte."""


class End(NamedTuple):
    """How far everything is on the disk: the last segment, the byte after its last frame, the number of the next record."""

    segment: int
    offset: int
    number: int


@dataclass(slots=True)
class _Ticket:
    """One append that waits for its turn."""

    packed: Packed
    last: int = 0
    error: SourceError | None = None


class Spool:
    """A folder to which records are appended, and from which old ones go by whole segments.

    Args:
        folder: Where; it is made where there is none.
        max_bytes: How much may lie there.
        segment_bytes: How large a segment gets before the next is begun.

    Raises:
        SpoolDamagedError: A segment is not as it was written.
        SourceError: The folder cannot be used.

    >>> import datetime, pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     spool = Spool(pathlib.Path(folder, "http"))
    ...     numbers = [spool.append([b"{}", b"{}"], datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)) for _ in range(2)]
    ...     spool.close()
    >>> numbers
    [2, 4]
    """

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._segment_bytes = min(segment_bytes, max(max_bytes // _SEGMENTS_AT_LEAST, 1))
        self._pending: list[_Ticket] = []
        self._writing_bytes = 0
        self._sizes: dict[int, int] = {}
        self._end = End(1, 0, 1)
        self._mutex = threading.Lock()
        """Held for moments: guards what waits and the sizes."""
        self._turn = threading.Lock()
        """Held by the thread that writes for all that wait."""
        self._lock_fd = self._fd = -1
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with self._locked():
                found = self.segments() or [self._make(1)]
                self._sizes = {n: self.path(n).stat().st_size for n in found}
                self._use(found[-1])
                self._catch_up()
        except OSError as error:
            self.close()
            raise SourceError(
                f"{folder}: the spool cannot be opened ({error.strerror}). Is the folder writable?"
            ) from None
        except SourceError:
            self.close()
            raise

    @property
    def end(self) -> End:
        """How far everything is on the disk, as far as this process knows."""
        return self._end

    @property
    def size_bytes(self) -> int:
        """How much lies in the folder."""
        with self._mutex:
            return sum(self._sizes.values())

    def bytes_from(self, segment: int) -> int:
        """Return how much lies in a segment and those after it."""
        with self._mutex:
            return sum(size for n, size in self._sizes.items() if n >= segment)

    def path(self, segment: int) -> Path:
        """Return the file of a segment, by the number of its first record."""
        return self.folder / f"{segment:020d}{_SUFFIX}"

    def segments(self) -> list[int]:
        """Return the segments that are there, by the numbers of their first records."""
        return sorted(int(p.stem) for p in self.folder.glob(f"*{_SUFFIX}"))

    def append(
        self,
        records: Sequence[bytes],
        received_at: datetime,
        *,
        partition: str = "",
        source: str | None = None,
        fault: str | None = None,
    ) -> int:
        """Keep records; return the number of the last one as soon as all are on the disk.

        Args:
            records: One JSON object each, on one line. All are kept or none.
            received_at: When they were received; for each call the spool keeps its own.
            partition: To which they belong.
            source: Whose they are, where not of the source that reads this spool.
            fault: Why they are no records, where they are none.

        Raises:
            SpoolFullError: The spool or the disk is full; nothing was kept.
            SourceError: They cannot be written for another reason; nothing was acknowledged.
        """
        if not records:
            return self._end.number - 1
        ticket = _Ticket(pack(records, Note(received_at, partition, source, fault)))
        with self._mutex:
            waiting_bytes = self._writing_bytes + sum(t.packed.size for t in self._pending)
            if (
                sum(self._sizes.values()) + waiting_bytes + ticket.packed.size > self.max_bytes
                or ticket.packed.size > _MOST_FRAME_BYTES
            ):
                raise SpoolFullError(
                    f"{self.folder}: the spool is full ({self.max_bytes:,} bytes). It empties as the engine reads and saves its"
                    " state: wait, see what holds it up, or allow more."
                )
            self._pending.append(ticket)
        with self._turn:
            if not ticket.last and ticket.error is None:
                self._write_for_all()
        if ticket.error is not None:
            raise ticket.error
        return ticket.last

    def refresh(self) -> None:
        """Take in what another process has appended, unless somebody is appending just now."""
        end = self._end
        try:
            same = self.path(end.segment).stat().st_size == end.offset
        except FileNotFoundError:
            same = False
        if (same and (end.number == end.segment or not self.path(end.number).exists())) or not self._turn.acquire(
            blocking=False
        ):
            return
        try:
            with self._locked(wait=False):
                self._catch_up()
        except BlockingIOError:
            return
        finally:
            self._turn.release()

    def skip_to(self, number: int) -> None:
        """Give no record a number below this one: those were given to records that are gone."""
        with self._turn, self._locked():
            self._catch_up()
            if self._end.number < number:
                self._use(self._make(number))

    def release(self, up_to: int) -> None:
        """Let segments go that hold only records before this number; the last one stays, so that numbers go on."""
        with self._mutex:
            segments = sorted(self._sizes)
            for segment, following in pairwise(segments):
                if following > up_to:
                    return
                self.path(segment).unlink(missing_ok=True)
                del self._sizes[segment]

    def close(self) -> None:
        """Let the files go; whatever was acknowledged stays."""
        for fd in (self._fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock_fd = -1

    def _write_for_all(self) -> None:
        """Write and sync everything that waits, as one."""
        with self._mutex:
            tickets, self._pending = self._pending, []
            self._writing_bytes = sum(t.packed.size for t in tickets)
        failed: SourceError | None = None
        try:
            with self._locked():
                self._catch_up()
                self._write(tickets)
        except SourceError as error:
            failed = error
        except OSError as error:
            kind = SpoolFullError if error.errno in _NO_ROOM else SourceError
            failed = kind(f"{self.folder}: nothing can be written ({error.strerror}). Make room, and send again.")
        for ticket in tickets if failed else ():
            ticket.error, ticket.last = failed, 0
        with self._mutex:
            self._sizes[self._end.segment] = self._end.offset
            self._writing_bytes = 0

    def _write(self, tickets: list[_Ticket]) -> None:
        end = self._end
        if end.offset >= self._segment_bytes:
            self._use(self._make(end.number))
            end = self._end
        number, frames = end.number, []
        for ticket in tickets:
            frames.append(ticket.packed.numbered(number))
            number += ticket.packed.count
        data, done = memoryview(b"".join(frames)), 0
        try:
            while done < len(data):
                done += os.pwrite(self._fd, data[done:], end.offset + done)
            os.fdatasync(self._fd)
        except OSError:
            os.ftruncate(self._fd, end.offset)
            raise
        self._end = End(end.segment, end.offset + len(data), number)
        number = end.number
        for ticket in tickets:
            number += ticket.packed.count
            ticket.last = number - 1

    def _catch_up(self) -> None:
        """Take in what others have appended since, and cut what one that was killed left unfinished. Under the lock."""
        while True:
            segment, offset, number = self._end
            facts = os.fstat(self._fd)
            size = facts.st_size
            if not facts.st_nlink:  # another process went on in a new segment and let this one go
                self._use(self.segments()[-1])
                continue
            if size < offset:
                raise SpoolDamagedError(damage(self.path(segment), size, "the file was cut"))
            if size > offset:
                data = os.pread(self._fd, size - offset, offset)
                try:
                    whole, number = whole_frames(data, number)
                except DamagedFrameError as error:
                    raise SpoolDamagedError(damage(self.path(segment), offset + error.args[1], error.args[0])) from None
                if whole < len(data):
                    os.ftruncate(self._fd, offset + whole)
                os.fdatasync(self._fd)
                self._end = End(segment, offset + whole, number)
                with self._mutex:
                    self._sizes[segment] = offset + whole
            if number == segment or not self.path(number).exists():
                return
            self._use(number)

    def _make(self, segment: int) -> int:
        os.close(os.open(self.path(segment), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        sync_folder(self.folder)
        return segment

    def _use(self, segment: int) -> None:
        """Append to this segment from now on; what it holds already is taken in by `_catch_up`."""
        fd = os.open(self.path(segment), os.O_RDWR | os.O_CLOEXEC)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._end = fd, End(segment, 0, segment)
        with self._mutex:
            self._sizes.setdefault(segment, 0)

    @contextmanager
    def _locked(self, *, wait: bool = True) -> Iterator[None]:
        """Keep other processes from appending."""
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        try:
            yield
        finally:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)


def damage(path: Path, offset: int, what: str) -> str:
    """Return what to say of a damaged segment."""
    return (
        f"{path} is damaged at byte {offset:,}: {what}. Put a copy of the file back; where there is none, cut it there"
        f" (truncate -s {offset}): the records after that, up to the next file, are lost."
    )
