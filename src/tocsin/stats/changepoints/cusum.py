"""Taylor's method: the CUSUM, the method that explains itself on paper.

Enters: values in order (NaN: no data). Leaves: ``ChangePoints``. Layer: ground floor (stats).

Sum up how far each value lies from the mean. While the level is above it, the sum rises; where the level changes, it turns.
If its range is larger than in (nearly) all random orders of the same values, there was a change, where the sum is furthest
from zero. Cut there, and look at both sides again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from scipy.stats import rankdata

from tocsin.errors import StatisticsError
from tocsin.stats.changepoints.fit import range_statistic
from tocsin.stats.changepoints.result import ChangePoints, check_thresholds, dates_of, regime_means, series_of
from tocsin.stats.changepoints.search import GAUSSIAN
from tocsin.stats.changepoints.season import first_factors
from tocsin.stats.draws import below, key_of, shuffle, stream
from tocsin.stats.rates import check_level
from tocsin.stats.tails import kuiper

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

ESTIMATORS = ("least-squares", "furthest")
PASSES = 20


@dataclass(frozen=True, slots=True)
class Settings:
    """How one stretch of a series is judged."""

    permutations: int
    key: Any
    ranks: bool
    autocorrelated: bool
    estimator: str
    m: int


def cusum(
    values: ArrayLike,
    *,
    start: Any = None,
    step: str = "D",
    season: int = 1,
    permutations: int = 0,
    seed: int | None = None,
    ranks: bool = False,
    autocorrelated: bool = False,
    estimator: str = "least-squares",
    candidate: float = 0.5,
    include: float = 0.95,
    min_segment: int = 2,
    min_effect: float = 0.0,
    level: float = 0.95,
) -> ChangePoints:
    """Find changes of level by Taylor's CUSUM analysis.

    First pass: any stretch whose confidence reaches ``candidate`` is cut and both sides are looked at again (``level`` of
    the result counts these passes). Second pass: every candidate is estimated again between its neighbours, and the least
    certain is dropped while it is below ``include``, then the smallest while it changes the level by less than
    ``min_effect`` (a difference in the values' unit, the season taken out). Confidence is the share of ``permutations``
    with a smaller range (these need a ``seed``); without any it is Kuiper's tail with Siegmund's correction, within .003 of
    many permutations from some hundred values on and thousands of times faster. ``ranks`` makes outliers harmless.
    ``autocorrelated`` takes the AR(1) long-run variance instead of the plain one (analytic only): without it, an
    autocorrelation of 0.6 makes four of five steady series "change". ``estimator`` is Taylor's better one, "least-squares",
    or "furthest" from zero. ``season=7`` divides by weekday factors first; left in, weekdays hide changes.

    The interval is that of places found in series put together from each side's own values (with permutations), else that
    of Hansen's bound. Source: Taylor, "Change-Point Analysis: A Powerful New Tool For Detecting Changes" (2000); his
    program includes at 0.90, and its candidate level is 0.50.

    Raises:
        StatisticsError: Permutations without a seed, an unknown estimator, settings that make no sense.

    >>> deficit = [10.7, 13.0, 11.4, 11.5, 12.5, 14.1, 14.8, 14.1, 12.6, 16.0, 11.7, 10.6,
    ...            10.0, 11.4, 7.9, 9.5, 8.0, 11.8, 10.5, 11.2, 9.2, 10.1, 10.4, 10.5]  # Taylor's example
    >>> found = cusum(deficit, permutations=9_999, seed=1, include=0.9, start="1987-01", step="M")
    >>> found.date.astype(str).tolist(), found.rates.round(2).tolist(), found.level.tolist()
    (['1987-06', '1987-11'], [11.82, 14.32, 10.2], [2, 1])
    >>> steps = [0.0] * 20 + [1.0] * 20 + [5.0] * 20
    >>> cusum(steps).index.tolist(), cusum(steps, min_effect=2.0).index.tolist()
    ([20, 40], [40])
    """
    y, settings = _checked(
        values, permutations, seed, ranks, autocorrelated, estimator, candidate, include, min_segment
    )
    check_level(level)
    check_thresholds(None, min_effect)
    dates, known = dates_of(start, y.size, step), np.isfinite(y)
    factors = np.ones(1)
    if season > 1 and y.size >= 3 * season:
        factors = first_factors(y, np.arange(y.size) % season, season)
    places = np.flatnonzero(known)
    x = y[places] / np.maximum(factors[places % factors.size], 1e-12)
    depth: dict[int, int] = {}
    _candidates(x, 0, x.size, 1, settings, 1 - candidate, depth)
    cuts, p = _second_pass(x, sorted(depth), settings, 1 - include, min_effect)
    edges = [0, *cuts, x.size]
    spans = [
        _interval(x[a:c], b - a, settings, level, number)
        for number, (a, b, c) in enumerate(zip(edges, edges[1:], edges[2:], strict=False))
    ]
    rates = np.array([x[a:b].mean() if b > a else math.nan for a, b in pairwise(edges)])
    index = places[np.array(cuts, np.int64)] if cuts else np.zeros(0, np.int64)
    between = [places[a + first] for a, (first, _) in zip(edges, spans, strict=False)]
    until = [places[a + last] for a, (_, last) in zip(edges, spans, strict=False)]
    whole = _p_value(x, settings, 0) if x.size else math.nan
    residual = x - np.repeat(rates, np.diff(edges)) if x.size else x
    squares = float((residual**2).sum())
    rho = float((residual[1:] * residual[:-1]).sum()) / squares if squares > 0 else 0.0
    levels = np.array([min(depth.items(), key=lambda item: abs(item[0] - cut))[1] for cut in cuts], np.int64)
    return ChangePoints(
        "cusum", index, np.array(between, np.int64), np.array(until, np.int64), np.array(p), np.diff(rates), levels,
        regime_means(y, index), rates, whole, np.zeros(0, np.int64), factors, squares / max(x.size - len(rates), 1), rho,
        _warnings(y, factors, season, rho, settings), y, dates,
    )  # fmt: skip


def _checked(
    values: ArrayLike, permutations: int, seed: int | None, ranks: bool, autocorrelated: bool, estimator: str,
    candidate: float, include: float, m: int,
) -> tuple[Floats, Settings]:  # fmt: skip
    if permutations and seed is None:
        raise StatisticsError("Permutations need a seed, such as seed=1, so that the result can be had again.")
    if permutations and autocorrelated:
        raise StatisticsError("Permutations destroy autocorrelation; autocorrelated=True needs permutations=0.")
    if estimator not in ESTIMATORS:
        raise StatisticsError(f'estimator is one of {ESTIMATORS}, not "{estimator}".')
    if not (0 < candidate <= include < 1) or m < 1:
        raise StatisticsError("0 < candidate <= include < 1, and min_segment is at least 1.")
    key = key_of(seed or 0)
    return series_of(values, counts=False), Settings(permutations, key, ranks, autocorrelated, estimator, m)


def _warnings(y: Floats, factors: Floats, season: int, rho: float, settings: Settings) -> tuple[str, ...]:
    found = []
    if np.isfinite(y).sum() < 14:
        found.append("too short: so few values tell little about noise")
    if season > 1 and factors.size == 1:
        found.append(f"seasonality not removable: {y.size} values are fewer than three seasons of {season}")
    if rho > 0.2 and not settings.autocorrelated:
        found.append(f"autocorrelation {rho:.2f}: changes are overstated; use autocorrelated=True")
    return tuple(found)


def _p_value(x: Floats, settings: Settings, number: int) -> float:
    """Return how likely noise has so large a range; 1 where nothing varies or too little is known."""
    if x.size < 2 * max(settings.m, 2) or np.ptp(x) == 0:
        return 1.0
    x = rankdata(x) if settings.ranks else x
    centred = x - x.mean()
    if settings.permutations:
        reached = _permuted(centred, settings.permutations, stream(settings.key, number))
        return float(reached + 1) / (settings.permutations + 1)
    if settings.autocorrelated:
        statistic, _ = range_statistic(centred, np.ones(x.size), GAUSSIAN, 0)
        return float(kuiper(statistic)) if np.isfinite(statistic) else 1.0
    return float(kuiper((_range(centred) / x.std(ddof=1) + 1.1652) / math.sqrt(x.size)))


def _where(x: Floats, settings: Settings) -> int:
    """Return the place of the first value after the change."""
    x = rankdata(x) if settings.ranks else x
    return int(_turn(x, settings.m, settings.estimator == "least-squares"))


def _candidates(
    x: Floats, low: int, high: int, turn: int, settings: Settings, alpha: float, depth: dict[int, int]
) -> None:
    """Cut the stretch where it changes, and both sides again; a list of stretches, since recursion has its limits."""
    waiting = [(low, high, turn)]
    while waiting:
        a, b, now = waiting.pop()
        if _p_value(x[a:b], settings, a * 1_000_003 + b) > alpha:
            continue
        at = a + _where(x[a:b], settings)
        depth[at] = now
        waiting += [(a, at, now + 1), (at, b, now + 1)]


def _second_pass(
    x: Floats, cuts: list[int], settings: Settings, alpha: float, effect: float
) -> tuple[list[int], list[float]]:
    """Estimate each cut again between its neighbours and drop the least certain, then the smallest, until nothing changes.

    Cuts that push each other around without end are left where they are after some rounds, and only dropped from then on.
    """
    most = PASSES * (len(cuts) + 1)
    for turn in count():
        edges, p, moved = [0, *cuts, x.size], [], False
        for i in range(len(cuts)):
            a, b = edges[i], edges[i + 2]
            at = a + _where(x[a:b], settings) if turn < most else cuts[i]
            moved |= at != cuts[i]
            cuts[i] = edges[i + 1] = at
            p.append(_p_value(x[a:b], settings, a * 1_000_003 + b))
        worst = max(range(len(cuts)), key=p.__getitem__, default=-1)
        if worst >= 0 and p[worst] > alpha:
            del cuts[worst]
        elif not moved:
            sizes = [abs(x[b:c].mean() - x[a:b].mean()) for a, b, c in zip(edges, cuts, edges[2:], strict=False)]
            smallest = min(range(len(cuts)), key=sizes.__getitem__, default=-1)
            if smallest < 0 or sizes[smallest] >= effect:
                break
            del cuts[smallest]
    return cuts, p


def _interval(x: Floats, at: int, settings: Settings, level: float, number: int) -> tuple[int, int]:
    """Return the first and last believable place of a change at ``at`` in this stretch."""
    if settings.permutations:
        places = np.empty(settings.permutations, np.int64)
        _resampled(x, at, settings.m, stream(settings.key, -1 - number), places)
        low, high = np.quantile(places, ((1 - level) / 2, (1 + level) / 2))
        return min(int(low), at), max(math.ceil(high), at)
    gains = _gains(x)
    noise = np.concatenate([x[:at] - x[:at].mean(), x[at:] - x[at:].mean()]).var()
    good = np.flatnonzero(gains >= gains[at] + 2 * math.log1p(-math.sqrt(level)) * noise)
    good = good[(good >= settings.m) & (good <= x.size - settings.m)]
    return min(int(good[0]), at), max(int(good[-1]), at)


def _gains(x: Floats) -> Floats:
    """Return by how much each cut (before place k) lowers the sum of squares; 0 at the ends."""
    k = np.arange(1, x.size)
    apart = np.cumsum(x - x.mean())[:-1]
    return np.concatenate([[0.0], apart**2 * (x.size / (k * (x.size - k)))])


@njit(cache=True, nogil=True)
def _range(centred: Any) -> Any:
    """Return the range of the CUSUM, its start at 0 included."""
    total = low = high = 0.0
    for t in range(centred.size):
        total += centred[t]
        low, high = min(low, total), max(high, total)
    return high - low


@njit(cache=True, nogil=True)
def _permuted(centred: Any, permutations: Any, state: Any) -> Any:
    """Return how many random orders have a range at least as large."""
    whole, x, reached = _range(centred), centred.copy(), 0
    for _ in range(permutations):
        shuffle(x, state)
        reached += _range(x) >= whole * (1 - 1e-12)
    return reached


@njit(cache=True, nogil=True)
def _turn(x: Any, m: Any, least_squares: Any) -> Any:
    """Return where the CUSUM turns: the best cut by least squares, or after the furthest point from zero."""
    n, mean = x.size, x.mean()
    total, best, at = 0.0, -1.0, n // 2
    for k in range(1, n):
        total += x[k - 1] - mean
        if m <= k <= n - m:
            gain = total * total * n / (k * (n - k)) if least_squares else abs(total)
            if gain > best:
                best, at = gain, k
    return at


@njit(cache=True, nogil=True)
def _resampled(x: Any, at: Any, m: Any, state: Any, places: Any) -> None:
    """Write where the change is found in series put together from either side's own values."""
    made = np.empty(x.size)
    for i in range(places.size):
        for t in range(x.size):
            made[t] = x[below(at, state)] if t < at else x[at + below(x.size - at, state)]
        places[i] = _turn(made, m, True)
