"""Messages of a Kafka partition as a piece: their values are the lines, their offsets the numbers.

Enters: messages in the order of their offsets. Leaves: `Piece`. Layer: sources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from tocsin.sources.live.pieces import Piece, Position, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

KEPT_BYTES: Final = 64 << 10
NOWHERE: Final = "AAAAAAAAAAAAAAAAAAAAAA"  # the id that brokers older than topic ids give


class Message(Protocol):
    """What we ask of a message of confluent_kafka."""

    def value(self) -> bytes | None:
        """Return the value, None where it is a tombstone."""

    def offset(self) -> int:
        """Return the offset."""


def make_position(offset: int, read: int, topic_id: str) -> Position:
    """Return a position: the next offset, how many messages came before it, and of which topic of that name.

    Messages of a partition are not numbered without gaps (transactions, compaction), so the offsets alone do not tell
    whether all that were read once are still there; the difference of two ``read`` does.

    >>> make_position(7, 5, "zzbmTOzvQAah71xB2UPEpw")
    {'offset': 7, 'read': 5, 'topic_id': 'zzbmTOzvQAah71xB2UPEpw'}
    >>> make_position(7, 5, NOWHERE)
    {'offset': 7, 'read': 5}
    """
    known = {} if topic_id == NOWHERE else {"topic_id": topic_id}
    return {"offset": offset, "read": read, **known}


def make_piece(source: str, partition: int, start: Position, messages: Sequence[Message], most_bytes: int) -> Piece:
    r"""Return the messages of a partition that follow a position, at least one, as a piece.

    A message without a value is no record, but the position passes it; one of more than ``most_bytes`` is a fault, of
    which the first 64 KB are kept. Newlines in a value become spaces: JSON has them between its words only.

    >>> class At:
    ...     def __init__(self, offset, value): self.o, self.v = offset, value
    ...     def offset(self): return self.o
    ...     def value(self): return self.v
    >>> piece = make_piece("mail", 0, {"offset": 3, "read": 3}, [At(4, b"{}"), At(5, None), At(6, b"[1,\n2]")], 100)
    >>> piece.data, piece.numbers, piece.rows, piece.span.stop
    (b'{}\n[1, 2]\n', (4, 6), 2, {'offset': 7, 'read': 6})
    """
    offsets, values = [m.offset() for m in messages], [m.value() for m in messages]
    stop = {**start, "offset": offsets[-1] + 1, "read": start["read"] + len(messages)}
    faults: list[tuple[int, bytes, str]] = []
    lines: list[bytes] = [v for v in values if v]
    if len(lines) < len(values):
        offsets = [o for o, v in zip(offsets, values, strict=True) if v]
    if lines and max(map(len, lines)) > most_bytes:
        small = []
        for offset, line in zip(offsets, lines, strict=True):
            if len(line) > most_bytes:
                faults.append((offset, line[:KEPT_BYTES], f"{len(line):,} bytes: a record has at most {most_bytes:,}"))
            else:
                small.append((offset, line))
        offsets, lines = [o for o, _ in small], [v for _, v in small]
    data = b"\n".join([*lines, b""])
    if data.count(b"\n") > len(lines):
        data = b"\n".join([*(v.replace(b"\n", b" ") for v in lines), b""])
    row = not offsets or offsets[-1] - offsets[0] == len(offsets) - 1
    return Piece(
        span=Span(source, str(partition), start, stop),
        data=data,
        prefix=f"{source}-{partition}",
        first_line=offsets[0] if offsets else start["offset"],
        numbers=None if row else tuple(offsets),
        faults=tuple(faults),
        rows=len(lines) + len(faults),
    )
