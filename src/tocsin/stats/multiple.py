"""Many tests at once: adjusted p-values, and nulls read off the population itself.

Enters: arrays of p-values, of z-scores, or of effects with their standard errors; NaN stands for "not tested".
Leaves: arrays of the same shape, NaN where NaN entered. Layer: ground floor (stats).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from tocsin.errors import StatisticsError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

NORMAL_QUARTILE = 0.6744897501960817


def _tested(p: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    values = np.asarray(p, np.float64)
    tested = ~np.isnan(values)
    if ((values[tested] < 0) | (values[tested] > 1)).any():
        raise StatisticsError("p-values lie between 0 and 1 (NaN: not tested); one of these does not.")
    return values, tested


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """Return p-values adjusted so that rejecting those up to q keeps the expected share of false ones below q.

    Any shape; the whole array is one family. NaN (not tested) stays NaN and does not count. Source: Benjamini and
    Hochberg, J. R. Statist. Soc. B 57 (1995), procedure (1); holds for independent or positively dependent tests.

    Raises:
        StatisticsError: A value outside 0 to 1.

    >>> benjamini_hochberg([0.01, 0.04, float("nan"), 0.03]).tolist()
    [0.03, 0.04, nan, 0.04]
    """
    values, tested = _tested(p)
    v = values[tested]
    order = np.argsort(v, kind="stable")
    scaled = v[order] * (v.size / np.arange(1, v.size + 1))
    adjusted = np.empty(v.size)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    out = np.full(values.shape, np.nan)
    out[tested] = adjusted
    return out


def holm(p: ArrayLike) -> Floats:
    """Return p-values adjusted so that rejecting those up to alpha keeps any false one at most that likely.

    Any shape, any dependence; NaN stays NaN. Source: Holm, Scand. J. Statist. 6 (1979), section 2.

    Raises:
        StatisticsError: A value outside 0 to 1.

    >>> holm([0.01, 0.04, float("nan"), 0.03]).tolist()
    [0.03, 0.06, nan, 0.06]
    """
    values, tested = _tested(p)
    v = values[tested]
    order = np.argsort(v, kind="stable")
    scaled = v[order] * np.arange(v.size, 0, -1)
    adjusted = np.empty(v.size)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    out = np.full(values.shape, np.nan)
    out[tested] = adjusted
    return out


@dataclass(frozen=True, slots=True)
class Null:
    """What is ordinary in a population, and how far each member lies from it.

    ``center`` and ``spread`` describe the ordinary members: of the z-scores, or of the effects (then ``spread`` is how
    much true effects differ, sampling error excluded). ``z`` is each member's distance in standard deviations, ``p`` its
    two-sided p-value; NaN where it was not tested.
    """

    center: float
    spread: float
    z: Floats
    p: Floats


def empirical_null(z: ArrayLike, *, spread_at_least: float = 1.0) -> Null:
    """Judge z-scores against the normal distribution that fits the middle half of them, not against N(0, 1).

    When everybody drifts a little, N(0, 1) calls everybody unusual. Here the centre is the median and the spread the
    interquartile range over 1.349; both presume that fewer than a quarter of the members are unusual on either side.
    A spread below ``spread_at_least`` is raised to it, so that this is never more liberal than N(0, 1).
    Source: Efron, J. Amer. Statist. Assoc. 99 (2004), sections 2 and 4, with quartiles for his central matching.

    Raises:
        StatisticsError: Fewer than four scores.

    >>> null = empirical_null([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 30.0])
    >>> null.center, bool(null.p[-1] < 1e-6), bool(null.p[-2] > 0.1)
    (0.5, True, True)
    """
    values = np.asarray(z, np.float64)
    tested = values[~np.isnan(values)]
    if tested.size < 4:
        raise StatisticsError(f"An empirical null needs at least four z-scores, not {tested.size}.")
    low, center, high = np.quantile(tested, (0.25, 0.5, 0.75))
    spread = max(float(high - low) / (2 * NORMAL_QUARTILE), spread_at_least)
    distance = (values - center) / spread
    return Null(float(center), spread, distance, 2 * special.ndtr(-np.abs(distance)))


def drift_null(effect: ArrayLike, error: ArrayLike, df: ArrayLike = np.inf) -> Null:
    """Judge effects where everybody's true effect differs a little: a random-effects null, fitted robustly.

    Member i is seen with ``effect[i]``, standard error ``error[i]`` and ``df[i]`` degrees of freedom. Ordinary members'
    true effects are N(center, spread squared), so that effect i has variance ``spread**2 + error[i]**2``. Unlike
    ``empirical_null`` this does not punish members that are measured well, so it finds more. The centre is the median
    weighted by 1/variance, the spread the one at which half the members lie within 0.6745 standard deviations.
    p-values are Student's, with Satterthwaite's degrees of freedom for the sum of variances. Sources: random effects,
    DerSimonian and Laird, Control. Clin. Trials 7 (1986); degrees of freedom, Satterthwaite, Biometrics 2 (1946).

    Raises:
        StatisticsError: Shapes that do not fit, or fewer than four members.

    >>> effect = np.append(np.random.default_rng(1).normal(0.2, 0.5, 200), 6.0)
    >>> null = drift_null(effect, np.full(201, 0.3))
    >>> bool(null.p[-1] < 1e-6), bool(null.p[:-1].min() > 1e-4)
    (True, True)
    """
    try:
        e, s, f = np.broadcast_arrays(*(np.asarray(a, np.float64) for a in (effect, error, df)))
    except ValueError as problem:
        raise StatisticsError(f"effect, error and df must have one shape: {problem}.") from problem
    use = np.isfinite(e) & np.isfinite(s) & (s >= 0) & (f > 0)
    if use.sum() < 4:
        raise StatisticsError(f"A drift null needs at least four members with a standard error, not {int(use.sum())}.")
    x, v = e[use], s[use] ** 2
    # The median of |t| exceeds the normal one at few degrees of freedom; each error is shrunk to the normal scale.
    scale = special.stdtrit(np.minimum(f[use], 1e9), 0.75) / NORMAL_QUARTILE
    center, tau2 = _fit(x, v * scale**2)
    total = tau2 + np.where(use, s, np.nan) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(total > 0, (e - center) / np.sqrt(total), np.nan)
        pooled = np.minimum(f * (total / s**2) ** 2, 1e9)
    pooled = np.where(s == 0, 1e9, pooled)
    return Null(center, float(np.sqrt(tau2)), z, 2 * special.stdtr(pooled, -np.abs(z)))


def _fit(x: Floats, v: Floats) -> tuple[float, float]:
    """Return centre and variance of the true effects, by bisection on the variance."""
    low, high = 0.0, float(np.ptp(x)) ** 2 + 1e-300
    center = _weighted_median(x, 1 / (v + high))

    def too_small(tau2: float) -> bool:
        nonlocal center
        weight = 1 / np.maximum(v + tau2, 1e-300)
        center = _weighted_median(x, weight)
        return bool(np.median((x - center) ** 2 * weight) > NORMAL_QUARTILE**2)

    if not too_small(0.0):
        return center, 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if too_small(middle) else (low, middle)
    too_small(high)
    return center, high


def _weighted_median(x: Floats, weight: Floats) -> float:
    order = np.argsort(x, kind="stable")
    below = np.cumsum(weight[order])
    return float(x[order][np.searchsorted(below, below[-1] / 2)])
