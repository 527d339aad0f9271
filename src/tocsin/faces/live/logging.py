"""Logs of a running engine: one JSON object a line, or words for a person at a terminal.

Enters: records of the standard library's logging: the message is the event's name, `extra={"fields": {...}}` are its
facts. Leaves: lines on stderr in which nothing that an attacker wrote can act, and no secret stands. Layer: faces.

    logging.getLogger("tocsin.live").info("snapshot", extra={"fields": {"number": 7, "bytes": 81_920}})
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from typing import IO, TYPE_CHECKING, Any, Final

from tocsin.text import escape_terminal

if TYPE_CHECKING:
    from collections.abc import Iterable

HIDDEN: Final = "[secret]"
LONGEST_VALUE: Final = 1000
_SECRET_NAMES: Final = ("token", "secret", "password", "authorization", "cookie")
_LOGGERS: Final = ("tocsin", "uvicorn")


def set_up_logging(
    stream: IO[str] | None = None, *, level: str = "INFO", human: bool | None = None, secrets: Iterable[str] = ()
) -> logging.Handler:
    """Let the engine's and the door's log go to a stream, and nowhere else; return the handler that does it.

    Args:
        stream: Where to; None is stderr.
        level: The least that is written: DEBUG, INFO, WARNING or ERROR.
        human: Words instead of JSON; None: where the stream is a terminal.
        secrets: Texts that are blackened wherever they turn up.
    """
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Lines(human=stream.isatty() if human is None else human, secrets=secrets))
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
    logging.getLogger("uvicorn").setLevel("WARNING")  # that it has started is ours to say
    return handler


class Lines(logging.Formatter):
    r"""Makes one line of a record.

    >>> record = logging.makeLogRecord({"msg": "read", "levelname": "INFO", "created": 0.0, "fields": {"file": "a\x1bb"}})
    >>> Lines(human=False).format(record)
    '{"ts": "1970-01-01T00:00:00.000Z", "level": "info", "event": "read", "file": "a\\u001bb"}'
    >>> Lines(human=True).format(record)
    '00:00:00.000 info    read file=a\\x1bb'
    """

    def __init__(self, *, human: bool, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._human = human
        self._secrets = tuple(sorted({text for text in secrets if text}, key=len, reverse=True))

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record; an error's traceback is a fact of it."""
        facts: dict[str, Any] = {}
        for name, value in (getattr(record, "fields", None) or {}).items():
            facts[self._clean(str(name))] = HIDDEN if _names_a_secret(str(name)) else self._plain(value)
        if record.exc_info and record.exc_info[1] is not None:
            facts["error"] = self._clean(f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}")
            facts["traceback"] = self._clean(
                "".join(traceback.format_exception(record.exc_info[1])), 10 * LONGEST_VALUE
            )
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        stamp = f"{seconds}.{int(record.created % 1 * 1000):03}Z"
        level, event = record.levelname.lower(), self._clean(record.getMessage())
        if self._human:
            told = "".join(f" {name}={_word(value)}" for name, value in facts.items() if name != "traceback")
            return escape_terminal(f"{stamp[11:23]} {level:7} {event}{told}")
        # All but DEL is escaped where JSON keeps to ASCII.
        return json.dumps({"ts": stamp, "level": level, "event": event} | facts).replace("\x7f", "\\u007f")

    def _plain(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float) and value - value == 0:  # neither NaN nor infinite: JSON has no words for these
            return value
        return self._clean(str(value))

    def _clean(self, text: str, limit: int = LONGEST_VALUE) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _names_a_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET_NAMES)


def _word(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text or '"' in text or not text else text
