"""Shares and rates with intervals.

Enters: counts, and what they are out of (trials) or over (exposure: days, hours, users), as arrays of any one shape.
Leaves: estimates and interval ends of that shape; NaN where there is nothing to estimate from. Layer: ground floor
(stats).
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


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the ends of its interval; arrays of one shape."""

    estimate: Floats
    low: Floats
    high: Floats


def check_level(level: float) -> None:
    """Refuse a confidence level that is none; 95 for 0.95 is the usual slip."""
    if not 0 < level < 1:
        raise StatisticsError(f"A confidence level lies between 0 and 1, such as 0.95; this is {level}.")


def _arrays(count: ArrayLike, out_of: ArrayLike, level: float) -> tuple[Floats, Floats]:
    check_level(level)
    try:
        k, n = np.broadcast_arrays(np.asarray(count, np.float64), np.asarray(out_of, np.float64))
    except ValueError as problem:
        raise StatisticsError(f"Counts and what they are out of must have one shape: {problem}.") from problem
    if (k < 0).any() or (n < 0).any():
        raise StatisticsError("Counts, trials and exposures are not negative; one of these is.")
    return k, np.where(n > 0, n, np.nan)


def _trials(count: ArrayLike, trials: ArrayLike, level: float) -> tuple[Floats, Floats]:
    k, n = _arrays(count, trials, level)
    if (k > np.where(np.isnan(n), np.inf, n)).any():
        raise StatisticsError("More successes than trials: are the two arguments swapped?")
    return k, n


def wilson(count: ArrayLike, trials: ArrayLike, level: float = 0.95) -> Interval:
    """Return a share with Wilson's score interval: good from a handful of trials on, and never outside 0 to 1.

    Source: Wilson, J. Amer. Statist. Assoc. 22 (1927); recommended by Brown, Cai and DasGupta, Statist. Sci. 16 (2001),
    equation (4).

    Raises:
        StatisticsError: Negative counts, more successes than trials, or a level outside 0 to 1.

    >>> share = wilson(0, 10)
    >>> float(share.estimate), float(share.low), round(float(share.high), 4)
    (0.0, 0.0, 0.2775)
    """
    k, n = _trials(count, trials, level)
    z = special.ndtri((1 + level) / 2)
    p = k / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # At no success the lower end is zero exactly, at no failure the upper end is one; rounding must not say otherwise.
    low = np.where(k == 0, 0.0 * n, np.maximum(middle - half, 0))
    high = np.where(k == n, 1.0, np.minimum(middle + half, 1))
    return Interval(p, low, high)


def beta(
    count: ArrayLike, trials: ArrayLike, level: float = 0.95, *, prior: tuple[float, float] = (0.5, 0.5)
) -> Interval:
    """Return a share with the equal-tailed interval of its Beta posterior; the default prior is Jeffreys'.

    With Jeffreys' prior the lower end is 0 at no success and the upper end 1 at no failure, as Brown, Cai and DasGupta
    (Statist. Sci. 16 (2001), section 3.1.2) do; with any other prior the posterior's quantiles stand. The estimate is the
    observed share with Jeffreys' prior, else the posterior mean.

    Raises:
        StatisticsError: As ``wilson``; or a prior that is not positive.

    >>> share = beta(3, 10)
    >>> float(share.estimate), round(float(share.low), 4), round(float(share.high), 4)
    (0.3, 0.0927, 0.6058)
    """
    a, b = prior
    if a <= 0 or b <= 0:
        raise StatisticsError(f"Both numbers of a Beta prior are positive, such as (0.5, 0.5); these are {prior}.")
    k, n = _trials(count, trials, level)
    low = special.betaincinv(k + a, n - k + b, (1 - level) / 2)
    high = special.betaincinv(k + a, n - k + b, (1 + level) / 2)
    if prior != (0.5, 0.5):
        return Interval((k + a) / (n + a + b), low, high)
    return Interval(k / n, np.where(k == 0, 0.0 * n, low), np.where(k == n, 1.0, high))


def rate(count: ArrayLike, exposure: ArrayLike = 1.0, level: float = 0.95) -> Interval:
    """Return events per unit of exposure with Garwood's exact interval for a Poisson count.

    Counts of overdispersed events (alerts that come in bursts) vary more than this says. Source: Garwood, Biometrika 28
    (1936); in chi-square form Ulm, Amer. J. Epidemiol. 131 (1990).

    Raises:
        StatisticsError: Negative counts or exposures, or a level outside 0 to 1.

    >>> a_day = rate(10, exposure=5)
    >>> float(a_day.estimate), round(float(a_day.low), 4), round(float(a_day.high), 4)
    (2.0, 0.9591, 3.6781)
    """
    k, t = _arrays(count, exposure, level)
    tail = (1 - level) / 2
    low = np.where(k > 0, special.gammaincinv(np.maximum(k, 1e-300), tail), 0.0)
    return Interval(k / t, low / t, special.gammaincinv(k + 1, 1 - tail) / t)


def rate_ratio(
    count: ArrayLike, exposure: ArrayLike, count_before: ArrayLike, exposure_before: ArrayLike, level: float = 0.95
) -> tuple[Interval, Floats]:
    """Return the ratio of two Poisson rates with its exact interval, and the two-sided p-value of equal rates.

    Given the total, the count is binomial; its Clopper-Pearson interval is carried over. The p-value is twice the
    smaller tail. Source: Przyborowski and Wilenski, Biometrika 31 (1940); Clopper and Pearson, Biometrika 26 (1934).

    Raises:
        StatisticsError: Negative counts or exposures, or a level outside 0 to 1.

    >>> ratio, p = rate_ratio(20, 10, 10, 10)
    >>> float(ratio.estimate), round(float(ratio.low), 3), round(float(ratio.high), 3), round(float(p), 4)
    (2.0, 0.894, 4.785, 0.0987)
    """
    k, t = _arrays(count, exposure, level)
    k0, t0 = _arrays(count_before, exposure_before, level)
    tail, scale = (1 - level) / 2, t0 / t
    low = np.where(k > 0, special.betaincinv(np.maximum(k, 1e-300), k0 + 1, tail), 0.0)
    high = np.where(k0 > 0, special.betaincinv(k + 1, np.maximum(k0, 1e-300), 1 - tail), 1.0)
    expected = t / (t + t0)
    with np.errstate(divide="ignore", invalid="ignore"):
        upper = np.where(k > 0, special.betainc(np.maximum(k, 1e-300), k0 + 1, expected), 1.0)
        lower = np.where(k0 > 0, special.betaincc(k + 1, np.maximum(k0, 1e-300), expected), 1.0)
        p = np.where(np.isnan(scale), np.nan, np.minimum(1.0, 2 * np.minimum(lower, upper)))
        found = Interval(k / k0 * scale, low / (1 - low) * scale, high / (1 - high) * scale)
    return found, p
