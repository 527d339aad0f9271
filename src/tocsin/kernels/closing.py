"""Closing windows: who is asked about, the final values and the baselines, with or without an event in the window.

Enters: a window number and the state arrays of ``windows``, in which no event of a later window was folded yet. Leaves:
arrays with a place for each entity asked about. Layer: kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tocsin.kernels.statistics import MEAN as MEAN_OF
from tocsin.kernels.statistics import NONE, summarise
from tocsin.kernels.windows import COUNT, DISTINCT, NEVER, SUM, advance, gather_baseline, value_of


@njit(cache=True, nogil=True)
def known_and_heard(n: Any, d: Any, oldest: Any, first: Any, heard: Any) -> Any:
    """Return the slots, ascending, that had an event before window ``d``, their last one in window ``oldest`` or later."""
    found, count = np.empty(n, np.int64), 0
    for s in range(n):
        if heard[s] >= oldest and first[s] != NEVER and first[s] < d:
            found[count] = s
            count += 1
    return found[:count]


@njit(cache=True, nogil=True)
def _summarise_closed_counts(
    s: Any, d: Any, windows: Any, win: Any, acc: Any, ring: Any, first: Any, codes: Any, at_least: Any, out: Any
) -> None:
    """Do as ``summarise_counts``, also for entities whose current window lies before ``d``: those after it are zero."""
    stats, size, last = codes.size, ring.shape[1], win[s]
    n = min(windows, d - first[s])
    if n < at_least or n <= 0:
        for k in range(stats + 1):
            out[k] = np.nan
        return
    total, most = np.int64(0), np.int64(0)
    if d - n <= last < d:
        total = most = acc[s, 0]
    start, stop = d - n, min(last, d)  # the ring reaches back as far as any baseline, from a window before ``d``
    place = start % size if stop > start else 0
    for _ in range(start, stop):
        total += ring[s, place, 0]
        most = max(most, ring[s, place, 0])
        place = place + 1 if place + 1 < size else 0
    for k in range(stats):
        out[k] = np.nan if codes[k] == NONE else total / n if codes[k] == MEAN_OF else float(most)
    out[stats] = n


@njit(cache=True, nogil=True)
def close_baselines(
    slots: Any,
    d: Any,
    spans: Any,
    plain: Any,
    codes: Any,
    quantiles: Any,
    op: Any,
    scale: Any,
    win: Any,
    acc: Any,
    ring: Any,
    first: Any,
    missing: Any,
    fired: Any,
    base_win: Any,
    base: Any,
    values: Any,
    out: Any,
) -> None:
    """Write the baselines of some entities as of window ``d`` to ``out[fit, statistic, place]``.

    Those of an entity that had an event in the window are at hand; for the others they are made.
    """
    row = np.empty(base.shape[2])
    for i in range(slots.size):
        s = slots[i]
        for b in range(spans.shape[0]):
            if base_win[s] == d:
                row[:] = base[s, b]
            elif plain[b] and not missing.size and not fired.size:
                end, windows, at_least = d - spans[b, 3], spans[b, 0], spans[b, 2]
                _summarise_closed_counts(s, end, windows, win, acc, ring, first, codes[b], at_least, row)
            else:
                end, windows, stride = d - spans[b, 3], spans[b, 0], spans[b, 1]
                n = gather_baseline(s, end, windows, stride, op, scale, win, acc, ring, first, missing, fired, values)
                summarise(values, n, codes[b], quantiles[b], spans[b, 2], row)
            for k in range(row.size):
                out[b, k, i] = row[k]


@njit(cache=True, nogil=True)
def close_values(slots: Any, d: Any, op: Any, scale: Any, win: Any, acc: Any) -> Any:
    """Return the final values of window ``d``, the last that any entity has had an event in; of the others zero or NaN."""
    out = np.empty(slots.size)
    empty = 0.0 if op in (COUNT, SUM, DISTINCT) else np.nan
    for i in range(slots.size):
        s = slots[i]
        lane1 = acc[s, 1] if acc.shape[1] > 1 else 0
        out[i] = value_of(op, acc[s, 0], lane1, scale) if win[s] == d else empty
    return out


@njit(cache=True, nogil=True)
def mark_closed(slots: Any, d: Any, win: Any, acc: Any, ring: Any, fired: Any) -> None:
    """Remember that a rule fired at the close of window ``d``, in which an entity need not have had an event."""
    for s in slots:
        if win[s] != d:
            advance(s, d, win, acc, ring, fired)
        fired[s] = d
