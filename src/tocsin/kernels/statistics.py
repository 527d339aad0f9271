"""Statistics of a short list of numbers, in one fixed order of additions.

Enters: a buffer of float64 values (windows oldest first, or a population sorted by value). Leaves: mean, sd, median,
MAD and quantiles. Layer: kernels.

The sums are plain additions in the order given, so equal lists give equal bits on every machine and after every
restart. Quantiles are Hyndman and Fan's definition 7 ("Sample Quantiles in Statistical Packages", The American
Statistician 50, 1996, table 1); the MAD is the plain median of absolute deviations, without the factor 1.4826.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

MEAN, SD, MEDIAN, MAD, QUANTILE, NONE = 0, 1, 2, 3, 4, -1
CODES = {"mean": MEAN, "sd": SD, "median": MEDIAN, "mad": MAD}


@njit(cache=True, nogil=True)
def quantile_of_sorted(ordered: Any, n: Any, q: Any) -> Any:
    """Return quantile ``q`` of the first ``n`` values, which are in ascending order."""
    h = (n - 1) * q
    i = int(np.floor(h))
    if i + 1 >= n:
        return ordered[n - 1]
    return ordered[i] + (h - i) * (ordered[i + 1] - ordered[i])


@njit(cache=True, nogil=True)
def median_of_sorted(ordered: Any, n: Any) -> Any:
    """Return the middle value, or the average of the two middle ones."""
    if n % 2:
        return ordered[n // 2]
    return (ordered[n // 2 - 1] + ordered[n // 2]) / 2


@njit(cache=True, nogil=True)
def _mean(values: Any, n: Any) -> Any:
    total = 0.0
    for i in range(n):
        total += values[i]
    return total / n


@njit(cache=True, nogil=True)
def _sd(values: Any, n: Any, mean: Any) -> Any:
    if n < 2:
        return np.nan
    squares = 0.0
    for i in range(n):
        squares += (values[i] - mean) * (values[i] - mean)
    return np.sqrt(squares / (n - 1))


@njit(cache=True, nogil=True)
def _largest(values: Any, n: Any, sign: Any) -> Any:
    most = values[0]
    for i in range(1, n):
        if sign * values[i] > sign * most:
            most = values[i]
    return most


@njit(cache=True, nogil=True, inline="always")
def _needs_order(code: Any, q: Any) -> Any:
    """Whether a statistic is read off the sorted values; the largest and the smallest are found without sorting."""
    return code in (MEDIAN, MAD) or (code == QUANTILE and 0 < q < 1)


@njit(cache=True, nogil=True)
def _one(code: Any, q: Any, values: Any, mean: Any, ordered: Any, n: Any) -> Any:
    if code == MEAN:
        return mean
    if code == SD:
        return _sd(values, n, mean)
    if code == MEDIAN:
        return median_of_sorted(ordered, n)
    if code == QUANTILE and not _needs_order(code, q):
        return _largest(values, n, 1.0 if q == 1 else -1.0)
    if code == QUANTILE:
        return quantile_of_sorted(ordered, n, q)
    middle = median_of_sorted(ordered, n)
    return median_of_sorted(np.sort(np.abs(ordered[:n] - middle)), n)


@njit(cache=True, nogil=True)
def summarise(values: Any, n: Any, codes: Any, quantiles: Any, at_least: Any, out: Any) -> None:
    """Write the statistics named by ``codes`` and then n into ``out``; all NaN when n is below ``at_least``."""
    last = codes.size
    if n < at_least or n == 0:
        for k in range(last + 1):
            out[k] = np.nan
        return
    ordered, mean = values, np.nan
    for k in range(last):
        if codes[k] in (MEAN, SD):
            mean = _mean(values, n)
            break
    for k in range(last):
        if _needs_order(codes[k], quantiles[k]):
            ordered = np.sort(values[:n])
            break
    for k in range(last):
        out[k] = np.nan if codes[k] == NONE else _one(codes[k], quantiles[k], values, mean, ordered, n)
    out[last] = n
