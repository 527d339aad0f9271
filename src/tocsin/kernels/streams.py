"""Measures that are not calendar windows: sliding, ever, previous event, first sighting, hours of the day.

Enters: slot, time and increments of each event in (time, event_id) order, and the state arrays. Leaves: one or two
output columns. Layer: kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tocsin.hashing import EMPTY, ORIGIN, find, mix, put
from tocsin.kernels.windows import DISTINCT, NEVER, add, value_of

REMEMBERED, NOTHING = -1, -2
"""Where an entity's previous event is, when it is no row of the batch."""
NOBODY = -1


@njit(cache=True, nogil=True)
def run_sliding(
    slot: Any,
    t: Any,
    p: Any,
    q: Any,
    mask: Any,
    op: Any,
    scale: Any,
    bound: Any,
    hashes: Any,
    table: Any,
    width: Any,
    queue: Any,
    queue_hashes: Any,
    ends: Any,
    acc: Any,
    out: Any,
) -> Any:
    """One queue of (time, slot, lane 0, lane 1) for all entities; what left ``(t - width, t]`` is taken out again.

    ``ends`` holds head and tail; the queue has a power of two of rows. For distinct values the table counts how often a
    value stands in the window.
    """
    m, head, tail, new = queue.shape[0] - 1, ends[0], ends[1], 0
    for i in range(slot.size):
        if not mask[i]:
            continue
        while tail < head and queue[tail & m, 0] <= t[i] - width:
            e = queue[tail & m]
            if op == DISTINCT:
                h = queue_hashes[tail & m]
                place = find(table, h[0], h[1], np.uint64(e[1]))
                table[place, 3] -= np.uint64(1)
                if table[place, 3] == 0:
                    acc[e[1], 0] -= 1
            else:
                acc[e[1], 0] -= e[2]
                if acc.shape[1] > 1:
                    acc[e[1], 1] -= e[3]
            tail += 1
        s = slot[i]
        e = queue[head & m]
        e[0], e[1], e[2], e[3] = t[i], s, p[i], q[i]
        if op == DISTINCT:
            queue_hashes[head & m] = hashes[i]
            place = find(table, hashes[i, 0], hashes[i, 1], np.uint64(s))
            if table[place, 3] == EMPTY:
                put(table, place, hashes[i, 0], hashes[i, 1], np.uint64(s), np.uint64(0))
                new += 1
            if table[place, 3] == 0:
                acc[s, 0] += 1
            table[place, 3] += np.uint64(1)
            out[i] = min(acc[s, 0], bound)
        else:
            lane1 = add(op, acc, s, p[i], q[i])
            out[i] = value_of(op, acc[s, 0], lane1, scale)
        head += 1
    ends[0], ends[1] = head, tail
    return new


@njit(cache=True, nogil=True)
def run_sliding_extreme(
    slot: Any,
    t: Any,
    value: Any,
    mask: Any,
    largest: Any,
    scale: Any,
    width: Any,
    queue: Any,
    ends: Any,
    line: Any,
    out: Any,
) -> None:
    """One queue of (time, slot, value, before, behind) for all entities, and for each the events that may yet be its extreme.

    An event may yet be the extreme until a later one of its entity is at least as extreme. Those that may stand in line,
    the extreme first: ``before`` and ``behind`` are the numbers of their neighbours, ``line`` holds the first and the last
    of each entity. Events are numbered as they enter the queue, so a number below its tail has left the window.
    (A monotonic queue for each entity, its nodes in the queue that all share.)
    """
    m, head, tail = queue.shape[0] - 1, ends[0], ends[1]
    for i in range(slot.size):
        if not mask[i]:
            continue
        while tail < head and queue[tail & m, 0] <= t[i] - width:
            e = queue[tail & m]
            if line[e[1], 0] == tail:
                line[e[1], 0] = e[4]
            tail += 1
        s, x = slot[i], value[i]
        last = line[s, 1]
        while last >= tail and (queue[last & m, 2] <= x if largest else queue[last & m, 2] >= x):
            last = queue[last & m, 3]
        if last >= tail:
            queue[last & m, 4] = head
        else:
            line[s, 0] = head
        line[s, 1] = head
        e = queue[head & m]
        e[0], e[1], e[2], e[3], e[4] = t[i], s, x, last, NOBODY
        out[i] = queue[line[s, 0] & m, 2] / scale
        head += 1
    ends[0], ends[1] = head, tail


@njit(cache=True, nogil=True)
def run_ever(
    slot: Any,
    t: Any,
    p: Any,
    q: Any,
    mask: Any,
    op: Any,
    scale: Any,
    bound: Any,
    hashes: Any,
    table: Any,
    forget: Any,
    last: Any,
    epoch: Any,
    acc: Any,
    out: Any,
) -> Any:
    """Accumulate for good; a silence longer than ``forget`` (0 = never) starts the entity anew."""
    new = 0
    for i in range(slot.size):
        if not mask[i]:
            continue
        s = slot[i]
        if forget and last[s] != NEVER and t[i] - last[s] > forget:
            acc[s] = 0
            epoch[s] += 1
        last[s] = t[i]
        one = p[i]
        if op == DISTINCT:
            one = 0
            if acc[s, 0] < bound:
                a = hashes[i, 0] ^ mix(epoch[s])
                place = find(table, a, hashes[i, 1], np.uint64(s))
                if table[place, 3] == EMPTY:
                    put(table, place, a, hashes[i, 1], np.uint64(s), np.uint64(0))
                    one = 1
                    new += 1
        lane1 = add(op, acc, s, one, q[i])
        out[i] = value_of(op, acc[s, 0], lane1, scale)
    return new


@njit(cache=True, nogil=True)
def run_previous(slot: Any, t: Any, mask: Any, forget: Any, last: Any, row_of: Any, source: Any, out_t: Any) -> Any:
    """Find each event's previous one: its row in this batch, ``REMEMBERED`` from before, or ``NOTHING``; and its time.

    ``row_of`` (-1 for every slot) is working room. Return the last row of each entity that took part.
    """
    entities = 0
    for i in range(slot.size):
        if not mask[i]:
            continue
        s = slot[i]
        if last[s] != NEVER and not (forget and t[i] - last[s] > forget):
            out_t[i] = last[s]
            source[i] = row_of[s] if row_of[s] >= 0 else REMEMBERED
        entities += row_of[s] < 0
        last[s] = t[i]
        row_of[s] = i
    latest = np.empty(entities, np.int64)
    n = 0
    for i in range(slot.size):
        if mask[i] and row_of[slot[i]] == i:
            latest[n] = i
            n += 1
    return latest


@njit(cache=True, nogil=True)
def run_first_seen(
    slot: Any, t: Any, hashes: Any, mask: Any, forget: Any, table: Any, known: Any, out: Any, out_known: Any
) -> Any:
    """Say whether a value is new to its entity; the payload is the time of its last sighting. Return how many places were taken."""
    taken = 0
    for i in range(slot.size):
        if not mask[i]:
            continue
        s = slot[i]
        place = find(table, hashes[i, 0], hashes[i, 1], np.uint64(s))
        free = table[place, 3] == EMPTY
        new = free or (forget and t[i] - (np.int64(table[place, 3]) - ORIGIN) > forget)
        out[i] = 1.0 if new else 0.0
        out_known[i] = known[s]
        known[s] += 1 if new else 0
        taken += 1 if free else 0
        put(table, place, hashes[i, 0], hashes[i, 1], np.uint64(s), np.uint64(t[i] + ORIGIN))
    return taken


@njit(cache=True, nogil=True)
def run_hours(slot: Any, hour: Any, mask: Any, counts: Any, out: Any, out_total: Any) -> None:
    """Count the entity's events by local clock hour; ``counts`` has 24 columns and their sum in a 25th."""
    for i in range(slot.size):
        if mask[i]:
            c = counts[slot[i]]
            c[hour[i]] += 1
            c[24] += 1
            out[i] = c[hour[i]]
            out_total[i] = c[24]


@njit(cache=True, nogil=True)
def look_up_slots(
    h1: Any, h2: Any, known: Any, table: Any, start: Any, n: Any, most: Any, slot: Any, fresh: Any
) -> Any:
    """Give each entity its dense number, from row ``start`` on and until ``most`` entities are known.

    ``fresh`` lists the row that brought each entity since number ``n``. Return the row that was not reached for want of
    room (or the number of rows), and how many entities there are now.
    """
    first = n
    for i in range(start, slot.size):
        if not known[i]:
            continue
        place = find(table, h1[i], h2[i], np.uint64(0))
        if table[place, 3] == EMPTY:
            if n == most:
                return i, n
            put(table, place, h1[i], h2[i], np.uint64(0), np.uint64(n))
            fresh[n - first] = i
            n += 1
        slot[i] = np.int64(table[place, 3])
    return slot.size, n


@njit(cache=True, nogil=True)
def keep_peaks(slot: Any, score: Any, t: Any, sign: Any, best: Any, best_t: Any) -> None:
    """Keep each entity's most extreme score (highest for sign 1, lowest for -1) and the first time it was reached."""
    for i in range(slot.size):
        s = slot[i]
        if score[i] * sign > best[s] * sign or np.isnan(best[s]):
            best[s] = score[i]
            best_t[s] = t[i]


@njit(cache=True, nogil=True)
def first_of_window(
    slot: Any, window: Any, score: Any, sign: Any, fired: Any, peak: Any, first: Any, raised: Any
) -> None:
    """Mark the first firing of each entity and window, and later ones that raise the window's peak."""
    for i in range(slot.size):
        s = slot[i]
        if fired[s] != window[i]:
            fired[s] = window[i]
            peak[s] = score[i]
            first[i] = True
        elif score[i] * sign > peak[s] * sign:
            peak[s] = score[i]
            raised[i] = True
