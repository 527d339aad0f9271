"""One series from values to regimes: season, outliers, noise and cuts, each refitted to the others until they agree.

Enters: values (NaN: no data), each one's place in the season, the settings. Leaves: cuts, factors, marks of outliers and
the noise. Layer: ground floor (stats).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from tocsin.stats.changepoints.noise import (
    SMALLEST_DISPERSION,
    around_one_cut,
    from_differences,
    from_most_differences,
    from_residuals,
    residuals,
    squares_of,
)
from tocsin.stats.changepoints.search import DRIFTS, GAUSSIAN, POISSON, best_cut, cost, segment, sums_of
from tocsin.stats.changepoints.season import REMOVED, first_factors, normalised, set_apart

ROUNDS = 6
STARTS, VALUES_A_START = 3, 25  # cuts that a first guess of the noise may leave out, and what each needs to be one
ROUNDING = 1e-14  # of the sum of squares: cumulative sums know no smaller variance


class Fit(NamedTuple):
    """What was found: cuts, season factors, marks of outliers, variance, autocorrelation, and the fitted sums."""

    cuts: Any
    factor: Any
    mark: Any
    variance: Any
    correlation: Any
    inflation: Any
    values: Any
    exposure: Any
    rate: Any


@njit(cache=True, nogil=True)
def _refit(y: Any, rate: Any, known: Any, place: Any, period: Any) -> Any:
    """Return the season's factors given each place's rate: what was counted over what the rates alone expect."""
    above, below = np.zeros(period), np.zeros(period)
    for t in range(y.size):
        if known[t] > 0:
            above[place[t]] += y[t]
            below[place[t]] += rate[t]
    return normalised(above, below)


@njit(cache=True, nogil=True)
def _first_noise(values: Any, exposure: Any, r: Any) -> Any:
    """Return the least noise of a level that differences, or residuals around a few cuts, speak for.

    A step is a large share of the differences of a few values, and none of the residuals around it.
    """
    least = from_most_differences(r)
    s, cuts = sums_of(values, exposure), np.empty(0, np.int64)
    for count in range(1, max(1, min(STARTS, values.size // VALUES_A_START)) + 1):
        at, most = -1, 0.0
        for i in range(count):
            low = cuts[i - 1] if i else 0
            high = cuts[i] if i < cuts.size else values.size
            now, gain = best_cut(s, GAUSSIAN, low, high, 3, np.inf)
            if gain > most:
                at, most = now, gain
        if at < 0:
            break
        cuts = np.sort(np.append(cuts, at))
        around, _ = residuals(values, exposure, GAUSSIAN, cuts, np.inf)
        found = around_one_cut(around, 0) if count == 1 else from_residuals(around, count + 1, count)
        if 0 < found[0] * found[2] < least[0] * least[2]:
            least = found
    return least


@njit(cache=True, nogil=True)
def _is_staircase(values: Any, exposure: Any, m: Any) -> Any:
    """Return whether every run of equal values is at least ``m`` (and 2) long."""
    run, before = 0, np.nan
    for t in range(values.size):
        if exposure[t] > 0:
            if values[t] == before:
                run += 1
            elif 0 < run < max(m, 2):
                return False
            else:
                run, before = 1, values[t]
    return run >= max(m, 2)


@njit(cache=True, nogil=True)
def fit_series(y: Any, place: Any, period: Any, kind: Any, m: Any, penalty: Any, effect: Any) -> Any:
    """Return the regimes of one series; ``penalty`` in units of the long-run variance, a cut.

    The season of counts is a factor, refitted here; that of levels was taken off before, and is counted only.

    The first search takes the noise from differences, which changes hardly touch; further ones from the residuals around
    the regimes found. Starting from residuals around no regime instead, every change would pass for autocorrelation.
    """
    n = y.size
    known = np.where(np.isnan(y), 0.0, 1.0)
    values, mark, factor = np.where(known > 0, y, 0.0), np.zeros(n, np.int8), np.ones(period)
    # Nothing but runs of equal values, each long enough for a regime: no season, nothing apart, and no noise.
    staircase = _is_staircase(values, known, m)
    if not staircase:
        if kind == POISSON:
            factor = first_factors(y, place, period)
        values, mark = set_apart(values, factor[place] * known, kind, m)
    for t in range(n):
        if mark[t] == REMOVED:
            known[t] = 0.0
    cuts = np.empty(0, np.int64)
    exposure = factor[place] * known
    r, rate = residuals(values, exposure, kind, cuts, np.inf)
    noise = np.zeros((0, 2))
    variance, first, inflation = 0.0, 0.0, 1.0
    if not staircase:
        variance, first, inflation = from_differences(r) if kind == POISSON else _first_noise(values, exposure, r)
    floor = SMALLEST_DISPERSION if kind == POISSON else ROUNDING * (values**2).sum() + 1e-300
    for turn in range(ROUNDS):
        before, exposure = cuts, factor[place] * known
        scale = max(variance, floor) * inflation
        cuts = segment(sums_of(values, exposure), kind, m, scale, penalty, effect, noise)
        r, rate = residuals(values, exposure, kind, cuts, DRIFTS * penalty * scale)
        noise = squares_of(r)
        if period > 1 and kind == POISSON and not staircase:
            factor = _refit(values, rate, known, place, period)
        variance, first, inflation = from_residuals(r, cuts.size + period, cuts.size)
        if kind != POISSON and variance <= floor:  # rounding has no autocorrelation, and is noisier nowhere
            first, inflation, noise = 0.0, 1.0, np.zeros((0, 2))
        if turn > 0 and cuts.size == before.size and (cuts == before).all():
            break
    return Fit(cuts, factor, mark, max(variance, floor), first, inflation, values, exposure, rate)


@njit(cache=True, nogil=True)
def judge(values: Any, exposure: Any, kind: Any, cuts: Any, m: Any, scale: Any, allowed: Any, drift: Any) -> Any:
    """Return each cut's gain over its two regimes taken as one, and the first and last cut about as good."""
    s, n = sums_of(values, exposure), values.size
    gains, believable = np.zeros(cuts.size), np.zeros((cuts.size, 2), np.int64)
    for i in range(cuts.size):
        low = cuts[i - 1] if i else 0
        high = cuts[i + 1] if i + 1 < cuts.size else n
        _, best = best_cut(s, kind, low, high, m, drift)
        whole = cost(s, kind, low, high, drift)
        first = last = cuts[i]
        for k in range(low + m, high - m + 1):
            gain = whole - cost(s, kind, low, k, drift) - cost(s, kind, k, high, drift)
            if gain >= best - allowed * scale:
                first, last = min(first, k), max(last, k)
        gains[i], believable[i, 0], believable[i, 1] = best / scale, first, last
    return gains, believable


@njit(cache=True, nogil=True)
def range_statistic(values: Any, exposure: Any, kind: Any, parameters: Any) -> Any:
    """Return the standardised range of the CUSUM, comparable with that of a Brownian bridge, and the autocorrelation.

    The range is NaN if nothing varies.

    The noise is that around the best single cut, so that a change does not pass for autocorrelation. 1.1652 standard
    deviations make up for looking at n points instead of a continuum (Siegmund, "Sequential Analysis" (1985), section
    10.2: 0.5826 at either end).
    """
    s, n = sums_of(values, exposure), values.size
    ys, es = s[:, 0], s[:, 1]
    y, e = ys[n], es[n]
    if e <= 0 or (kind == POISSON and y <= 0):
        return np.nan, 0.0
    rate, high, low, best, at, count = y / e, 0.0, 0.0, 0.0, -1, 0
    margin = max(5, n // 20)
    for k in range(1, n + 1):
        apart = ys[k] - rate * es[k]
        high, low = max(high, apart), min(low, apart)
        count += exposure[k - 1] > 0
        if margin <= k <= n - margin and 0 < es[k] < e:
            gain = apart * apart / (es[k] * (e - es[k]))
            if gain > best:
                best, at = gain, k
    cuts = np.empty(0 if at < 0 else 1, np.int64)
    if cuts.size:
        cuts[0] = at
    r, _ = residuals(values, exposure, kind, cuts, np.inf)
    unit = rate if kind == POISSON else 1.0
    variance, first, inflation = around_one_cut(r, parameters)
    if variance <= 0 or count < 4:
        return np.nan, 0.0
    spread = math.sqrt(variance * inflation * unit)
    return ((high - low) / spread + 1.1652 * math.sqrt(e / count)) / math.sqrt(e), first
