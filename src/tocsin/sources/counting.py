"""Counting in blocks of a file: bytes, lines, records.

Enters: bytes. Leaves: a count. Layer: sources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NEWLINE: Final = 10
_SPACE: Final = 32
_TAB: Final = 9
_RETURN: Final = 13


def count_byte(data: bytes, byte: bytes) -> int:
    """Return how often a byte occurs; unlike bytes.count, no slower for a common one.

    >>> count_byte(b"a,b,c", b",")
    2
    """
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == byte[0]))


def line_ends(data: bytes) -> NDArray[np.int64]:
    """Return the offset of every newline.

    >>> line_ends(b"a" + bytes([10, 10])).tolist()
    [1, 2]
    """
    return np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE)


def count_records(data: bytes) -> int:
    """Return how many lines hold more than white space; the data end with a newline.

    >>> count_records(bytes([123, 125, 10, 32, 13, 10, 120, 10]))
    2
    """
    starts = np.concatenate([np.zeros(1, np.int64), line_ends(data) + 1])
    first = np.frombuffer(data, np.uint8)[starts[:-1]]
    doubtful = np.flatnonzero((first == _SPACE) | ((first >= _TAB) & (first <= _RETURN)))
    return len(starts) - 1 - sum(not data[starts[n] : starts[n + 1]].strip() for n in doubtful.tolist())
