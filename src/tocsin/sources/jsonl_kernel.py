"""Compiled reading of JSON lines whose fields are known: what is plain is read here, what is not is left to the careful reading.

Enters: whole lines, and the names and kinds of fields. Leaves: column memory filled in place, and the lines left over.
A line is plain when it is one object of known fields, none twice, each with a value of its kind. Whatever is uncertain
(another type, a number at the edge of its type, a broken line) is left over, so nothing here decides that a line is bad.
Layer: sources, the inside of `tocsin.sources.jsonl_fast`.

Positions count from the first byte of the lines; `base` is its address, and 16 bytes beyond a plain line can be read.
All memory is named by address in one table, a row a field: unpacking tuples of arrays for every value would cost more
than reading it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from tocsin.sources.json_bytes import (
    QUOTE,
    byte,
    literal_end,
    number_end,
    put_text,
    same,
    skip_space,
    string_stop,
    unescape,
    word,
)  # fmt: skip
from tocsin.text_views import byte_at, put_byte, put_word, word_at

TEXT, INT, FLOAT, BOOL, LIST, NUMBERS = range(6)
"""Kinds of field; NUMBERS is a list of numbers, which is kept as text like the others."""
NAME, NAME_SIZE, KIND, VIEWS, TEXTS, USED, NUMBERS_AT, PRESENT, ITEMS, MISSING, OFFSETS, SEEN = range(12)
"""Columns of the table of fields: where its name is and how long; its kind; where its views, text bytes (and how many are
used), numbers and marks of presence are; for a list how many items it has, their marks of absence, and where each row's
items begin; the last line it was seen in."""
FIELD_FACTS: Final = 12
MAX_DEPTH: Final = 8
SLACK_BYTES: Final = 16

_NEWLINE, _OPEN, _CLOSE, _LIST_OPEN, _LIST_CLOSE, _COMMA, _COLON = (ord(c) for c in "\n{}[],:")
_MINUS, _DOT, _ZERO, _NINE, _NULL_BEGINS, _TRUE_BEGINS = (ord(c) for c in "-.09nt")
_U0, _U8 = np.uint64(0), np.uint64(8)
_LOW32 = np.uint64(0xFFFFFFFF)
_NULL = np.uint64(int.from_bytes(b"null", "little"))


@njit(nogil=True, cache=True)
def _field_of(
    base: Any, key: Any, size: Any, fields: Any, likely: Any, owner: Any, prefix_size: Any, nested: Any
) -> Any:  # pragma: no cover - compiled
    """Return the field a key names below a prefix (for an object: one of those below the key), -1 for none."""
    count = len(fields)
    whole = prefix_size + size
    for turn in range(count):
        field = likely + turn
        if field >= count:
            field -= count
        name, length = np.uint64(fields[field, NAME]), fields[field, NAME_SIZE]
        if length < whole or nested == (length == whole):
            continue
        if not same(base + np.uint64(key), name + np.uint64(prefix_size), size):
            continue
        if prefix_size and not same(name, np.uint64(fields[owner, NAME]), prefix_size):
            continue
        if nested and byte(name, whole) != _DOT:
            continue
        return field
    return -1


@njit(nogil=True, cache=True)
def _scalar_text(base: Any, at: Any, kind: Any, refused: Any, scratch: Any) -> Any:  # pragma: no cover - compiled
    """Return (address of its text, size, where it ends) for a string, whole number or truth; for NUMBERS and FLOAT only numbers."""
    first = byte(base, at)
    if kind in (FLOAT, NUMBERS):
        end, _ = number_end(base, at)
        return base + np.uint64(at), end - at, end
    if first == QUOTE:
        stop = string_stop(base, at + 1, refused)
        if byte(base, stop) == QUOTE:
            return base + np.uint64(at + 1), stop - at - 1, stop + 1
        size, stop = unescape(base, at + 1, refused, scratch)
        return scratch, size, (stop + 1 if size >= 0 else -1)
    if first == _MINUS or _ZERO <= first <= _NINE:
        end, whole = number_end(base, at)
        return base + np.uint64(at), end - at, (end if whole else -1)
    end = literal_end(base, at)
    return base + np.uint64(at), end - at, end


@njit(nogil=True, cache=True)
def _read_list(
    base: Any, at: Any, field: Any, refused: Any, scratch: Any, fields: Any
) -> Any:  # pragma: no cover - compiled
    """Append a list's items; return where it ends, -1 when it is not plain."""
    views, texts, missing = np.uint64(fields[field, VIEWS]), np.uint64(fields[field, TEXTS]), fields[field, MISSING]
    kind = fields[field, KIND]
    at = skip_space(base, at + 1)
    if byte(base, at) == _LIST_CLOSE:
        return at + 1
    while True:
        count = fields[field, ITEMS]
        view = views + np.uint64(16 * count)
        absent = word(base, at) & _LOW32 == _NULL
        if absent:
            put_word(view, _U0)
            put_word(view + _U8, _U0)
            at += 4
        else:
            source, size, at = _scalar_text(base, at, kind, refused, scratch)
            if at < 0:
                return -1
            fields[field, USED] = put_text(source, size, view, texts, fields[field, USED])
        put_byte(np.uint64(missing + count), np.uint8(absent))
        fields[field, ITEMS] = count + 1
        at = skip_space(base, at)
        if byte(base, at) == _LIST_CLOSE:
            return at + 1
        if byte(base, at) != _COMMA:
            return -1
        at = skip_space(base, at + 1)


@njit(nogil=True, cache=True)
def _read_value(
    base: Any, at: Any, field: Any, row: Any, refused: Any, scratch: Any, fields: Any
) -> Any:  # pragma: no cover - compiled
    """Read one value into its column; return where it ends, -1 when it is not plain."""
    kind = fields[field, KIND]
    first = byte(base, at)
    if first == _NULL_BEGINS:
        return at + 4 if word(base, at) & _LOW32 == _NULL else -1
    if kind in (TEXT, FLOAT):
        source, size, end = _scalar_text(base, at, kind, refused, scratch)
        if end >= 0:
            view, texts = np.uint64(fields[field, VIEWS] + 16 * row), np.uint64(fields[field, TEXTS])
            fields[field, USED] = put_text(source, size, view, texts, fields[field, USED])
    elif kind == INT:
        end, whole = number_end(base, at)
        if not whole:
            return -1
        value: Any = 0
        for k in range(at + (first == _MINUS), end):
            value = value * 10 + byte(base, k) - _ZERO
        put_word(np.uint64(fields[field, NUMBERS_AT] + 8 * row), np.uint64(-value if first == _MINUS else value))
    elif kind == BOOL:
        end = literal_end(base, at)
        put_word(np.uint64(fields[field, NUMBERS_AT] + 8 * row), np.uint64(first == _TRUE_BEGINS))
    else:
        end = _read_list(base, at, field, refused, scratch, fields) if first == _LIST_OPEN else -1
    if end >= 0:
        put_byte(np.uint64(fields[field, PRESENT] + row), np.uint8(1))
    return end


@njit(nogil=True, cache=True)
def _read_object(
    base: Any,
    at: Any,
    row: Any,
    stamp: Any,
    refused: Any,
    scratch: Any,
    fields: Any,
    prefixes: Any,
    entered: Any,
    stack: Any,
) -> Any:  # pragma: no cover - compiled
    """Read the object of a line into a row; return whether all of it was plain.

    ``stack``: a field below each open object, and how much of its name that is.
    """
    depth, likely = 0, 0
    stack[0, 0], stack[0, 1] = 0, 0
    at = skip_space(base, at + 1)
    while True:
        if byte(base, at) != QUOTE:
            return False
        key = at + 1
        stop = string_stop(base, key, refused)
        if byte(base, stop) != QUOTE:
            return False
        at = skip_space(base, stop + 1)
        if byte(base, at) != _COLON:
            return False
        at = skip_space(base, at + 1)
        nested = byte(base, at) == _OPEN
        field = _field_of(base, key, stop - key, fields, likely, stack[depth, 0], stack[depth, 1], nested)
        if field < 0:
            return False
        if nested:
            for k in range(key, stop):
                if byte(base, k) == _DOT:
                    return False
            prefix = prefixes[field, depth]
            if prefix < 0 or entered[prefix] == stamp or depth + 1 == MAX_DEPTH:
                return False
            entered[prefix] = stamp
            stack[depth + 1, 0], stack[depth + 1, 1] = field, stack[depth, 1] + stop - key + 1
            depth += 1
            likely = field
            at = skip_space(base, at + 1)
            continue
        if fields[field, SEEN] == stamp:
            return False
        fields[field, SEEN] = stamp
        likely = field + 1
        at = _read_value(base, at, field, row, refused, scratch, fields)
        if at < 0:
            return False
        at = skip_space(base, at)
        while byte(base, at) == _CLOSE:
            at = skip_space(base, at + 1)
            if depth == 0:
                return byte(base, at) == _NEWLINE
            depth -= 1
        if byte(base, at) != _COMMA:
            return False
        at = skip_space(base, at + 1)


@njit(nogil=True, cache=True)
def _settle(fields: Any, row: Any, plain: Any) -> None:  # pragma: no cover - compiled
    """End the row: fill in what it does not have, or take back what a line that is not plain has left in it."""
    for field in range(len(fields)):
        present = np.uint64(fields[field, PRESENT] + row)
        if not plain:
            put_byte(present, np.uint8(0))
        if fields[field, KIND] >= LIST:
            offsets = np.uint64(fields[field, OFFSETS])
            if plain:
                put_word(offsets + np.uint64(8 * row + 8), np.uint64(fields[field, ITEMS]))
            else:
                fields[field, ITEMS] = np.int64(word_at(offsets + np.uint64(8 * row)))
        elif fields[field, KIND] in (TEXT, FLOAT) and byte_at(present) == 0:
            view = np.uint64(fields[field, VIEWS] + 16 * row)
            put_word(view, _U0)
            put_word(view + _U8, _U0)


@njit(nogil=True, cache=True)
def read_lines(
    base: Any,
    ends: Any,
    refused: Any,
    scratch: Any,
    fields: Any,
    prefixes: Any,
    row_lines: Any,
    left_lines: Any,
) -> tuple[int, int]:  # pragma: no cover - compiled
    """Read lines; return how many became rows, and how many are left over (blank ones are neither).

    ``ends``: where the newlines stand. ``refused``: bits no byte of a plain line may have.
    ``scratch``: the address of as much memory. ``prefixes``: field, depth -> number of the object around it, or -1.
    ``row_lines``, ``left_lines``: filled with the number of the line of each row, and of each line left over.
    """
    entered = np.zeros(prefixes.size + 1, np.int64)
    stack = np.zeros((MAX_DEPTH + 1, 2), np.int64)
    rows, left = 0, 0
    start = 0
    for line in range(len(ends)):
        end = ends[line]
        at = skip_space(base, start)
        start = end + 1
        if at == end:
            continue
        plain = False
        if byte(base, at) == _OPEN:
            plain = _read_object(base, at, rows, line + 1, refused, scratch, fields, prefixes, entered, stack)
        _settle(fields, rows, plain)
        if plain:
            row_lines[rows] = line
            rows += 1
        else:
            left_lines[left] = line
            left += 1
    return rows, left
