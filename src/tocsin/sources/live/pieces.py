"""What a live source gives: pieces, the records of one partition between two positions, and the same piece again.

Enters: nothing. Leaves: `Piece`, `Span`, `LiveSource`, `LostError`. Layer: sources.

A position is a small JSON object that only its own source reads. Positions of a partition follow each other: the next piece
begins where the one before stopped. Whoever saved a piece's span gets the same records back from `LiveSource.take`, byte
for byte, for as long as `LiveSource.release` has not let them go: a restart therefore sees the very events, in the very
batches, that the run before it saw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tocsin.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from tocsin.sources.clean import Parsed

Position = dict[str, Any]


class LostError(SourceError):
    """Records between two saved positions are no longer there: the file is gone or was cut, the broker forgot them."""


@dataclass(frozen=True, slots=True)
class Span:
    """Which records of a partition: from ``start`` (None: its very beginning) to ``stop``."""

    source: str
    partition: str
    start: Position | None
    stop: Position


@dataclass(frozen=True, slots=True)
class Piece:
    """Records of one partition in a row, as the source has them.

    Attributes:
        span: Whence and how far.
        data: Whole JSON lines; where ``parsed`` is given, empty or the lines it was read from.
        prefix: An event without an id is called ``prefix:number``.
        first_line: The number of the first line of ``data``; those after it follow, unless ``numbers`` says otherwise.
        numbers: The number of each line of ``data`` (Kafka: its offset), or None where they follow each other.
        parsed: The records where the source reads their format itself (CSV, Parquet, log lines), numbered; else None.
        format: Which format that is (jsonl, csv, parquet, lines): what kinds its fields have is told from it.
        faults: Records that are none: number, the bytes (or as many of them as were kept), why.
        source: Whose records they are, where that is not the span's source: dead letters that were sent again; else None.
        received_at: When the records were received, where the source wrote that down (aware); None: when they are read.
        rows: How many records there are, faults included; an estimate is not enough, batches are bounded by it.
    """

    span: Span
    data: bytes = b""
    prefix: str = ""
    first_line: int = 1
    numbers: tuple[int, ...] | None = None
    parsed: tuple[Parsed, ...] | None = None
    format: str = "jsonl"
    faults: tuple[tuple[int, bytes, str], ...] = ()
    source: str | None = None
    received_at: datetime | None = None
    rows: int = 0

    @property
    def owner(self) -> str:
        """The source whose records they are."""
        return self.source or self.span.source


@dataclass(frozen=True, slots=True)
class Letter:
    """A record that was set aside: a dead letter. It can be mended and sent again.

    Attributes:
        key: Names the record, ``prefix:number``; the same record read again is the same letter.
        source: Of which source.
        partition: Of which partition.
        record: The record byte for byte, or its beginning where it was too large to keep.
        whole: Whether ``record`` is all of it.
        column: The column whose value is wrong, or empty.
        reason: What is wrong, in words.
    """

    key: str
    source: str
    partition: str
    record: bytes
    whole: bool
    column: str
    reason: str


class LiveSource(Protocol):
    """A source that is followed. One thread calls it; nothing here waits longer than it is told."""

    name: str

    def open(self, positions: Mapping[str, Position]) -> None:
        """Go on after these positions, by partition; a partition that is not named begins where the settings say.

        Raises:
            LostError: The records after a position are no longer there.
            SourceError: The source cannot be opened; the message says what to try.
        """

    def poll(self, most_rows: int, most_bytes: int) -> list[Piece]:
        """Return what has come since, at once and bounded; nothing where nothing has.

        One record that is larger than ``most_bytes`` comes alone. What can only be looked at by waiting (a broker) waits
        no longer than a few milliseconds.
        """

    def take(self, span: Span) -> Piece:
        """Return the records of a span again, before or after `open`; spans asked for in their order are quick.

        Raises:
            LostError: They are no longer there.
        """

    def release(self, positions: Mapping[str, Position]) -> None:
        """Let go of everything before these positions: nobody will ask for it again."""

    @property
    def ended(self) -> bool:
        """Whether no more can come (stdin was closed, a source that is not followed was read to its end)."""

    def behind(self) -> Mapping[str, int]:
        """Return by partition how much is there that has not been polled: bytes of files and spools, messages of a broker."""

    def close(self) -> None:
        """Let everything go; the source is not used again."""
