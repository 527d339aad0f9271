"""Simulated years of a SOC, level series of every kind, people with hours: what the statistics are calibrated on.

Enters: a seed. Leaves: series with their truth. Layer: none (outside the package). The figures are only as good as these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Series = tuple[list[int], np.ndarray]

WEEK = np.array([1.2, 1.25, 1.2, 1.15, 1.1, 0.55, 0.55])
WEEK = WEEK / WEEK.mean()

# Noise by name: "poisson"; "nb15" (days vary by a gamma of shape 15); "ar0.5" (rounded, AR(1) with twice Poisson's
# variance); "wander0.5" (Poisson of an intensity whose logarithm is an AR(1) of sd 0.3).
NULLS = {
    "Poisson, flat": {"noise": "poisson", "weekdays": False},
    "Poisson, weekdays": {"noise": "poisson"},
    "NB k=15": {"noise": "nb15"},
    "NB k=10": {"noise": "nb10"},
    "NB k=3": {"noise": "nb3"},
    "4 spike days": {"noise": "nb15", "spikes": 4},
    "5 a day, 4 spike days": {"noise": "poisson", "level": 5.0, "spikes": 4},
    "0.3 a day": {"noise": "poisson", "level": 0.3},
    "4 outages of 1-2 days as zeros": {"noise": "poisson", "outages": 4},
    "4 gaps without data": {"noise": "poisson", "gaps": 4},
    "AR(1) 0.5": {"noise": "ar0.5"},
    "AR(1) 0.8": {"noise": "ar0.8"},
    "wandering 0.5": {"noise": "wander0.5"},
    "wandering 0.8": {"noise": "wander0.8"},
}
CHANGES = {
    "x1.5": (1.5, {}),
    "x2": (2.0, {}),
    "x3": (3.0, {}),
    "x0.5": (0.5, {}),
    "x1.5, NB k=10": (1.5, {"noise": "nb10"}),
    "x2, NB k=10": (2.0, {"noise": "nb10"}),
    "x2, NB k=3": (2.0, {"noise": "nb3"}),
    "x2 at 5 a day": (2.0, {"level": 5.0}),
    "x2, 4 spike days": (2.0, {"spikes": 4}),
    "x2, AR(1) 0.5": (2.0, {"noise": "ar0.5"}),
    "x2, wandering 0.5": (2.0, {"noise": "wander0.5"}),
}


def autoregressive(rng: np.random.Generator, n: int, rho: float) -> np.ndarray:
    """An AR(1) of variance 1, from its stationary law."""
    x = rng.normal(size=n)
    for t in range(1, n):
        x[t] = rho * x[t - 1] + np.sqrt(1 - rho * rho) * x[t]
    return x


def _counted(rng: np.random.Generator, mean: np.ndarray, noise: str) -> np.ndarray:
    n = len(mean)
    if noise.startswith("nb"):
        shape = float(noise[2:])
        return rng.poisson(mean * rng.gamma(shape, 1 / shape, n)).astype(float)
    if noise.startswith("ar"):
        return np.maximum(0, np.round(mean + np.sqrt(2 * mean) * autoregressive(rng, n, float(noise[2:]))))
    if noise.startswith("wander"):
        return rng.poisson(mean * np.exp(0.3 * autoregressive(rng, n, float(noise[6:])) - 0.045)).astype(float)
    return rng.poisson(mean).astype(float)


def soc_year(
    seed: int, changes: tuple[tuple[int, float], ...] = (), *, noise: str = "nb15", days: int = 365, level: float = 20.0,
    weekdays: bool = True, spikes: int = 0, outages: int = 0, gaps: int = 0,
) -> np.ndarray:  # fmt: skip
    """Alerts a day: a level, weekdays, noise; changes by a factor from a day on; spikes, outages (zeros), gaps (NaN)."""
    rng = np.random.default_rng(seed)
    mean = np.full(days, level)
    for at, factor in changes:
        mean[at:] *= factor
    y = _counted(rng, mean * WEEK[np.arange(days) % 7] if weekdays else mean, noise)
    y[rng.choice(days, spikes, replace=False)] *= rng.uniform(3, 10, spikes)
    for i in range(outages + gaps):
        stretch = days // (outages + gaps)
        at = i * stretch + int(rng.integers(0, stretch - 10))
        y[at : at + int(rng.integers(1, 3 if i < outages else 6))] = 0 if i < outages else np.nan
    return y


def change_day(seed: int) -> int:
    """The day of a planted change, between 60 and 304."""
    return int(np.random.default_rng(10_000 + seed).integers(60, 305))


def steps(rng: np.random.Generator, n: int, k: int, size: float, apart: int = 10) -> Series:
    """Return k steps of about this size, at least ``apart`` values from each other, and the level."""
    cuts = np.zeros(0, np.int64)
    while k and (not cuts.size or np.diff([0, *cuts, n]).min() < apart):
        cuts = np.sort(rng.integers(apart, n - apart, k))
    level = np.cumsum(np.r_[0, rng.choice([-1, 1], k) * rng.uniform(0.7, 1.3, k) * size])
    return cuts.tolist(), level[np.searchsorted(cuts, np.arange(n), "right")]


def _noisy(n: int, k: int, size: float, apart: int = 10) -> Callable[[np.random.Generator], Series]:
    def made(rng: np.random.Generator) -> Series:
        cuts, level = steps(rng, n, k, size, apart)
        return cuts, level + rng.normal(size=n)

    return made


def _with(noise: Callable[[np.random.Generator], np.ndarray], k: int = 2, size: float = 2.0) -> Callable[..., Series]:
    def made(rng: np.random.Generator) -> Series:
        cuts, level = steps(rng, 300, k, size)
        return cuts, level + noise(rng)

    return made


def _outliers(rng: np.random.Generator) -> np.ndarray:
    size = rng.choice([-1, 1], 300) * rng.uniform(8, 20, 300)
    return rng.normal(size=300) + np.where(rng.random(300) < 0.02, size, 0)


def _rounded(rng: np.random.Generator) -> Series:
    cuts, level = steps(rng, 300, 2, 2)
    return cuts, np.round(level + 0.3 * rng.normal(size=300))


def _lone(n: int, size: float, rho: float = 0.0) -> Callable[[np.random.Generator], Series]:
    """Return one step away from the ends of a few values."""

    def made(rng: np.random.Generator) -> Series:
        at = int(rng.integers(n // 4, n - n // 4))
        return [at], autoregressive(rng, n, rho) + size * (np.arange(n) >= at)

    return made


def _passengers(rng: np.random.Generator) -> Series:
    """Return months that grow, and their season with them, and lose 30 % at once."""
    at, t = int(rng.integers(100, 400)), np.arange(468)
    season = 1 + 0.15 * np.sin(2 * np.pi * t / 12) + 0.03 * rng.normal(size=468)
    return [at], np.linspace(10, 40, 468) * season * np.where(t >= at, 0.7, 1)


def _staircase(rng: np.random.Generator) -> Series:
    cuts, level = steps(rng, 240, 5, 4, 12)
    return cuts, np.round(3 * level) / 3


def _kinks(rng: np.random.Generator) -> Series:
    """Return years that grow, and stop growing, or start to."""
    cuts, _ = steps(rng, 60, 1, 1, 15)
    slope = rng.choice([-1, 1]) * np.where(np.arange(60) < cuts[0], 1, -rng.uniform(0.3, 1.2))
    return cuts, np.cumsum(slope) + 1.5 * autoregressive(rng, 60, 0.6)


def _jump_on_a_walk(rng: np.random.Generator) -> Series:
    at = int(rng.integers(60, 200))
    return [at], 0.15 * np.cumsum(rng.normal(size=247)) + 8 * (np.arange(247) >= at)


LATER = np.arange(300) >= 150
MONTHS = 2 * np.sin(2 * np.pi * np.arange(300) / 12)
LEVELS: dict[str, Callable[[np.random.Generator], Series]] = {
    "no change": _noisy(200, 0, 1),
    "one step of 1 sd": _noisy(200, 1, 1),
    "one step of 2 sd": _noisy(200, 1, 2),
    "3 steps of 2 sd": _noisy(300, 3, 2),
    "5 steps of 5 sd": _noisy(300, 5, 5),
    "8 steps of 3 sd": _noisy(500, 8, 3),
    "4 steps of 50 sd": _noisy(300, 4, 50),
    "short, one step of 3 sd": _noisy(30, 1, 3, 5),
    "short, no change": _noisy(20, 0, 1),
    "long, 6 steps of 1.5 sd": _noisy(2_000, 6, 1.5, 50),
    "AR(1) 0.5, 2 steps of 3 sd": _with(lambda r: autoregressive(r, 300, 0.5), 2, 3),
    "AR(1) 0.8, no change": lambda r: ([], autoregressive(r, 300, 0.8)),
    "outliers, 2 steps of 2 sd": _with(_outliers),
    "t(3) noise, 2 steps": _with(lambda r: r.standard_t(3, 300)),
    "drift by 3 sd": lambda r: ([], np.linspace(0, 3, 300) + r.normal(size=300)),
    "drift by 30 sd": lambda r: ([], np.linspace(0, 30, 300) + r.normal(size=300)),
    "drift, then flat": lambda r: ([150], np.minimum(np.arange(300) / 30, 5) + r.normal(size=300)),
    "2 steps on a drift": _with(lambda r: np.linspace(0, 4, 300) + r.normal(size=300), 2, 4),
    "random walk": lambda r: ([], np.cumsum(r.normal(size=300))),
    "season": lambda r: ([], 3 * np.sin(2 * np.pi * np.arange(300) / 12) + r.normal(size=300)),
    "variance x9": lambda r: ([150], r.normal(size=300) * np.where(LATER, 3, 1)),
    "variance x9 and a step": lambda r: ([150], r.normal(size=300) * np.where(LATER, 3, 1) + 4 * LATER),
    "episode of 20": lambda r: ([140, 160], r.normal(size=300) + 3 * ((np.arange(300) // 20) == 7)),
    "a step every 10": lambda r: (list(range(10, 300, 10)), np.repeat(r.normal(0, 10, 30), 10) + r.normal(size=300)),
    "rounded, 2 steps": _rounded,
    "15 values, one step of 6 sd": _lone(15, 6),
    "40 values, AR(1) 0.4, one step of 4 sd": _lone(40, 4, 0.4),
    "100 values, one step of 1.9 sd": _lone(100, 1.9),
    "years, a kink": _kinks,
    "months, 2 steps": _with(lambda r: MONTHS + 0.7 * r.normal(size=300), 2, 3),
    "months that grow, a drop": _passengers,
    "random walk, a jump": _jump_on_a_walk,
    "random walk and noise, 2 jumps": _with(lambda r: 0.3 * np.cumsum(r.normal(size=300)) + r.normal(size=300), 2, 8),
    "staircase without noise": _staircase,
    "lognormal, 2 steps": _with(lambda r: np.exp(0.5 * r.normal(size=300)), 2, 2),
}


def people(seed: int, users: int, shifted: int, shift_hours: float, spread: float = 2.0) -> tuple[np.ndarray, ...]:
    """60 days of users who work in sessions around an hour of their own; the first ones shift on a day of their own."""
    rng = np.random.default_rng(seed)
    hour_of, day_of = rng.uniform(0, 24, users), rng.integers(15, 45, users)
    day_of[shifted:] = -1
    user, day = np.divmod(np.arange(users * 60), 60)
    sessions = np.where(rng.random(user.size) < 0.8, 1 + rng.poisson(1.0, user.size), 0)
    user, day = np.repeat(user, sessions), np.repeat(day, sessions)
    start = rng.normal(hour_of[user] + shift_hours * ((day_of[user] >= 0) & (day >= day_of[user])), spread)
    events = 1 + rng.poisson(3.0, user.size)
    hour = np.repeat(start, events) + rng.uniform(0, 1, events.sum())
    return np.repeat(user, events), np.repeat(day, events), hour % 24, day_of


def bursty_users(seed: int, drift: float) -> np.ndarray:
    """2,000 users, 60 days; the first ten multiplied by five after day 30, everybody by a lognormal of sd ``drift``."""
    rng = np.random.default_rng(seed)
    base, factor = rng.lognormal(np.log(2.0), 0.8, 2_000), np.exp(rng.normal(0, drift, 2_000))
    factor[:10] = 5
    a_day = np.c_[np.repeat(base[:, None], 30, 1), np.repeat((base * factor)[:, None], 30, 1)]
    return rng.poisson(a_day * rng.gamma(1.5, 1 / 1.5, a_day.shape))
