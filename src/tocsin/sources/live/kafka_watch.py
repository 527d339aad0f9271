"""What is known of a Kafka topic and its brokers: whether they answer, let us in, and still have the same topic.

Enters: settings of a client, its errors. Leaves: clients, the topic's id and partitions, `LostError` in full sentences.
Layer: sources.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from tocsin.errors import SourceError
from tocsin.sources.live.kafka_client import Told, import_client
from tocsin.sources.live.kafka_pieces import NOWHERE
from tocsin.sources.live.pieces import LostError, Position

if TYPE_CHECKING:
    from collections.abc import Mapping

ASK_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 2.0


class Watch:
    """Looks after one topic.

    Attributes:
        topic: Its name.
        topic_id: What tells it from another of the same name, made after it was deleted.
        partitions: How many it has; 0 until a broker answered.
        told: Warnings.
        failed: Why nothing more can be read, or None.
    """

    def __init__(self, settings: dict[str, Any], topic: str, told: Told) -> None:
        self._kafka = import_client()
        self._settings, self.topic, self.told = settings, topic, told
        self._brokers = settings["bootstrap.servers"]
        self.topic_id, self.partitions = NOWHERE, 0
        self.failed: SourceError | None = None
        self._refused = self._why = ""
        self._silent = False
        self._admin: Any = None
        self._looking: Any = None
        self._look_at = 0.0

    def make(self, kind: type, settings: Mapping[str, Any]) -> Any:
        """Return a client of a kind.

        Raises:
            SourceError: The settings are wrong.
        """
        try:
            return kind({"error_cb": self._on_error, **self._settings, **settings})
        except (self._kafka.KafkaException, TypeError, ValueError) as error:
            failed = error.args[0] if error.args else error
            text = failed.str() if hasattr(failed, "str") else str(failed)
            raise SourceError(self.told.clean(f"{self.topic}: {text}. Check the settings of the source.")) from None

    def place(self, partition: int, *offset: int) -> Any:
        """Return a partition, or an offset in it, as the client wants it."""
        return self._kafka.TopicPartition(self.topic, partition, *offset)

    def begin(self, patience_seconds: float) -> None:
        """Ask for the topic; where no broker answers in time, that is told.

        Raises:
            SourceError: We are refused, or there is no such topic.
        """
        self._refused = ""
        asked, late = self._ask(), time.monotonic() + patience_seconds
        while not asked.done() and not self._refused and time.monotonic() < late:
            self._admin.poll(0.02)
        if self._refused:
            raise SourceError(self.told.clean(self._refused))
        if not asked.done():
            self._on_silence()
            return
        try:
            self._note(asked.result())
        except self._kafka.KafkaException as error:
            failed, code = error.args[0], self._kafka.KafkaError
            if failed.code() == code.UNKNOWN_TOPIC_OR_PART:
                raise SourceError(
                    f"{self._brokers} has no topic {self.topic!r}. Create it, or check its name."
                ) from None
            if failed.code() == code.TOPIC_AUTHORIZATION_FAILED:
                raise SourceError(
                    f"{self._brokers} does not let us read {self.topic!r}. Allow READ and DESCRIBE."
                ) from None
            self._on_silence()

    def ask(self) -> None:
        """Ask for the topic and wait for the answer.

        Raises:
            KafkaException, TimeoutError: There is none.
        """
        self._note(self._ask().result(ASK_SECONDS))

    def look(self, positions: Mapping[int, Position]) -> bool:
        """Ask now and then, without waiting, whether the topic is still that of these positions; say whether it answered."""
        self._admin.poll(0)
        if self._looking is None:
            if time.monotonic() >= self._look_at:
                self._looking = self._ask()
            return False
        if not self._looking.done():
            return False
        looked, self._looking, self._look_at = self._looking, None, time.monotonic() + _LOOK_SECONDS
        try:
            self._note(looked.result())
            self.check(positions)
        except LostError as error:
            self.failed = error
        except self._kafka.KafkaException as error:
            if error.args[0].code() == self._kafka.KafkaError.UNKNOWN_TOPIC_OR_PART:
                self.told.say("topic", f"{self._brokers} no longer has the topic {self.topic!r}")
            return False
        return True

    def check(self, positions: Mapping[int, Position]) -> None:
        """Compare the topic with that of these positions.

        Raises:
            LostError: It is another one.
        """
        for partition, position in positions.items():
            saved = position.get("topic_id", NOWHERE)
            if NOWHERE not in {saved, self.topic_id} and saved != self.topic_id:
                why = f"the topic was deleted and made anew: it is {self.topic_id}, and was {saved}"
                raise self.lost(partition, position["offset"], why)

    def lost(self, partition: int, wanted: int, why: str) -> LostError:
        """Return the error that says what is not there, what is, and what to try."""
        return LostError(
            f"{self.topic}, partition {partition}: the messages from offset {wanted} on are not there ({why}); "
            f"{self._available(partition)}. Have the broker keep them longer (retention.ms, retention.bytes) than the "
            "engine may stand still. To go on without them, give the source a new name and group, or begin with a new "
            "state folder."
        )

    def meet(self, message: Any, wanted: int | None) -> None:
        """Note an error that stands among the messages; ``wanted`` is our offset in its partition, None if it is not ours."""
        error = message.error()
        if is_lost(error):
            if wanted is not None and self.failed is None:
                self.failed = self.lost(message.partition(), wanted, error.str())
        elif error.fatal():
            self._on_error(error)
        else:
            self.told.say("reading", self.told.clean(f"{self.topic}: {error.str()}"))

    def close(self) -> None:
        """Let go of the brokers."""
        self._admin = self._looking = None

    def _ask(self) -> Any:
        if self._admin is None:
            self._admin = self.make(self._kafka.admin.AdminClient, {})
        topics = self._kafka.TopicCollection([self.topic])
        return self._admin.describe_topics(topics, request_timeout=ASK_SECONDS)[self.topic]

    def _note(self, described: Any) -> None:
        self.topic_id, self.partitions = str(described.topic_id), len(described.partitions)
        self.told.over("topic")
        if self._silent:
            self._silent, self._why = False, ""
            self.told.add(f"{self._brokers} answers again")

    def _available(self, partition: int) -> str:
        client = self.make(self._kafka.Consumer, {"group.id": "-"})
        try:
            low, high = client.get_watermark_offsets(self.place(partition), ASK_SECONDS)
        except self._kafka.KafkaException as error:
            return f"what is there is not known: {error.args[0].str()}"
        finally:
            client.close()
        return f"the broker has {low} to {high - 1}" if high > low else f"the broker has none before offset {high}"

    def _on_error(self, error: Any) -> None:
        """Note what befalls a client as a whole; librdkafka goes on by itself."""
        wrong = {
            "_AUTHENTICATION": "Check user, password and mechanism.",
            "_SSL": "Check ca_file, certificate_file and key_file.",
        }
        if error.name() in wrong:
            self._refused = f"{self._brokers} does not let us in: {error.str()}. {wrong[error.name()]}"
            self.told.say("refused", self._refused)
        elif error.name() == "_ALL_BROKERS_DOWN":
            self._on_silence()
        elif error.name() in {"_TRANSPORT", "_RESOLVE"}:
            self._why = error.str()
        elif error.fatal():
            self.failed = SourceError(f"{self.topic}: {self.told.clean(error.str())}. Start again.")

    def _on_silence(self) -> None:
        if not self._silent:
            self._silent = True
            why = f" ({self._why})" if self._why else ""
            self.told.add(f"{self._brokers} does not answer{why}; reading goes on when it does")


def is_lost(error: Any) -> bool:
    """Return whether an error of a partition says that what comes after a position is no longer there."""
    return error.name() in {"_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE", "_LOG_TRUNCATION"}
