"""A pushed body as records: unpacked within bounds, cut into one record each, byte for byte.

Enters: the bytes of a body, its Content-Type and Content-Encoding. Leaves: `Taken`, or a `RefusedError` that says which
status code the sender gets and why. Layer: faces. Nothing here keeps more than the limits allow, whatever is sent.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from tocsin.sources.jsonl import parse_line

MOST_RECORDS: Final = 250_000
MOST_TOLD: Final = 100
_CHUNK: Final = 1 << 18
_MOST_MEMBERS: Final = 1000
_JSON, _LINES = "application/json", ("application/x-ndjson", "application/ndjson", "application/jsonl")
_ENCODINGS: Final = ("identity", "gzip", "zstd")
_SPACE: Final = " \t\r\n"
_BOM: Final = b"\xef\xbb\xbf"


class RefusedError(Exception):
    """A body that is refused whole: the status code of the answer, why in words, and headers that go with it."""

    def __init__(self, status: int, why: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(why)
        self.status, self.why, self.headers = status, why, headers or {}


@dataclass(slots=True)
class Taken:
    """The records of a body.

    Attributes:
        records: What goes to the spool; no record holds a line end.
        review: Those of them that are no events (place in the body, from 1; why): they end as dead letters.
        rejected: What is not taken (place in the body, why): it is too large.
    """

    records: list[bytes] = field(default_factory=list)
    review: list[tuple[int, str]] = field(default_factory=list)
    rejected: list[tuple[int, str]] = field(default_factory=list)

    def add(self, place: int, record: bytes, most_bytes: int) -> None:
        """Take one record, or note why it is not taken."""
        if len(record) > most_bytes:
            self.rejected.append((place, f"{len(record):,} bytes; an event may have {most_bytes:,}"))
            return
        read = parse_line(record)
        if isinstance(read, str):
            self.review.append((place, read))
        self.records.append(record)

    def answer(self) -> dict[str, Any]:
        """Return what the sender is told: counts of all, places and reasons of the first hundred of each kind."""
        return {
            "accepted": len(self.records),
            "accepted_for_review": len(self.review),
            "rejected_count": len(self.rejected),
            "review": [{"record": place, "reason": why} for place, why in self.review[:MOST_TOLD]],
            "rejected": [{"record": place, "reason": why} for place, why in self.rejected[:MOST_TOLD]],
        }


def check_headers(content_type: str | None, encoding: str | None) -> tuple[bool, str]:
    """Return whether a body is JSON lines, and how it is packed, before any of it is read.

    Raises:
        RefusedError: 415: it is of a kind that is not taken.

    >>> check_headers("application/x-ndjson; charset=UTF-8", "gzip")
    (True, 'gzip')
    """
    kind, *parameters = (part.strip().lower() for part in (content_type or "").split(";"))
    if kind != _JSON and kind not in _LINES:
        why = f"Content-Type must be {_JSON} (an object or an array) or {_LINES[0]} (one object a line)."
        raise RefusedError(415, why, {"Accept": f"{_JSON}, {_LINES[0]}"})
    charset = next((p.partition("=")[2].strip('"') for p in parameters if p.startswith("charset=")), "utf-8")
    if charset not in {"utf-8", "utf8"}:
        raise RefusedError(415, "JSON is UTF-8; send it so.")
    packed = (encoding or "identity").strip().lower()
    packed = "gzip" if packed == "x-gzip" else packed
    if packed not in _ENCODINGS:
        raise RefusedError(
            415, "Content-Encoding must be gzip or zstd, once, or absent.", {"Accept-Encoding": "gzip, zstd"}
        )
    return kind != _JSON, packed


def unpack(body: bytes, encoding: str, most_bytes: int) -> bytes:
    """Return a body as it was before it was packed; at most one chunk more than the limit is ever held.

    Raises:
        RefusedError: 413: it is larger than `most_bytes`; 400: it is damaged or ends too early.

    >>> unpack(zlib.compress(b"x" * 1000, wbits=31), "gzip", 100)
    Traceback (most recent call last):
    tocsin.faces.live.bodies.RefusedError: The body is larger than 100 bytes when unpacked. Send fewer events at once.
    """
    if encoding == "identity":
        return body
    try:
        if not body:
            raise EOFError  # noqa: TRY301 - nothing is no packed nothing: the body was lost on its way
        return _gunzip(body, most_bytes) if encoding == "gzip" else _unzstd(body, most_bytes)
    except (zlib.error, OSError, EOFError):
        raise RefusedError(400, f"The body is no {encoding}, or is damaged.") from None


def _gunzip(body: bytes, most_bytes: int) -> bytes:
    parts: list[bytes] = []
    size, rest = 0, body
    for _ in range(_MOST_MEMBERS):  # a gzip file may be several, one after the other
        stream = zlib.decompressobj(wbits=31)
        while True:
            part = stream.decompress(rest, _CHUNK)
            size += len(part)
            _check_size(size, most_bytes)
            parts.append(part)
            if stream.eof:
                break
            rest = stream.unconsumed_tail
            if not rest and not part:
                raise EOFError
        rest = stream.unused_data
        if not rest:
            return b"".join(parts)
    raise EOFError


def _unzstd(body: bytes, most_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    with pa.CompressedInputStream(pa.BufferReader(body), "zstd") as stream:
        while part := stream.read(_CHUNK):
            size += len(part)
            _check_size(size, most_bytes)
            parts.append(part)
    return b"".join(parts)


def _check_size(size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise RefusedError(
            413, f"The body is larger than {most_bytes:,} bytes when unpacked. Send fewer events at once."
        )


def take(body: bytes, *, lines: bool, most_event_bytes: int) -> Taken:
    r"""Return the records of an unpacked body.

    A line that is no JSON object is a record all the same: it goes to review as it stands. A JSON document that is broken
    anywhere is refused whole, as nobody can say where its records end.

    Raises:
        RefusedError: 400: the document is broken, or neither an object nor an array; 413: too many records.

    >>> take(b'[{"a": 1},\n {"b":\n 2}]', lines=False, most_event_bytes=99).records
    [b'{"a": 1}', b'{"b":  2}']
    >>> take(b'{"a": 1}\r\n\nnonsense\n', lines=True, most_event_bytes=99).answer()["review"]
    [{'record': 3, 'reason': 'not JSON: Expecting value at character 1'}]
    """
    body = body.removeprefix(_BOM)
    taken = Taken()
    if lines:
        if body.count(b"\n") >= MOST_RECORDS:
            raise _too_many()
        for place, line in enumerate(body.split(b"\n"), 1):
            if record := line.strip(b" \t\r"):
                taken.add(place, record, most_event_bytes)
        return taken
    try:
        for place, record in enumerate(_elements(body.decode("utf-8")), 1):
            taken.add(place, record, most_event_bytes)
    except UnicodeDecodeError as error:
        raise RefusedError(400, f"The body is not UTF-8 at byte {error.start + 1}.") from None
    except json.JSONDecodeError as error:
        raise RefusedError(400, f"The body is not JSON: {error.msg} at character {error.pos + 1}.") from None
    except RecursionError:
        raise RefusedError(400, "The body is nested too deeply.") from None
    except ValueError:
        raise RefusedError(400, "The body is not JSON: a number is too long, or none.") from None
    return taken


def _too_many() -> RefusedError:
    return RefusedError(413, f"The body holds more than {MOST_RECORDS:,} events. Send fewer at once.")


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _elements(text: str) -> list[bytes]:
    """Return the values of a JSON document as they are written, each on one line: of an array its elements, else itself."""
    scan = json.JSONDecoder(parse_constant=_no_constant).raw_decode
    at = _blank(text, 0)
    if text[at : at + 1] not in {"[", "{"}:
        raise RefusedError(400, "The body must be a JSON object or an array of objects.")
    found: list[bytes] = []
    many = text[at] == "["
    at = _blank(text, at + 1) if many else at
    while not (many and not found and text[at : at + 1] == "]"):
        stop = scan(text, at)[1]
        found.append(_one_line(text[at:stop]))
        if len(found) > MOST_RECORDS:
            raise _too_many()
        at = _blank(text, stop)
        if not many or text[at : at + 1] == "]":
            break
        if text[at : at + 1] != ",":
            raise json.JSONDecodeError("Expecting ',' or ']'", text, at)
        at = _blank(text, at + 1)
    at = _blank(text, at + 1) if many else at
    if at < len(text):
        raise json.JSONDecodeError("Extra data", text, at)
    return found


def _blank(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _one_line(value: str) -> bytes:
    """Return a JSON value without line ends: they stand between its parts only, as no string may hold one."""
    return value.replace("\r", " ").replace("\n", " ").encode("utf-8")
