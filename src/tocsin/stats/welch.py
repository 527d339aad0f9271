"""Did the daily level change at a date? Welch's test over thousands of users at once.

Enters: a matrix of daily counts, one row an entity, NaN where a day was not observed, and the split date's column.
Leaves: arrays with one value a row. Layer: ground floor (stats).

The unit is the day, not the event. Events of one user come in bursts, so a test that takes them for independent (an
exact Poisson test of two rates) calls most changes significant; days differ by what they really differ by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from tocsin.errors import StatisticsError
from tocsin.stats.multiple import Null, drift_null
from tocsin.stats.rates import check_level

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

INTEGER_VARIANCE = 1 / 12  # what rounding to whole numbers hides: a constant count is not known any better


@dataclass(frozen=True, slots=True)
class Change:
    """A change of level, one value a row; NaN where it could not be computed.

    ``change`` is after minus before (a day), or the logarithm of their ratio; ``low`` to ``high`` its interval,
    ``error`` its standard error, ``before`` and ``after`` the means a day, ``days_before`` and ``days_after`` how many
    days they rest on.
    """

    change: Floats
    low: Floats
    high: Floats
    error: Floats
    t: Floats
    df: Floats
    p: Floats
    before: Floats
    after: Floats
    days_before: Ints
    days_after: Ints


def _moments(x: Floats, use: NDArray[np.bool_]) -> tuple[Floats, Floats, Ints]:
    """Return mean, variance (n - 1) and number of the chosen values of each row."""
    n = use.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(use, x, 0.0).sum(axis=1) / n
        squares = (np.where(use, x - mean[:, None], 0.0) ** 2).sum(axis=1)
        variance = np.where(n > 1, squares / (n - 1), np.nan)
    return mean, variance, n


def _sides(counts: ArrayLike, split: ArrayLike) -> tuple[tuple[Floats, Floats, Ints], tuple[Floats, Floats, Ints]]:
    x = np.atleast_2d(np.asarray(counts, np.float64))
    if x.ndim != 2:
        raise StatisticsError(f"Daily counts are a matrix, one row an entity; these have {x.ndim} dimensions.")
    where = np.broadcast_to(np.asarray(split, np.int64), (x.shape[0],))
    after = np.arange(x.shape[1]) >= where[:, None]
    seen = ~np.isnan(x)
    return _moments(x, seen & ~after), _moments(x, seen & after)


def _judge(
    change: Floats, parts: tuple[Floats, Floats], sides: tuple[tuple[Floats, Floats, Ints], ...], level: float
) -> Change:
    """Return the test of a change whose squared error is the sum of ``parts``, one from either side."""
    check_level(level)
    (m0, _, n0), (m1, _, n1) = sides
    v0, v1 = parts
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(v0 + v1)
        t = change / error
        df = (v0 + v1) ** 2 / (v0**2 / (n0 - 1) + v1**2 / (n1 - 1))
        # Without any variation there is nothing to judge by; that is "not tested", not "certain".
        t = np.where(error > 0, t, np.nan)
        p = 2 * special.stdtr(df, -np.abs(t))
        half = special.stdtrit(df, (1 + level) / 2) * error
    return Change(change, change - half, change + half, error, t, df, p, m0, m1, n0, n1)


def welch(counts: ArrayLike, split: ArrayLike, level: float = 0.95, *, variance_at_least: float = 0.0) -> Change:
    """Test whether the mean a day changed at column ``split`` (the first day after; one for all rows, or one each).

    Two-sided, unequal variances, Satterthwaite's degrees of freedom; ``p`` and the interval are NaN with fewer than two
    days on a side or no variation at all. Counts that may be constant (0, 0, 0 -> 5, 5, 5) want
    ``variance_at_least=INTEGER_VARIANCE``. Adjust ``p`` with ``benjamini_hochberg`` over all rows. Source: Welch,
    Biometrika 34 (1947), equation (28) for the degrees of freedom.

    Raises:
        StatisticsError: More than two dimensions, or a level outside 0 to 1.

    >>> found = welch([[3, 5, 4, 4, 9, 11, 10], [3, 5, 4, 4, 4, 3, 5]], split=4)
    >>> found.change.tolist(), found.p.round(4).tolist()
    ([6.0, 0.0], [0.0012, 1.0])
    """
    sides = _sides(counts, split)
    (m0, v0, n0), (m1, v1, n1) = sides
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.maximum(v0, variance_at_least) / n0, np.maximum(v1, variance_at_least) / n1
    return _judge(m1 - m0, parts, sides, level)


def log_change(counts: ArrayLike, split: ArrayLike, level: float = 0.95) -> Change:
    """Test whether the mean a day was multiplied by something: the change is log(after / before).

    Half a count is added to either side's total, so that none is still a number (Anscombe, Biometrika 35 (1948)); the
    standard error is the delta method's, with a variance of at least the mean (Poisson) wherever fewer than eight days
    or next to no events leave it unknown. Feed it to ``against_drift`` when everybody drifts.

    Raises:
        StatisticsError: More than two dimensions, or a level outside 0 to 1.

    >>> import math
    >>> found = log_change([[3, 5, 4, 4, 9, 11, 10]], split=4)
    >>> round(math.exp(found.change[0]), 2)
    2.46
    """
    sides = _sides(counts, split)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs, parts = [], []
        for mean, variance, n in sides:
            level_a_day = mean + 0.5 / n
            sparse = (n < 8) | (mean * n < 8)
            spread = np.where(sparse, np.maximum(variance, level_a_day), np.maximum(variance, INTEGER_VARIANCE))
            logs.append(np.log(level_a_day))
            parts.append(spread / (n * level_a_day**2))
    return _judge(logs[1] - logs[0], (parts[0], parts[1]), sides, level)


def against_drift(counts: ArrayLike, split: ArrayLike) -> Null:
    """Return who changed more than everybody else did: ``log_change`` judged by ``drift_null``.

    Where the whole population drifts (a season, a new client), a plain test finds everybody. Here the population's own
    spread of changes is the yardstick; ``center`` is its common factor's logarithm.

    >>> rng = np.random.default_rng(1)
    >>> factor = np.r_[8.0, rng.lognormal(0, 0.25, 199)]
    >>> rates = np.c_[np.full((200, 30), 5.0), np.tile(5.0 * factor[:, None], 30)]
    >>> null = against_drift(rng.poisson(rates), split=30)
    >>> bool(null.p[0] < 1e-6), round(null.spread, 1)
    (True, 0.2)
    """
    found = log_change(counts, split)
    return drift_null(found.change, found.error, found.df)
