"""The records of a spool, followed by the engine.

Enters: a `Spool` that others append to. Leaves: pieces, numbered as the spool numbers its records. Layer: sources.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING, Final

from tocsin.sources.counting import count_byte, count_records
from tocsin.sources.live.pieces import LostError, Piece, Position, Span
from tocsin.sources.live.spool import SpoolDamagedError, damage
from tocsin.sources.live.spool_frames import HEADER_BYTES, DamagedFrameError, Frame, Note, frame_size, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tocsin.sources.live.spool import Spool

TOGETHER: Final = timedelta(milliseconds=100)
_BLOCK_BYTES: Final = 1 << 20
_NO_LINE: Final = "the record holds a line break; a record is one line"


@dataclass(frozen=True, slots=True)
class _Place:
    """The next record, and where the frame lies that holds it."""

    segment: int
    offset: int
    number: int


@dataclass(frozen=True, slots=True)
class _Run:
    """Records in a row that go together, and the place of the first."""

    at: _Place
    note: Note
    records: list[bytes]


class SpoolSource:
    """A `LiveSource` over a spool. Pieces come in the order of their numbers, whatever their partitions.

    Records that were received within 0.1 s of each other and are of one partition and source make one piece, which says
    when its first one was received. A position is a number: whoever saved those of some partitions has also seen every
    earlier record of the others.

    Args:
        name: Of the source; an event without an id is called ``name:number``.
        spool: What is read.
        finished: Says whether nobody will append any more.
    """

    def __init__(self, name: str, spool: Spool, *, finished: Callable[[], bool] = lambda: False) -> None:
        self.name, self._spool, self._finished = name, spool, finished
        self.warnings: list[str] = []
        self._place = _Place(1, 0, 1)
        self._stopped: dict[str, Position] = {}
        self._reader = _Reader(spool)

    def open(self, positions: Mapping[str, Position]) -> None:
        """Go on after these positions; without any, with the oldest record that is kept.

        Raises:
            LostError: Records after the positions were let go.
        """
        self._stopped = dict(positions)
        number = max((p["next"] for p in positions.values()), default=0)
        if number > self._spool.end.number:
            self.warnings.append(
                f"{self._spool.folder}: the spool ends before the record {self._spool.end.number:,}, though those up to"
                f" {number - 1:,} had been read. They were processed, but cannot be read again; new ones begin at {number:,}."
            )
            self._spool.skip_to(number)
        segments = self._spool.segments()
        if not number:
            self._place = _Place(segments[0], 0, segments[0])
            return
        last = max(positions.values(), key=lambda p: p["next"])
        segment = max((s for s in segments if s <= number), default=None)
        if segment is None:
            raise LostError(
                f"{self._spool.folder}: the records from {number:,} to {segments[0] - 1:,} are gone. Put their files back."
            )
        hint = (
            _Place(segment, last["offset"], last["since"])
            if last["segment"] == segment
            else _Place(segment, 0, segment)
        )
        self._place = self._found(hint, number)

    def told(self) -> list[str]:
        """Return what happened since the last call that somebody should know."""
        warnings, self.warnings = self.warnings, []
        return warnings

    def poll(self, most_rows: int, most_bytes: int) -> list[Piece]:
        """Return the records that were acknowledged since.

        Raises:
            SpoolDamagedError: A segment is not as it was written.
            LostError: A segment is gone; polled again, the source goes on behind it.
        """
        self._spool.refresh()
        pieces: list[Piece] = []
        rows = size = 0
        while rows < most_rows and size < most_bytes:
            place = self._place
            try:
                found, self._place = self._run(place, most_rows - rows, most_bytes - size, alone=not pieces)
            except LostError as error:
                if pieces:
                    break  # first what is there; the error comes again
                self._place = error.behind if isinstance(error, _GapError) else place
                raise
            if found is None:
                break
            at, partition = found.at, found.note.partition
            stop = {"next": self._place.number, "since": at.number, "segment": at.segment, "offset": at.offset}
            piece = self._piece(Span(self.name, partition, self._stopped.get(partition), stop), found)
            self._stopped[partition] = stop
            pieces.append(piece)
            rows, size = rows + len(found.records), size + len(piece.data)
        return pieces

    def take(self, span: Span) -> Piece:
        """Return the records of a span again.

        Raises:
            LostError: They were let go, or their segment is gone.
            SpoolDamagedError: Their segment is not as it was written.
        """
        stop = span.stop
        count, place = stop["next"] - stop["since"], _Place(stop["segment"], stop["offset"], stop["since"])
        found, _ = self._run(place, count, None, alone=True)
        if found is None or len(found.records) != count:
            raise LostError(
                f"{self._spool.path(stop['segment'])}: the records from {stop['since']:,} to {stop['next'] - 1:,} are not in it."
                " Put back a copy of the spool that has them."
            )
        return self._piece(span, found)

    def release(self, positions: Mapping[str, Position]) -> None:
        """Let the records before these positions go."""
        self._spool.release(max((p["next"] for p in positions.values()), default=0))

    @property
    def ended(self) -> bool:
        """Whether nobody appends any more and everything was polled."""
        return self._finished() and self._place.number >= self._spool.end.number

    def behind(self) -> Mapping[str, int]:
        """Return how many bytes of the spool have not been polled, all partitions together."""
        return {"": max(self._spool.bytes_from(self._place.segment) - self._place.offset, 0)}

    def close(self) -> None:
        """Let the files go; the spool is its owner's."""
        self._reader.close()

    def _found(self, place: _Place, number: int) -> _Place:
        """Return the place of a record at or after a place."""
        while (got := self._reader.frame(place)) is not None:
            frame, at = got
            after = frame.first + len(frame.records)
            if after > number:
                return replace(at, number=max(number, frame.first))
            place = _Place(at.segment, at.offset + frame.size, after)
        return place

    def _run(self, place: _Place, most_rows: int, most_bytes: int | None, *, alone: bool) -> tuple[_Run | None, _Place]:
        """Return the records from a place that go together, within the bounds, and the place after them."""
        run: _Run | None = None
        left = most_bytes
        while run is None or len(run.records) < most_rows:
            try:
                got = self._reader.frame(place)
            except LostError:
                if run is None:
                    raise
                break  # first what is there; the error comes again
            if got is None:
                break
            frame, at = got
            if run is not None and not _together(run.note, frame.note):
                break
            skipped = place.number - frame.first
            records = frame.records[skipped : skipped + most_rows - (len(run.records) if run else 0)]
            fit = len(records) if left is None else _fit(records, left, alone=alone and run is None)
            if not fit:
                break
            run = run or _Run(at, frame.note, [])
            run.records.extend(records[:fit])
            if skipped + fit < len(frame.records):
                return run, replace(at, number=place.number + fit)
            place = _Place(at.segment, at.offset + frame.size, place.number + fit)
            left = None if left is None else left - sum(map(len, records)) - fit
        return run, place

    def _piece(self, span: Span, run: _Run) -> Piece:
        first, note, records = run.at.number, run.note, run.records
        numbers: tuple[int, ...] | None = None
        faults: tuple[tuple[int, bytes, str], ...] = ()
        if note.fault is not None:
            faults, records = tuple((n, r, note.fault) for n, r in enumerate(records, first)), []
        data = b"".join(r + b"\n" for r in records)
        if count_byte(data, b"\n") != len(records):
            faults = tuple((n, r, _NO_LINE) for n, r in enumerate(records, first) if b"\n" in r)
            numbers = tuple(n for n, r in enumerate(records, first) if b"\n" not in r)
            data = b"".join(r + b"\n" for r in records if b"\n" not in r)
        rows = count_records(data) + len(faults)
        return Piece(
            span, data, self.name, first_line=first, numbers=numbers, faults=faults, source=note.source,
            received_at=note.received_at, rows=rows,
        )  # fmt: skip


def _together(first: Note, other: Note) -> bool:
    same = (first.partition, first.source, first.fault) == (other.partition, other.source, other.fault)
    return same and abs(other.received_at - first.received_at) <= TOGETHER


def _fit(records: list[bytes], most_bytes: int, *, alone: bool) -> int:
    """Return how many records have room; the first one always where it may come alone."""
    if sum(map(len, records)) + len(records) <= most_bytes:
        return len(records)
    ends = accumulate(len(r) + 1 for r in records)
    return max(sum(1 for _ in takewhile(lambda end: end <= most_bytes, ends)), int(alone))


class _GapError(LostError):
    """A segment is missing; reading can go on behind it."""

    def __init__(self, message: str, behind: _Place) -> None:
        super().__init__(message)
        self.behind = behind


class _Reader:
    """Reads the frames of a spool that are on the disk; those in a row cost one read for many."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._fd = -1
        self._segment = self._block_at = 0
        self._block = b""
        self._last: tuple[tuple[int, int], Frame] | None = None

    def frame(self, place: _Place) -> tuple[Frame, _Place] | None:
        """Return the frame that holds the record of a place, and where it lies; None where the spool ends.

        Raises:
            LostError: It is no longer there.
            SpoolDamagedError: The segment is not as it was written.
        """
        if self._last is not None and self._last[0] == (place.segment, place.offset):
            return self._last[1], place
        end = self._spool.end
        limit = end.offset if place.segment == end.segment else self._size(place)
        if place.offset >= limit:
            return None if place.segment == end.segment else self.frame(self._following(place))
        frame = self._read(place, limit)
        if not frame.first <= place.number < frame.first + len(frame.records):
            what = f"the record {frame.first} stands where {place.number} belongs"
            raise SpoolDamagedError(damage(self._spool.path(place.segment), place.offset, what))
        self._last = (place.segment, place.offset), frame
        return frame, place

    def close(self) -> None:
        """Let the file go."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._segment, self._block, self._last = -1, 0, b"", None

    def _following(self, place: _Place) -> _Place:
        following = min(s for s in self._spool.segments() if s > place.segment)
        if following != place.number:
            raise _GapError(
                f"{self._spool.folder}: the records from {place.number:,} to {following - 1:,} are gone. Put back the file"
                f" {self._spool.path(place.number).name}, or go on without them.",
                _Place(following, 0, following),
            )
        return _Place(following, 0, following)

    def _size(self, place: _Place) -> int:
        return os.fstat(self._fd).st_size if self._opened(place) else 0

    def _opened(self, place: _Place) -> bool:
        if self._segment == place.segment:
            return True
        self.close()
        try:
            self._fd = os.open(self._spool.path(place.segment), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        self._segment = place.segment
        return True

    def _read(self, place: _Place, limit: int) -> Frame:
        if not self._opened(place):
            raise LostError(f"{self._spool.path(place.segment)} is gone. Put it back; the engine still needs it.")
        try:
            size = frame_size(self._bytes(place.offset, HEADER_BYTES, limit))
            return unpack(self._bytes(place.offset, size, limit))
        except DamagedFrameError as error:
            raise SpoolDamagedError(damage(self._spool.path(place.segment), place.offset, str(error))) from None

    def _bytes(self, offset: int, size: int, limit: int) -> bytes:
        """Return bytes of the segment; none behind the limit, as those may still change."""
        start = offset - self._block_at
        if start < 0 or start + size > len(self._block):
            self._block = os.pread(self._fd, min(max(size, _BLOCK_BYTES), limit - offset), offset)
            self._block_at, start = offset, 0
        return self._block[start : start + size]
