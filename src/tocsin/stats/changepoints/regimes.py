"""The defaults: changes of the level of a count, and of a level in general.

Enters: values in order (NaN: no data, which is not zero). Leaves: ``ChangePoints``. Layer: ground floor (stats).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tocsin.errors import StatisticsError
from tocsin.stats.changepoints.fit import fit_series, judge, range_statistic
from tocsin.stats.changepoints.repeats import detrended, offsets, period_of
from tocsin.stats.changepoints.result import ChangePoints, check_thresholds, dates_of, regime_means, series_of
from tocsin.stats.changepoints.search import DRIFTS, GAUSSIAN, POISSON
from tocsin.stats.changepoints.season import ORDINARY
from tocsin.stats.rates import check_level
from tocsin.stats.tails import kuiper, standardised_bridge

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

PENALTY = 2.5  # times log n: one false change in some hundred steady years; measured in docs/statistics.md
FEWEST = 14
DEPENDENT = 0.2


def counts(
    values: ArrayLike,
    *,
    start: Any = None,
    step: str = "D",
    season: int = 7,
    min_segment: int | None = None,
    penalty: float | None = None,
    min_effect: float = 0.0,
    level: float = 0.95,
) -> ChangePoints:
    """Find the dates at which a count's level changed: the default for daily alerts, mails, logins.

    A quasi-Poisson segmentation. Each value is expected to be rate x factor: the regime's rate times the factor of its
    weekday (``season=7``; 168 for hours of the week, 1 for none), refitted to the regimes. Single values apart from both
    sides (two together at most, less than a regime) are listed as outliers and left out. A change has to lower minus twice
    the log-likelihood by ``penalty`` (default 2.5 log n) times the long-run variance: the dispersion, times what
    autocorrelation adds. Regimes are at least ``min_segment`` values long (3; hours: 24), and changes smaller than
    ``min_effect`` (0.5: by half up, or by a third down) are not reported. ``start`` is the date of the first value.

    ``p`` is the tail of a standardised Brownian bridge at the square root of what the change gains, ``first`` to ``last``
    the places within the likelihood-ratio bound for a change's place at confidence ``level`` (Hansen, Econometrica 68
    (2000), theorem 1), ``p_any`` the Kuiper tail of the whole series' CUSUM. Sources: quasi-likelihood, Wedderburn,
    Biometrika 61 (1974); penalised segmentation, Yao, Statist. Probab. Lett. 6 (1988); see also ``search``.
    Equal input gives equal output; nothing here is random.

    Raises:
        StatisticsError: More than one dimension, negative or infinite values, settings that make no sense.

    >>> rng = np.random.default_rng(1)
    >>> week = np.tile([1.2, 1.2, 1.2, 1.2, 1.2, 0.5, 0.5], 20)
    >>> y = rng.poisson(20 * week * np.where(np.arange(140) >= 91, 2, 1)).astype(float)
    >>> y[30] = 400
    >>> found = counts(y, start="2026-01-05")
    >>> found.date.astype(str).tolist(), found.outliers.tolist(), found.effect.round(1).tolist()
    (['2026-04-06'], [30], [2.0])
    """
    y = series_of(values, counts=True)
    return _regimes(
        y, "counts", POISSON, _season(season, y.size), season, min_segment or (24 if season > 100 else 3),
        penalty, min_effect, level, dates_of(start, y.size, step),
    )  # fmt: skip


def level_changes(
    values: ArrayLike,
    *,
    start: Any = None,
    step: str = "D",
    season: int | None = None,
    min_segment: int = 3,
    penalty: float | None = None,
    min_effect: float = 0.0,
    level: float = 0.95,
) -> ChangePoints:
    """Find changes of the level of any series: times, shares, scores.

    As ``counts``, with a Gaussian likelihood; ``effect`` and ``min_effect`` are differences in the values' unit, a regime
    may drift along a line, and ``factors`` are what each place in the ``season`` adds (of mean 0). Without a season given,
    that of the calendar is taken which predicts at least a quarter of what is no level, if any does (``repeats``); 1 is
    none. Adding a constant changes nothing, multiplying by one multiplies the rates, turning the series around turns the
    changes around. Source: lines as regimes, Bai and Perron, Econometrica 66 (1998), equation (1).

    Raises:
        StatisticsError: More than one dimension, infinite values, settings that make no sense.

    >>> y = np.random.default_rng(1).normal(np.repeat([10, 13, 11], 60))
    >>> found = level_changes(y)
    >>> found.index.tolist(), found.rates.round(1).tolist()
    ([60, 121], [10.0, 12.9, 10.9])
    """
    y = series_of(values, counts=False)
    season = period_of(y) if season is None else season
    return _regimes(
        y, "level", GAUSSIAN, _season(season, y.size), season, min_segment, penalty, min_effect, level,
        dates_of(start, y.size, step),
    )  # fmt: skip


def cost_of_a_cut(known: int) -> float:
    """Return what a cut has to gain; more than 2.5 log n where few values leave the noise itself uncertain."""
    return PENALTY * math.log(max(known, 2)) * (1 + 12 / max(known, 1))


def _season(season: int, size: int) -> int:
    """Return the period that so many values can tell: the season's, or 1."""
    if season < 1:
        raise StatisticsError(f"season is a number of values, such as 7 (days) or 168 (hours), or 1; not {season}.")
    return season if size >= 3 * season else 1


def _regimes(
    y: Floats, method: str, kind: int, period: int, season: int, m: int, penalty: float | None, min_effect: float,
    level: float, dates: NDArray[Any],
) -> ChangePoints:  # fmt: skip
    check_level(level)
    check_thresholds(penalty, min_effect)
    if m < 1:
        raise StatisticsError("min_segment is at least 1.")
    effect = math.log1p(min_effect) if kind == POISSON else min_effect
    n = y.size
    known = int(np.isfinite(y).sum())
    if known == 0:
        return _nothing(y, method, dates)
    # Dividing by a typical value keeps squares of large levels apart from their noise; it changes no cut.
    middle = float(np.nanmedian(y)) if kind == GAUSSIAN else 0.0
    cost_of_cut = penalty if penalty is not None else cost_of_a_cut(known)
    place, added = np.arange(n) % period, np.zeros(period)
    if kind == GAUSSIAN and period > 1:
        added = offsets(detrended(y, period), period)
        first = fit_series(y - middle - added[place], place, period, kind, m, cost_of_cut, effect)
        added = offsets(np.where(first.mark == ORDINARY, y - middle - first.rate, np.nan), period)
    fit = fit_series(y - middle - added[place], place, period, kind, m, cost_of_cut, effect)
    scale = fit.variance * fit.inflation
    gains, believable = judge(
        fit.values,
        fit.exposure,
        kind,
        fit.cuts,
        m,
        scale,
        -2 * math.log1p(-math.sqrt(level)),
        DRIFTS * cost_of_cut * scale,
    )
    spans = np.diff(np.concatenate([[0], fit.cuts, [n]]))
    p = standardised_bridge(np.sqrt(np.maximum(gains, 0)), m / np.maximum(spans[:-1] + spans[1:], 1))
    starts, ends = np.concatenate([[0], fit.cuts]).astype(np.int64), np.concatenate([fit.cuts, [n]]).astype(np.int64)
    rates = (fit.rate[starts] + fit.rate[ends - 1]) / 2 + middle
    with np.errstate(divide="ignore", invalid="ignore"):
        jumps = fit.rate[fit.cuts] - fit.rate[fit.cuts - 1]
        effects = rates[1:] / rates[:-1] if kind == POISSON else jumps
    wander, alike = range_statistic(fit.values, fit.exposure, kind, period - 1)
    return ChangePoints(
        method, fit.cuts, believable[:, 0], believable[:, 1], p, effects, np.ones(fit.cuts.size, np.int64),
        regime_means(y, fit.cuts), rates, float(kuiper(wander)), np.flatnonzero(fit.mark),
        fit.factor if kind == POISSON else added,
        float(fit.variance), float(fit.correlation), _warnings(known, n, period, season, max(fit.correlation, alike)), y, dates,
    )  # fmt: skip


def _warnings(known: int, size: int, period: int, season: int, correlation: float) -> tuple[str, ...]:
    found = []
    if known < FEWEST:
        found.append(f"too short: {known} values tell little about noise, and nothing about rare changes")
    if known < size:
        found.append(f"{size - known} of {size} values are missing (no data is not zero)")
    if period != season:
        found.append(f"seasonality not removable: {size} values are fewer than three seasons of {season}")
    if correlation > DEPENDENT:
        found.append(
            f"autocorrelation {correlation:.2f}: neighbouring values resemble each other; changes have to be larger, "
            "and p_any of some hundred values that wander (rather than an AR(1) up to 0.6) is too small"
        )
    return tuple(found)


def _nothing(y: Floats, method: str, dates: NDArray[Any]) -> ChangePoints:
    none, no_place = np.zeros(0), np.zeros(0, np.int64)
    return ChangePoints(
        method, no_place, no_place, no_place, none, none, no_place, np.array([math.nan]), np.array([math.nan]), math.nan,
        no_place, np.ones(1), math.nan, math.nan, ("no data",), y, dates,
    )  # fmt: skip


def p_any(values: ArrayLike) -> float:
    """Return the chance that noise alone makes a level wander as far as this one does: is there any change at all?

    The range of the CUSUM over the long-run standard deviation around the best single cut, by Kuiper's tail. At 5 % it calls
    3 to 7 % of steady series changed, white or an AR(1) of up to 0.6; a hundred values of a level that wanders below noise
    of its own, up to a quarter. NaN where nothing varies. Source: Taylor, "Change-Point Analysis" (2000), and ``tails.kuiper``.

    Raises:
        StatisticsError: More than one dimension, infinite values.

    >>> rng = np.random.default_rng(1)
    >>> noise = rng.normal(size=200)
    >>> p_any(noise) > 0.05, p_any(noise + np.repeat([0, 1], 100)) < 0.001
    (True, True)
    """
    y = series_of(values, counts=False)
    known = np.isfinite(y)
    middle = float(y[known].mean()) if known.any() else 0.0
    statistic, _ = range_statistic(np.where(known, y - middle, 0.0), known.astype(np.float64), GAUSSIAN, 0)
    return float(kuiper(statistic))
