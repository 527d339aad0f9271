"""Keyed 128-bit hashes of columns, and the open-addressed table that is keyed by them.

Enters: Polars columns (strings, numbers, times, lists of strings) and a 16-byte key. Leaves: uint64 arrays of
shape ``(rows, 2)``; ``find`` and ``put`` on flat tables of four 64-bit words a place. Layer: ground floor.

Text is read where Polars keeps it (Arrow's string views: 16 bytes a value, which hold up to 12 bytes of text, or say
where longer text lies), so that nothing is copied before it is hashed.

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

from tocsin.text_views import text_views, word_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
"""The fourth word of a free place of a table; no payload may take this value."""

ORIGIN = np.int64(1 << 62)
"""Added to times and window numbers that are kept as payloads, so that none is EMPTY and their order is kept."""

EIGHT = np.uint64(8)
HALF = np.uint64(0xFFFFFFFF)
INLINE = np.uint64(12)
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
def _text_at(views: Any, buffers: Any, i: Any) -> Any:
    """Return where text ``i`` lies in memory, and its length in bytes."""
    n = views[i, 0] & HALF
    if n <= INLINE:
        return views.ctypes.data + np.uint64(16 * i + 4), n
    return buffers[views[i, 1] & HALF] + (views[i, 1] >> np.uint64(32)), n


@njit(cache=True, nogil=True, inline="always")
def _tail(start: Any, n: Any) -> Any:
    """Return the last ``n % 8`` bytes of a text as a word. Both reads stay inside: text below 8 bytes lies in a view."""
    rest = (n & np.uint64(7)) << np.uint64(3)
    if rest == 0:
        return np.uint64(0)
    if n < EIGHT:
        return word_at(start) & ((np.uint64(1) << rest) - np.uint64(1))
    return word_at(start + n - EIGHT) >> (np.uint64(64) - rest)


@njit(cache=True, nogil=True, inline="always")
def _siphash(start: Any, n: Any, k0: Any, k1: Any) -> Any:
    """Return the two words of SipHash-2-4-128 of the ``n`` bytes at ``start``."""
    v0 = k0 ^ np.uint64(0x736F6D6570736575)
    v1 = k1 ^ np.uint64(0x646F72616E646F6D) ^ np.uint64(0xEE)
    v2 = k0 ^ np.uint64(0x6C7967656E657261)
    v3 = k1 ^ np.uint64(0x7465646279746573)
    for i in range(n >> np.uint64(3)):
        m = word_at(start + np.uint64(8 * i))
        v3 ^= m
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0 ^= m
    m = (n << np.uint64(56)) | _tail(start, n)
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
def _hash_texts(views: Any, buffers: Any, skipped: Any, k0: Any, k1: Any, out: Any) -> None:
    """Hash the texts that are not skipped. The view of a null is not followed: it may point anywhere."""
    for i in range(views.shape[0]):
        if not skipped.size or not skipped[i]:
            start, n = _text_at(views, buffers, i)
            out[i, 0], out[i, 1] = _siphash(start, n, k0, k1)


@njit(cache=True, nogil=True, inline="always")
def _stir(digest: Any, word: Any) -> Any:
    """Take one more word into a digest: a multiplication and a shift, a bijection for each word."""
    d = (digest ^ word) * np.uint64(0x9E3779B97F4A7C15)
    return d ^ (d >> np.uint64(29))


@njit(cache=True, nogil=True, inline="always")
def _stir_text(digest: Any, start: Any, n: Any) -> Any:
    d = _stir(digest, n)
    for i in range(n >> np.uint64(3)):
        d = _stir(d, word_at(start + np.uint64(8 * i)))
    return _stir(d, _tail(start, n))


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
    for i in range(words.size):
        out[i, 0], out[i, 1] = _siphash(words.ctypes.data + np.uint64(8 * i), EIGHT, k0, k1)


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


def _items(column: pl.Series) -> tuple[NDArray[np.int64], pl.Series]:
    """Return where each list begins and ends in the column of all items, and that column."""
    arrow: Any = column.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
    offsets = arrow.offsets.to_numpy()
    first, last = offsets[[0, -1]].tolist() if len(offsets) else (0, 0)
    items = pl.Series(arrow.values.slice(first, last - first), dtype=column.dtype.inner)  # type: ignore[attr-defined]
    return offsets - first, items


def hash_column(column: pl.Series, key: bytes, where: NDArray[np.bool_] | None = None) -> Hashes:
    """Return a keyed 128-bit hash of each value, shape ``(rows, 2)``; null hashes to zeros.

    Strings and lists of strings are hashed by content; every other type by the 64 bits of its physical value.
    ``where``: the rows whose hash is needed; the others may have any.

    >>> same = hash_column(pl.Series(["ann", "bob", "ann"]), bytes(16))
    >>> bool((same[0] == same[2]).all()), bool((same[0] == same[1]).all())
    (True, False)
    """
    out = np.zeros((len(column), 2), np.uint64)
    _hash_into(out, column, key, where)
    return out


def hash_words(column: pl.Series, key: bytes) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the two words of each value's hash as arrays of their own."""
    out = np.zeros((2, len(column)), np.uint64)
    _hash_into(out.T, column, key, None)
    return out[0], out[1]


def _nulls(column: pl.Series) -> NDArray[np.bool_]:
    """Return where a column is null; an empty array where it never is."""
    return column.is_null().to_numpy() if column.null_count() else np.zeros(0, np.bool_)


def _hash_into(out: Hashes, column: pl.Series, key: bytes, where: NDArray[np.bool_] | None) -> None:
    k0, k1 = key_words(key)
    if not len(column):
        return
    if column.dtype == pl.String:
        texts, skipped = text_views(column), _nulls(column)
        if where is not None:
            skipped = skipped | ~where if skipped.size else ~where
        _hash_texts(texts.views, texts.buffers, skipped, k0, k1, out)
    elif isinstance(column.dtype, pl.List):
        offsets, items = _items(column)
        _fold_lists(offsets, hash_column(items, key), out)
    else:
        _hash_words(_physical_words(column), k0, k1, out)
    if column.null_count():
        out[column.is_null().to_numpy()] = 0


def _physical_words(column: pl.Series) -> NDArray[np.uint64]:
    """Return the 64 bits of each value of a column that is neither text nor list; null is zero."""
    if column.dtype.is_nested():
        return hash_column(column.struct.json_encode(), bytes(16))[:, 0]
    if column.dtype in {pl.Categorical, pl.Enum, pl.Null}:
        return hash_column(column.cast(pl.String), bytes(16))[:, 0]
    wide = column.to_physical().cast(pl.Float64 if column.dtype.is_float() else pl.Int64, wrap_numerical=True)
    if wide.null_count():
        wide = wide.fill_null(0)
    return wide.to_numpy().view(np.uint64)


@njit(cache=True, nogil=True)
def _fold_words(words: Any, null: Any, digest: Any) -> None:
    for i in range(words.size):
        digest[i] = _stir(digest[i], _NULL if null.size and null[i] else words[i])


@njit(cache=True, nogil=True)
def _fold_texts(views: Any, buffers: Any, null: Any, digest: Any) -> None:
    for i in range(views.shape[0]):
        if null.size and null[i]:
            digest[i] = _stir(digest[i], _NULL)
        else:
            start, n = _text_at(views, buffers, i)
            digest[i] = _stir_text(digest[i], start, n)


@njit(cache=True, nogil=True)
def _fold_items(offsets: Any, items: Any, null: Any, digest: Any) -> None:
    for i in range(digest.size):
        if null.size and null[i]:
            digest[i] = _stir(digest[i], _NULL)
        else:
            d = _stir(digest[i], np.uint64(offsets[i + 1] - offsets[i]))
            for j in range(offsets[i], offsets[i + 1]):
                d = _stir(d, items[j])
            digest[i] = d


def content_digest(frame: pl.DataFrame) -> NDArray[np.uint64]:
    """Return one 64-bit digest of each row's cells, in the order of the columns.

    It tells a repeated event from another one under the same id. Nothing else rests on it, so it is a fast hash and
    not a keyed one.
    """
    digest = np.zeros(frame.height, np.uint64)
    if frame.height:
        for column in frame.get_columns():
            _fold_column(column, digest)
    return digest


def _fold_column(column: pl.Series, digest: NDArray[np.uint64]) -> None:
    """Take a column's cells into the digests of their rows; what lies under a null is not looked at."""
    null = _nulls(column)
    if column.dtype == pl.String:
        texts = text_views(column)
        _fold_texts(texts.views, texts.buffers, null, digest)
    elif isinstance(column.dtype, pl.List):
        offsets, items = _items(column)
        _fold_items(offsets, content_digest(items.to_frame()), null, digest)
    else:
        _fold_words(_physical_words(column), null, digest)


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
def put(table: Any, place: Any, a: Any, b: Any, c: Any, payload: Any) -> None:
    """Write a key and its payload at a place that ``find`` returned."""
    table[place, 0] = a
    table[place, 1] = b
    table[place, 2] = c
    table[place, 3] = payload


@njit(cache=True, nogil=True)
def _copy_kept(old: Any, new: Any, oldest: Any) -> Any:
    kept = 0
    for i in range(old.shape[0]):
        if old[i, 3] != EMPTY and np.int64(old[i, 3]) >= oldest:
            place = find(new, old[i, 0], old[i, 1], old[i, 2])
            put(new, place, old[i, 0], old[i, 1], old[i, 2], old[i, 3])
            kept += 1
    return kept


def make_room(table: Hashes, used: int, adding: int, oldest: int = 0) -> tuple[Hashes, int]:
    """Return a table with room for ``adding`` more keys and the number of keys it holds.

    When it must grow, keys whose payload (as int64) is below ``oldest`` are forgotten: that only frees memory,
    since whoever reads a payload judges its age by itself.
    """
    if (used + adding) * 10 <= table.shape[0] * _FULL_TENTHS:
        return table, used
    payload = table[:, 3]
    live = int(((payload != EMPTY) & (payload.view(np.int64) >= oldest)).sum())
    room = live + max(2 * adding, live)  # so that it lasts for a while: moving keys costs more than looking them up
    new = new_table(max(1024, 1 << (room * 10 // _FULL_TENTHS).bit_length()))
    return new, int(_copy_kept(table, new, oldest))
