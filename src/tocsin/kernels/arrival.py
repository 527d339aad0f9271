"""Arrival: future, duplicate, late, clocks and the released frontier, judged event by event.

Enters: time, partition, received_at, id hash and content digest of each event in arrival order; the clocks. Leaves:
the fate of each event and the instant after which a late one may enter the fits. Layer: kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tocsin.kernels.windows import NEVER

OK, LATE, DUPLICATE, CONFLICT, FUTURE = 0, 1, 2, 3, 4
BLOCK = 256
"""Events whose places in the table are read ahead together."""
FATES = ("ok", "late", "duplicate", "conflict", "future")
HALF = np.uint64(0xFFFFFFFF00000000)
"""The half of an id that its place in the index keeps; the other half is the number of its entry, from one on."""
ONE = np.uint64(1)
UNKNOWN = np.uint64(0)
"""The content of an id that was remembered under other rules: it is taken for that of any event."""


@njit(cache=True, nogil=True, inline="always")
def lowest_clock(clock: Any, idle: Any) -> Any:
    """Return the smallest clock of the partitions that are not idle, or NEVER when all are."""
    if clock.size == 1:
        return NEVER if idle[0] else clock[0]
    low = NEVER
    for p in range(clock.size):
        if not idle[p] and clock[p] != NEVER and (low == NEVER or clock[p] < low):
            low = clock[p]
    return low


@njit(cache=True, nogil=True)
def keep_ids(entries: Any, used: Any, oldest: Any, into: Any) -> Any:
    """Copy the entries stamped at ``oldest`` or later, in order, perhaps within one array; return how many they are."""
    kept = 0
    for i in range(used):
        if np.int64(entries[i, 3]) >= oldest:
            for word in range(4):
                into[kept, word] = entries[i, word]
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def number_ids(entries: Any, used: Any, index: Any) -> None:
    """Enter different ids into an index of which every place is free (zero)."""
    mask = np.uint64(index.size - 1)
    for i in range(used):
        place = entries[i, 0] & mask
        while index[place]:
            place = (place + ONE) & mask
        index[place] = (entries[i, 0] & HALF) | np.uint64(i + 1)


@njit(cache=True, nogil=True, inline="always")
def find_id(index: Any, entries: Any, id1: Any, id2: Any) -> Any:
    """Return the place of an id in the index: where the number of its entry stands, or the free place where it belongs."""
    mask, half = np.uint64(index.size - 1), id1 & HALF
    place = id1 & mask
    while index[place]:
        if index[place] & HALF == half:
            e = (index[place] & ~HALF) - ONE
            if entries[e, 0] == id1 and entries[e, 1] == id2:
                break
        place = (place + ONE) & mask
    return place


@njit(cache=True, nogil=True, inline="always")
def _touch(id1: Any, index: Any, start: Any, stop: Any) -> Any:
    """Read the places that the next events will need. The reads do not wait for each other, so the cache misses overlap."""
    mask, sink = np.uint64(index.size - 1), np.uint64(0)
    for i in range(start, stop):
        sink ^= index[id1[i] & mask]
    return sink


@njit(cache=True, nogil=True)
def judge(
    t: Any,
    partition: Any,
    received: Any,
    id1: Any,
    id2: Any,
    content: Any,
    lateness: Any,
    skew: Any,
    horizon: Any,
    clock: Any,
    idle: Any,
    frontier: Any,
    index: Any,
    entries: Any,
    used: Any,
    fate: Any,
    floor: Any,
) -> Any:
    """Write the fate of each event, and for late ones the clock they were late against.

    Return the frontier, the number of ids remembered, and a number without meaning that keeps the reading ahead from
    being optimised away.

    ``partition`` and ``received`` may be empty: all events are of partition 0, none says when it was received.
    ``clock[p]`` is the highest event time of partition p (NEVER before its first event); ``frontier`` is the highest
    value that ``min over partitions of clock - lateness`` ever had. An event is late when it lies before its own
    partition's clock less the lateness, or before the frontier. An entry keeps id, content and the clock just after
    the first arrival, where the clock is that of the partition or the frontier plus the lateness, whichever is higher;
    an id is forgotten once that clock has moved on by more than ``horizon``.
    """
    sink = np.uint64(0)
    for i in range(t.size):
        if i % BLOCK == 0:
            sink ^= _touch(id1, index, i, min(i + BLOCK, t.size))
        p = partition[i] if partition.size else 0
        if received.size and received[i] != NEVER and t[i] > received[i] + skew:
            fate[i] = FUTURE
            continue
        c = clock[p]
        w = NEVER if c == NEVER else c - lateness
        w = max(w, frontier)
        place = find_id(index, entries, id1[i], id2[i])
        known = index[place] != 0
        e = (index[place] & ~HALF) - ONE if known else np.uint64(used)
        if known and w + lateness - np.int64(entries[e, 3]) <= horizon:
            before = entries[e, 2]
            fate[i] = DUPLICATE if before in (content[i], UNKNOWN) else CONFLICT
            continue
        if w != NEVER and t[i] < w:
            fate[i] = LATE
            floor[i] = w
        else:
            fate[i] = OK
        if c == NEVER or t[i] > c:
            clock[p] = t[i]
        idle[p] = False
        low = lowest_clock(clock, idle)
        if low != NEVER and low - lateness > frontier:
            frontier = low - lateness
        stamp = max(clock[p], frontier + lateness)
        if not known:
            used += 1
            index[place] = (id1[i] & HALF) | np.uint64(used)
        entries[e, 0], entries[e, 1], entries[e, 2], entries[e, 3] = id1[i], id2[i], content[i], np.uint64(stamp)
    return frontier, used, sink
