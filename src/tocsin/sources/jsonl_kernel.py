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

from tocsin.text_views import INLINE_BYTES, byte_at, put_byte, put_word, word_at

TEXT, INT, FLOAT, BOOL, LIST, NUMBERS = range(6)
"""Kinds of field; NUMBERS is a list of numbers, which is kept as text like the others."""
NAME, NAME_SIZE, KIND, VIEWS, TEXTS, USED, NUMBERS_AT, PRESENT, ITEMS, MISSING, OFFSETS, SEEN = range(12)
"""Columns of the table of fields: where its name is and how long; its kind; where its views, text bytes (and how many are
used), numbers and marks of presence are; for a list how many items it has, their marks of absence, and where each row's
items begin; the last line it was seen in."""
FIELD_FACTS: Final = 12
MAX_DEPTH: Final = 8
SLACK_BYTES: Final = 16

_NEWLINE, _TAB, _RETURN, _SPACE = 10, 9, 13, 32
_QUOTE, _BACKSLASH, _OPEN, _CLOSE, _LIST_OPEN, _LIST_CLOSE, _COMMA, _COLON = (ord(c) for c in '"\\{}[],:')
_UNICODE: Final = ord("u")
_ESCAPES: Final = np.frombuffer(b'"\\/bfnrt', np.uint8)
_MEANINGS: Final = np.frombuffer(b'"\\/\b\f\n\r\t', np.uint8).astype(np.int64)
_MINUS, _DOT, _ZERO, _NINE, _NULL_BEGINS, _TRUE_BEGINS = (ord(c) for c in "-.09nt")
_MOST_DIGITS, _MOST_NUMBER_BYTES = 18, 40

_U0, _U1, _U7, _U8, _U32, _U56, _U64 = (np.uint64(n) for n in (0, 1, 7, 8, 32, 56, 64))
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_LOW32 = np.uint64(0xFFFFFFFF)
_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)
_QUOTES = np.uint64(0x2222222222222222)
_BACKSLASHES = np.uint64(0x5C5C5C5C5C5C5C5C)
_SPACES = np.uint64(0x2020202020202020)
_WHICH_BYTE = np.uint64(0x0001020304050607)
_NULL, _TRUE, _FALS = (np.uint64(int.from_bytes(word, "little")) for word in (b"null", b"true", b"fals"))


@njit(nogil=True, cache=True)
def _word(base: Any, at: Any) -> Any:  # pragma: no cover - compiled
    return word_at(base + np.uint64(at))


@njit(nogil=True, cache=True)
def _byte(base: Any, at: Any) -> Any:  # pragma: no cover - compiled
    return np.int64(byte_at(base + np.uint64(at)))


@njit(nogil=True, cache=True)
def _string_stop(base: Any, at: Any, refused: Any) -> Any:  # pragma: no cover - compiled
    """Return where the first quote, backslash, control byte or refused high bit stands, eight bytes at a time."""
    while True:
        word = _word(base, at)
        quote, backslash = word ^ _QUOTES, word ^ _BACKSLASHES
        # A byte that is zero borrows from its high bit; only what follows the first hit can be wrong, and that is not asked.
        hits = ((quote - _ONES) & ~quote) | ((backslash - _ONES) & ~backslash) | ((word - _SPACES) & ~word)
        hits = (hits & _HIGHS) | (word & refused)
        if hits:
            first = hits & (~hits + _U1)
            return at + np.int64(((first >> _U7) * _WHICH_BYTE) >> _U56)
        at += 8


@njit(nogil=True, cache=True)
def _skip_space(base: Any, at: Any) -> Any:  # pragma: no cover - compiled
    while _byte(base, at) == _SPACE or _byte(base, at) == _TAB or _byte(base, at) == _RETURN:
        at += 1
    return at


@njit(nogil=True, cache=True)
def _same(one: Any, other: Any, size: Any) -> bool:  # pragma: no cover - compiled
    """Compare so many bytes at two addresses."""
    done = 0
    while done + 8 <= size:
        if _word(one, done) != _word(other, done):
            return False
        done += 8
    if done == size:
        return True
    return bool((_word(one, done) ^ _word(other, done)) << np.uint64(64 - 8 * (size - done)) == _U0)


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
        if not _same(base + np.uint64(key), name + np.uint64(prefix_size), size):
            continue
        if prefix_size and not _same(name, np.uint64(fields[owner, NAME]), prefix_size):
            continue
        if nested and _byte(name, whole) != _DOT:
            continue
        return field
    return -1


@njit(nogil=True, cache=True)
def _put_text(source: Any, size: Any, view: Any, texts: Any, used: Any) -> Any:  # pragma: no cover - compiled
    """Write a text as a view, its bytes to the column's buffer if they are many; return how much of that is used."""
    first = word_at(source)
    if size <= INLINE_BYTES:
        second = word_at(source + _U8)
        second = _U0 if size <= 8 else second & (_ALL >> np.uint64(8 * (16 - size)))
        first = first & (_ALL >> np.uint64(8 * (8 - size))) if 0 < size < 8 else (_U0 if size == 0 else first)
        put_word(view, np.uint64(size) | (first << _U32))
        put_word(view + _U8, (first >> _U32) | (second << _U32))
        return used
    put_word(view, np.uint64(size) | (first << _U32))
    put_word(view + _U8, np.uint64(used) << _U32)
    for at in range(0, size, 8):
        put_word(texts + np.uint64(used + at), word_at(source + np.uint64(at)))
    return used + size


@njit(nogil=True, cache=True)
def _hex4(base: Any, at: Any) -> Any:  # pragma: no cover - compiled
    value: Any = 0
    for k in range(at, at + 4):
        byte: Any = _byte(base, k)
        if 48 <= byte <= 57:
            value = value * 16 + byte - 48
        elif 97 <= (byte | 32) <= 102:
            value = value * 16 + (byte | 32) - 87
        else:
            return -1
    return value


@njit(nogil=True, cache=True)
def _escaped(base: Any, at: Any) -> Any:  # pragma: no cover - compiled
    """Return the character whose escape begins behind a backslash, and where the escape ends; -1 for none."""
    for k in range(len(_ESCAPES)):
        if _byte(base, at) == _ESCAPES[k]:
            return _MEANINGS[k], at + 1
    if _byte(base, at) != _UNICODE:
        return -1, at
    value: Any = _hex4(base, at + 1)
    at += 5
    if 0xD800 <= value < 0xDC00 and _byte(base, at) == _BACKSLASH and _byte(base, at + 1) == _UNICODE:
        low = _hex4(base, at + 2)
        at += 6
        value = 0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00) if 0xDC00 <= low < 0xE000 else -1
    return (-1 if 0xD800 <= value < 0xE000 else value), at


@njit(nogil=True, cache=True)
def _put_character(value: Any, out: Any, size: Any) -> Any:  # pragma: no cover - compiled
    """Write a character as UTF-8 and return where it ends."""
    if value < 0x80:
        put_byte(out + np.uint64(size), np.uint8(value))
        return size + 1
    more = 1 if value < 0x800 else 2 if value < 0x10000 else 3
    lead = 0xC0 if more == 1 else 0xE0 if more == 2 else 0xF0
    put_byte(out + np.uint64(size), np.uint8(lead | (value >> (6 * more))))
    for k in range(1, more + 1):
        put_byte(out + np.uint64(size + k), np.uint8(0x80 | ((value >> (6 * (more - k))) & 63)))
    return size + more + 1


@njit(nogil=True, cache=True)
def _unescape(base: Any, at: Any, refused: Any, scratch: Any) -> Any:  # pragma: no cover - compiled
    """Write the string that begins at `at` without its escapes; return its size and where its quote stands, or -1."""
    size = 0
    while True:
        stop = _string_stop(base, at, refused)
        for k in range(at, stop):
            put_byte(scratch + np.uint64(size), byte_at(base + np.uint64(k)))
            size += 1
        if _byte(base, stop) == _QUOTE:
            return size, stop
        if _byte(base, stop) != _BACKSLASH:
            return -1, -1
        value, at = _escaped(base, stop + 1)
        if value < 0:
            return -1, -1
        size = _put_character(value, scratch, size)


@njit(nogil=True, cache=True)
def _number_end(base: Any, at: Any) -> Any:  # pragma: no cover - compiled
    """Return (end, is whole) of a JSON number that is surely in range and spelled in one way only, or end -1."""
    start = at
    if _byte(base, at) == _MINUS:
        at += 1
    digits = at
    while _ZERO <= _byte(base, at) <= _NINE:
        at += 1
    count = at - digits
    if count == 0 or (count > 1 and _byte(base, digits) == _ZERO) or count > _MOST_DIGITS:
        return -1, False
    whole = True
    if _byte(base, at) == _DOT:
        whole = False
        at += 1
        digits = at
        while _ZERO <= _byte(base, at) <= _NINE:
            at += 1
        if at == digits:
            return -1, False
    elif _byte(base, digits) == _ZERO and digits > start:  # minus zero is another number when it is whole
        return -1, False
    if _byte(base, at) | 32 == 101:
        whole = False
        at += 1
        if _byte(base, at) == _MINUS or _byte(base, at) == 43:
            at += 1
        digits = at
        while _ZERO <= _byte(base, at) <= _NINE:
            at += 1
        if at == digits or at - digits > 2:
            return -1, False
    return (at, whole) if at - start <= _MOST_NUMBER_BYTES else (-1, False)


@njit(nogil=True, cache=True)
def _literal_end(base: Any, at: Any) -> Any:  # pragma: no cover - compiled
    """Return where true or false ends, -1 when it is neither."""
    word = _word(base, at) & _LOW32
    if word == _TRUE:
        return at + 4
    return at + 5 if word == _FALS and _byte(base, at + 4) == 101 else -1


@njit(nogil=True, cache=True)
def _scalar_text(base: Any, at: Any, kind: Any, refused: Any, scratch: Any) -> Any:  # pragma: no cover - compiled
    """Return (address of its text, size, where it ends) for a string, whole number or truth; for NUMBERS and FLOAT only numbers."""
    byte = _byte(base, at)
    if kind in (FLOAT, NUMBERS):
        end, _ = _number_end(base, at)
        return base + np.uint64(at), end - at, end
    if byte == _QUOTE:
        stop = _string_stop(base, at + 1, refused)
        if _byte(base, stop) == _QUOTE:
            return base + np.uint64(at + 1), stop - at - 1, stop + 1
        size, stop = _unescape(base, at + 1, refused, scratch)
        return scratch, size, (stop + 1 if size >= 0 else -1)
    if byte == _MINUS or _ZERO <= byte <= _NINE:
        end, whole = _number_end(base, at)
        return base + np.uint64(at), end - at, (end if whole else -1)
    end = _literal_end(base, at)
    return base + np.uint64(at), end - at, end


@njit(nogil=True, cache=True)
def _read_list(
    base: Any, at: Any, field: Any, refused: Any, scratch: Any, fields: Any
) -> Any:  # pragma: no cover - compiled
    """Append a list's items; return where it ends, -1 when it is not plain."""
    views, texts, missing = np.uint64(fields[field, VIEWS]), np.uint64(fields[field, TEXTS]), fields[field, MISSING]
    kind = fields[field, KIND]
    at = _skip_space(base, at + 1)
    if _byte(base, at) == _LIST_CLOSE:
        return at + 1
    while True:
        count = fields[field, ITEMS]
        view = views + np.uint64(16 * count)
        absent = _word(base, at) & _LOW32 == _NULL
        if absent:
            put_word(view, _U0)
            put_word(view + _U8, _U0)
            at += 4
        else:
            source, size, at = _scalar_text(base, at, kind, refused, scratch)
            if at < 0:
                return -1
            fields[field, USED] = _put_text(source, size, view, texts, fields[field, USED])
        put_byte(np.uint64(missing + count), np.uint8(absent))
        fields[field, ITEMS] = count + 1
        at = _skip_space(base, at)
        if _byte(base, at) == _LIST_CLOSE:
            return at + 1
        if _byte(base, at) != _COMMA:
            return -1
        at = _skip_space(base, at + 1)


@njit(nogil=True, cache=True)
def _read_value(
    base: Any, at: Any, field: Any, row: Any, refused: Any, scratch: Any, fields: Any
) -> Any:  # pragma: no cover - compiled
    """Read one value into its column; return where it ends, -1 when it is not plain."""
    kind = fields[field, KIND]
    byte = _byte(base, at)
    if byte == _NULL_BEGINS:
        return at + 4 if _word(base, at) & _LOW32 == _NULL else -1
    if kind in (TEXT, FLOAT):
        source, size, end = _scalar_text(base, at, kind, refused, scratch)
        if end >= 0:
            view, texts = np.uint64(fields[field, VIEWS] + 16 * row), np.uint64(fields[field, TEXTS])
            fields[field, USED] = _put_text(source, size, view, texts, fields[field, USED])
    elif kind == INT:
        end, whole = _number_end(base, at)
        if not whole:
            return -1
        value: Any = 0
        for k in range(at + (byte == _MINUS), end):
            value = value * 10 + _byte(base, k) - _ZERO
        put_word(np.uint64(fields[field, NUMBERS_AT] + 8 * row), np.uint64(-value if byte == _MINUS else value))
    elif kind == BOOL:
        end = _literal_end(base, at)
        put_word(np.uint64(fields[field, NUMBERS_AT] + 8 * row), np.uint64(byte == _TRUE_BEGINS))
    else:
        end = _read_list(base, at, field, refused, scratch, fields) if byte == _LIST_OPEN else -1
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
    at = _skip_space(base, at + 1)
    while True:
        if _byte(base, at) != _QUOTE:
            return False
        key = at + 1
        stop = _string_stop(base, key, refused)
        if _byte(base, stop) != _QUOTE:
            return False
        at = _skip_space(base, stop + 1)
        if _byte(base, at) != _COLON:
            return False
        at = _skip_space(base, at + 1)
        nested = _byte(base, at) == _OPEN
        field = _field_of(base, key, stop - key, fields, likely, stack[depth, 0], stack[depth, 1], nested)
        if field < 0:
            return False
        if nested:
            for k in range(key, stop):
                if _byte(base, k) == _DOT:
                    return False
            prefix = prefixes[field, depth]
            if prefix < 0 or entered[prefix] == stamp or depth + 1 == MAX_DEPTH:
                return False
            entered[prefix] = stamp
            stack[depth + 1, 0], stack[depth + 1, 1] = field, stack[depth, 1] + stop - key + 1
            depth += 1
            likely = field
            at = _skip_space(base, at + 1)
            continue
        if fields[field, SEEN] == stamp:
            return False
        fields[field, SEEN] = stamp
        likely = field + 1
        at = _read_value(base, at, field, row, refused, scratch, fields)
        if at < 0:
            return False
        at = _skip_space(base, at)
        while _byte(base, at) == _CLOSE:
            at = _skip_space(base, at + 1)
            if depth == 0:
                return _byte(base, at) == _NEWLINE
            depth -= 1
        if _byte(base, at) != _COMMA:
            return False
        at = _skip_space(base, at + 1)


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
    size: Any,
    ends: Any,
    refused: Any,
    scratch: Any,
    fields: Any,
    prefixes: Any,
    row_lines: Any,
    left_lines: Any,
) -> tuple[int, int]:  # pragma: no cover - compiled
    """Read lines; return how many became rows, and how many are left over (blank ones are neither).

    ``ends``: where the newlines stand among ``size`` bytes. ``refused``: bits no byte of a plain line may have.
    ``scratch``: the address of as much memory. ``prefixes``: field, depth -> number of the object around it, or -1.
    ``row_lines``, ``left_lines``: filled with the number of the line of each row, and of each line left over.
    """
    entered = np.zeros(prefixes.size + 1, np.int64)
    stack = np.zeros((MAX_DEPTH + 1, 2), np.int64)
    rows, left = 0, 0
    start = 0
    for line in range(len(ends)):
        end = ends[line]
        at = _skip_space(base, start)
        start = end + 1
        if at == end:
            continue
        plain = False
        if _byte(base, at) == _OPEN and end + SLACK_BYTES < size:
            plain = _read_object(base, at, rows, line + 1, refused, scratch, fields, prefixes, entered, stack)
        _settle(fields, rows, plain)
        if plain:
            row_lines[rows] = line
            rows += 1
        else:
            left_lines[left] = line
            left += 1
    return rows, left
