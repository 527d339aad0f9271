"""Compiled kernels that read and write IP addresses, one byte at a time.

Enters: the bytes and offsets of an Arrow string column. Leaves: status, hi and lo, filled in place.
Layer: ground floor, the inside of :mod:`tocsin.addresses` (nobody else calls it). All run without the GIL.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

# Every constant is a uint64: numba, like NumPy 1, turns uint64 with int64 into float64 and loses bits.
_U0 = np.uint64(0)
_U16 = np.uint64(16)
_U32 = np.uint64(32)
_LOW32 = np.uint64(0xFFFFFFFF)
_MAPPED = np.uint64(0xFFFF00000000)
_GROUP = np.uint64(0xFFFF)

INVALID, CANONICAL, OTHER_SPELLING = 0, 1, 2


@njit(nogil=True, cache=True)
def _parse_v4(data: Any, i: int, end: int) -> Any:  # pragma: no cover - compiled
    """Return the address as an integer, or -1."""
    value = 0
    octets = 0
    while True:
        start = i
        octet = 0
        while i < end and 48 <= data[i] <= 57 and i - start < 4:
            octet = octet * 10 + (data[i] - 48)
            i += 1
        digits = i - start
        if digits == 0 or digits > 3 or octet > 255 or (digits > 1 and data[start] == 48):
            return -1
        value = (value << 8) | octet
        octets += 1
        if octets == 4:
            return value if i == end else -1
        if i >= end or data[i] != 46:
            return -1
        i += 1


@njit(nogil=True, cache=True)
def _hex_value(byte: Any) -> Any:  # pragma: no cover - compiled
    if 48 <= byte <= 57:
        return byte - 48
    lower = byte | 32
    if 97 <= lower <= 102:
        return lower - 87
    return -1


@njit(nogil=True, cache=True)
def _read_groups(data: Any, i: int, end: int, groups: Any) -> tuple[int, int]:  # pragma: no cover - compiled
    """Read the colon groups into ``groups``; return (count or -1, index of the ``::`` or -1)."""
    count = 0
    gap = -1
    if end - i < 2:
        return -1, -1
    if data[i] == 58:
        if data[i + 1] != 58:
            return -1, -1
        gap = 0
        i += 2
    while i < end:
        start = i
        group = 0
        while i < end and i - start < 5:
            digit = _hex_value(np.int64(data[i]))
            if digit < 0:
                break
            group = (group << 4) | digit
            i += 1
        if i < end and data[i] == 46:  # a dotted quad may only stand last
            quad = _parse_v4(data, start, end)
            if quad < 0 or count > 6:
                return -1, -1
            groups[count] = quad >> 16
            groups[count + 1] = quad & 0xFFFF
            return count + 2, gap
        if i == start or i - start > 4 or count == 8:
            return -1, -1
        groups[count] = group
        count += 1
        if i == end:
            return count, gap
        if data[i] != 58 or i + 1 == end:
            return -1, -1
        i += 1
        if data[i] == 58:
            if gap >= 0:
                return -1, -1
            gap = count
            i += 1
    return count, gap


@njit(nogil=True, cache=True)
def _parse_v6(data: Any, i: int, end: int, groups: Any) -> tuple[bool, Any, Any]:  # pragma: no cover - compiled
    count, gap = _read_groups(data, i, end, groups)
    if count < 0 or (gap >= 0 and count > 7) or (gap < 0 and count != 8):
        return False, _U0, _U0
    hi = _U0
    lo = _U0
    for position in range(8):
        source = position
        group = _U0
        if gap >= 0 and position >= gap:
            source = position - (8 - count)
            if source >= gap:
                group = np.uint64(groups[source])
        else:
            group = np.uint64(groups[source])
        if position < 4:
            hi = (hi << _U16) | group
        else:
            lo = (lo << _U16) | group
    return True, hi, lo


@njit(nogil=True, cache=True)
def _write_decimal(value: Any, out: Any, at: int) -> int:  # pragma: no cover - compiled
    if value >= 100:
        out[at] = 48 + value // 100
        at += 1
    if value >= 10:
        out[at] = 48 + value // 10 % 10
        at += 1
    out[at] = 48 + value % 10
    return at + 1


@njit(nogil=True, cache=True)
def _longest_zero_run(hi: Any, lo: Any) -> tuple[int, int]:  # pragma: no cover - compiled
    """Return (start, length) of the first longest run of zero groups; length 0 when below two (RFC 5952)."""
    best_start = 0
    best = 0
    run = 0
    for position in range(8):
        word = hi if position < 4 else lo
        shift = np.uint64(48 - 16 * (position & 3))
        if (word >> shift) & _GROUP == _U0:
            run += 1
            if run > best:
                best = run
                best_start = position - run + 1
        else:
            run = 0
    if best < 2:
        return 8, 0
    return best_start, best


@njit(nogil=True, cache=True)
def _write_v6(hi: Any, lo: Any, out: Any, at: int) -> int:  # pragma: no cover - compiled
    gap, length = _longest_zero_run(hi, lo)
    position = 0
    while position < 8:
        if position == gap:
            out[at] = 58
            out[at + 1] = 58
            at += 2
            position += length
            continue
        if position > 0 and position != gap + length:
            out[at] = 58
            at += 1
        word = hi if position < 4 else lo
        group = np.int64((word >> np.uint64(48 - 16 * (position & 3))) & _GROUP)
        started = False
        for shift in (12, 8, 4, 0):
            digit = (group >> shift) & 15
            if digit > 0 or started or shift == 0:
                out[at] = 48 + digit if digit < 10 else 87 + digit
                at += 1
                started = True
        position += 1
    return at


@njit(nogil=True, cache=True)
def _write_address(hi: Any, lo: Any, out: Any, at: int) -> int:  # pragma: no cover - compiled
    """Write the canonical text at ``at`` and return where it ends."""
    if hi == _U0 and (lo >> _U32) == _GROUP:
        value = np.int64(lo & _LOW32)
        for shift in (24, 16, 8, 0):
            at = _write_decimal((value >> shift) & 255, out, at)
            if shift:
                out[at] = 46
                at += 1
        return at
    return _write_v6(hi, lo, out, at)


@njit(nogil=True, cache=True)
def parse_column(text: Any, status: Any, hi: Any, lo: Any) -> None:  # pragma: no cover - compiled
    """Fill ``status`` (INVALID, CANONICAL, OTHER_SPELLING) and the numbers of address text."""
    data, offsets, present = text
    groups = np.zeros(10, np.int64)
    scratch = np.zeros(64, np.uint8)
    for row in range(len(status)):
        if not present[row]:
            continue
        start, end = offsets[row], offsets[row + 1]
        value = _parse_v4(data, start, end)
        if value >= 0:
            status[row] = 1
            lo[row] = _MAPPED | np.uint64(value)
            continue
        if end - start > 45 or end - start < 2:
            continue
        ok, upper, lower = _parse_v6(data, start, end, groups)
        if not ok:
            continue
        hi[row] = upper
        lo[row] = lower
        length = _write_address(upper, lower, scratch, 0)
        same = length == end - start
        k = 0
        while same and k < length:
            same = scratch[k] == data[start + k]
            k += 1
        status[row] = 1 if same else 2


@njit(nogil=True, cache=True)
def parse_number_column(text: Any, valid: Any, hi: Any, lo: Any) -> None:  # pragma: no cover - compiled
    """Fill ``valid`` and the numbers of addresses written as decimal numbers."""
    data, offsets, present = text
    ten = np.uint64(10)
    for row in range(len(valid)):
        start, end = offsets[row], offsets[row + 1]
        if not present[row] or start == end or end - start > 39:
            continue
        upper, lower = _U0, _U0
        good = True
        for k in range(start, end):
            if data[k] < 48 or data[k] > 57:
                good = False
                break
            low = (lower & _LOW32) * ten + np.uint64(data[k] - 48)
            mid = (lower >> _U32) * ten + (low >> _U32)
            top_low = (upper & _LOW32) * ten + (mid >> _U32)
            top_high = (upper >> _U32) * ten + (top_low >> _U32)
            if top_high > _LOW32:
                good = False
                break
            lower = (mid << _U32) | (low & _LOW32)
            upper = (top_high << _U32) | (top_low & _LOW32)
        if good:
            valid[row] = True
            # A number below 2**32 is an IPv4 address, as in the notebook's own table.
            hi[row] = upper
            lo[row] = lower | _MAPPED if upper == _U0 and lower <= _LOW32 else lower


@njit(nogil=True, cache=True)
def format_column(hi: Any, lo: Any, out: Any, offsets: Any) -> None:  # pragma: no cover - compiled
    """Write the canonical text of each address into ``out``, its end into ``offsets``."""
    at = 0
    for row in range(len(hi)):
        at = _write_address(hi[row], lo[row], out, at)
        offsets[row + 1] = at
