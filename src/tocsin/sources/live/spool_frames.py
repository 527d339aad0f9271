"""The frames of a spool: how records lie in a segment, and what tells a torn end from damage.

Enters: records and what is noted about them. Leaves: bytes, and the records again, checked. Layer: sources.

A frame is a header (mark, sizes, number of the first record, two checksums), a body (the note, the lengths, the records)
and an end mark. A process that is killed leaves the beginning of a frame; a power cut may leave zeros in the last one.
Neither was ever acknowledged. Everything else that does not agree is damage.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_MARK: Final = b"TSF1"
_END: Final = b"end\n"
_FACTS: Final = struct.Struct("<4sIIQI")
_CHECK: Final = struct.Struct("<I")
_NOTE: Final = struct.Struct("<I")
_SECTOR_BYTES: Final = 512
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
HEADER_BYTES: Final = _FACTS.size + _CHECK.size


class DamagedFrameError(ValueError):
    """The bytes at a place are no frame, or not the one that belongs there."""


@dataclass(frozen=True, slots=True)
class Note:
    """What holds for all records of a frame.

    Attributes:
        received_at: When they were received.
        partition: Of the source; "" where it has none.
        source: Whose records they are, where that is not the one that reads the spool: dead letters that are sent again.
        fault: Why they are no records, or None.
    """

    received_at: datetime
    partition: str = ""
    source: str | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it was read: the number of its first record, its note, its records, and its size in the segment."""

    first: int
    note: Note
    records: list[bytes]
    size: int


@dataclass(frozen=True, slots=True)
class Packed:
    """A frame that is ready but for its number, so that it can be made before its turn comes."""

    body: bytes
    count: int
    check: int

    @property
    def size(self) -> int:
        """How many bytes the frame will take."""
        return HEADER_BYTES + len(self.body)

    def numbered(self, first: int) -> bytes:
        """Return the frame with the number of its first record."""
        facts = _FACTS.pack(_MARK, len(self.body), self.count, first, self.check)
        return facts + _CHECK.pack(zlib.crc32(facts)) + self.body


def pack(records: Sequence[bytes], note: Note) -> Packed:
    """Return the frame of some records.

    >>> note = Note(datetime(2025, 1, 1, tzinfo=UTC))
    >>> unpack(pack([b"a", b""], note).numbered(7)).records
    [b'a', b'']
    """
    received_us = (note.received_at - _EPOCH) // _MICROSECOND
    said = json.dumps([received_us, note.partition, note.source, note.fault]).encode()
    lengths = struct.pack(f"<{len(records)}I", *map(len, records))
    body = b"".join((_NOTE.pack(len(said)), said, lengths, *records, _END))
    return Packed(body, len(records), zlib.crc32(body))


def frame_size(header: bytes) -> int:
    """Return how many bytes the frame takes that begins so.

    Raises:
        DamagedFrameError: This is no beginning of a frame.
    """
    mark, body_bytes, *_ = _FACTS.unpack_from(header)
    if mark != _MARK or _CHECK.unpack_from(header, _FACTS.size)[0] != zlib.crc32(header[: _FACTS.size]):
        raise DamagedFrameError("no frame begins here")
    return HEADER_BYTES + int(body_bytes)


def unpack(data: bytes) -> Frame:
    """Return the frame in these bytes.

    Raises:
        DamagedFrameError: They are not as they were written.
    """
    if len(data) < HEADER_BYTES or len(data) != frame_size(data):
        raise DamagedFrameError("the frame is cut short")
    _, _, count, first, check = _FACTS.unpack_from(data)
    if zlib.crc32(memoryview(data)[HEADER_BYTES:]) != check:
        raise DamagedFrameError("the checksum of the records is wrong")
    (said_bytes,) = _NOTE.unpack_from(data, HEADER_BYTES)
    at = HEADER_BYTES + _NOTE.size
    received_us, partition, source, fault = json.loads(data[at : at + said_bytes])
    at += said_bytes
    lengths = struct.unpack_from(f"<{count}I", data, at)
    ends = accumulate(lengths, initial=at + 4 * count)
    note = Note(_EPOCH + received_us * _MICROSECOND, partition, source, fault)
    return Frame(first, note, [data[a:b] for a, b in pairwise(ends)], len(data))


def whole_frames(data: bytes, first: int) -> tuple[int, int]:
    """Return how far whole frames reach that follow each other, and the number after their last record.

    What comes after that was torn off while it was written.

    Raises:
        DamagedFrameError: Something else is wrong; its ``args`` are what, and at which byte.
    """
    at = 0
    while at < len(data):
        header = data[at : at + HEADER_BYTES]
        if len(header) < HEADER_BYTES or not data[at:].strip(b"\0"):
            return at, first
        try:
            size = frame_size(header)
        except DamagedFrameError as error:
            raise DamagedFrameError(str(error), at) from None
        if at + size > len(data):
            return at, first
        _, _, count, number, check = _FACTS.unpack(header[: _FACTS.size])
        if number != first:
            raise DamagedFrameError(f"the record {number} stands where {first} belongs", at)
        body = memoryview(data)[at + HEADER_BYTES : at + size]
        if zlib.crc32(body) != check:
            if at + size == len(data) and _has_holes(data, at, at + size):
                return at, first
            raise DamagedFrameError("the checksum of the records is wrong", at)
        at, first = at + size, first + count
    return at, first


def _has_holes(data: bytes, start: int, stop: int) -> bool:
    """Return whether a part of a frame was never written: no end mark, or a sector of zeros."""
    if not data[stop - len(_END) : stop].strip(b"\0"):
        return True
    aligned = range(-(-start // _SECTOR_BYTES) * _SECTOR_BYTES, stop - _SECTOR_BYTES + 1, _SECTOR_BYTES)
    return any(not data[at : at + _SECTOR_BYTES].strip(b"\0") for at in aligned)
