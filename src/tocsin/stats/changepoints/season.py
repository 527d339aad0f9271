"""What repeats by weekday or by hour of the week, and single days that lie apart.

Enters: counts (NaN: no data) and each one's place in the season (0 .. period - 1). Leaves: factors of mean 1, and which
counts lie apart. Layer: ground floor (stats).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from tocsin.stats.changepoints.search import POISSON

SIDE = 7  # days on either side that say what is usual
APART_SD = 4.0  # robust standard deviations
FEW = 5
AROUND = 20  # places: noise is judged in so many, and as many on either side
ORDINARY, REMOVED, CAPPED = 0, 1, 2


@njit(cache=True, nogil=True)
def first_factors(y: Any, place: Any, period: Any) -> Any:
    """Return factors from the ratio of each count to the level of the whole season around it."""
    n = y.size
    factor = np.ones(period)
    if period == 1 or n < 2 * period:
        return factor
    total, seen = np.zeros(n + 1), np.zeros(n + 1, np.int64)
    for t in range(n):
        known = not math.isnan(y[t])
        total[t + 1] = total[t] + (y[t] if known else 0.0)
        seen[t + 1] = seen[t] + known
    above, below = np.zeros(period), np.zeros(period)
    for t in range(n):
        low = min(max(t - period // 2, 0), n - period)
        if math.isnan(y[t]) or seen[low + period] - seen[low] < period:
            continue
        above[place[t]] += y[t]
        below[place[t]] += (total[low + period] - total[low]) / period
    return normalised(above, below)


@njit(cache=True, nogil=True)
def normalised(above: Any, below: Any) -> Any:
    """Return the ratios, scaled to a mean of one; one where nothing is known."""
    factor = np.ones(above.size)
    for d in range(above.size):
        if below[d] > 0:
            factor[d] = above[d] / below[d]
    mean = factor.mean()
    return factor / mean if mean > 0 else np.ones(above.size)


@njit(cache=True, nogil=True)
def _side_medians(y: Any, exposure: Any) -> Any:
    """Return the median rate of each run of SIDE places that starts at t - SIDE, NaN with fewer than three of them."""
    n = y.size
    out = np.full(n + SIDE + 1, np.nan)
    window = np.empty(SIDE)
    for start in range(-SIDE + 1, n):
        count = 0
        for t in range(max(start, 0), min(start + SIDE, n)):
            if exposure[t] > 0:
                x = y[t] / exposure[t]
                i = count
                while i > 0 and window[i - 1] > x:
                    window[i] = window[i - 1]
                    i -= 1
                window[i] = x
                count += 1
        if count >= 3:
            half = count // 2
            out[start + SIDE] = window[half] if count % 2 else (window[half - 1] + window[half]) / 2
    return out


@njit(cache=True, nogil=True)
def set_apart(y: Any, exposure: Any, kind: Any, m: Any) -> Any:
    """Return the values to fit with and what was done to them: REMOVED, CAPPED or ORDINARY.

    A value lies apart when it is beyond what is usual on both sides by four robust standard deviations (counts: by a
    deviance of 16 times the dispersion), or when it and the next do so together. In a run shorter than ``m`` it is
    removed; a longer run is no accident but a regime. At the end, where what follows is unknown, it is capped instead: it
    may be the beginning of something.
    """
    n = y.size
    medians = _side_medians(y, exposure)
    fitted, mark = np.where(exposure > 0, y, 0.0), np.zeros(n, np.int8)
    spread = _spreads(y, exposure, medians, kind)
    if spread[0] <= 0:
        return fitted, mark
    side = np.zeros(n, np.int8)
    for width in range(1, min(m, 3)):
        for t in range(n - width + 1):
            if not side[t : t + width].any():
                side[t : t + width] = _beyond(y, exposure, medians, kind, t, width, spread[t])
    t = 0
    while t < n:
        end = t + 1
        while end < n and side[end] == side[t]:
            end += 1
        if side[t] != 0 and end - t < m:
            for i in range(t, end):
                left, right = medians[i], medians[i + SIDE + 1]
                if not math.isnan(right):
                    mark[i], fitted[i] = REMOVED, 0.0
                    continue
                mark[i] = CAPPED
                usual = left * exposure[i]
                unit = math.sqrt(spread[i] * (max(usual, 1.0) if kind == POISSON else 1.0))
                capped = usual + side[i] * APART_SD * unit
                fitted[i] = max(capped, 0.0) if kind == POISSON else capped
        t = end
    return fitted, mark


@njit(cache=True, nogil=True)
def _spreads(y: Any, exposure: Any, medians: Any, kind: Any) -> Any:
    """Return the robust variance around what is usual at each place: that of all values, or more where it is noisier.

    That of counts is relative to the mean, and at least 1; 0 everywhere if too little is known.
    """
    n, count = y.size, 0
    residual, seen = np.empty(n), np.zeros(n + 1, np.int64)
    for t in range(n):
        left, right = medians[t], medians[t + SIDE + 1]
        seen[t + 1] = count
        if exposure[t] <= 0 or (math.isnan(left) and math.isnan(right)):
            continue
        usual = exposure[t] * (right if math.isnan(left) else left if math.isnan(right) else (left + right) / 2)
        residual[count] = abs(y[t] - usual) / math.sqrt(max(usual, 1.0) if kind == POISSON else 1.0)
        count += 1
        seen[t + 1] = count
    if count < 2 * SIDE:
        return np.zeros(n)
    ordered = np.sort(residual[:count])
    # Where more than a few lie apart they are no accidents: the noise has heavier tails, or grew.
    few = max(FEW, int(0.03 * count))
    spread = max(1.4826 * np.median(ordered), ordered[max(count - 1 - few, 0)] / APART_SD) ** 2
    out = np.full(n, max(spread, 1.0) if kind == POISSON else spread)
    for block in range(0, n, AROUND if kind != POISSON else n + 1):
        low, high = seen[max(block - AROUND, 0)], seen[min(block + 2 * AROUND, n)]
        if high - low >= AROUND:
            near = (1.4826 * np.median(residual[low:high])) ** 2
            for t in range(block, min(block + AROUND, n)):
                out[t] = max(out[t], near)
    return out


@njit(cache=True, nogil=True)
def _beyond(y: Any, exposure: Any, medians: Any, kind: Any, t: Any, width: Any, spread: Any) -> Any:
    """Return 1 if the sum of ``width`` values lies above what is usual on either side, -1 if below, 0 if neither."""
    left, right = medians[t], medians[t + width + SIDE]
    if math.isnan(left):
        left = right
    if math.isnan(right):
        right = left
    total, known = 0.0, 0.0
    for i in range(t, t + width):
        if exposure[i] <= 0:
            return 0
        total += y[i]
        known += exposure[i]
    high, low = max(left, right) * known, min(left, right) * known
    if total > high and _apart(total, high, known, kind) > APART_SD**2 * spread:
        return 1
    if total < low and _apart(total, low, known, kind) > APART_SD**2 * spread:
        return -1
    return 0


@njit(cache=True, nogil=True)
def _apart(y: Any, usual: Any, width: Any, kind: Any) -> Any:
    """Return how far a sum lies from the usual one: its deviance (counts), or its square (levels)."""
    if kind != POISSON:
        return (y - usual) ** 2 / width
    usual = max(usual, 0.5)
    return 2 * ((y * math.log(y / usual) if y > 0 else 0.0) - y + usual)
