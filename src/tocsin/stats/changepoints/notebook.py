"""The notebook's way of finding change points, kept so that its numbers can be had again.

Enters: values in order. Leaves: ``ChangePoints``. Layer: ground floor (stats).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np

from tocsin.errors import StatisticsError
from tocsin.stats.changepoints.result import ChangePoints, dates_of, series_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

DEFECTS = (
    "changes after the first are up to several values early: offsets of right-hand parts are one too small",
    "the mean of the last regime leaves out the last value",
    "weekdays and autocorrelation are left in: weekdays hide changes, autocorrelation makes them up",
)


def notebook(
    values: ArrayLike,
    *,
    seed: int | None,
    start: Any = None,
    step: str = "D",
    iterations: int = 1_000,
    confidence_level: float = 95,
) -> ChangePoints:
    """Find change points exactly as the SOC manager's notebook does, its defects included; for comparison only.

    The same random numbers too: with ``random.seed(seed)`` before its cell, the notebook prints the places that ``index``
    holds. ``means`` are its means. Its defects: right-hand parts get an offset one too small, so later changes are reported
    early; one pass, no least length of a regime, no second look; values are shuffled as if independent and weekdays left
    in; the last regime's mean leaves out its last value; no p-value or interval by change (``p`` is NaN); an unseeded
    series may answer differently every time (``seed=None`` does); shuffling takes quadratic time. Use ``counts``.

    Raises:
        StatisticsError: More than one dimension, or values that are missing.

    >>> found = notebook([2.0] * 30 + [9.0] * 30 + [7.0] * 30, seed=1, iterations=200)
    >>> found.index.tolist()
    [30, 59]
    """
    y = series_of(values, counts=False)
    if np.isnan(y).any():
        raise StatisticsError("The notebook takes missing days for zero; put zeros there to have its numbers.")
    data = y.tolist()
    draw = random.Random(seed)  # noqa: S311 - statistics, not secrets
    index = np.array(sorted(_change_points(data, draw, iterations, confidence_level, 0)), np.int64)
    edges = [0, *index.tolist()]
    means = [_mean(data[a:b]) for a, b in zip(edges, [*edges[1:], -1], strict=True)]
    unknown = np.full(index.size, np.nan)
    return ChangePoints(
        "notebook", index, index, index, unknown, np.diff(means), np.ones(index.size, np.int64), np.array(means),
        np.array(means), float("nan"), np.zeros(0, np.int64), np.ones(1), float("nan"), float("nan"), DEFECTS, y,
        dates_of(start, y.size, step),
    )  # fmt: skip


def _mean(data: list[float]) -> float:
    return float(np.average(data)) if data else float("nan")


def _sums(data: list[float]) -> list[float]:
    mean, out = _mean(data), [0.0]
    for value in data:
        out.append((value - mean) + out[-1])
    return out


def _shuffled(data: list[float], draw: random.Random) -> list[float]:
    """Return the values in the notebook's random order: chosen by value, the first equal one removed."""
    left, out = list(data), []
    for _ in data:
        value = draw.choice(left)
        left.remove(value)
        out.append(value)
    return out


def _confidence(data: list[float], draw: random.Random, iterations: int) -> float:
    sums = _sums(data)
    whole, smaller = max(sums) - min(sums), 0
    for _ in range(iterations):
        sums = _sums(_shuffled(data, draw))
        smaller += max(sums) - min(sums) < whole
    return smaller / float(iterations) * 100.0


def _change_points(data: list[float], draw: random.Random, iterations: int, level: float, offset: int) -> list[int]:
    if not _confidence(data, draw, iterations) > level:
        return []
    far = [abs(x) for x in _sums(data)]
    at = far.index(max(far))
    return [
        at + offset,
        *_change_points(data[:at], draw, iterations, level, offset),
        *_change_points(data[at:], draw, iterations, level, offset + at - 1),
    ]
