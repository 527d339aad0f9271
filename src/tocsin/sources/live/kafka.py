"""A Kafka topic, followed from positions that we save ourselves.

Enters: a topic. Leaves: `Piece` values, one for each partition of which messages came. Layer: sources.

The partitions are shared with the other processes of the group. Where to begin in one is decided when it is given to us: at
our own position if there is one, else at what the group committed, else as the settings say; never anywhere else. A position
that the broker no longer has is an error.
"""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from tocsin.sources.live.kafka_again import Again
from tocsin.sources.live.kafka_client import Told, client_settings, import_client
from tocsin.sources.live.kafka_pieces import NOWHERE, make_piece, make_position
from tocsin.sources.live.kafka_watch import ASK_SECONDS, Watch
from tocsin.sources.live.pieces import LostError, Piece, Position, Span

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Security = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]

_WAIT_SECONDS: Final = 0.005
_LEAVE_SECONDS: Final = 0.8
_CHUNK_MESSAGES: Final = 2000


class KafkaTopic:
    """A topic as a `LiveSource`; partition names are "0", "1" and so on.

    Args:
        name: Of the source.
        brokers: Addresses to begin with, "host:port" with commas between.
        topic: Which topic.
        group: Processes of the same group share the partitions.
        start: Where a source that has read nothing yet begins; partitions added later are read from their beginning.
        security: Whether TLS is used, and passwords (SASL).
        sasl_mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
        user: For SASL.
        password: For SASL; it is never shown.
        ca_file: Who may vouch for the brokers; None: whom the system trusts.
        certificate_file: What we show to brokers that want to see one.
        key_file: The key of it.
        options: Other settings of librdkafka.
        max_record_bytes: A larger message becomes a fault.
        patience_seconds: How long `open` and `take` wait for an answer.

    Raises:
        SettingsError: An option holds a secret or is ours.
        SourceError: confluent-kafka is not installed.
    """

    ended = False

    def __init__(
        self,
        name: str,
        *,
        brokers: str,
        topic: str,
        group: str = "tocsin",
        start: Literal["beginning", "end"] = "beginning",
        security: Security = "plaintext",
        sasl_mechanism: str = "SCRAM-SHA-512",
        user: str | None = None,
        password: str | None = None,
        ca_file: Path | None = None,
        certificate_file: Path | None = None,
        key_file: Path | None = None,
        options: Mapping[str, str | int | bool] | None = None,
        max_record_bytes: int = 1 << 20,
        patience_seconds: float = 15.0,
    ) -> None:
        self._kafka = import_client()
        common, self._reading = client_settings(
            brokers,
            security=security,
            sasl_mechanism=sasl_mechanism,
            user=user,
            password=password,
            ca_file=ca_file,
            certificate_file=certificate_file,
            key_file=key_file,
            options=options or {},
        )
        self._reading["group.id"] = group
        self.name, self._topic, self._group, self._start = name, topic, group, start
        self._max_record_bytes, self._patience = max_record_bytes, patience_seconds
        self._watch = Watch(common, topic, Told(password))
        self._consumer: Any = None
        self._again: Again | None = None
        self._at: dict[int, Position] = {}
        self._new = True  # nothing was ever read by this source
        self._first_partitions = 0  # how many there were when we began
        self._given: list[int] = []  # what the group gave us
        self._owned: frozenset[int] = frozenset()  # what we read of it
        self._settled, self._closed = True, False
        self._revoked: set[int] = set()
        self._held: list[Any] = []

    def __repr__(self) -> str:
        return f"KafkaTopic({self.name!r}, topic={self._topic!r}, group={self._group!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, positions: Mapping[str, Position]) -> None:
        """Join the group; go on after these positions. Where no broker answers, that is told, and waited for.

        Raises:
            LostError: The topic is another one than that of the positions.
            SourceError: The broker refuses us, or has no such topic; the message says what to try.
        """
        self._at = {int(partition): dict(position) for partition, position in positions.items()}
        self._new = not positions
        self._watch.begin(self._patience)
        self._watch.check(self._at)
        self._first_partitions = self._watch.partitions
        self._consumer = self._watch.make(self._kafka.Consumer, self._reading | {"on_commit": self._on_commit})
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def poll(self, most_rows: int, most_bytes: int) -> list[Piece]:
        """Return what has come since; it waits a few milliseconds where nothing has.

        Raises:
            LostError: What comes after a position is no longer there.
            SourceError: The client cannot go on.
        """
        if self._again is not None:
            self._again.close()
            self._again = None
        answered = self._watch.look({p: self._at[p] for p in self._owned & self._at.keys()})
        if answered and self._given and not self._settled:
            self._settle(self._consumer)
        chosen: dict[int, list[Any]] = {}
        rows = size = 0
        while rows < most_rows and size < most_bytes and self._watch.failed is None:
            held = self._held or self._receive(min(_CHUNK_MESSAGES, most_rows - rows), wait=not rows)
            count, length = _fitting(held, most_rows - rows, most_bytes - size, alone=not rows)
            if not count:
                self._held = held
                break
            self._held = held[count:]
            for message in held[:count]:
                chosen.setdefault(message.partition(), []).append(message)
            rows, size = rows + count, size + length
        if not chosen and self._watch.failed is not None:
            raise self._watch.failed
        return [piece for partition in chosen if (piece := self._piece(partition, chosen[partition]))]

    def take(self, span: Span) -> Piece:
        """Return the records of a span again.

        Raises:
            LostError: They are no longer there.
            SourceError: No broker answers.
        """
        partition, start, stop = int(span.partition), span.start, span.stop
        if start is None:
            start = {**stop, "offset": self._kafka.OFFSET_BEGINNING, "read": 0}
        if self._again is None:
            if self._watch.topic_id == NOWHERE:
                self._watch.begin(self._patience)
            self._again = Again(self._watch, self._reading, self._patience)
        self._watch.check({partition: start})
        count = stop["read"] - start["read"]
        messages = self._again.take(partition, start["offset"], stop["offset"], count)
        return make_piece(self.name, partition, start, messages, self._max_record_bytes)

    def release(self, positions: Mapping[str, Position]) -> None:
        """Commit these positions for the group, without waiting; what goes wrong is told."""
        ours = {int(p): position["offset"] for p, position in positions.items() if int(p) in self._owned}
        if ours and self._consumer is not None:
            self._commit(ours, self._consumer)

    def behind(self) -> dict[str, int]:
        """Return by partition how many offsets the broker has after what was polled, as far as is known."""
        found = {}
        for partition in sorted(self._owned):
            low, high = self._consumer.get_watermark_offsets(self._watch.place(partition), cached=True)
            at = self._at[partition]["offset"] if partition in self._at else low
            found[str(partition)] = max(0, high - max(at, 0))
        return found

    def revoked(self) -> list[str]:
        """Return which partitions were taken from us since the last call: no more events of theirs will come from here."""
        if not self._settled:  # they may be ours again in a moment
            return []
        gone, self._revoked = sorted(self._revoked), set()
        return [str(p) for p in gone]

    def told(self) -> list[str]:
        """Return warnings since the last call: brokers that do not answer, partitions that others read, failed commits."""
        return self._watch.told.take()

    def close(self) -> None:
        """Leave the group; the source is not used again. A broker that is in no hurry to let us go is not waited for."""
        self._closed, self._owned, self._held = True, frozenset(), []
        if self._again is not None:
            self._again.close()
        if self._consumer is not None:
            leaving = Thread(target=self._consumer.close, daemon=True)
            leaving.start()
            leaving.join(_LEAVE_SECONDS)
        self._watch.close()
        self._again = self._consumer = None

    def _receive(self, most: int, *, wait: bool) -> list[Any]:
        """Return messages of partitions that are ours; errors among them are noted."""
        messages: list[Any] = self._consumer.consume(most, _WAIT_SECONDS if wait else 0)
        if not messages:
            return messages
        good = [m for m in messages if m.error() is None]
        if len(good) < len(messages):
            for message in messages:
                if message.error() is not None:
                    at = self._at.get(message.partition(), {"offset": 0})["offset"]
                    self._watch.meet(message, at if message.partition() in self._owned else None)
        if self._owned.issuperset([m.partition() for m in good]):
            return good
        return [m for m in good if m.partition() in self._owned]

    def _piece(self, partition: int, messages: list[Any]) -> Piece | None:
        """Return messages as a piece and move the position; what was given twice, around a rebalance, is left out."""
        start = self._at.get(partition)
        if start is None:
            start = make_position(messages[0].offset(), 0, self._watch.topic_id)
        offsets = [m.offset() for m in messages]
        if offsets[0] < start["offset"] or offsets != sorted(set(offsets)):
            by_offset = {m.offset(): m for m in messages if m.offset() >= start["offset"]}
            messages = [by_offset[o] for o in sorted(by_offset)]
            if not messages:
                return None
        piece = make_piece(self.name, partition, start, messages, self._max_record_bytes)
        self._at[partition] = piece.span.stop
        return piece

    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        self._given, self._settled = [p.partition for p in partitions], False
        self._settle(consumer)

    def _on_revoke(self, _consumer: Any, partitions: list[Any]) -> None:
        gone = {p.partition for p in partitions}
        self._held = [m for m in self._held if m.partition() not in gone]
        self._revoked |= gone & self._owned
        self._owned -= gone
        self._given, self._settled = [p for p in self._given if p not in gone], False

    def _settle(self, consumer: Any) -> None:
        """Begin to read what the group gave us; where the broker goes silent meanwhile, `poll` tries again."""
        try:
            places = [] if self._closed else self._places(consumer)
        except (self._kafka.KafkaException, TimeoutError):
            consumer.assign([])
            return
        except LostError as error:
            self._watch.failed, places = error, []
        consumer.assign(places)
        self._settled, self._owned = True, frozenset(p.partition for p in places)
        self._revoked -= self._owned
        given, all_of_them = len(self._given), self._watch.partitions
        if given == all_of_them:
            self._watch.told.over("share")
            return
        which = ", ".join(map(str, sorted(self._given))) or "none"
        self._watch.told.say(
            "share",
            f"this process sees {given} of {all_of_them} partitions of {self._topic} ({which}): measures cover only those. "
            f"Others of the group {self._group!r} read the rest. Give this engine a group of its own to see all.",
        )

    def _places(self, consumer: Any) -> list[Any]:
        """Return where to begin in each partition that we were given."""
        self._watch.ask()
        self._first_partitions = self._first_partitions or self._watch.partitions
        self._watch.check({p: self._at[p] for p in self._given if p in self._at})
        fresh = [self._watch.place(p) for p in self._given if p not in self._at]
        asked = consumer.committed(fresh, ASK_SECONDS) if fresh else []
        for place in asked:
            if place.error is not None:  # not to be known is another thing than not to be there
                raise self._kafka.KafkaException(place.error)
        committed = {p.partition: p.offset for p in asked}
        none = [p for p, offset in committed.items() if offset < 0 and p < self._first_partitions]
        if self._new and self._start == "end" and none:
            ends = {p: consumer.get_watermark_offsets(self._watch.place(p), ASK_SECONDS)[1] for p in none}
            self._commit(ends, consumer)  # a restart before the first message begins here too
            committed |= ends
        self._at |= {p: make_position(o, 0, self._watch.topic_id) for p, o in committed.items() if o >= 0}
        begin = {"offset": self._kafka.OFFSET_BEGINNING}
        return [self._watch.place(p, self._at.get(p, begin)["offset"]) for p in self._given]

    def _commit(self, offsets: Mapping[int, int], consumer: Any) -> None:
        places = [self._watch.place(p, offset) for p, offset in offsets.items()]
        try:
            consumer.commit(offsets=places, asynchronous=True)
        except self._kafka.KafkaException as error:
            self._on_commit(error.args[0], places)

    def _on_commit(self, error: Any, places: list[Any]) -> None:
        failed = error or next((p.error for p in places if p.error is not None), None)
        if failed is None:
            self._watch.told.over("commit")
        else:
            text = f"positions of {self._topic} were not committed for {self._group!r}: {failed.str()}"
            self._watch.told.say("commit", text)


def _fitting(messages: list[Any], most_rows: int, most_bytes: int, *, alone: bool) -> tuple[int, int]:
    """Return how many of the first messages fit, and their bytes; where ``alone``, one does in any case."""
    count = min(len(messages), most_rows)
    total = sum(map(len, messages[:count]))
    if total <= most_bytes:
        return count, total
    total = 0
    for at, message in enumerate(messages[:count]):
        if total + len(message) > most_bytes and (at or not alone):
            return at, total
        total += len(message)
    return count, total
