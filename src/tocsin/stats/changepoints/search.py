"""Where to cut a series: candidates from seeded intervals, the best subset of them, then every cut moved to its best place.

Enters: values and exposures (0: no data), a kind of cost, the scale of the noise and the penalty. Leaves: the first
index of every regime but the first. Layer: ground floor (stats).

The cost of a regime with sum Y and exposure E is -2 Y log(Y / E) (counts: minus twice the Poisson log-likelihood at its
best, up to constants) or -Y squared / E (levels: Gaussian), over ``scale``. An optimal partition of n points takes n squared
steps where nothing changes (pruning, as PELT does it, needs changes to prune by). Here the cuts are first searched in
intervals of lengths n, n/2, n/4, ..., each overlapping the next by half, in n log n steps; only cuts that some interval
half believes in enter the optimal partition. Sources: seeded intervals, Kovacs, Buhlmann, Li and Munk, Biometrika 110 (2023);
optimal partition, Jackson et al., IEEE Signal Processing Letters 12 (2005).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

POISSON, GAUSSIAN = 0, 1
# A change in the middle half of an interval shows there at least so much of what it gains against its neighbours.
BELIEVED = 0.35
OVERLAP, DECAY = 3, 1.5
ROUNDS = 10


@njit(cache=True, nogil=True, inline="always")
def cost(kind: Any, y: Any, e: Any) -> Any:
    """Return minus twice the best log-likelihood of a regime with sum ``y`` and exposure ``e``."""
    if e <= 0 or (kind == POISSON and y <= 0):
        return 0.0
    if kind == POISSON:
        return -2 * y * math.log(y / e)
    return -y * y / e


@njit(cache=True, nogil=True)
def best_cut(ys: Any, es: Any, kind: Any, low: Any, high: Any, m: Any) -> Any:
    """Return the cut in ``low + m .. high - m`` that gains most over none, and its gain (unscaled)."""
    at, gain = -1, 0.0
    y, e = ys[high] - ys[low], es[high] - es[low]
    whole = cost(kind, y, e)
    for k in range(low + m, high - m + 1):
        left_y, left_e = ys[k] - ys[low], es[k] - es[low]
        now = whole - cost(kind, left_y, left_e) - cost(kind, y - left_y, e - left_e)
        if now > gain:
            at, gain = k, now
    return at, gain


@njit(cache=True, nogil=True, inline="always")
def _likely_cut(ys: Any, es: Any, kind: Any, low: Any, high: Any, m: Any) -> Any:
    """Return the cut with the largest score statistic: the gain's approximation without logarithms."""
    y, e = ys[high] - ys[low], es[high] - es[low]
    at, best = -1, 0.0
    if e <= 0 or (kind == POISSON and y <= 0):
        return at, best
    rate = y / e
    for k in range(low + m, high - m + 1):
        left = es[k] - es[low]
        if left <= 0 or left >= e:
            continue
        apart = ys[k] - ys[low] - rate * left
        now = apart * apart / (left * (e - left))
        if now > best:
            at, best = k, now
    return at, best * e / (rate if kind == POISSON else 1.0)


@njit(cache=True, nogil=True)
def candidates(ys: Any, es: Any, kind: Any, m: Any, least: Any) -> Any:
    """Return, in order, the cuts that gain at least ``least`` in some seeded interval."""
    n = ys.size - 1
    chosen = np.zeros(n + 1, np.bool_)
    length = float(n)
    while length >= 2 * m:
        parts = OVERLAP * int(math.ceil(n / length)) - 1
        step = (n - length) / (parts - 1) if parts > 1 else 0.0
        for i in range(parts):
            low = int(i * step)
            high = min(n, int(math.ceil(i * step + length)))
            at, gain = _likely_cut(ys, es, kind, low, high, m)
            if at > 0 and gain >= least:
                chosen[at] = True
        length /= DECAY
    return np.flatnonzero(chosen)


@njit(cache=True, nogil=True)
def partition(ys: Any, es: Any, kind: Any, cuts: Any, m: Any, penalty: Any) -> Any:
    """Return the subset of ``cuts`` with the least cost plus ``penalty`` a cut (all unscaled), exactly."""
    ends = np.append(cuts, ys.size - 1)
    best = np.empty(ends.size)
    came = np.full(ends.size, -1)
    alive = np.empty(ends.size, np.int64)
    count = 0
    for j in range(ends.size):
        best[j] = cost(kind, ys[ends[j]], es[ends[j]])
        for a in range(count):
            i = alive[a]
            if ends[j] - ends[i] < m:
                continue
            now = best[i] + penalty + cost(kind, ys[ends[j]] - ys[ends[i]], es[ends[j]] - es[ends[i]])
            if now < best[j]:
                best[j], came[j] = now, i
        kept = 0
        for a in range(count):  # PELT's pruning; a cut too near to have been tried stays
            i = alive[a]
            near = ends[j] - ends[i] < m
            if near or best[i] + cost(kind, ys[ends[j]] - ys[ends[i]], es[ends[j]] - es[ends[i]]) <= best[j]:
                alive[kept] = i
                kept += 1
        if ends[j] >= m:
            alive[kept] = j
            kept += 1
        count = kept
    found = np.empty(ends.size, np.int64)
    size, j = 0, came[ends.size - 1]
    while j >= 0:
        found[size] = ends[j]
        size += 1
        j = came[j]
    return found[:size][::-1].copy()


@njit(cache=True, nogil=True)
def settle(ys: Any, es: Any, kind: Any, cuts: Any, m: Any, penalty: Any, effect: Any) -> Any:
    """Move each cut to its best place between its neighbours; drop the weakest while one gains or changes too little."""
    n = ys.size - 1
    for _ in range(ROUNDS):
        moved, weakest, least = False, -1, penalty
        for i in range(cuts.size):
            low = cuts[i - 1] if i else 0
            high = cuts[i + 1] if i + 1 < cuts.size else n
            at, gain = best_cut(ys, es, kind, low, high, m)
            if at > 0 and at != cuts[i]:
                cuts[i], moved = at, True
            if gain >= penalty and _size(ys, es, kind, low, cuts[i], high) < effect:
                gain = 0.0
            if gain < least:
                weakest, least = i, gain
        if weakest >= 0:
            cuts = np.append(cuts[:weakest], cuts[weakest + 1 :])
        elif not moved:
            break
    return cuts


@njit(cache=True, nogil=True)
def _size(ys: Any, es: Any, kind: Any, low: Any, cut: Any, high: Any) -> Any:
    """Return by how much the level changes: the logarithm of the ratio of counts, the difference of levels."""
    before = (ys[cut] - ys[low]) / max(es[cut] - es[low], 1e-300)
    after = (ys[high] - ys[cut]) / max(es[high] - es[cut], 1e-300)
    if kind == GAUSSIAN:
        return abs(after - before)
    return np.inf if min(before, after) <= 0 else abs(math.log(after / before))


@njit(cache=True, nogil=True)
def segment(ys: Any, es: Any, kind: Any, m: Any, scale: Any, penalty: Any, effect: Any) -> Any:
    """Return the cuts of a series given by its cumulative sums (with a leading 0).

    ``m`` is the least length of a regime, ``scale`` the variance of the noise (of counts: relative to the mean),
    ``penalty`` what a cut has to gain in units of it, ``effect`` how much the level has to change.
    """
    least = penalty * scale
    cuts = candidates(ys, es, kind, m, BELIEVED * least)
    return settle(ys, es, kind, partition(ys, es, kind, cuts, m, least), m, least, effect)
