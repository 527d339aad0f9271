"""Arrival: future, duplicate, late, clocks and the released frontier, judged event by event.

Enters: time, partition, received_at, id hash and content digest of each event in arrival order; the clocks. Leaves:
the fate of each event and the instant after which a late one may enter the fits. Layer: kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tocsin.hashing import EMPTY, ORIGIN, find_pair, put
from tocsin.kernels.windows import NEVER

OK, LATE, DUPLICATE, CONFLICT, FUTURE = 0, 1, 2, 3, 4
BLOCK = 256
"""Events whose places in the table are read ahead together."""
FATES = ("ok", "late", "duplicate", "conflict", "future")


@njit(cache=True, nogil=True, inline="always")
def lowest_clock(clock: Any, idle: Any) -> Any:
    """Return the smallest clock of the partitions that are not idle, or NEVER when all are."""
    low = NEVER
    for p in range(clock.size):
        if not idle[p] and clock[p] != NEVER and (low == NEVER or clock[p] < low):
            low = clock[p]
    return low


@njit(cache=True, nogil=True, inline="always")
def _touch(id1: Any, table: Any, start: Any, stop: Any) -> Any:
    """Read the places that the next events will need. The reads do not wait for each other, so the cache misses overlap."""
    mask, sink = np.uint64(table.shape[0] - 1), np.uint64(0)
    for i in range(start, stop):
        sink ^= table[id1[i] & mask, 3]
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
    table: Any,
    fate: Any,
    floor: Any,
) -> Any:
    """Write the fate of each event, and for late ones the clock they were late against.

    Return the frontier, the number of new ids, and a number without meaning that keeps the reading ahead from being
    optimised away.

    ``clock[p]`` is the highest event time of partition p (NEVER before its first event); ``frontier`` is the highest
    value that ``min over partitions of clock - lateness`` ever had. An event is late when it lies before its own
    partition's clock less the lateness, or before the frontier. A place of ``table`` keeps id, content and the
    clock just after the first arrival, where the clock is that of the partition or the frontier plus the lateness,
    whichever is higher; an id is forgotten once that clock has moved on by more than ``horizon``.
    """
    new, sink = 0, np.uint64(0)
    for i in range(t.size):
        if i % BLOCK == 0:
            sink ^= _touch(id1, table, i, min(i + BLOCK, t.size))
        p = partition[i]
        if received[i] != NEVER and t[i] > received[i] + skew:
            fate[i] = FUTURE
            continue
        c = clock[p]
        w = NEVER if c == NEVER else c - lateness
        w = max(w, frontier)
        place = find_pair(table, id1[i], id2[i])
        if table[place, 3] == EMPTY:
            new += 1
        elif w + lateness - (np.int64(table[place, 3]) - ORIGIN) <= horizon:
            fate[i] = DUPLICATE if table[place, 2] == content[i] else CONFLICT
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
        put(table, place, id1[i], id2[i], content[i], np.uint64(stamp + ORIGIN))
    return frontier, new, sink
