"""Calendar windows: the running value of each entity, its ring of closed windows, and baselines over the ring.

Enters: slot, window number and increments of each event in (time, event_id) order, and the state arrays. Leaves:
the running value and the baselines of each event. Layer: kernels.

An accumulator has two lanes: lane 0 counts the events (or those of the denominator), lane 1 adds, or keeps the
extreme. The current window of an entity lives in ``acc``; when the entity is touched in a later window, the lanes
move into ``ring[window % K]``, so midnight costs nothing and a step costs what it touches. A lane 0 below zero
marks a window that a baseline leaves out because the detection fired in it. ``heard`` is the last window in which an
entity had an event, kept only where somebody asks who is silent (``closing``); there an entity may stand in a later window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tocsin.hashing import EMPTY, ORIGIN, find, mix, put
from tocsin.kernels.statistics import MEAN as MEAN_OF
from tocsin.kernels.statistics import NONE, summarise

COUNT, SUM, MEAN, MIN, MAX, RATIO, DISTINCT = 0, 1, 2, 3, 4, 5, 6
NEVER = np.int64(-(1 << 62))


@njit(cache=True, nogil=True, inline="always")
def value_of(op: Any, lane0: Any, lane1: Any, scale: Any) -> Any:
    """Return the value of an accumulator, NaN where it has none."""
    if op in (COUNT, DISTINCT):
        return float(lane0)
    if op == RATIO:
        return np.nan if lane0 == 0 else lane1 / lane0
    if op == MEAN:
        return np.nan if lane0 == 0 else lane1 / (lane0 * scale)
    return lane1 / scale


@njit(cache=True, nogil=True, inline="always")
def add(op: Any, acc: Any, s: Any, p: Any, q: Any) -> Any:
    """Add one event to the lanes of row ``s``; return what lane 1 is now (0 where there is none)."""
    lane1 = np.int64(0)
    if acc.shape[1] > 1:
        if op == MIN:
            lane1 = q if acc[s, 0] == 0 else min(acc[s, 1], q)
        elif op == MAX:
            lane1 = q if acc[s, 0] == 0 else max(acc[s, 1], q)
        else:
            lane1 = acc[s, 1] + q
        acc[s, 1] = lane1
    acc[s, 0] += p
    return lane1


@njit(cache=True, nogil=True)
def advance(s: Any, d: Any, win: Any, acc: Any, ring: Any, fired: Any) -> None:
    """Move entity ``s`` to window ``d``: its lanes enter the ring, the windows between are empty."""
    last, size = win[s], ring.shape[1]
    if size and last != NEVER:
        if d - last > size:
            ring[s] = 0
        else:
            place = last % size
            for lane in range(acc.shape[1]):
                ring[s, place, lane] = acc[s, lane]
            if fired.size and fired[s] == last and acc[s, 0] >= 0:
                ring[s, place, 0] = -1 - acc[s, 0]
            for _ in range(last + 1, d):
                place = place + 1 if place + 1 < size else 0
                for lane in range(acc.shape[1]):
                    ring[s, place, lane] = 0
    for lane in range(acc.shape[1]):
        acc[s, lane] = 0
    win[s] = d


@njit(cache=True, nogil=True, inline="always")
def _is_in(ordered: Any, x: Any) -> Any:
    i = np.searchsorted(ordered, x)
    return i < ordered.size and ordered[i] == x


@njit(cache=True, nogil=True)
def _gather_row(s: Any, start: Any, stop: Any, op: Any, scale: Any, ring: Any, values: Any) -> Any:
    """Write the windows from ``start`` to before ``stop``, none of them missing or left out; return how many have a value."""
    n = 0
    if stop <= start:
        return n
    place, size = start % ring.shape[1], ring.shape[1]
    for low, high in ((place, min(place + stop - start, size)), (0, max(place + stop - start - size, 0))):
        if op in (COUNT, DISTINCT):
            for j in range(low, high):
                values[n + j - low] = ring[s, j, 0]
            n += high - low
        elif op == SUM:
            for j in range(low, high):
                values[n + j - low] = ring[s, j, 1] / scale
            n += high - low
        else:
            for j in range(low, high):
                if ring[s, j, 0]:
                    values[n] = value_of(op, ring[s, j, 0], ring[s, j, 1], scale)
                    n += 1
    return n


@njit(cache=True, nogil=True)
def gather_baseline(
    s: Any,
    d: Any,
    windows: Any,
    stride: Any,
    op: Any,
    scale: Any,
    win: Any,
    acc: Any,
    ring: Any,
    first: Any,
    missing: Any,
    fired: Any,
    values: Any,
) -> Any:
    """Write the baseline of window ``d`` into ``values``, oldest first; return how many there are."""
    size, n, last = ring.shape[1], 0, win[s]
    if first[s] == NEVER:
        return 0
    if stride == 1 and d <= last and last - size <= d - windows and not missing.size and not fired.size:
        return _gather_row(s, max(d - windows, first[s]), d, op, scale, ring, values)
    empty_is_zero = op in (COUNT, SUM, DISTINCT)
    place = (d - (windows + 1) * stride) % size  # a division for each window would cost more than all the rest
    for back in range(windows, 0, -1):
        j = d - back * stride
        place += stride
        if place >= size:
            place -= size
        if j < first[s]:
            continue
        lane0, lane1 = np.int64(0), np.int64(0)
        if j == last:
            lane0 = acc[s, 0]
            if acc.shape[1] > 1:
                lane1 = acc[s, 1]
            if fired.size and fired[s] == j:
                lane0 = np.int64(-1)
        elif last - size <= j < last:
            lane0 = ring[s, place, 0]
            if acc.shape[1] > 1:
                lane1 = ring[s, place, 1]
        if lane0 > 0:
            values[n] = value_of(op, lane0, lane1, scale)
            n += 1
        elif lane0 == 0 and empty_is_zero and not _is_in(missing, j):
            values[n] = 0.0
            n += 1
    return n


@njit(cache=True, nogil=True)
def summarise_counts(s: Any, d: Any, windows: Any, ring: Any, first: Any, codes: Any, at_least: Any, out: Any) -> None:
    """Write mean and maximum of the counts of the windows before ``d``: what gathering and summarising would give.

    For entities that stand in a later window, without windows left out or missing. Counts are whole numbers, so their
    sum does not depend on the order of additions, and a long baseline need not be copied first.
    """
    size, last = ring.shape[1], codes.size
    n = min(windows, d - first[s])
    if n < at_least or n <= 0:
        for k in range(last + 1):
            out[k] = np.nan
        return
    total, most, place = np.int64(0), np.int64(0), (d - n) % size
    if n == size:  # where the row begins is no matter, and a loop without a seam is twice as fast
        for j in range(size):
            total += ring[s, j, 0]
            most = max(most, ring[s, j, 0])
    else:
        for start, stop in ((place, min(place + n, size)), (0, max(place + n - size, 0))):
            for j in range(start, stop):
                total += ring[s, j, 0]
                most = max(most, ring[s, j, 0])
    for k in range(last):
        out[k] = np.nan if codes[k] == NONE else total / n if codes[k] == MEAN_OF else float(most)
    out[last] = n


@njit(cache=True, nogil=True, inline="always")
def _is_new(table: Any, s: Any, d: Any, h1: Any, h2: Any) -> Any:
    """Remember a value of a window; return 1 when it was not there."""
    a = h1 ^ mix(d)
    place = find(table, a, h2, np.uint64(s))
    if table[place, 3] != EMPTY:
        return 0
    put(table, place, a, h2, np.uint64(s), np.uint64(d + ORIGIN))
    return 1


@njit(cache=True, nogil=True)
def run_windows(
    slot: Any,
    window: Any,
    p: Any,
    q: Any,
    mask: Any,
    op: Any,
    scale: Any,
    bound: Any,
    hashes: Any,
    table: Any,
    win: Any,
    acc: Any,
    ring: Any,
    first: Any,
    heard: Any,
    fired: Any,
    missing: Any,
    touched: Any,
    n_touched: Any,
    spans: Any,
    plain: Any,
    codes: Any,
    quantiles: Any,
    base_win: Any,
    base: Any,
    values: Any,
    shown: Any,
    n_before: Any,
    n_shown: Any,
    out_value: Any,
    out_base: Any,
    out_place: Any,
) -> Any:
    """Fold the events into the windows; ``plain`` says which baselines are of counts alone.

    An entity's baselines are the same at all its events of a window. They are written once, at ``out_base[:, :, place]``, and
    each event gets the place, which is 0 for events that take no part. ``shown`` holds each entity's place plus
    ``n_before``, the number of places that earlier batches took; ``n_shown`` are taken in this one.

    Return the length of ``touched``, how many distinct values were new, and ``n_shown``.
    """
    new, n_base = 0, spans.shape[0]
    for i in range(slot.size):
        if not mask[i]:
            out_value[i] = np.nan
            continue
        s, d = slot[i], window[i]
        if win[s] != d:
            if first[s] == NEVER:
                first[s] = d
            advance(s, d, win, acc, ring, fired)
            if heard.size:
                heard[s] = d
            if touched.size:
                touched[n_touched] = s
                n_touched += 1
        one = p[i]
        if op == DISTINCT:
            one = 0 if acc[s, 0] >= bound else _is_new(table, s, d, hashes[i, 0], hashes[i, 1])
            new += one
        lane1 = add(op, acc, s, one, q[i])
        out_value[i] = value_of(op, acc[s, 0], lane1, scale)
        if n_base == 0:
            continue
        if base_win[s] != d:
            base_win[s] = d
            shown[s] = 0
            for b in range(n_base):
                if plain[b] and not missing.size and not fired.size:
                    summarise_counts(s, d - spans[b, 3], spans[b, 0], ring, first, codes[b], spans[b, 2], base[s, b])
                    continue
                end, windows, stride = d - spans[b, 3], spans[b, 0], spans[b, 1]
                n = gather_baseline(s, end, windows, stride, op, scale, win, acc, ring, first, missing, fired, values)
                summarise(values, n, codes[b], quantiles[b], spans[b, 2], base[s, b])
        if shown[s] <= n_before:
            n_shown += 1
            shown[s] = n_before + n_shown
            for b in range(n_base):
                for k in range(base.shape[2]):
                    out_base[b, k, n_shown] = base[s, b, k]
        out_place[i] = shown[s] - n_before
    return n_touched, new, n_shown


@njit(cache=True, nogil=True)
def take(values: Any, places: Any) -> Any:
    """Return the values at some places."""
    out = np.empty(places.size)
    for i in range(places.size):
        out[i] = values[places[i]]
    return out


@njit(cache=True, nogil=True)
def run_late(
    slot: Any,
    window: Any,
    p: Any,
    q: Any,
    op: Any,
    bound: Any,
    hashes: Any,
    table: Any,
    win: Any,
    acc: Any,
    ring: Any,
    first: Any,
    heard: Any,
    fired: Any,
    touched: Any,
    n_touched: Any,
    touched_window: Any,
) -> Any:
    """Fold late events into the windows they belong to; return the length of ``touched``, new values, and rows too old for the ring.

    ``p`` becomes what each added to lane 0; of distinct values too old for the ring nobody knows, so nothing.
    """
    new, too_old, size = 0, 0, ring.shape[1]
    for i in range(slot.size):
        s, d = slot[i], window[i]
        if first[s] == NEVER or d < first[s]:
            first[s] = d
        if heard.size:
            heard[s] = max(heard[s], d)
        if win[s] == NEVER or d > win[s]:
            advance(s, d, win, acc, ring, fired)
            if touched.size and d == touched_window:
                touched[n_touched] = s
                n_touched += 1
        elif d < win[s] - size:
            too_old += 1
            if op == DISTINCT:
                p[i] = 0
            continue
        into, row = (acc, s) if d == win[s] else (ring[s], d % size)
        left_out = into[row, 0] < 0
        if left_out:
            into[row, 0] = -1 - into[row, 0]
        one = p[i]
        if op == DISTINCT:
            one = 0 if into[row, 0] >= bound else _is_new(table, s, d, hashes[i, 0], hashes[i, 1])
            new += one
        p[i] = one
        add(op, into, row, one, q[i])
        if left_out:
            into[row, 0] = -1 - into[row, 0]
    return n_touched, new, too_old


@njit(cache=True, nogil=True)
def run_notebook(
    slot: Any, window: Any, value: Any, mask: Any, seen: Any, last: Any, past: Any, days: Any, out: Any
) -> None:
    """The workshop notebook's ``expanding(7).mean()``: the mean over all days with events, today's running value included."""
    for i in range(slot.size):
        if not mask[i]:
            continue
        s = slot[i]
        if seen[s] != window[i]:
            if seen[s] != NEVER:
                past[s] += last[s]
                days[s] += 1
            seen[s] = window[i]
        last[s] = value[i]
        out[1, i] = days[s] + 1
        out[0, i] = (past[s] + value[i]) / out[1, i]
