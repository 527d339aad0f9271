"""Keyed 128-bit hashes of columns, and the open-addressed table that is keyed by them.

Enters: Polars columns (strings, numbers, times, lists of strings) and a 16-byte key. Leaves: uint64 arrays of
shape ``(rows, 2)``; ``find`` and ``put`` on flat tables of four 64-bit words a place. Layer: ground floor.

Identifiers are chosen by attackers (a Message-ID, a user name), so the hash is SipHash-2-4 with 128 bits of output
(Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012, section 2): without the key nobody can build two
identifiers that share a place, and 128 bits make an accidental clash of a billion identifiers less likely than
one in 10^20.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
"""The fourth word of a free place of a table; no payload may take this value."""

ORIGIN = np.int64(1 << 62)
"""Added to times and window numbers that are kept as payloads, so that none is EMPTY and their order is kept."""

EIGHT = np.uint64(8)
WORDS = 4
_FULL_TENTHS = 6
_NULL = np.uint64(0x9E3779B97F4A7C15)


@njit(cache=True, nogil=True, inline="always")
def _rotate(x: Any, bits: Any) -> Any:
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


@njit(cache=True, nogil=True, inline="always")
def _round(v0: Any, v1: Any, v2: Any, v3: Any) -> Any:
    v0 += v1
    v1 = _rotate(v1, 13) ^ v0
    v0 = _rotate(v0, 32)
    v2 += v3
    v3 = _rotate(v3, 16) ^ v2
    v0 += v3
    v3 = _rotate(v3, 21) ^ v0
    v2 += v1
    v1 = _rotate(v1, 17) ^ v2
    v2 = _rotate(v2, 32)
    return v0, v1, v2, v3


@njit(cache=True, nogil=True, inline="always")
def _word(data: Any, i: Any) -> Any:
    """Return 8 bytes as a little-endian word. Unsigned indices spare the check for negative ones, so it is one load."""
    m = np.uint64(0)
    for j in range(8):
        m |= np.uint64(data[i + np.uint64(j)]) << np.uint64(8 * j)
    return m


@njit(cache=True, nogil=True, inline="always")
def _tail(data: Any, i: Any, stop: Any) -> Any:
    """Return the last 0 to 7 bytes as a word."""
    m, shift = np.uint64(0), np.uint64(0)
    while i < stop:
        m |= np.uint64(data[i]) << shift
        i += np.uint64(1)
        shift += EIGHT
    return m


@njit(cache=True, nogil=True)
def _siphash(data: Any, start: Any, end: Any, k0: Any, k1: Any) -> Any:
    """Return the two words of SipHash-2-4-128 of ``data[start:end]``."""
    v0 = k0 ^ np.uint64(0x736F6D6570736575)
    v1 = k1 ^ np.uint64(0x646F72616E646F6D) ^ np.uint64(0xEE)
    v2 = k0 ^ np.uint64(0x6C7967656E657261)
    v3 = k1 ^ np.uint64(0x7465646279746573)
    i, stop = np.uint64(start), np.uint64(end)
    length = stop - i
    while i + EIGHT <= stop:
        m = _word(data, i)
        v3 ^= m
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0 ^= m
        i += EIGHT
    m = (length << np.uint64(56)) | _tail(data, i, stop)
    v3 ^= m
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0 ^= m
    v2 ^= np.uint64(0xEE)
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    first = v0 ^ v1 ^ v2 ^ v3
    v1 ^= np.uint64(0xDD)
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return first, v0 ^ v1 ^ v2 ^ v3


@njit(cache=True, nogil=True)
def _hash_strings(offsets: Any, data: Any, k0: Any, k1: Any, out: Any) -> None:
    for i in range(offsets.size - 1):
        out[i, 0], out[i, 1] = _siphash(data, offsets[i], offsets[i + 1], k0, k1)


@njit(cache=True, nogil=True, inline="always")
def mix(x: Any) -> Any:
    """Scatter the bits of one word (the finaliser of MurmurHash3; a bijection)."""
    x = np.uint64(x)
    x ^= x >> np.uint64(33)
    x *= np.uint64(0xFF51AFD7ED558CCD)
    x ^= x >> np.uint64(33)
    x *= np.uint64(0xC4CEB9FE1A85EC53)
    return x ^ (x >> np.uint64(33))


@njit(cache=True, nogil=True)
def _hash_words(words: Any, k0: Any, k1: Any, out: Any) -> None:
    """Hash 8-byte values: SipHash of their little-endian bytes."""
    data = np.empty(8, np.uint8)
    for i in range(words.size):
        for j in range(8):
            data[j] = np.uint8((words[i] >> np.uint64(8 * j)) & np.uint64(0xFF))
        out[i, 0], out[i, 1] = _siphash(data, 0, 8, k0, k1)


@njit(cache=True, nogil=True)
def _fold_lists(offsets: Any, items: Any, out: Any) -> None:
    for i in range(offsets.size - 1):
        a = np.uint64(offsets[i + 1] - offsets[i])
        b = ~a
        for j in range(offsets[i], offsets[i + 1]):
            a = mix(a ^ items[j, 0])
            b = mix(b + items[j, 1])
        out[i, 0], out[i, 1] = a, b


def key_words(key: bytes) -> tuple[np.uint64, np.uint64]:
    """Return the two little-endian words of a 16-byte key."""
    k0, k1 = np.frombuffer(key, "<u8", 2)
    return k0, k1


def _strings(column: pl.Series) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    arrow: Any = column.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = arrow.buffers()
    starts = np.frombuffer(offsets, np.int64)[arrow.offset : arrow.offset + len(arrow) + 1]
    return starts, np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)


def hash_column(column: pl.Series, key: bytes) -> Hashes:
    """Return a keyed 128-bit hash of each value, shape ``(rows, 2)``; null hashes to zeros.

    Strings and lists of strings are hashed by content; every other type by the 64 bits of its physical value.

    >>> same = hash_column(pl.Series(["ann", "bob", "ann"]), bytes(16))
    >>> bool((same[0] == same[2]).all()), bool((same[0] == same[1]).all())
    (True, False)
    """
    k0, k1 = key_words(key)
    out = np.zeros((len(column), 2), np.uint64)
    if column.dtype == pl.String:
        offsets, data = _strings(column)
        if len(column):
            _hash_strings(offsets, data, k0, k1, out)
    elif isinstance(column.dtype, pl.List):
        arrow: Any = column.to_arrow(compat_level=pl.CompatLevel.oldest())
        items = hash_column(pl.Series(arrow.values, dtype=column.dtype.inner), key)
        _fold_lists(arrow.offsets.to_numpy(), items, out)
    else:
        _hash_words(_physical_words(column), k0, k1, out)
    if column.null_count():
        out[column.is_null().to_numpy()] = 0
    return out


def _physical_words(column: pl.Series) -> NDArray[np.uint64]:
    """Return the 64 bits of each value of a column that is neither text nor list; null is zero."""
    if column.dtype.is_nested():
        return hash_column(column.struct.json_encode(), bytes(16))[:, 0]
    if column.dtype in {pl.Categorical, pl.Enum, pl.Null}:
        return hash_column(column.cast(pl.String), bytes(16))[:, 0]
    wide = column.to_physical().cast(pl.Float64 if column.dtype.is_float() else pl.Int64)
    if wide.null_count():
        wide = wide.fill_null(0)
    return wide.to_numpy().view(np.uint64)


@njit(cache=True, nogil=True, inline="always")
def _stir(digest: Any, word: Any) -> Any:
    """Take one more word into a digest: a multiplication and a shift, a bijection for each word."""
    d = (digest ^ word) * np.uint64(0x9E3779B97F4A7C15)
    return d ^ (d >> np.uint64(29))


@njit(cache=True, nogil=True)
def _fold_words(words: Any, digest: Any) -> None:
    for i in range(words.size):
        digest[i] = _stir(digest[i], words[i])


@njit(cache=True, nogil=True)
def _fold_strings(offsets: Any, data: Any, digest: Any) -> None:
    for i in range(offsets.size - 1):
        j, stop = np.uint64(offsets[i]), np.uint64(offsets[i + 1])
        d = _stir(digest[i], stop - j)
        while j + EIGHT <= stop:
            d = _stir(d, _word(data, j))
            j += EIGHT
        digest[i] = _stir(d, _tail(data, j, stop))


def content_digest(frame: pl.DataFrame, key: bytes) -> NDArray[np.uint64]:
    """Return one 64-bit digest of each row's cells, in the order of the columns.

    It tells a repeated event from another one under the same id. Nothing else rests on it, so it is a fast hash and
    not a keyed one, except for lists.
    """
    digest = np.zeros(frame.height, np.uint64)
    for column in frame.get_columns():
        if column.dtype == pl.String:
            if frame.height:
                _fold_strings(*_strings(column), digest)
        elif isinstance(column.dtype, pl.List):
            _fold_words(np.ascontiguousarray(hash_column(column, key)[:, 0]), digest)
        else:
            _fold_words(_physical_words(column), digest)
        if column.null_count():
            digest[column.is_null().to_numpy()] ^= _NULL  # of the null rows alone: a row's digest knows no neighbours
    return digest


# The table: a flat array of shape (places, 4). Words 0-2 are the key, word 3 the payload (EMPTY = free).


def new_table(places: int = 1024) -> Hashes:
    """Return an empty table with a power of two of places."""
    table = np.zeros((places, WORDS), np.uint64)
    table[:, 3] = EMPTY
    return table


@njit(cache=True, nogil=True, inline="always")
def find(table: Any, a: Any, b: Any, c: Any) -> Any:
    """Return the place of key (a, b, c): where it stands, or the free place where it belongs."""
    mask = np.uint64(table.shape[0] - 1)
    place = (a ^ mix(c)) & mask
    while table[place, 3] != EMPTY and not (table[place, 0] == a and table[place, 1] == b and table[place, 2] == c):
        place = (place + np.uint64(1)) & mask
    return place


@njit(cache=True, nogil=True, inline="always")
def find_pair(table: Any, a: Any, b: Any) -> Any:
    """Return the place of key (a, b) in a table whose third word is payload too."""
    mask = np.uint64(table.shape[0] - 1)
    place = a & mask
    while table[place, 3] != EMPTY and not (table[place, 0] == a and table[place, 1] == b):
        place = (place + np.uint64(1)) & mask
    return place


@njit(cache=True, nogil=True, inline="always")
def put(table: Any, place: Any, a: Any, b: Any, c: Any, payload: Any) -> None:
    """Write a key and its payload at a place that ``find`` returned."""
    table[place, 0] = a
    table[place, 1] = b
    table[place, 2] = c
    table[place, 3] = payload


@njit(cache=True, nogil=True)
def _copy_kept(old: Any, new: Any, oldest: Any, pairs: Any) -> Any:
    kept = 0
    for i in range(old.shape[0]):
        if old[i, 3] != EMPTY and np.int64(old[i, 3]) >= oldest:
            place = find_pair(new, old[i, 0], old[i, 1]) if pairs else find(new, old[i, 0], old[i, 1], old[i, 2])
            put(new, place, old[i, 0], old[i, 1], old[i, 2], old[i, 3])
            kept += 1
    return kept


def make_room(
    table: Hashes, used: int, adding: int, oldest: int = 0, *, pairs: bool = False, spare: Hashes | None = None
) -> tuple[Hashes, int]:
    """Return a table with room for ``adding`` more keys and the number of keys it holds.

    When it must grow, keys whose payload (as int64) is below ``oldest`` are forgotten: that only frees memory,
    since whoever reads a payload judges its age by itself. ``pairs`` says that the key is two words, not three.
    ``spare`` is an outgrown table that may be written over, where fresh memory would cost more than the work.
    """
    if (used + adding) * 10 <= table.shape[0] * _FULL_TENTHS:
        return table, used
    payload = table[:, 3]
    live = int(((payload != EMPTY) & (payload.view(np.int64) >= oldest)).sum())
    room = live + max(2 * adding, live)  # so that it lasts for a while: moving keys costs more than looking them up
    places = max(1024, 1 << (room * 10 // _FULL_TENTHS).bit_length())
    if spare is not None and spare.shape[0] == places and spare is not table:
        new = spare
        new[:, 3] = EMPTY
    else:
        new = new_table(places)
    return new, int(_copy_kept(table, new, oldest, pairs))
