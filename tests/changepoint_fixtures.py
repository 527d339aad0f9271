"""Series for the tests of change points: years of daily alerts, and levels that wander."""

from __future__ import annotations

import math

import numpy as np

NAN = float("nan")
WEEK = np.array([1.2, 1.25, 1.2, 1.15, 1.1, 0.55, 0.55])
WEEK /= WEEK.mean()
# Taylor (2000): the US trade deficit by month, 1987 and 1988.
DEFICIT = [
    10.7, 13.0, 11.4, 11.5, 12.5, 14.1, 14.8, 14.1, 12.6, 16.0, 11.7, 10.6,
    10.0, 11.4, 7.9, 9.5, 8.0, 11.8, 10.5, 11.2, 9.2, 10.1, 10.4, 10.5,
]  # fmt: skip


def year(seed: int, *changes: tuple[int, float], days: int = 365, level: float = 20.0, spikes: int = 0) -> np.ndarray:
    """Daily alerts: weekdays, days that vary by half more than Poisson, changes by a factor, spikes."""
    rng = np.random.default_rng(seed)
    mean = np.full(days, level)
    for at, factor in changes:
        mean[at:] *= factor
    y = rng.poisson(mean * WEEK[np.arange(days) % 7] * rng.gamma(15, 1 / 15, days)).astype(float)
    y[rng.choice(days, spikes, replace=False)] *= 8
    return y


def wander(rng: np.random.Generator, n: int, rho: float) -> np.ndarray:
    """Return an AR(1) of variance 1."""
    x = rng.normal(size=n)
    for t in range(1, n):
        x[t] = rho * x[t - 1] + math.sqrt(1 - rho**2) * x[t]
    return x
