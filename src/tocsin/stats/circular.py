"""Hours of the day, which go round: their mean, and who shifted theirs on which day (challenge B2).

Enters: events as arrays: the number (0, 1, ...) of the entity, the local day's number and the local hour (0 to 24,
fractions welcome). Leaves: arrays with one value an entity. Layer: ground floor (stats).

The unit is the day, not the event. People work in sessions, so events of one day resemble each other, and tests that
take events for independent (Kuiper, Watson, chi-square over hours, Welch on raw hours) call a third to nine tenths of
steady people shifted. Here every day is one vector, the mean direction of its events, and only days are compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from scipy import special

from tocsin.errors import StatisticsError
from tocsin.stats.draws import key_of, shuffle, stream
from tocsin.stats.multiple import benjamini_hochberg
from tocsin.stats.rates import check_level
from tocsin.stats.tails import standardised_bridge

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

METHODS = ("auto", "permutation", "analytic")
PERMUTE_UP_TO = 10_000  # entities; beyond, the analytic p-value saves the time
ENOUGH_EXCEEDANCES = 20
# A day weighs n / (n + 4) with n events: the first few tell where its sessions lie, further ones little more.
HALF_WEIGHT_EVENTS = 4


def mean_hour(hours: ArrayLike) -> tuple[float, float]:
    """Return the circular mean of hours (0 to 24) and their concentration (0: spread evenly, 1: all the same).

    Source: Mardia and Jupp, "Directional Statistics" (2000), section 2.2.

    >>> hour, concentration = mean_hour([23, 1])
    >>> round(hour, 9) % 24, round(concentration, 3)
    (0.0, 0.966)
    """
    angle = np.asarray(hours, np.float64) * (math.pi / 12)
    east, north = float(np.cos(angle).mean()), float(np.sin(angle).mean())
    return math.atan2(north, east) * (12 / math.pi) % 24, math.hypot(east, north)


@dataclass(frozen=True, slots=True)
class Shifts:
    """A possible shift of daily hours, one value an entity (0, 1, ...); NaN, or day -1, where none could be looked for.

    ``p`` is its p-value and ``q`` that adjusted over all entities (Benjamini-Hochberg). If there was a shift, the first
    day with the new hours is most likely ``day``, between ``first_day`` and ``last_day``; the mean hour went from
    ``before`` to ``after``, by ``shift_hours`` (-12 to 12, later is positive), between ``low`` and ``high``. ``days`` is
    the number of days with events.
    """

    p: Floats
    q: Floats
    day: Ints
    first_day: Ints
    last_day: Ints
    before: Floats
    after: Floats
    shift_hours: Floats
    low: Floats
    high: Floats
    days: Ints


@dataclass(frozen=True, slots=True)
class Days:
    """Days with events: entity and day number (sorted by both), the mean vector of the day, its number of events."""

    entity: Ints
    day: Ints
    east: Floats
    north: Floats
    events: Ints


def by_day(entity: ArrayLike, day: ArrayLike, hour: ArrayLike) -> Days:
    """Return every entity's days as mean vectors of the hours of their events.

    Raises:
        StatisticsError: Arrays of different lengths, negative entities, an hour that is not finite.

    >>> days = by_day([0, 0, 0], [5, 5, 6], [5.0, 7.0, 18.0])
    >>> days.day.tolist(), days.north.round(3).tolist()
    ([5, 6], [0.966, -1.0])
    """
    who, when = np.asarray(entity, np.int64).ravel(), np.asarray(day, np.int64).ravel()
    angle = np.asarray(hour, np.float64).ravel() * (math.pi / 12)
    if not who.size == when.size == angle.size:
        raise StatisticsError(
            f"{who.size} entities, {when.size} days and {angle.size} hours: each event has all three."
        )
    if who.size and (who.min() < 0 or not np.isfinite(angle).all()):
        raise StatisticsError("Entities are numbered from 0 on and hours are finite; one of these is not.")
    order = np.lexsort((when, who))
    who, when, angle = who[order], when[order], angle[order]
    first = (
        np.flatnonzero(np.r_[True, (np.diff(who) != 0) | (np.diff(when) != 0)]) if who.size else np.zeros(0, np.int64)
    )
    n = np.diff(np.r_[first, who.size])
    if not who.size:
        return Days(who, when, angle, angle, n)
    east, north = np.add.reduceat(np.cos(angle), first) / n, np.add.reduceat(np.sin(angle), first) / n
    return Days(who[first], when[first], east, north, n)


def shifts(
    entity: ArrayLike,
    day: ArrayLike,
    hour: ArrayLike,
    *,
    seed: int,
    entities: int | None = None,
    min_days: int = 5,
    permutations: int = 9_999,
    method: str = "auto",
    level: float = 0.95,
) -> Shifts:
    """Look in every entity's days for one date from which on its hours of the day are others.

    Days become vectors on two axes, across the mean direction (later or earlier) and along it (for shifts by half a day);
    the statistic is the largest share of either axis' variation that a split explains, over dates with at least
    ``min_days`` days with events on either side. Its p-value comes from permuting the entity's days, one stream of random
    numbers an entity; entities that look ordinary are given up early (Besag and Clifford, Biometrika 78 (1991)), which
    keeps the p-value valid and makes thousands of entities cheap. "analytic" (and "auto" beyond 10,000 entities) takes
    the tail of the maximum of a standardised Brownian bridge instead (Vostrikova, 1981; Csorgo and Horvath, "Limit
    Theorems in Change-Point Analysis" (1997), section 1.3), a little conservative. The interval of the date holds the
    dates whose likelihood ratio is near the best (Hansen, Econometrica 68 (2000), theorem 1); that of the shift is
    Welch's t over days, given the date.
    What repeats by weekday (other hours on Sundays) makes it conservative; days that resemble their neighbours
    (slow drift) make it liberal: a slow drift is found as a shift.

    ``entities`` is their number (default: the largest plus one). Equal input and ``seed`` give equal output.

    Raises:
        StatisticsError: As ``by_day``; an unknown method, ``min_days`` below 2, no permutation.

    >>> rng = np.random.default_rng(5)
    >>> who, day = np.repeat([0, 1], 60), np.tile(np.arange(60), 2)
    >>> hour = 9 + rng.normal(0, 1.5, 120) + np.where((who == 1) & (day >= 35), 4, 0)
    >>> found = shifts(who, day, hour, seed=1)
    >>> (found.q <= 0.05).tolist(), int(found.day[1]), bool(found.low[1] < 4 < found.high[1])
    ([False, True], 35, True)
    """
    check_level(level)
    if method not in METHODS:
        raise StatisticsError(f'method is one of {METHODS}, not "{method}".')
    if min_days < 2 or permutations < 1:
        raise StatisticsError("min_days is at least 2 and permutations at least 1.")
    days = by_day(entity, day, hour)
    size = entities if entities is not None else int(days.entity[-1]) + 1 if days.entity.size else 0
    if days.entity.size and days.entity[-1] >= size:
        raise StatisticsError(f"Entity {days.entity[-1]} is not among {size} entities, numbered from 0 on.")
    bounds = np.searchsorted(days.entity, np.arange(size + 1))
    if method == "auto":
        method = "permutation" if size <= PERMUTE_UP_TO else "analytic"
    out, where = np.full((size, 2), np.nan), np.full((size, 3), -1, np.int64)
    draws, key = permutations if method == "permutation" else 0, key_of(seed)
    weight = days.events / (days.events + HALF_WEIGHT_EVENTS)
    _scan_all(
        bounds, days.east, days.north, weight, min_days, draws, key, -2 * math.log1p(-math.sqrt(level)), out, where
    )
    p = out[:, 1] if method == "permutation" else _tail(out[:, 0], np.diff(bounds), min_days)
    return _describe(days, weight, bounds, where, p, level)


def _tail(share: Floats, n: Ints, min_days: int) -> Floats:
    """Return the chance that noise explains this share at its best date on either of two independent axes.

    A share becomes the x with the p-value of its t-test.
    """
    df = np.maximum(n - 2, 1)
    x = -special.ndtri(special.stdtr(df, -np.sqrt(share / (1 - share) * df)))
    return np.asarray(1 - (1 - standardised_bridge(x, min_days / np.maximum(n, 1))) ** 2)


def _describe(days: Days, weight: Floats, bounds: Ints, where: Ints, p: Floats, level: float) -> Shifts:
    """Return the regimes on either side of each entity's best date, and the shift with its interval."""
    n, known = np.diff(bounds), where[:, 0] > 0
    later = np.arange(days.day.size) - bounds[days.entity] >= where[days.entity, 0]
    angles, errors, dfs = [], [], []
    for side in (~later, later):
        who, east, north = days.entity[side], (weight * days.east)[side], (weight * days.north)[side]
        m = np.bincount(who, minlength=n.size)
        c, s = np.bincount(who, east, n.size), np.bincount(who, north, n.size)
        with np.errstate(divide="ignore", invalid="ignore"):
            angle, length = np.arctan2(s, c), np.hypot(s, c)
            # Across the mean direction a day deviates by R times its angle: the delta method for the direction.
            across = north * np.cos(angle[who]) - east * np.sin(angle[who])
            errors.append(np.bincount(who, across**2, n.size) * m / (m - 1) / length**2)
        angles.append(angle)
        dfs.append(m - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = errors[0] + errors[1]
        df = total**2 / (errors[0] ** 2 / dfs[0] + errors[1] ** 2 / dfs[1])
        half = special.stdtrit(df, (1 + level) / 2) * np.sqrt(total) * (12 / math.pi)
    hours = [np.where(known, a * (12 / math.pi) % 24, np.nan) for a in angles]
    shift = (hours[1] - hours[0] + 12) % 24 - 12
    at, first, last = (_date(days, bounds, where[:, column]) for column in range(3))
    q = benjamini_hochberg(p)
    return Shifts(p, q, at, first, last, hours[0], hours[1], shift, shift - half, shift + half, n)


def _date(days: Days, bounds: Ints, index: Ints) -> Ints:
    if not days.day.size:
        return np.full(index.size, -1, np.int64)
    return np.where(index >= 0, days.day[np.minimum(bounds[:-1] + index, days.day.size - 1)], -1)


@njit(cache=True, nogil=True)
def _axes(east: Any, north: Any, weight: Any, v: Any) -> Any:
    """Write the days' weighted deviations across and along their mean direction; return whether they vary at all.

    Each axis is scaled so that weighted squares sum to one; the third column is the weight, of sum one.
    """
    n, total = east.size, weight.sum()
    mean_east, mean_north = (east * weight).sum() / total, (north * weight).sum() / total
    turn = math.atan2(mean_north, mean_east)
    cos, sin = math.cos(turn), math.sin(turn)
    squares = np.zeros(2)
    for i in range(n):
        x, y = east[i] - mean_east, north[i] - mean_north
        v[i, 0], v[i, 1], v[i, 2] = y * cos - x * sin, x * cos + y * sin, weight[i] / total
        squares += v[i, :2] ** 2 * v[i, 2]
    for axis in range(2):
        scale = 1 / math.sqrt(squares[axis]) if squares[axis] > 1e-12 else 0.0
        v[:, axis] *= scale * v[:, 2]
    return squares.max() > 1e-12


@njit(cache=True, nogil=True)
def _explained(x: Any, y: Any, w: Any) -> Any:
    """Return the share that a change explains: x and y are the axes' sums before it, w its share of the weight."""
    return max(x * x, y * y) / (w * (1 - w))


@njit(cache=True, nogil=True)
def _scan(v: Any, order: Any, m: Any) -> Any:
    """Return the largest explained share over splits of the days in this order, and its split."""
    n = v.shape[0]
    x = y = w = best = 0.0
    at = m
    for k in range(1, n - m + 1):
        i = order[k - 1]
        x += v[i, 0]
        y += v[i, 1]
        w += v[i, 2]
        if k >= m:
            share = _explained(x, y, w)
            if share > best:
                best, at = share, k
    return best, at


@njit(cache=True, nogil=True)
def _p_value(v: Any, order: Any, m: Any, best: Any, draws: Any, state: Any) -> Any:
    """Return the share of permutations that explain as much, giving up once enough of them do."""
    reached = 0
    for draw in range(draws):
        shuffle(order, state)
        share, _ = _scan(v, order, m)
        reached += share >= best * (1 - 1e-12)
        if reached == ENOUGH_EXCEEDANCES:
            return reached / (draw + 1)
    return (reached + 1) / (draws + 1)


@njit(cache=True, nogil=True)
def _scan_all(
    bounds: Any, east: Any, north: Any, weight: Any, m: Any, draws: Any, key: Any, allowed: Any, out: Any, where: Any
) -> None:
    """Write each entity's explained share and p-value, and the best split with the first and last believable one."""
    for e in range(bounds.size - 1):
        low, high = bounds[e], bounds[e + 1]
        n = high - low
        if n < 2 * m:
            continue
        v = np.empty((n, 3))
        if not _axes(east[low:high], north[low:high], weight[low:high], v):
            continue
        order = np.arange(n)
        best, at = _scan(v, order, m)
        best = min(best, 1 - 1e-12)
        out[e, 0] = best
        where[e, 0] = at
        where[e, 1], where[e, 2] = _believable(v, m, best, allowed)
        if draws:
            out[e, 1] = _p_value(v, order, m, best, draws, stream(key, e))


@njit(cache=True, nogil=True)
def _believable(v: Any, m: Any, best: Any, allowed: Any) -> Any:
    """Return the first and last split whose likelihood ratio is within ``allowed`` of the best one's."""
    n = v.shape[0]
    first = last = -1
    x = y = w = 0.0
    for k in range(1, n - m + 1):
        x += v[k - 1, 0]
        y += v[k - 1, 1]
        w += v[k - 1, 2]
        if k >= m:
            share = min(_explained(x, y, w), 1 - 1e-12)
            if n * math.log((1 - share) / (1 - best)) <= allowed:
                last = k
                if first < 0:
                    first = k
    return first, last
