"""The distinct values of a text column: what is costly to find out about a text is found out once.

Enters: a Polars String series. Leaves: for each row the number of its text, and a row where each text stands.
Layer: ground floor (above text_views).

A number stands for one text; one text may have several numbers, for a full bucket of the table is emptied rather than
searched. That costs a little work twice and bounds the search, whoever chose the texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numba import njit

from tocsin.text_views import INLINE_BYTES, text_views, word_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Distinct", "distinct_text"]

_FEWEST_ROWS: Final = 1_000
_FEWEST_SLOT_BITS, _MOST_SLOT_BITS = 10, 17
_TRIAL_ROWS: Final = 16_384  # after so many rows it is seen whether texts repeat at all
_KEY_BYTES: Final = 15

_U8 = np.uint64(8)
_U32 = np.uint64(32)
_U56 = np.uint64(56)
_LOW32 = np.uint64(0xFFFFFFFF)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_LONG_TEXT = np.uint64(1) << np.uint64(63)


@njit(nogil=True, cache=True)
def _key(first: Any, second: Any, size: Any, buffers: Any) -> tuple[Any, Any]:  # pragma: no cover - compiled
    """Return two words that only this text has: its bytes and length up to 15 bytes, else a hash to be verified."""
    if size <= INLINE_BYTES:
        return (first >> _U32) | (second << _U32), (second >> _U32) | (np.uint64(size) << _U56)
    start = buffers[np.int64(second & _LOW32)] + (second >> _U32)
    end = start + np.uint64(size)
    if size <= _KEY_BYTES:
        return word_at(start), (word_at(end - _U8) >> (_U8 * np.uint64(16 - size))) | (np.uint64(size) << _U56)
    mixed = np.uint64(size)
    while start + _U8 < end:
        mixed = (mixed ^ word_at(start)) * _MIX
        mixed ^= mixed >> _U32
        start += _U8
    mixed = (mixed ^ word_at(end - _U8)) * _MIX
    return mixed ^ (mixed >> _U32), _LONG_TEXT | np.uint64(size)


@njit(nogil=True, cache=True)
def _same_long(one: Any, other: Any, size: Any, buffers: Any) -> bool:  # pragma: no cover - compiled
    """Compare two texts of one size, more than 8 bytes each."""
    left = buffers[np.int64(one & _LOW32)] + (one >> _U32)
    right = buffers[np.int64(other & _LOW32)] + (other >> _U32)
    last = np.uint64(size) - _U8
    at = np.uint64(0)
    while at < last:
        if word_at(left + at) != word_at(right + at):
            return False
        at += _U8
    return bool(word_at(left + last) == word_at(right + last))


@njit(nogil=True, cache=True)
def _number(
    views: Any, present: Any, buffers: Any, bits: Any, codes: Any, rows: Any
) -> int:  # pragma: no cover - compiled
    """Fill ``codes`` and ``rows``; return how many numbers were given, or -1 when texts hardly repeat."""
    slots = np.int64(1) << bits
    shift = np.uint64(64 - bits)
    table = np.zeros(
        (slots, 4), np.uint64
    )  # key, key, number + 1 (0: free); four words, so that a pair shares a cache line
    given, null = 0, -1
    for row in range(len(codes)):
        if row == _TRIAL_ROWS and given * 16 > row * 15:
            return -1
        if len(present) and not present[row]:
            if null < 0:
                null = given
                rows[given] = row
                given += 1
            codes[row] = null
            continue
        first, second = views[row, 0], views[row, 1]
        size = np.int64(first & _LOW32)
        low, high = _key(first, second, size, buffers)
        slot = np.int64(((low ^ (high * _MIX)) * _MIX) >> shift)
        code: Any = -1
        for at in (slot, slot ^ 1):
            if table[at, 0] == low and table[at, 1] == high and table[at, 2]:
                held = np.int64(table[at, 2]) - 1
                if size <= _KEY_BYTES or _same_long(second, views[rows[held], 1], size, buffers):
                    code = held
                    break
        if code < 0:
            code = given
            rows[given] = row
            given += 1
            at = slot if not table[slot, 2] or table[slot ^ 1, 2] else slot ^ 1
            table[at, 0], table[at, 1], table[at, 2] = low, high, np.uint64(given)
        codes[row] = code
    return given


@dataclass(frozen=True)
class Distinct:
    """``codes``: the number of each row's text; null has one too. ``rows``: a row where each numbered text stands."""

    codes: NDArray[np.uint32]
    rows: NDArray[np.uint32]


def distinct_text(series: pl.Series) -> Distinct | None:
    """Number the texts of a column; None where that would not pay: few rows, or texts that hardly repeat.

    >>> import polars as pl
    >>> found = distinct_text(pl.Series(["b", "a", None, "b"] * 1000))
    >>> found.codes[:4].tolist(), found.rows.tolist()
    ([0, 1, 2, 0], [0, 1, 2])
    """
    size = len(series)
    if size < _FEWEST_ROWS or series.dtype != pl.String:
        return None
    text = text_views(series)
    codes, rows = np.empty(size, np.uint32), np.empty(size, np.uint32)
    bits = min(max(size.bit_length(), _FEWEST_SLOT_BITS), _MOST_SLOT_BITS)
    given = _number(text.views, text.present, text.buffers, bits, codes, rows)
    return None if given < 0 else Distinct(codes, rows[:given].copy())
