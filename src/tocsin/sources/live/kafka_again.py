"""Spans of a Kafka topic, read once more: after a crash, from the last snapshot on.

Enters: partitions and positions. Leaves: the very messages between them. Layer: sources.

One consumer beside the group reads every partition that is asked for, from where it is first asked for. What comes of other
partitions meanwhile waits here for its turn; spans that are asked for in the order in which they were read therefore cost
one reading of the topic, without a seek.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tocsin.errors import SourceError
from tocsin.sources.live.kafka_client import import_client
from tocsin.sources.live.kafka_watch import is_lost

if TYPE_CHECKING:
    from tocsin.sources.live.kafka_watch import Watch

_CHUNK_MESSAGES: Final = 2000
_WAIT_SECONDS: Final = 0.05
_HELD_BYTES: Final = 64 << 20


@dataclass
class _Line:
    """What has come of a partition and waits: from ``next`` on; ``ended`` at this offset, if it did."""

    next: int
    messages: deque[Any] = field(default_factory=deque)
    bytes: int = 0
    ended: int | None = None


class Again:
    """Reads spans again; close it when it is no longer needed, it holds a consumer and what it fetched ahead."""

    def __init__(self, watch: Watch, settings: dict[str, Any], patience_seconds: float) -> None:
        self._watch, self._patience = watch, patience_seconds
        self._consumer = watch.make(import_client().Consumer, {**settings, "enable.partition.eof": True})
        self._lines: dict[int, _Line] = {}

    def take(self, partition: int, start: int, stop: int, count: int) -> list[Any]:
        """Return the ``count`` messages from offset ``start`` to before ``stop``.

        Raises:
            LostError: There are no longer so many.
            SourceError: No broker answers.
        """
        line = self._line(partition, start)
        late = time.monotonic() + self._patience
        while len(line.messages) < count:
            if line.ended is not None or (line.messages and line.messages[-1].offset() >= stop):
                break
            if self._receive(partition):
                late = time.monotonic() + self._patience
            elif time.monotonic() > late:
                raise SourceError(
                    f"{self._watch.topic}: no broker gave the messages from offset {start} of partition {partition} within "
                    f"{self._patience:g} s. Nothing is lost yet: try again when the brokers answer."
                )
        taken = [line.messages.popleft() for _ in range(min(count, len(line.messages)))]
        if len(taken) < count or taken[-1].offset() != stop - 1:
            here = sum(m.offset() < stop for m in taken)
            self._forget(partition)
            raise self._watch.lost(
                partition, start, f"of its {count} messages before offset {stop} only {here} are there"
            )
        line.bytes -= sum(map(len, taken))
        line.next = stop
        return taken

    def close(self) -> None:
        """Let the consumer go."""
        self._consumer.close()

    def _line(self, partition: int, start: int) -> _Line:
        line = self._lines.get(partition)
        if line is None or line.next != start:
            self._forget(partition)
            line = self._lines[partition] = _Line(start)
            self._consumer.incremental_assign([self._watch.place(partition, start)])
        return line

    def _forget(self, partition: int) -> None:
        if self._lines.pop(partition, None) is not None:
            self._consumer.incremental_unassign([self._watch.place(partition)])

    def _receive(self, wanted: int) -> bool:
        """Let messages come; return whether any did. A line that is not wanted gives way when too much waits."""
        messages = self._consumer.consume(_CHUNK_MESSAGES, _WAIT_SECONDS)
        for message in messages:
            line = self._lines.get(message.partition())
            if line is None:
                continue
            error = message.error()
            if error is None:
                line.messages.append(message)
                line.bytes += len(message)
            elif error.name() == "_PARTITION_EOF":
                line.ended = message.offset()
            elif is_lost(error):
                raise self._watch.lost(message.partition(), line.next, error.str())
        while sum(line.bytes for line in self._lines.values()) > _HELD_BYTES:
            others = [p for p, line in self._lines.items() if p != wanted and line.bytes]
            if not others:
                break
            self._forget(max(others, key=lambda p: self._lines[p].bytes))
        return bool(messages)
