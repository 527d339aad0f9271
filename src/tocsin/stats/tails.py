"""Tails of maxima of Brownian bridges: the chance that noise alone reaches so far.

Enters: standardised statistics as arrays. Leaves: probabilities of the same shape, NaN where NaN entered. Layer: ground
floor (stats).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


def kuiper(v: ArrayLike) -> Floats:
    """Return P(max B - min B >= v), B a Brownian bridge: the law of the range of a CUSUM.

    Source: Kuiper, Proc. Koninkl. Nederl. Akad. Wetensch. A 63 (1960), the limit of his statistic.

    >>> kuiper([0.0, 1.747]).round(3).tolist()  # 1.747: Stephens' 5 % point
    [1.0, 0.05]
    """
    values = np.asarray(v, np.float64)
    squares = np.maximum(values, 0.3)[..., None] ** 2 * np.arange(1, 21) ** 2  # below 0.3 the chance is 1 to 1e-15
    return np.asarray(np.clip((2 * (4 * squares - 1) * np.exp(-2 * squares)).sum(-1), 0.0, 1.0))


def standardised_bridge(x: ArrayLike, margin: ArrayLike) -> Floats:
    """Return P(max |B(t)| / sqrt(t (1 - t)) >= x) for t from ``margin`` to 1 - ``margin``.

    The law of the largest t-statistic over all places of a cut; an approximation for small chances, 1 below x = 1.
    Source: Vostrikova (1981) as given by Csorgo and Horvath, "Limit Theorems in Change-Point Analysis" (1997),
    section 1.3, d = 1.

    >>> standardised_bridge([0.5, 3.5], 0.05).round(3).tolist()
    [1.0, 0.018]
    """
    values = np.clip(np.asarray(x, np.float64), 1.0, 40.0)  # beyond 40 the chance is below the smallest number
    h = np.clip(margin, 1e-9, 0.5)
    passages = (1 - 1 / values**2) * 2 * np.log((1 - h) / h) + 4 / values**2
    p = values * np.exp(-(values**2) / 2) / math.sqrt(2 * math.pi) * passages
    return np.asarray(np.where(values == 1.0, 1.0, np.minimum(p, 1.0)))
