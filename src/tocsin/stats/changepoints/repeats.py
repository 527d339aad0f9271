"""What a level repeats from season to season: which period, and how much each of its places lies off.

Enters: values (NaN: no data). Leaves: a period, and offsets of mean 0. Layer: ground floor (stats).

Each value less the mean of the whole season around it is what its place in the season adds, and noise. A period is
believed if what all other seasons say predicts each season: noise predicts nothing, and neither does a change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

PERIODS = (4, 7, 12, 24, 52, 168)  # quarters, weekdays, months, hours, weeks, hours of the week
SEASONS = 3
PREDICTED = 0.25
APART_SD = 4.0


def period_of(y: Floats) -> int:
    """Return the period of the calendar that predicts most of what is no level, if that is a quarter of it; else 1.

    Source: cross-validation by leaving one season out, Stone, J. R. Statist. Soc. B 36 (1974).

    >>> period_of(np.tile([0.0, 0.0, 5.0, 1.0], 10) + np.random.default_rng(1).normal(size=40))
    4
    """
    best, found = PREDICTED, 1
    for period in PERIODS:
        if y.size >= SEASONS * period:
            share = _predicted(detrended(y, period), period)
            if share > best:
                best, found = share, period
    return found


def offsets(apart: Floats, period: int) -> Floats:
    """Return the mean of each place in the season, their own mean taken out; 0 where nothing is known."""
    place, known = np.arange(apart.size) % period, np.isfinite(apart)
    count = np.bincount(place[known], minlength=period)
    means = np.bincount(place[known], apart[known], period) / np.maximum(count, 1)
    return np.where(count > 0, means - means[count > 0].mean() if known.any() else 0.0, 0.0)


def detrended(y: Floats, period: int) -> Floats:
    """Return each value less the mean of the season around it, kept within four robust standard deviations."""
    n, known = y.size, np.isfinite(y)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, y, 0.0))])
    seen = np.concatenate([[0], np.cumsum(known)])
    level = np.zeros(n)
    for first in (period // 2, (period - 1) // 2):  # an even season has two middles
        low = np.clip(np.arange(n) - first, 0, max(n - period, 0))
        high = np.minimum(low + period, n)
        level += (total[high] - total[low]) / np.maximum(seen[high] - seen[low], 1) / 2
    apart = y - level
    spread = 1.4826 * float(np.median(np.abs(apart[known]))) if known.any() else 0.0
    return np.clip(apart, -APART_SD * spread, APART_SD * spread)


def _predicted(apart: Floats, period: int) -> float:
    """Return the share of squares that the other seasons' means take away from each season."""
    seasons = -(-apart.size // period)
    x = np.append(apart, np.full(seasons * period - apart.size, np.nan)).reshape(seasons, period)
    known = np.isfinite(x)
    values = np.where(known, x, 0.0)
    others = known.sum(0) - known
    guess = (values.sum(0) - values) / np.maximum(others, 1)
    squares = float((values**2).sum())
    return 1 - float((np.where(known, values - guess, 0.0) ** 2).sum()) / squares if squares > 0 else 0.0
