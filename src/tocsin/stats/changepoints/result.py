"""What a search for change points returns, whichever the method.

Enters: arrays that a method found. Leaves: ``ChangePoints``, a frozen value. Layer: ground floor (stats).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from tocsin.errors import StatisticsError

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ChangePoints:
    """The regimes of a series, and what is known about each change between two of them.

    Of the c changes, in order: ``index`` is the place of the first value of the new regime and ``date`` its date;
    ``first`` to ``last`` (also as ``first_date``, ``last_date``) the interval of that place; ``p`` the chance that noise
    alone would gain as much at its best place between the neighbouring changes; ``effect`` the ratio after / before
    (counts) or the difference (levels); ``level`` the pass in which Taylor's method found it (1 first), 1 elsewhere.
    Of the c + 1 regimes: ``means`` are means of all their values, outliers included, and ``rates`` their levels as fitted,
    season and outliers taken out. ``p_any`` is the chance that noise alone wanders as the whole series does.
    ``outliers`` are places of values set apart, ``factors`` the season's (of mean 1; of levels: what it adds, of mean 0),
    ``dispersion`` the variance of the noise (of counts: over the mean), ``autocorrelation`` that of neighbouring values,
    ``warnings`` what to know before believing any of it.
    """

    method: str
    index: Ints
    first: Ints
    last: Ints
    p: Floats
    effect: Floats
    level: Ints
    means: Floats
    rates: Floats
    p_any: float
    outliers: Ints
    factors: Floats
    dispersion: float
    autocorrelation: float
    warnings: tuple[str, ...]
    values: Floats = field(repr=False)
    dates: NDArray[Any] = field(repr=False)

    def __len__(self) -> int:
        """Return the number of changes."""
        return int(self.index.size)

    @property
    def date(self) -> NDArray[Any]:
        """The date (or hour, or place without a start) of the first value of each new regime."""
        return self.dates[self.index]

    @property
    def first_date(self) -> NDArray[Any]:
        """The earliest believable date of each change."""
        return self.dates[self.first]

    @property
    def last_date(self) -> NDArray[Any]:
        """The latest believable date of each change."""
        return self.dates[self.last]

    @property
    def confidence(self) -> Floats:
        """Taylor's confidence of each change: 1 - p."""
        return 1 - self.p

    def to_frame(self) -> pl.DataFrame:
        """Return one row a regime: from, until (last value), mean, rate, and the change it begins with (null for the first)."""
        import polars as pl

        some = self.values.size > 0  # an empty series has no regime either
        starts = np.concatenate([[0][:some], self.index]).astype(np.int64)
        ends = np.concatenate([self.index, [self.values.size][:some]]).astype(np.int64) - 1

        def led(values: NDArray[Any]) -> pl.Series:
            head = pl.Series([None][:some], dtype=pl.Series(values).dtype)
            return pl.concat([head, pl.Series(values)])

        return pl.DataFrame(
            {
                "since": self.dates[starts],
                "until": self.dates[ends],
                "mean": self.means[: starts.size],
                "rate": self.rates[: starts.size],
                "effect": led(self.effect),
                "p": led(self.p),
                "earliest": led(self.first_date),
                "latest": led(self.last_date),
                "level": led(self.level),
            }
        )

    def plot(self, title: str = "Change points") -> Any:
        """Return a plotly figure: values, regime means, changes with the intervals of their dates, outliers.

        Charts stand on a higher floor than statistics; this room opens the door to them only when somebody asks.
        """
        chart = import_module("tocsin.views.regimes").chart_of(self, title)
        return import_module("tocsin.views").draw(chart)


def series_of(values: ArrayLike, *, counts: bool) -> Floats:
    """Return a series as float64, refusing what is none."""
    y = np.asarray(values, np.float64)
    if y.ndim != 1:
        raise StatisticsError(f"A series has one dimension, not {y.ndim}. Many series at once: changepoints.batch.")
    if np.isinf(y).any():
        raise StatisticsError("A series is of finite values (NaN: no data); one of these is infinite.")
    if counts and (y < 0).any():
        raise StatisticsError("Counts are not negative; one of these is. For levels use changepoints.level.")
    return y


def check_thresholds(penalty: float | None, min_effect: float) -> None:
    """Refuse thresholds that every change, or none, would pass."""
    if not min_effect >= 0 or (penalty is not None and not penalty > 0):
        raise StatisticsError("min_effect is at least 0 and a penalty above 0.")


def dates_of(start: Any, size: int, step: Any) -> NDArray[Any]:
    """Return the date of each value from that of the first ("2026-01-05"; step "D" or "h"), or places without one."""
    if start is None:
        return np.arange(size)
    return np.asarray(np.datetime64(start, step) + np.arange(size))


def regime_means(values: Floats, cuts: Ints) -> Floats:
    """Return the mean of all known values of each regime."""
    parts = np.split(values, cuts)
    return np.array([np.nanmean(part) if np.isfinite(part).any() else np.nan for part in parts])
