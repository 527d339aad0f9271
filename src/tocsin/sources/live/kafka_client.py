"""What a Kafka client is told, and how its troubles are put into words.

Enters: plain settings, errors of librdkafka. Leaves: the client's own settings, sentences. Layer: sources.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from tocsin.errors import SettingsError, SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SECRETS: Final = frozenset(
    {"sasl.password", "ssl.key.password", "ssl.keystore.password", "sasl.oauthbearer.client.secret"}
)
_HELD_WORDS: Final = 100

# Memory is bounded by the first; without the second a full queue rests a whole second before it is filled again.
_READING: Final[dict[str, Any]] = {
    "queued.max.messages.kbytes": 16 << 10,
    "fetch.queue.backoff.ms": 2,
    "queued.min.messages": 1_000_000,
    "fetch.wait.max.ms": 100,
    "fetch.message.max.bytes": 1 << 20,
}
# What the positions rest on. A position that is not there is an error, never a jump to another; only what was committed
# counts; and no offset is given back before `release`.
_OURS: Final[dict[str, Any]] = {
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "partition.assignment.strategy": "range,roundrobin",
}
_QUIET: Final[dict[str, Any]] = {
    "log_level": 0,  # what happens is told by callbacks; librdkafka would print it
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1000,
}


def import_client() -> Any:
    """Return the package confluent_kafka.

    Raises:
        SourceError: It is not installed.
    """
    try:
        import confluent_kafka
        import confluent_kafka.admin
    except ImportError:
        raise SourceError("Kafka is read with confluent-kafka, which is not here: pip install tocsin[kafka]") from None
    return confluent_kafka


def client_settings(
    brokers: str,
    *,
    security: str,
    sasl_mechanism: str,
    user: str | None,
    password: str | None,
    ca_file: Path | None,
    certificate_file: Path | None,
    key_file: Path | None,
    options: Mapping[str, str | int | bool],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what every client is told, and what those that read are told besides.

    Raises:
        SettingsError: An option is one of ours, or holds a secret.
    """
    common: dict[str, Any] = {**_QUIET, "bootstrap.servers": brokers, "security.protocol": security.upper()}
    if security.startswith("sasl"):
        if user is None or password is None:
            raise SettingsError(f"security {security!r} needs a user and a password (user_env, password_env).")
        common |= {"sasl.mechanisms": sasl_mechanism, "sasl.username": user, "sasl.password": password}
    files = {"ssl.ca.location": ca_file, "ssl.certificate.location": certificate_file, "ssl.key.location": key_file}
    common |= {name: str(path) for name, path in files.items() if path is not None}
    for name in options:
        if name in _SECRETS:
            raise SettingsError(f"options: {name!r} is a secret. Name an environment variable or a file that holds it.")
        if name in _OURS or name in common.keys() - _QUIET.keys() or name == "group.id":
            raise SettingsError(
                f"options: {name!r} is not free: it has a setting of its own, or the positions rest on it."
            )
    general = {k: v for k, v in options.items() if not k.startswith(_FOR_READING)}
    reading = {k: v for k, v in options.items() if k not in general}
    return common | general, _READING | _OURS | reading


# Settings that a client which only asks (about topics) does not know, or would warn of.
_FOR_READING: Final = (
    "fetch.",
    "queued.",
    "session.",
    "heartbeat.",
    "max.poll.",
    "group.",
    "check.crcs",
    "coordinator.",
)


class Told:
    """Sentences for whoever watches: each trouble once, for as long as it lasts; the newest hundred until they are asked for.

    >>> told = Told("hunter2")
    >>> told.say("down", "no broker answers"); told.say("down", "no broker answers"); told.take()
    ['no broker answers']
    >>> told.over("down"); told.say("down", "no broker answers"); told.say("auth", "wrong: hunter2"); told.take()
    ['no broker answers', 'wrong: [secret]']
    """

    def __init__(self, secret: str | None) -> None:
        self._secret = secret
        self._said: dict[str, str] = {}
        self._words: deque[str] = deque(maxlen=_HELD_WORDS)

    def say(self, about: str, text: str) -> None:
        """Keep a sentence about something, unless it was the last one about it."""
        if self._said.get(about) != text:
            self._said[about] = text
            self.add(text)

    def add(self, text: str) -> None:
        """Keep a sentence."""
        self._words.append(self.clean(text))

    def over(self, about: str) -> None:
        """Let the next sentence about something be kept, even if it is the same again."""
        self._said.pop(about, None)

    def clean(self, text: str) -> str:
        """Return a text without the password."""
        return text.replace(self._secret, "[secret]") if self._secret else text

    def take(self) -> list[str]:
        """Return what was kept since the last call."""
        words = list(self._words)
        self._words.clear()
        return words
