"""How noisy a series is around its regimes: variance, autocorrelation, and both together.

Enters: values, exposures (0: no data) and cuts. Leaves: standardised residuals and their long-run variance. Layer: ground
floor (stats).

A cut has to gain in units of the long-run variance, the variance times 1 + 2 (r1 + r2 + ...): what resembles its
neighbours repeats itself, and n such days tell less than n days.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from tocsin.stats.changepoints.search import POISSON, slope_of, sums_of

SMALLEST_DISPERSION = 0.1
MEMORY = 10  # values: neighbours alike over more than a tenth of a series cannot be told from changes of its level
NEGLIGIBLE = 0.03
CHOSEN = 4.5  # over n, times the correlation, for each cut: it was chosen to fit, and fits more than it should
UNSURE = 8.0  # over n: a few values show correlations that are not there, and a search has to begin somewhere


@njit(cache=True, nogil=True)
def residuals(y: Any, exposure: Any, kind: Any, cuts: Any, drift: Any) -> Any:
    """Return residuals around the regimes (Pearson's for counts), NaN without data, and each place's fitted rate.

    A regime of a level drifts along a line where that gains more than ``drift`` (infinite: never).
    """
    n = y.size
    r, rate = np.full(n, np.nan), np.zeros(n)
    s = sums_of(y, exposure)
    low = 0
    for j in range(cuts.size + 1):
        high = cuts[j] if j < cuts.size else n
        known = s[high, 1] - s[low, 1]
        level = (s[high, 0] - s[low, 0]) / known if known > 0 else 0.0
        slope, middle = 0.0, 0.0
        if kind != POISSON and known > 0:
            steep, gain = slope_of(s, low, high)
            if gain > drift:
                slope, middle = steep, (s[high, 2] - s[low, 2]) / known + n / 2
        for t in range(low, high):
            rate[t] = level + slope * (t - middle)
            expected = exposure[t] * rate[t]
            if exposure[t] > 0 and (kind != POISSON or expected > 0):
                r[t] = (y[t] - expected) / (math.sqrt(expected) if kind == POISSON else 1.0)
        low = high
    return r, rate


@njit(cache=True, nogil=True)
def squares_of(r: Any) -> Any:
    """Return cumulative sums of squared residuals, and of their number."""
    out = np.zeros((r.size + 1, 2))
    for t in range(r.size):
        known = not math.isnan(r[t])
        out[t + 1, 0] = out[t, 0] + (r[t] * r[t] if known else 0.0)
        out[t + 1, 1] = out[t, 1] + known
    return out


@njit(cache=True, nogil=True)
def _products(r: Any, lag: Any) -> Any:
    """Return the mean product of residuals ``lag`` apart, 0 if there are fewer than ten."""
    total, count = 0.0, 0
    for t in range(lag, r.size):
        if not (math.isnan(r[t]) or math.isnan(r[t - lag])):
            total += r[t] * r[t - lag]
            count += 1
    return total / count if count >= 10 else 0.0


@njit(cache=True, nogil=True)
def largest_decay(n: Any) -> Any:
    """Return the largest autocorrelation that n values can show."""
    return max(1 - MEMORY / n, 0.3)


@njit(cache=True, nogil=True)
def from_residuals(r: Any, parameters: Any, chosen: Any) -> Any:
    """Return variance, lag-one autocorrelation and inflation (1 + 2 sum of correlations) of residuals.

    Correlations fall off geometrically from the first, at the rate of the second to the first: exact for an AR(1), and
    for one seen through independent noise, as counts of a wandering intensity are. Each fitted parameter pulls a
    correlation down by about 1/n, and a chosen cut by more; that is given back.
    """
    n, squares = 0, 0.0
    for t in range(r.size):
        if not math.isnan(r[t]):
            n += 1
            squares += r[t] * r[t]
    if n == 0 or squares <= 0:
        return 0.0, 0.0, 1.0
    variance, most = squares / max(n - parameters, 1), largest_decay(n)
    back, again = parameters / n, 1 + CHOSEN * chosen / n
    first = max(_products(r, 1) * n / squares * again + back, 0.0)
    second = max(_products(r, 2) * n / squares * again + back, 0.0)
    if first < max(NEGLIGIBLE, 1 / math.sqrt(n)):
        return variance, first, 1 + 2 * first
    first = min(first, most)
    sure = first > 2.5 / math.sqrt(n)  # else the rate is that of an AR(1): two uncertain numbers make a wild ratio
    decay = min(max(second / first, first), most) if sure else first
    return variance, first, 1 + 2 * first / (1 - decay)


@njit(cache=True, nogil=True)
def from_differences(r: Any) -> Any:
    """Return the same from differences of neighbours, which a few changes of level hardly touch.

    Of an AR(1) with variance v and correlation c, squared differences have mean 2 v (1 - c) one apart and
    2 v (1 - c^2) two apart. Source: the idea of Chakar, Lebarbier, Levy-Leduc and Robin, Bernoulli 23 (2017), section 2.
    """
    sums, counts = np.zeros(3), np.zeros(3, np.int64)
    for t in range(1, r.size):
        for lag in range(1, min(t, 2) + 1):
            if not (math.isnan(r[t]) or math.isnan(r[t - lag])):
                sums[lag] += (r[t] - r[t - lag]) ** 2
                counts[lag] += 1
    if counts[2] == 0 or sums[1] <= 0:
        return 0.0, 0.0, 1.0
    one, two = sums[1] / counts[1], sums[2] / counts[2]
    first = min(max(two / one - 1 - UNSURE / r.size, 0.0), largest_decay(r.size))
    return one / 2 / (1 - first), first, (1 + first) / (1 - first)


@njit(cache=True, nogil=True)
def around_one_cut(r: Any, parameters: Any) -> Any:
    """Return the same of residuals around the best single cut, which is a choice among n and fits more than it should.

    What it pulls correlations down by is given back as simulated. The rate at which they fall off is read from the first two
    only where the first is beyond doubt, less half a standard error; else it is that of an AR(1).
    """
    n, squares = 0, 0.0
    for t in range(r.size):
        if not math.isnan(r[t]):
            n += 1
            squares += r[t] * r[t]
    if squares <= 0 or n <= parameters + 2:
        return 0.0, 0.0, 1.0
    first, second = _products(r, 1) * n / squares, _products(r, 2) * n / squares
    sure = first > 3 / math.sqrt(n)
    first = min(max(first + (2 + 4.5 * max(first, 0.0)) / n, 0.0), 0.95)
    second = second + (2 + 4.5 * max(second, 0.0)) / n
    decay = min(max((second - 0.5 / math.sqrt(n)) / first, first), 0.95) if sure else first
    return squares / (n - 2 - parameters), first, 1 + 2 * first / (1 - decay)


@njit(cache=True, nogil=True)
def from_most_differences(r: Any) -> Any:
    """Return the same, or from medians of squared differences, which many large changes hardly touch, if that is less.

    Source: Chakar, Lebarbier, Levy-Leduc and Robin, Bernoulli 23 (2017), section 2.
    """
    variance, rho, inflation = from_differences(r)
    one, two = _median_square(r, 1), _median_square(r, 2)
    if one <= 0:
        return variance, rho, inflation
    first = min(max(two / one - 1 - UNSURE / r.size, 0.0), largest_decay(r.size))
    robust = one / 2 / (1 - first), first, (1 + first) / (1 - first)
    return robust if robust[0] * robust[2] < variance * inflation else (variance, rho, inflation)


@njit(cache=True, nogil=True)
def _median_square(r: Any, lag: Any) -> Any:
    """Return the median squared difference ``lag`` apart, over that of a standard normal variable."""
    found, count = np.empty(r.size), 0
    for t in range(lag, r.size):
        if not (math.isnan(r[t]) or math.isnan(r[t - lag])):
            found[count] = (r[t] - r[t - lag]) ** 2
            count += 1
    return np.median(found[:count]) / 0.45493642 if count else 0.0
