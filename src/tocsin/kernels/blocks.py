"""Blocks: what changed in an array since it was last looked at, found by itself.

Enters: the bytes of an array, and the hashes that its blocks of 64 bytes had before. Leaves: the numbers of the blocks
that changed, their bytes, and one digest of all; and the other way round, an array into which those blocks were put.
Layer: kernels.

Nobody has to say what was touched: every block is hashed again and compared with what it was. Two different blocks have
the same hash in one of 2^64 cases. The hash is fast and not keyed: it tells changes apart, it keeps nobody out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Hashes = NDArray[np.uint64]
    Numbers = NDArray[np.uint32]

BLOCK_BYTES = 64
"""A line of the processor's cache. Smaller blocks would make deltas smaller, and the hashes more than an eighth of the state."""
WORDS = BLOCK_BYTES // 8
NO_HASHES: Hashes = np.zeros(0, np.uint64)
# The fractions of the square roots of the first eight primes, made odd.
_ODD = np.array(
    [0x6A09E667F3BCC909, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
     0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179], np.uint64
)  # fmt: skip
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_WHOLE = np.uint64(BLOCK_BYTES)
_HALF, _SOME = np.uint64(32), np.uint64(29)


@njit(cache=True, nogil=True, inline="always")
def _stirred(word: Any, odd: Any) -> Any:
    """Return what no other word is turned into, each bit spread over those above and below it."""
    word = (word ^ (word >> _HALF)) * odd
    return word ^ (word >> _SOME)


@njit(cache=True, nogil=True, inline="always")
def _hash(words: Any, start: Any, size: Any) -> Any:
    """Return the hash of one block; each word has a multiplier of its own, so that places count."""
    total = size
    for j in range(WORDS):
        total += _stirred(words[start + j], _ODD[j])
    return _stirred(total, _GOLDEN)


@njit(cache=True, nogil=True)
def _compare(words: Any, first: Any, size: Any, known: Any, n_known: Any, changed: Any) -> Any:
    """Write the hash of each block to ``known``, and to ``changed`` the numbers of those that had another before.

    The blocks are numbered from ``first`` on and stand for ``size`` bytes each. Return how many changed, and a sum that
    depends on every block and its number.
    """
    n, total = 0, np.uint64(0)
    for i in range(words.size // WORDS):
        b, h = first + i, _hash(words, i * WORDS, size)
        total += _stirred(h + np.uint64(b), _GOLDEN)
        if b >= n_known or known[b] != h:
            known[b] = h
            changed[n] = b
            n += 1
    return n, total


@njit(cache=True, nogil=True)
def _total(words: Any, first: Any, size: Any) -> Any:
    """Return the sum that ``_compare`` returns."""
    total = np.uint64(0)
    for i in range(words.size // WORDS):
        total += _stirred(_hash(words, i * WORDS, size) + np.uint64(first + i), _GOLDEN)
    return total


@njit(cache=True, nogil=True)
def _gather(words: Any, tail: Any, blocks: Any, out: Any) -> None:
    whole = words.size // WORDS
    for i in range(blocks.size):
        start = np.int64(blocks[i]) * WORDS
        for j in range(WORDS):
            out[i * WORDS + j] = words[start + j] if blocks[i] < whole else tail[j]


@njit(cache=True, nogil=True)
def _scatter(words: Any, blocks: Any, data: Any) -> None:
    n = words.size // WORDS
    for i in range(blocks.size):
        if blocks[i] < n:  # the array may have become shorter since
            start = np.int64(blocks[i]) * WORDS
            for j in range(WORDS):
                words[start + j] = data[i * WORDS + j]


def n_blocks(size: int) -> int:
    """Return how many blocks so many bytes take.

    >>> n_blocks(0), n_blocks(64), n_blocks(65)
    (0, 1, 2)
    """
    return -(-size // BLOCK_BYTES)


def as_bytes(array: NDArray[Any]) -> Bytes:
    """Return the bytes of an array in row order; without a copy where they lie so already."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _split(data: Bytes) -> tuple[NDArray[np.uint64], NDArray[np.uint64], int]:
    """Return the whole blocks as words, and the rest as one block with its number of bytes."""
    whole = data.size // BLOCK_BYTES * BLOCK_BYTES
    tail = np.zeros(BLOCK_BYTES, np.uint8)
    tail[: data.size - whole] = data[whole:]
    body = data[:whole] if data.ctypes.data % 8 == 0 else data[:whole].copy()
    return body.view(np.uint64), tail.view(np.uint64), data.size - whole


def compare(data: Bytes, known: Hashes) -> tuple[Hashes, Numbers, int]:
    """Return the hashes of the blocks, the blocks whose hash is not the one in ``known``, and a digest of all bytes.

    ``known`` is used up: what is returned may lie in its memory. A block that was not there before has changed.

    >>> data = np.zeros(200, np.uint8)
    >>> known, blocks, _ = compare(data, NO_HASHES)
    >>> data[70] = 1
    >>> blocks.tolist(), compare(data, known)[1].tolist()
    ([0, 1, 2, 3], [1])
    """
    n = n_blocks(data.size)
    hashes = known
    if known.size != n:
        hashes = np.empty(n, np.uint64)
        hashes[: known.size] = known[:n]
    changed = np.empty(n, np.uint32)
    words, tail, rest = _split(data)
    whole, n_known = words.size // WORDS, min(known.size, n)
    count, total = _compare(words, 0, _WHOLE, hashes, n_known, changed)
    if rest:
        more, last = _compare(tail, whole, np.uint64(rest), hashes, n_known, changed[count:])
        count, total = count + more, total + last
    return hashes, changed[:count].copy(), _ended(total, data.size)


def digest_of(data: Bytes) -> int:
    """Return the digest of some bytes, the one that ``compare`` returns.

    >>> data = np.arange(100, dtype=np.uint8)
    >>> digest_of(data) == compare(data, NO_HASHES)[2], digest_of(data) == digest_of(data[::-1].copy())
    (True, False)
    """
    words, tail, rest = _split(data)
    total = _total(words, 0, _WHOLE)
    if rest:
        total += _total(tail, words.size // WORDS, np.uint64(rest))
    return _ended(total, data.size)


def _ended(total: int, size: int) -> int:
    return (int(total) ^ size) * int(_GOLDEN) % 2**64


def gather(data: Bytes, blocks: Numbers) -> Bytes:
    """Return the bytes of some blocks, one after the other; a last one that is not whole is filled up with zeros."""
    out = np.empty(blocks.size * WORDS, np.uint64)
    words, tail, _ = _split(data)
    _gather(words, tail, blocks, out)
    return out.view(np.uint8)


def scatter(into: Bytes, blocks: Numbers, data: Bytes) -> None:
    """Put gathered blocks into bytes that have room for whole blocks; those beyond their end are left out.

    >>> bytes_ = np.zeros(128, np.uint8)
    >>> scatter(bytes_, np.array([1, 7], np.uint32), np.ones(128, np.uint8))
    >>> int(bytes_[:64].sum()), int(bytes_[64:].sum())
    (0, 64)
    """
    body = data if data.ctypes.data % 8 == 0 else data.copy()
    _scatter(into.view(np.uint64), blocks, body.view(np.uint64))
