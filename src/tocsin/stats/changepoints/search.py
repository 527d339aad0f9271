"""Where to cut a series: candidates from seeded intervals, the best subset of them, then every cut moved to its best place.

Enters: cumulative sums of the series, a kind of cost, the scale of the noise and the penalty. Leaves: the first index of
every regime but the first. Layer: ground floor (stats).

The cost of a regime with sum Y and exposure E is -2 Y log(Y / E) (counts: minus twice the Poisson log-likelihood at its
best, up to constants) or -Y squared / E (levels: Gaussian); a level may also drift along a line, if that gains as much as
a cut has to. An optimal partition of n points takes n squared steps where nothing changes (pruning, as PELT does it, needs
changes to prune by). Here the cuts are first searched in intervals of lengths n, n / 1.5, n / 2.25, ..., overlapping, in
n log n steps; only cuts that some interval half believes in enter the optimal partition. Sources: seeded intervals, Kovacs,
Buhlmann, Li and Munk, Biometrika 110 (2023); optimal partition, Jackson et al., IEEE Signal Processing Letters 12 (2005);
pruning, Killick, Fearnhead and Eckley, J. Amer. Statist. Assoc. 107 (2012), theorem 3.1.
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
SHORTEST_DRIFT = 8
DRIFTS = 1.0  # a drift has to gain as much as so many cuts
NEAR, LOCAL = 30, 20  # a cut's surroundings on either side, and how many known values there tell a variance


@njit(cache=True, nogil=True)
def sums_of(values: Any, exposure: Any) -> Any:
    """Return cumulative sums, from a leading 0: values, exposures, and the latter's moments in time for lines.

    Values are those times exposure already: exposures of levels are 0 or 1.
    """
    n = values.size
    out = np.zeros((n + 1, 5))
    for i in range(n):
        t = i - n / 2
        out[i + 1, 0] = out[i, 0] + values[i]
        out[i + 1, 1] = out[i, 1] + exposure[i]
        out[i + 1, 2] = out[i, 2] + exposure[i] * t
        out[i + 1, 3] = out[i, 3] + exposure[i] * t * t
        out[i + 1, 4] = out[i, 4] + values[i] * t
    return out


@njit(cache=True, nogil=True)
def slope_of(s: Any, a: Any, b: Any) -> Any:
    """Return the slope of the line through places a .. b - 1 and what it gains over their mean."""
    y, e, t = s[b, 0] - s[a, 0], s[b, 1] - s[a, 1], s[b, 2] - s[a, 2]
    if e < SHORTEST_DRIFT:
        return 0.0, 0.0
    squares = s[b, 3] - s[a, 3] - t * t / e
    product = s[b, 4] - s[a, 4] - t * y / e
    if squares <= 0:
        return 0.0, 0.0
    return product / squares, product * product / squares


@njit(cache=True, nogil=True)
def cost(s: Any, kind: Any, a: Any, b: Any, drift: Any) -> Any:
    """Return minus twice the best log-likelihood of places a .. b - 1 as one regime; a line has to gain ``drift``."""
    y, e = s[b, 0] - s[a, 0], s[b, 1] - s[a, 1]
    if e <= 0 or (kind == POISSON and y <= 0):
        return 0.0
    if kind == POISSON:
        return -2 * y * math.log(y / e)
    _, gain = slope_of(s, a, b)
    return -y * y / e - max(gain - drift, 0.0)


@njit(cache=True, nogil=True)
def best_cut(s: Any, kind: Any, low: Any, high: Any, m: Any, drift: Any) -> Any:
    """Return the cut in ``low + m .. high - m`` that gains most over none, and its gain (unscaled)."""
    at, gain = -1, 0.0
    whole = cost(s, kind, low, high, drift)
    for k in range(low + m, high - m + 1):
        now = whole - cost(s, kind, low, k, drift) - cost(s, kind, k, high, drift)
        if now > gain:
            at, gain = k, now
    return at, gain


@njit(cache=True, nogil=True)
def _likely_cut(s: Any, kind: Any, low: Any, high: Any, m: Any) -> Any:
    """Return the cut with the largest score statistic: the gain's approximation without logarithms."""
    y, e = s[high, 0] - s[low, 0], s[high, 1] - s[low, 1]
    at, best = -1, 0.0
    if e <= 0 or (kind == POISSON and y <= 0):
        return at, best
    rate = y / e
    for k in range(low + m, high - m + 1):
        left = s[k, 1] - s[low, 1]
        if left <= 0 or left >= e:
            continue
        apart = s[k, 0] - s[low, 0] - rate * left
        now = apart * apart / (left * (e - left))
        if now > best:
            at, best = k, now
    return at, best * e / (rate if kind == POISSON else 1.0)


@njit(cache=True, nogil=True)
def candidates(s: Any, kind: Any, m: Any, least: Any) -> Any:
    """Return, in order, the cuts that gain at least ``least`` in some seeded interval."""
    n = s.shape[0] - 1
    chosen = np.zeros(n + 1, np.bool_)
    length = float(n)
    while length >= 2 * m:
        parts = OVERLAP * math.ceil(n / length) - 1
        step = (n - length) / (parts - 1) if parts > 1 else 0.0
        for i in range(parts):
            low = int(i * step)
            high = min(n, math.ceil(i * step + length))
            at, gain = _likely_cut(s, kind, low, high, m)
            if at > 0 and gain >= least:
                chosen[at] = True
        length /= DECAY
    return np.flatnonzero(chosen)


@njit(cache=True, nogil=True)
def partition(s: Any, kind: Any, cuts: Any, m: Any, penalty: Any, drift: Any) -> Any:
    """Return the subset of ``cuts`` with the least cost plus ``penalty`` a cut (all unscaled), exactly."""
    ends = np.append(cuts, s.shape[0] - 1)
    best = np.empty(ends.size)
    came = np.full(ends.size, -1)
    alive = np.empty(ends.size, np.int64)
    tried = np.empty(ends.size)
    count = 0
    slack = 0.0 if kind == POISSON else drift  # two halves of a drift pay for two lines
    for j in range(ends.size):
        best[j] = cost(s, kind, 0, ends[j], drift)
        for a in range(count):
            i = alive[a]
            tried[a] = -np.inf
            if ends[j] - ends[i] >= m:
                tried[a] = best[i] + cost(s, kind, ends[i], ends[j], drift)
                if tried[a] + penalty < best[j]:
                    best[j], came[j] = tried[a] + penalty, i
        kept = 0
        for a in range(count):
            if tried[a] <= best[j] + slack:
                alive[kept] = alive[a]
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
def settle(s: Any, kind: Any, cuts: Any, m: Any, penalty: Any, effect: Any, drift: Any, noise: Any) -> Any:
    """Move each cut to its best place between its neighbours; drop the weakest while one gains or changes too little.

    ``noise`` holds cumulative sums of squared residuals (and their number) of an earlier fit, or nothing: where a cut's
    surroundings are noisier than the series on average, it has to gain more.
    """
    n = s.shape[0] - 1
    share, fresh = np.zeros(cuts.size), np.zeros(cuts.size, np.bool_)
    for _ in range(ROUNDS + cuts.size):
        weakest, least = -1, 1.0
        for i in range(cuts.size):
            if not fresh[i]:
                fresh[i] = True
                low = cuts[i - 1] if i else 0
                high = cuts[i + 1] if i + 1 < cuts.size else n
                at, gain = best_cut(s, kind, low, high, m, drift)
                if at > 0 and at != cuts[i]:
                    cuts[i] = at
                    fresh[max(i - 1, 0) : i] = False
                    fresh[i + 1 : i + 2] = False
                noisier = 1.0
                for near in (NEAR, 2 * NEAR, 4 * NEAR):
                    noisier = max(noisier, _noisier(noise, max(low, cuts[i] - near), min(high, cuts[i] + near)))
                share[i] = gain / (penalty * noisier)
                if share[i] >= 1 and _size(s, kind, low, cuts[i], high) < effect:
                    share[i] = 0.0
            if share[i] < least:
                weakest, least = i, share[i]
        if weakest >= 0:
            fresh[max(weakest - 1, 0) : weakest + 2] = False
            cuts, share, fresh = _without(cuts, weakest), _without(share, weakest), _without(fresh, weakest)
        elif fresh.all():
            break
    return cuts


@njit(cache=True, nogil=True)
def _without(values: Any, i: Any) -> Any:
    return np.append(values[:i], values[i + 1 :])


@njit(cache=True, nogil=True)
def _noisier(noise: Any, low: Any, high: Any) -> Any:
    """Return how many times noisier places low .. high - 1 are than all on average; at least 1, 1 for a few."""
    if noise.shape[0] <= high:
        return 1.0
    known, all_known = noise[high, 1] - noise[low, 1], noise[-1, 1]
    if known < LOCAL or noise[-1, 0] <= 0:
        return 1.0
    return max((noise[high, 0] - noise[low, 0]) / known / (noise[-1, 0] / all_known), 1.0)


@njit(cache=True, nogil=True)
def _size(s: Any, kind: Any, low: Any, cut: Any, high: Any) -> Any:
    """Return by how much the level changes: the logarithm of the ratio of counts, the difference of levels."""
    before = (s[cut, 0] - s[low, 0]) / max(s[cut, 1] - s[low, 1], 1e-300)
    after = (s[high, 0] - s[cut, 0]) / max(s[high, 1] - s[cut, 1], 1e-300)
    if kind == GAUSSIAN:
        return abs(after - before)
    return np.inf if min(before, after) <= 0 else abs(math.log(after / before))


@njit(cache=True, nogil=True)
def segment(s: Any, kind: Any, m: Any, scale: Any, penalty: Any, effect: Any, noise: Any) -> Any:
    """Return the cuts of a series given by its cumulative sums.

    ``m`` is the least length of a regime, ``scale`` the variance of the noise (of counts: relative to the mean),
    ``penalty`` what a cut, or a drift, has to gain in units of it, ``effect`` how much the level has to change.
    """
    least = penalty * scale
    cuts = candidates(s, kind, m, BELIEVED * least)
    cuts = partition(s, kind, cuts, m, least, DRIFTS * least)
    return settle(s, kind, cuts, m, least, effect, DRIFTS * least, noise)
