"""Counting bytes in blocks of a file: lines, separators.

Enters: bytes. Leaves: a count. Layer: sources.
"""

from __future__ import annotations

import numpy as np


def count_byte(data: bytes, byte: bytes) -> int:
    """Return how often a byte occurs; unlike bytes.count, no slower for a common one.

    >>> count_byte(b"a,b,c", b",")
    2
    """
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == byte[0]))
