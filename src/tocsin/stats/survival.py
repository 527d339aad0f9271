"""How long things take when some are not over yet: Kaplan-Meier and what is read from it.

Enters: durations and whether each ended (False: still open, it lasts at least so long). Leaves: a ``Curve``, quantiles with
intervals, tests. Layer: ground floor (stats).

An alert that is still open is neither -1 nor absent. Dropping open ones makes response times look shorter; the more so the
more are open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from tocsin.errors import StatisticsError
from tocsin.stats.rates import check_level

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Curve:
    """The share not over after each of ``times`` (those at which something ended), with its pointwise interval.

    ``at_risk`` were still open just before, ``ended`` ended then. ``variance`` is Greenwood's. Before the first time the
    share is 1. ``last`` is the longest duration of all, ended or not: nothing is known beyond it.
    """

    times: Floats
    share: Floats
    low: Floats
    high: Floats
    at_risk: Ints
    ended: Ints
    variance: Floats
    last: float
    n: int
    level: float

    def at(self, times: ArrayLike) -> Floats:
        """Return the share not over at any times; NaN beyond the longest duration while some are open.

        >>> kaplan_meier([2, 4, 6], [True, True, False]).at([0, 4, 7]).round(2).tolist()
        [1.0, 0.33, nan]
        """
        t = np.asarray(times, np.float64)
        shares = np.concatenate([[1.0], self.share])[np.searchsorted(self.times, t, "right")]
        return np.where((t > self.last) & (shares > 0), np.nan, shares)

    def quantile(self, q: float = 0.5) -> tuple[float, float, float]:
        """Return the time by which a share ``q`` is over, with its interval; infinite where it is not known to be reached.

        The interval holds the times at which the interval of the curve contains 1 - q: Brookmeyer and Crowley,
        Biometrics 38 (1982).

        >>> kaplan_meier([2, 4, 6], [True, True, False]).quantile(0.5)
        (4.0, 2.0, inf)
        """
        if not 0 < q < 1:
            raise StatisticsError(f"A quantile lies between 0 and 1, such as 0.5 for the median; this is {q}.")
        return self._reached(self.share, q), self._reached(self.low, q), self._reached(self.high, q)

    def _reached(self, curve: Floats, q: float) -> float:
        below = np.flatnonzero(curve <= 1 - q + 1e-12)
        return float(self.times[below[0]]) if below.size else math.inf

    def restricted_mean(self, until: float | None = None) -> tuple[float, float, float]:
        """Return the mean of min(duration, ``until``), the area under the curve, with its interval.

        ``until`` is the longest duration if left out. Always finite, open alerts or not. Source: Irwin, J. Hygiene 47
        (1949); variance as in Klein and Moeschberger, "Survival Analysis" (2003), equation (4.5.2).

        >>> round(kaplan_meier([2, 4, 6], [True, True, False]).restricted_mean()[0], 2)
        4.0
        """
        end = self.last if until is None else float(until)
        if not 0 <= end <= self.last and not (self.share.size and self.share[-1] == 0):
            raise StatisticsError(
                f"until={end:g} lies beyond the longest duration, {self.last:g}, where nothing is known."
            )
        use = self.times < end
        edges = np.concatenate([[0.0], self.times[use], [end]])
        areas = np.concatenate([[1.0], self.share[use]]) * np.diff(edges)
        mean = float(areas.sum())
        beyond = np.cumsum(areas[::-1])[::-1][1:]
        d, r = self.ended[use], self.at_risk[use]
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(r > d, beyond**2 * d / (r * (r - d)), 0.0)
        half = float(special.ndtri((1 + self.level) / 2)) * math.sqrt(float(terms.sum()))
        return mean, mean - half, mean + half


def _table(durations: ArrayLike, ended: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    t, done = np.asarray(durations, np.float64).ravel(), np.asarray(ended, np.bool_).ravel()
    if t.size != done.size:
        raise StatisticsError(f"Each duration needs to say whether it ended; there are {t.size} and {done.size}.")
    if not t.size or not np.isfinite(t).all() or (t < 0).any():
        raise StatisticsError("Durations are at least one, finite and not negative; an open one lasts until now.")
    return t, done


def _distinct(ordered: Floats) -> tuple[Floats, Ints]:
    """Return the different values of sorted ones, and where each begins."""
    first = np.flatnonzero(np.diff(ordered, prepend=-1.0) > 0)
    return ordered[first], first


def kaplan_meier(durations: ArrayLike, ended: ArrayLike, level: float = 0.95) -> Curve:
    """Estimate the share not over after each time, from durations of which some are still running.

    At equal times what ended comes before what was lost from sight. The interval is that of log(-log) (Kalbfleisch and
    Prentice; never outside 0 to 1) with Greenwood's variance. Source: Kaplan and Meier, J. Amer. Statist. Assoc. 53
    (1958), equation (2b); Greenwood 1926.

    Raises:
        StatisticsError: No durations, negative or missing ones, arrays of different lengths.

    >>> curve = kaplan_meier([6, 6, 6, 7, 10, 6, 9], [True, True, True, True, True, False, False])
    >>> curve.times.tolist(), curve.share.round(3).tolist()
    ([6.0, 7.0, 10.0], [0.571, 0.381, 0.0])
    """
    check_level(level)
    t, done = _table(durations, ended)
    over, first = _distinct(np.sort(t[done]))
    d = np.diff(first, append=int(done.sum()))
    r = t.size - np.searchsorted(np.sort(t[~done]), over, "left") - first
    share = np.cumprod(1 - d / r).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.cumsum(np.where(r > d, d / (r * (r - d)), 0.0))  # at share 0 the interval is (0, 0) anyway
        spread = special.ndtri((1 + level) / 2) * np.sqrt(relative) / np.log(share)
        low, high = share ** np.exp(-spread), share ** np.exp(spread)
    low, high = (np.where(share > 0, bound, 0.0) for bound in (low, high))
    return Curve(over, share, low, high, r, d, share**2 * relative, float(t.max()), t.size, level)


@dataclass(frozen=True, slots=True)
class LogRank:
    """``chi_square`` on ``df`` degrees of freedom and its ``p``; what each group ``observed`` and was ``expected`` to."""

    chi_square: float
    df: int
    p: float
    observed: Floats
    expected: Floats


def log_rank(durations: Sequence[ArrayLike], ended: Sequence[ArrayLike]) -> LogRank:
    """Test whether groups (severities, say) take equally long; one array of durations and of endings a group.

    Source: Mantel, Cancer Chemotherapy Reports 50 (1966); for more than two groups Klein and Moeschberger (2003), section
    7.3. SciPy has it for two groups.

    Raises:
        StatisticsError: Fewer than two groups, or arrays that do not fit.

    >>> found = log_rank([[1, 2, 3, 4], [5, 6, 7, 8]], [[True] * 4, [True] * 4])
    >>> round(found.p, 4), found.expected.round(2).tolist()
    (0.0067, [1.46, 6.54])
    """
    if len(durations) < 2 or len(durations) != len(ended):
        raise StatisticsError("A log-rank test compares at least two groups, each with durations and endings.")
    pairs = [_table(t, done) for t, done in zip(durations, ended, strict=True)]
    pooled = np.concatenate([t[done] for t, done in pairs])
    times, _ = _distinct(np.sort(pooled))
    at_risk = np.array([t.size - np.searchsorted(np.sort(t), times, "left") for t, _ in pairs], np.float64)
    over = np.array(
        [np.diff(np.searchsorted(np.sort(t[done]), times, "right"), prepend=0) for t, done in pairs], np.float64
    )
    r, d = at_risk.sum(0), over.sum(0)
    expected = at_risk * (d / r)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.where(r > 1, d * (r - d) / (r**2 * (r - 1)), 0.0)
    covariance = np.diag((at_risk * r * spread).sum(1)) - (at_risk * spread) @ at_risk.T
    apart = (over - expected).sum(1)
    inverse = np.linalg.pinv(covariance[:-1, :-1])
    df = int(np.linalg.matrix_rank(covariance[:-1, :-1])) if times.size else 0
    chi_square = float(apart[:-1] @ inverse @ apart[:-1])
    p = float(special.chdtrc(df, chi_square)) if df else math.nan
    return LogRank(chi_square, df, p, over.sum(1), expected.sum(1))
