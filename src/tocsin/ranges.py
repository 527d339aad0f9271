"""Which range holds an address: strict, sorted ranges, and nested ones flattened first.

Enters: range starts and ends (both inclusive) as (hi, lo) arrays, and parsed addresses to look up.
Leaves: the row of the range holding each address, or -1. Layer: ground floor (above addresses, errors).

Two shapes. :class:`RangeIndex` is for tables whose ranges may not overlap (geo); an overlap or an
inverted range is an error that names the rows. :func:`flatten` is for lists, where a block inside a
block is normal: it cuts them into disjoint segments, each with its entries from the most specific on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from tocsin.addresses import ParsedAddresses, format_addresses
from tocsin.errors import TableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.int32]
    U64 = NDArray[np.uint64]

__all__ = ["RangeIndex", "Segments", "check_ranges", "flatten"]

_U0 = np.uint64(0)
_U1 = np.uint64(1)
_U32 = np.uint64(32)
_LOW32 = np.uint64(0xFFFFFFFF)
_MAPPED_TAG = np.uint64(0xFFFF)
_V4_BITS = 32
# About one range a bucket: measured on 3 M ranges, 2**16 buckets find 11 M addresses/s, 2**21 find 18 M.
_FEWEST_BUCKET_BITS, _MOST_BUCKET_BITS = 16, 22
_SHOWN = 5
_ROW_LIMIT = 2**31 - 1


@njit(nogil=True, cache=True)
def _fill_buckets(starts: Any, buckets: Any, shift: Any) -> None:  # pragma: no cover - compiled
    """``buckets[b]`` becomes the number of ranges that start below the IPv4 address ``b << shift``."""
    row = 0
    last = len(buckets) - 1
    for bucket in range(last):
        while row < len(starts) and (starts[row] >> shift) < bucket:
            row += 1
        buckets[bucket] = row
    buckets[last] = len(starts)


@njit(nogil=True, cache=True)
def _find_v4(key: Any, starts: Any, ends: Any, buckets: Any, shift: Any) -> int:  # pragma: no cover - compiled
    """Return the position of the IPv4 range holding ``key``, or -1. Written without branches to predict."""
    bucket = np.int64(key >> shift)
    base: Any = np.int64(buckets[bucket])
    length = np.int64(buckets[bucket + 1]) - base
    while length > 0:  # base ends as the number of starts <= key
        half = (length + 1) >> 1
        step = half if starts[base + half - 1] <= key else 0
        base += step
        length = length - half if step else half - 1
    base -= 1
    if base < 0 or key > ends[base]:
        return -1
    return int(base)


@njit(nogil=True, cache=True)
def _find_v6(hi: Any, lo: Any, ranges: Any) -> int:  # pragma: no cover - compiled
    s_hi, s_lo, e_hi, e_lo = ranges
    low, high = 0, len(s_hi)
    while low < high:
        mid = (low + high) >> 1
        if s_hi[mid] < hi or (s_hi[mid] == hi and s_lo[mid] <= lo):
            low = mid + 1
        else:
            high = mid
    low -= 1
    if low < 0 or hi > e_hi[low] or (hi == e_hi[low] and lo > e_lo[low]):
        return -1
    return low


@njit(nogil=True, cache=True)
def _find_all(
    addresses: Any, v4: Any, v4_rows: Any, v6: Any, v6_rows: Any, out: Any
) -> None:  # pragma: no cover - compiled
    valid, hi, lo = addresses
    starts, ends, buckets, shift = v4
    in_order = len(v4_rows) == 0
    for row in range(len(out)):
        found = -1
        if valid[row]:
            if hi[row] == _U0 and (lo[row] >> _U32) == _MAPPED_TAG:
                at = _find_v4(np.uint32(lo[row] & _LOW32), starts, ends, buckets, shift)
                if at >= 0:
                    found = at if in_order else v4_rows[at]
            else:
                at = _find_v6(hi[row], lo[row], v6)
                if at >= 0:
                    found = v6_rows[at]
        out[row] = found


@dataclass(frozen=True)
class RangeIndex:
    """Disjoint ranges, ready to be searched.

    IPv4 starts are uint32 with a table of where each /16 (or a finer block in a large table) begins, so a
    search touches a few neighbours; IPv6 is a binary search over (hi, lo). Look-ups run without the GIL.
    """

    v4: tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.int32], np.uint32]
    v4_rows: Rows  # empty when the position is the row
    v6: tuple[U64, U64, U64, U64]
    v6_rows: Rows

    @classmethod
    def build(cls, start: ParsedAddresses, end: ParsedAddresses, *, name: str = "ranges") -> RangeIndex:
        """Index the ranges; row numbers returned later are positions in these arrays.

        Raises :class:`TableError` for inverted, overlapping or unreadable ranges, naming the first rows.

        >>> import polars as pl
        >>> from tocsin.addresses import parse_addresses
        >>> lo, hi = pl.Series(["10.0.0.0", "::2"]), pl.Series(["10.0.0.9", "::9"])
        >>> index = RangeIndex.build(parse_addresses(lo), parse_addresses(hi))
        >>> index.find(parse_addresses(pl.Series(["10.0.0.9", "::1", "::5"]))).tolist()
        [0, -1, 1]
        """
        order = check_ranges(start, end, name=name)
        if len(order) > _ROW_LIMIT:
            msg = f"{name}: {len(order):,} ranges are more than one table can hold ({_ROW_LIMIT:,}); split it."
            raise TableError(msg)
        first_v4 = start.is_v4[order]
        v4_rows, v6_rows = order[first_v4].astype(np.int32), order[~first_v4].astype(np.int32)
        v4 = (start.lo[v4_rows], end.lo[v4_rows])
        v6 = (start.hi[v6_rows], start.lo[v6_rows], end.hi[v6_rows], end.lo[v6_rows])
        return cls._assemble(v4, v4_rows, v6, v6_rows)

    @classmethod
    def _assemble(cls, v4: tuple[U64, U64], v4_rows: Rows, v6: tuple[U64, U64, U64, U64], v6_rows: Rows) -> RangeIndex:
        """Build from ranges known to be sorted and disjoint within their family."""
        starts, ends = ((side & _LOW32).astype(np.uint32) for side in v4)
        bits = min(max(len(starts).bit_length() - 1, _FEWEST_BUCKET_BITS), _MOST_BUCKET_BITS)
        shift = np.uint32(_V4_BITS - bits)
        buckets = np.zeros((1 << bits) + 1, np.int32)
        _fill_buckets(starts, buckets, shift)
        if np.array_equal(v4_rows, np.arange(len(v4_rows), dtype=np.int32)):
            v4_rows = v4_rows[:0]  # sorted already: position is row, one memory access less for each address
        return cls((starts, ends, buckets, shift), v4_rows, v6, v6_rows)

    def find(self, parsed: ParsedAddresses) -> Rows:
        """Return the row of the range holding each address, -1 where there is none or it is not valid."""
        out = np.empty(len(parsed), np.int32)
        _find_all((parsed.valid, parsed.hi, parsed.lo), self.v4, self.v4_rows, self.v6, self.v6_rows, out)
        return out


def check_ranges(start: ParsedAddresses, end: ParsedAddresses, *, name: str) -> NDArray[np.int64]:
    """Return the rows in order of their start, or raise :class:`TableError` naming the first bad rows."""
    unreadable = np.flatnonzero(~(start.valid & end.valid))
    if len(unreadable):
        msg = (
            f"{name}: {len(unreadable):,} ranges have no readable address at one end, first at row "
            f"{_rows(unreadable)} (rows count from 0). Remove or correct them."
        )
        raise TableError(msg)
    wrong = np.flatnonzero(_after(start.hi, start.lo, end.hi, end.lo) | (start.is_v4 != end.is_v4))
    if len(wrong):
        msg = (
            f"{name}: {len(wrong):,} inverted ranges (first address after last, or of two families): "
            f"{_show(start, end, wrong)}. Swap or remove them."
        )
        raise TableError(msg)
    unsorted = _after(start.hi[:-1], start.lo[:-1], start.hi[1:], start.lo[1:]).any()
    order = np.lexsort((start.lo, start.hi)) if unsorted else np.arange(len(start))
    before, after = order[:-1], order[1:]
    clash = np.flatnonzero(~_after(start.hi[after], start.lo[after], end.hi[before], end.lo[before]))
    if len(clash):
        pairs = "; ".join(
            f"{_show(start, end, order[at : at + 1])} and {_show(start, end, order[at + 1 : at + 2])}"
            for at in clash[:_SHOWN]
        )
        more = f" and {len(clash) - _SHOWN:,} more" if len(clash) > _SHOWN else ""
        msg = f"{name}: {len(clash):,} overlapping ranges: {pairs}{more}. One address must have one answer."
        raise TableError(msg)
    return order


def _after(hi: U64, lo: U64, other_hi: U64, other_lo: U64) -> NDArray[np.bool_]:
    return np.asarray((hi > other_hi) | ((hi == other_hi) & (lo > other_lo)), dtype=np.bool_)


def _rows(rows: NDArray[np.int64]) -> str:
    return ", ".join(str(int(row)) for row in rows[:_SHOWN])


def _show(start: ParsedAddresses, end: ParsedAddresses, rows: NDArray[np.int64]) -> str:
    first = rows[:_SHOWN]
    one = format_addresses(ParsedAddresses(start.valid[first], start.hi[first], start.lo[first]))
    two = format_addresses(ParsedAddresses(end.valid[first], end.hi[first], end.lo[first]))
    text = ", ".join(f"row {row} ({a} to {b})" for row, a, b in zip(first, one, two, strict=True))
    return text + (f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else "")


@dataclass(frozen=True)
class Segments:
    """Nested ranges cut into disjoint pieces.

    ``index.find`` gives a segment; ``entries[offsets[s]:offsets[s + 1]]`` are the rows of the list that
    cover segment ``s``, the most specific first (equal sizes: the earlier row first).
    """

    index: RangeIndex
    offsets: NDArray[np.int64]
    entries: Rows


@njit(nogil=True, cache=True)
def _grown(array: Any, needed: int) -> Any:  # pragma: no cover - compiled
    if needed <= len(array):
        return array
    bigger = np.empty(max(needed, 2 * len(array)), array.dtype)
    bigger[: len(array)] = array
    return bigger


@njit(nogil=True, cache=True)
def _open_or_close(active: Any, depth: int, rank: int, opens: bool) -> tuple[Any, int]:  # pragma: no cover - compiled
    """Keep ``active[:depth]`` the sorted ranks of the ranges that cover the present address."""
    if opens:
        active = _grown(active, depth + 1)
        slot = depth
        while slot > 0 and active[slot - 1] > rank:
            active[slot] = active[slot - 1]
            slot -= 1
        active[slot] = rank
        return active, depth + 1
    slot = 0
    while active[slot] != rank:
        slot += 1
    for k in range(slot, depth - 1):
        active[k] = active[k + 1]
    return active, depth - 1


@njit(nogil=True, cache=True)
def _sweep(
    order: Any, at: Any, rank: Any, by_rank: Any, final: Any
) -> tuple[Any, Any, Any]:  # pragma: no cover - compiled
    """Walk the boundaries (starts, and ends + 1); emit a segment whenever the covered set is not empty.

    ``order`` holds event numbers: below n an entry's start, from n on its end. ``final[e]`` is true for an
    entry that holds for all time: what is less specific than it can never be the answer, so it is left out.
    """
    at_hi, at_lo = at
    count = len(rank)
    active, depth = np.empty(16, np.int64), 0
    bounds, offsets, made = np.empty(4096, np.uint64), np.zeros(1024, np.int64), 0
    entries, used = np.empty(1024, np.int32), 0
    for step in range(len(order)):
        event = order[step]
        hi, lo = at_hi[event], at_lo[event]
        active, depth = _open_or_close(active, depth, rank[event % count], event < count)
        last = step + 1 == len(order)
        next_hi, next_lo = (_U0, _U0) if last else (at_hi[order[step + 1]], at_lo[order[step + 1]])
        if depth == 0 or (not last and next_hi == hi and next_lo == lo):
            continue
        # After the last boundary only ranges up to the very last address are open; 0 - 1 is that address.
        bounds = _grown(bounds, 4 * made + 4)
        offsets = _grown(offsets, made + 2)
        bounds[4 * made], bounds[4 * made + 1] = hi, lo
        bounds[4 * made + 2] = next_hi if next_lo > _U0 else next_hi - _U1
        bounds[4 * made + 3] = next_lo - _U1
        for k in range(depth):
            entries = _grown(entries, used + 1)
            entries[used] = by_rank[active[k]]
            used += 1
            if final[by_rank[active[k]]]:
                break
        made += 1
        offsets[made] = used
    return bounds[: 4 * made].copy().reshape(made, 4), offsets[: made + 1], entries[:used]


def flatten(start: ParsedAddresses, end: ParsedAddresses, *, final: NDArray[np.bool_], name: str) -> Segments:
    """Cut ranges that may nest or overlap into disjoint segments, the most specific entry first in each.

    ``final`` marks the entries that hold for all time: they hide every less specific one.
    Inverted or unreadable ranges raise :class:`TableError` (list readers reject such lines before).
    """
    bad = np.flatnonzero(~(start.valid & end.valid) | _after(start.hi, start.lo, end.hi, end.lo))
    if len(bad):
        msg = f"{name}: {len(bad):,} ranges are unreadable or inverted, first at row {_rows(bad)}."
        raise TableError(msg)
    v4_rows, v6_rows = np.flatnonzero(start.is_v4), np.flatnonzero(~start.is_v4)
    # Family by family: a block of IPv6 never answers for IPv4, though v4-mapped numbers lie inside ::/0.
    b4, offsets4, entries4 = _segments(start, end, v4_rows, final)
    b6, offsets6, entries6 = _segments(start, end, v6_rows, final)
    index = RangeIndex._assemble(  # noqa: SLF001 - same module, the trusted way in
        (b4[1], b4[3]), np.arange(len(b4[0]), dtype=np.int32), b6, np.arange(len(b6[0]), dtype=np.int32) + len(b4[0])
    )
    offsets = np.concatenate([offsets4, offsets6[1:] + offsets4[-1]])
    return Segments(index, offsets, np.concatenate([entries4, entries6]).astype(np.int32))


def _segments(
    start: ParsedAddresses, end: ParsedAddresses, rows: NDArray[np.int64], final: NDArray[np.bool_]
) -> tuple[tuple[U64, U64, U64, U64], NDArray[np.int64], Rows]:
    """Return (start hi, start lo, end hi, end lo) of the segments, their offsets, and their entries as rows."""
    s_hi, s_lo, e_hi, e_lo = start.hi[rows], start.lo[rows], end.hi[rows], end.lo[rows]
    count = len(rows)
    borrow = (e_lo < s_lo).astype(np.uint64)
    by_rank = np.lexsort((np.arange(count), e_lo - s_lo, e_hi - s_hi - borrow))
    rank = np.empty(count, np.int64)
    rank[by_rank] = np.arange(count)
    past_lo = e_lo + _U1
    past_hi = e_hi + (past_lo == _U0).astype(np.uint64)
    closes = np.flatnonzero(~((past_hi == _U0) & (past_lo == _U0)))  # the very last address has no "past"
    at_hi, at_lo = np.concatenate([s_hi, past_hi]), np.concatenate([s_lo, past_lo])
    events = np.concatenate([np.arange(count), closes + count])
    order = events[np.lexsort((at_lo[events], at_hi[events]))]
    bounds, offsets, entries = _sweep(order, (at_hi, at_lo), rank, by_rank, final[rows])
    b = [np.ascontiguousarray(bounds[:, side]) for side in range(4)]
    return (b[0], b[1], b[2], b[3]), offsets, rows[entries].astype(np.int32)
