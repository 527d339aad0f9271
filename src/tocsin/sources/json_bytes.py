"""Compiled steps through the bytes of JSON: strings, escapes, numbers, literals; and text written as Arrow's views.

Enters: an address to count from and a position. Leaves: where a thing ends, or -1 where it is not plain beyond doubt.
Layer: sources, the inside of `tocsin.sources.jsonl_kernel`. 16 bytes beyond any position can be read.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from tocsin.text_views import INLINE_BYTES, byte_at, put_byte, put_word, word_at

QUOTE: Final = ord('"')
_TAB, _RETURN, _SPACE, _BACKSLASH, _MINUS, _DOT, _ZERO, _NINE = (ord(c) for c in "\t\r \\-.09")
_UNICODE: Final = ord("u")
_ESCAPES: Final = np.frombuffer(b'"\\/bfnrt', np.uint8)
_MEANINGS: Final = np.frombuffer(b'"\\/\b\f\n\r\t', np.uint8).astype(np.int64)
_MOST_DIGITS, _MOST_NUMBER_BYTES = 18, 40

_U0, _U1, _U7, _U8, _U32, _U56 = (np.uint64(n) for n in (0, 1, 7, 8, 32, 56))
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_LOW32 = np.uint64(0xFFFFFFFF)
_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)
_QUOTES = np.uint64(0x2222222222222222)
_BACKSLASHES = np.uint64(0x5C5C5C5C5C5C5C5C)
_SPACES = np.uint64(0x2020202020202020)
_WHICH_BYTE = np.uint64(0x0001020304050607)
_TRUE, _FALS = (np.uint64(int.from_bytes(word, "little")) for word in (b"true", b"fals"))


@njit(nogil=True, cache=True)
def word(base: Any, at: Any) -> Any:  # pragma: no cover - compiled
    """Return the 8 bytes at a position."""
    return word_at(base + np.uint64(at))


@njit(nogil=True, cache=True)
def byte(base: Any, at: Any) -> Any:  # pragma: no cover - compiled
    """Return the byte at a position."""
    return np.int64(byte_at(base + np.uint64(at)))


@njit(nogil=True, cache=True)
def string_stop(base: Any, at: Any, refused: Any) -> Any:  # pragma: no cover - compiled
    """Return where the first quote, backslash, control byte or refused high bit stands, eight bytes at a time."""
    while True:
        eight = word(base, at)
        quote, backslash = eight ^ _QUOTES, eight ^ _BACKSLASHES
        # A byte that is zero borrows from its high bit; only what follows the first hit can be wrong, and that is not asked.
        hits = ((quote - _ONES) & ~quote) | ((backslash - _ONES) & ~backslash) | ((eight - _SPACES) & ~eight)
        hits = (hits & _HIGHS) | (eight & refused)
        if hits:
            first = hits & (~hits + _U1)
            return at + np.int64(((first >> _U7) * _WHICH_BYTE) >> _U56)
        at += 8


@njit(nogil=True, cache=True)
def skip_space(base: Any, at: Any) -> Any:  # pragma: no cover - compiled
    """Return where the first byte stands that is not a space of one line."""
    while byte(base, at) == _SPACE or byte(base, at) == _TAB or byte(base, at) == _RETURN:
        at += 1
    return at


@njit(nogil=True, cache=True)
def same(one: Any, other: Any, size: Any) -> bool:  # pragma: no cover - compiled
    """Compare so many bytes at two addresses."""
    done = 0
    while done + 8 <= size:
        if word(one, done) != word(other, done):
            return False
        done += 8
    if done == size:
        return True
    return bool((word(one, done) ^ word(other, done)) << np.uint64(64 - 8 * (size - done)) == _U0)


@njit(nogil=True, cache=True)
def put_text(source: Any, size: Any, view: Any, texts: Any, used: Any) -> Any:  # pragma: no cover - compiled
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
        digit: Any = byte(base, k)
        if 48 <= digit <= 57:
            value = value * 16 + digit - 48
        elif 97 <= (digit | 32) <= 102:
            value = value * 16 + (digit | 32) - 87
        else:
            return -1
    return value


@njit(nogil=True, cache=True)
def _escaped(base: Any, at: Any) -> Any:  # pragma: no cover - compiled
    """Return the character whose escape begins behind a backslash, and where the escape ends; -1 for none."""
    for k in range(len(_ESCAPES)):
        if byte(base, at) == _ESCAPES[k]:
            return _MEANINGS[k], at + 1
    if byte(base, at) != _UNICODE:
        return -1, at
    value: Any = _hex4(base, at + 1)
    at += 5
    if 0xD800 <= value < 0xDC00 and byte(base, at) == _BACKSLASH and byte(base, at + 1) == _UNICODE:
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
def unescape(base: Any, at: Any, refused: Any, scratch: Any) -> Any:  # pragma: no cover - compiled
    """Write the string that begins at `at` without its escapes; return its size and where its quote stands, or -1."""
    size = 0
    while True:
        stop = string_stop(base, at, refused)
        for k in range(at, stop):
            put_byte(scratch + np.uint64(size), byte_at(base + np.uint64(k)))
            size += 1
        if byte(base, stop) == QUOTE:
            return size, stop
        if byte(base, stop) != _BACKSLASH:
            return -1, -1
        value, at = _escaped(base, stop + 1)
        if value < 0:
            return -1, -1
        size = _put_character(value, scratch, size)


@njit(nogil=True, cache=True)
def number_end(base: Any, at: Any) -> Any:  # pragma: no cover - compiled
    """Return (end, is whole) of a JSON number that is surely in range and spelled in one way only, or end -1."""
    start = at
    if byte(base, at) == _MINUS:
        at += 1
    digits = at
    while _ZERO <= byte(base, at) <= _NINE:
        at += 1
    count = at - digits
    if count == 0 or (count > 1 and byte(base, digits) == _ZERO) or count > _MOST_DIGITS:
        return -1, False
    whole = True
    if byte(base, at) == _DOT:
        whole = False
        at += 1
        digits = at
        while _ZERO <= byte(base, at) <= _NINE:
            at += 1
        if at == digits:
            return -1, False
    elif byte(base, digits) == _ZERO and digits > start:  # minus zero is another number when it is whole
        return -1, False
    if byte(base, at) | 32 == 101:
        whole = False
        at += 1
        if byte(base, at) == _MINUS or byte(base, at) == 43:
            at += 1
        digits = at
        while _ZERO <= byte(base, at) <= _NINE:
            at += 1
        if at == digits or at - digits > 2:
            return -1, False
    return (at, whole) if at - start <= _MOST_NUMBER_BYTES else (-1, False)


@njit(nogil=True, cache=True)
def literal_end(base: Any, at: Any) -> Any:  # pragma: no cover - compiled
    """Return where true or false ends, -1 when it is neither."""
    four = word(base, at) & _LOW32
    if four == _TRUE:
        return at + 4
    return at + 5 if four == _FALS and byte(base, at + 4) == 101 else -1
