"""Thousands of series at once (every rule, every entity), and one series night by night.

Enters: a matrix of counts, one row a series, NaN for no data. Leaves: flat arrays, one value a series or a change. Layer:
ground floor (stats).
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from tocsin.errors import StatisticsError
from tocsin.stats.changepoints.fit import fit_series, judge
from tocsin.stats.changepoints.noise import largest_decay
from tocsin.stats.changepoints.regimes import cost_of_a_cut
from tocsin.stats.changepoints.result import check_thresholds
from tocsin.stats.changepoints.search import POISSON
from tocsin.stats.changepoints.season import first_factors
from tocsin.stats.tails import kuiper, standardised_bridge

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

AT_ONCE = 256  # series whose changes are gathered at once
BETWEEN = -2 * math.log1p(-math.sqrt(0.95))


@dataclass(frozen=True, slots=True)
class Batch:
    """The changes of many series: one value a change, in order of series and place.

    ``series`` is the row, ``index`` the place of the first value of the new regime, between ``first`` and ``last`` with 95 %
    confidence; ``before`` and ``after`` the rates on either side (season and outliers taken out), ``effect`` their ratio,
    ``p`` as in ``ChangePoints``. ``screened`` says of every series whether it was looked at in full.
    """

    series: Ints
    index: Ints
    first: Ints
    last: Ints
    before: Floats
    after: Floats
    effect: Floats
    p: Floats
    screened: NDArray[np.bool_]


def _matrix(values: ArrayLike) -> Floats:
    y = np.ascontiguousarray(values, np.float64)
    if y.ndim != 2:
        raise StatisticsError(f"Many series are a matrix, one row each; this has {y.ndim} dimensions.")
    return y


def _in_threads(work: Callable[[int, int], None], rows: int, threads: int | None) -> None:
    """Do the rows in as many stretches as there are threads; compiled loops let go of the interpreter."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = min(threads or cores, max(rows, 1))
    edges = np.linspace(0, rows, threads + 1).astype(int).tolist()
    if threads == 1:
        work(0, rows)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, edges[:-1], edges[1:]))


def screen(values: ArrayLike, *, season: int = 7, threads: int | None = None) -> Floats:
    """Return for each series the chance that noise alone makes it wander so far: small where a change is likely.

    The CUSUM of counts over their expectation by weekday, by Kuiper's tail, with the noise from differences of neighbours.
    Spikes are left in and a change shorter than some weeks may stay unseen: keep what is below 0.2, not 0.05.

    Raises:
        StatisticsError: Not a matrix.

    >>> rng = np.random.default_rng(1)
    >>> y = rng.poisson(np.where(np.arange(200) < 120, 10, [[10], [16]]))
    >>> (screen(y) < 0.05).tolist()
    [False, True]
    """
    y = _matrix(values)
    statistic = np.empty(y.shape[0])
    period = season if y.shape[1] >= 3 * season else 1
    _in_threads(lambda low, high: _screen(y[low:high], period, statistic[low:high]), y.shape[0], threads)
    return np.where(np.isnan(statistic), 1.0, kuiper(np.nan_to_num(statistic)))


def batch(
    values: ArrayLike,
    *,
    season: int = 7,
    min_segment: int = 3,
    penalty: float | None = None,
    min_effect: float = 0.0,
    keep: float = 0.2,
    threads: int | None = None,
) -> Batch:
    """Find the changes of many series of counts, each as ``counts`` finds them, after a fast screen.

    Only series whose ``screen`` is at most ``keep`` are looked at in full; ``keep=1`` looks at all. The result does not
    depend on the number of threads.

    Raises:
        StatisticsError: Not a matrix, negative counts, settings that make no sense.

    >>> rng = np.random.default_rng(1)
    >>> y = rng.poisson(np.where(np.arange(200) < 120, 10, [[10], [16]]))
    >>> found = batch(y)
    >>> found.series.tolist(), found.index.tolist()
    ([1], [120])
    """
    check_thresholds(penalty, min_effect)
    y = _matrix(values)
    if (y < 0).any():
        raise StatisticsError("Counts are not negative; one of these is.")
    screened = screen(y, season=season, threads=threads) <= keep if keep < 1 else np.ones(y.shape[0], np.bool_)
    chosen = np.flatnonzero(screened)
    period = season if y.shape[1] >= 3 * season else 1
    known = np.isfinite(y[chosen]).sum(1).tolist()
    costs = np.array([cost_of_a_cut(k) if penalty is None else penalty for k in known])
    parts: dict[int, tuple[Ints, Floats]] = {}

    def work(low: int, high: int) -> None:
        for start in range(low, high, AT_ONCE):
            part = slice(start, min(start + AT_ONCE, high))
            places = np.full((part.stop - start, y.shape[1] // min_segment + 1, 4), -1, np.int64)
            numbers = np.full((*places.shape[:2], 3), np.nan)
            _batch(y, chosen[part], period, min_segment, costs[part], math.log1p(min_effect), places, numbers)
            some = places[:, :, 1] >= 0
            parts[start] = places[some], numbers[some]

    _in_threads(work, chosen.size, threads)
    places = np.concatenate([np.zeros((0, 4), np.int64), *(parts[start][0] for start in sorted(parts))])
    numbers = np.concatenate([np.zeros((0, 3)), *(parts[start][1] for start in sorted(parts))])
    series, index, first, last = places.T
    before, after, gain = numbers.T
    # A change is judged between its neighbours, or the ends of the series.
    width = _widths(series, index, y.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = after / before
    p = standardised_bridge(np.sqrt(np.maximum(gain, 0)), min_segment / width)
    return Batch(series, index, first, last, before, after, effect, p, screened)


def _widths(series: Ints, index: Ints, size: int) -> Ints:
    """Return for each change how many values lie between its neighbours."""
    low, high = np.zeros(series.size, np.int64), np.full(series.size, size)
    same = series[1:] == series[:-1]
    low[1:][same] = index[:-1][same]
    high[:-1][same] = index[1:][same]
    return high - low


def nightly(
    values: ArrayLike, at: int, *, nights: int = 60, within: int = 7, season: int = 7, min_segment: int = 3
) -> int | None:
    """Return how many nights pass until a nightly run reports a change at place ``at``; None if none does in ``nights``.

    After each day, ``counts`` runs over all days so far. 0 would be the night after the first day of the new level. A
    regime has at least ``min_segment`` days, so 2 is the least for a change dated right; one reported up to ``within``
    days off counts too.

    Raises:
        StatisticsError: More than one dimension, or a place outside the series.

    >>> rng = np.random.default_rng(4)
    >>> y = rng.poisson(np.where(np.arange(200) < 150, 20, 40))
    >>> nightly(y, 150)
    2
    """
    y = np.asarray(values, np.float64)
    if y.ndim != 1 or not 0 < at < y.size:
        raise StatisticsError(
            f"The place of the change is inside the series: above 0 and below {y.size}; this is {at}."
        )
    for end in range(at + 1, min(at + nights, y.size) + 1):
        period = season if end >= 3 * season else 1
        cuts = _one(y[:end], period, min_segment, cost_of_a_cut(int(np.isfinite(y[:end]).sum())), 0.0).cuts
        if cuts.size and np.abs(cuts - at).min() <= within:
            return end - at - 1
    return None


@njit(cache=True, nogil=True)
def _one(y: Any, period: Any, m: Any, penalty: Any, effect: Any) -> Any:
    return fit_series(y, np.arange(y.size) % period, period, POISSON, m, penalty, effect)


@njit(cache=True, nogil=True)
def _screen(y: Any, period: Any, out: Any) -> None:
    """Write each series' standardised CUSUM range."""
    place = np.arange(y.shape[1]) % period
    for i in range(y.shape[0]):
        out[i] = _wander(y[i], place, period)


@njit(cache=True, nogil=True)
def _wander(y: Any, place: Any, period: Any) -> Any:
    """Return what ``range_statistic`` does, with the noise from differences, in two passes over the counts."""
    factor = first_factors(y, place, period)
    total, known, n = 0.0, 0.0, 0
    for t in range(y.size):
        if not math.isnan(y[t]):
            total += y[t]
            known += factor[place[t]]
            n += 1
    if n < 4 or total <= 0:
        return np.nan
    expected = total / known * factor
    units = 1 / np.sqrt(np.maximum(expected, 1e-12))
    apart = high = low = one = two = 0.0
    before = before_that = np.nan
    ones = twos = 0
    for t in range(y.size):
        d = place[t]
        r = (y[t] - expected[d]) * units[d]
        if not math.isnan(r):
            apart += y[t] - expected[d]
            high, low = max(high, apart), min(low, apart)
        if not math.isnan(r - before):
            one += (r - before) ** 2
            ones += 1
        if not math.isnan(r - before_that):
            two += (r - before_that) ** 2
            twos += 1
        before_that, before = before, r
    if one <= 0 or twos == 0:
        return np.nan
    one, two = one / ones, two / twos
    rho = min(max(two / one - 1, 0.0), largest_decay(n))
    noise = one / 2 * (1 + rho) / (1 - rho) ** 2 * total / known
    return ((high - low) / math.sqrt(noise) + 1.1652 * math.sqrt(known / n)) / math.sqrt(known)


@njit(cache=True, nogil=True)
def _batch(y: Any, rows: Any, period: Any, m: Any, penalties: Any, effect: Any, places: Any, numbers: Any) -> None:
    """Write series, cut and interval of each change; rates before and after, and the gain."""
    for i in range(rows.size):
        series = y[rows[i]]
        fit = _one(series, period, m, penalties[i], effect)
        cuts, scale = fit.cuts, fit.variance * fit.inflation
        gains, believable = judge(fit.values, fit.exposure, POISSON, cuts, m, scale, BETWEEN, np.inf)
        for j in range(cuts.size):
            places[i, j, 0], places[i, j, 1] = rows[i], cuts[j]
            places[i, j, 2:] = believable[j]
            numbers[i, j, 0], numbers[i, j, 1], numbers[i, j, 2] = fit.rate[cuts[j] - 1], fit.rate[cuts[j]], gains[j]
