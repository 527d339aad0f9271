"""Random order inside compiled loops, from a seed and the number of the stream alone.

Enters: a seed, and what to shuffle. Leaves: it shuffled. Layer: ground floor (stats).

Every entity (or segment) has a stream of its own, so that its result does not depend on what else is computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


def key_of(seed: int) -> np.uint64:
    """Return the 64 bits that a seed stands for.

    >>> int(key_of(1)) == int(key_of(1)), int(key_of(1)) == int(key_of(2))
    (True, False)
    """
    return np.uint64(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])


@njit(cache=True, nogil=True)
def stream(key: Any, number: Any) -> Any:
    """Return the state of stream ``number``."""
    state = np.empty(1, np.uint64)
    state[0] = key ^ (np.uint64(number) * np.uint64(0xD1342543DE82EF95))
    bits(state)
    return state


@njit(cache=True, nogil=True)
def bits(state: Any) -> Any:
    """Return the next 64 random bits of a stream (SplitMix64: Steele, Lea and Flood, OOPSLA 2014, figure 16)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True, nogil=True)
def below(n: Any, state: Any) -> Any:
    """Return a random whole number from 0 to n - 1 (n up to 2 to the 32)."""
    return np.int64(((bits(state) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@njit(cache=True, nogil=True)
def shuffle(values: Any, state: Any) -> None:
    """Shuffle an array in place (Fisher and Yates)."""
    for i in range(values.size - 1, 0, -1):
        j = below(i + 1, state)
        values[i], values[j] = values[j], values[i]
