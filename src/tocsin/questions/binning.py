"""Bins of a distribution that a person can read: whole numbers stay whole, and a few giants do not hide the rest.

Enters: distinct values with their counts. Leaves: a frame of bins. Layer: questions, its ground floor.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from tocsin.sources.describe import exact_quantile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MOST_BINS = 40
BINS = pl.Schema({"low": pl.Float64, "high": pl.Float64, "count": pl.Int64})


def quantile(values: Floats, counts: NDArray[np.int64], q: float) -> float:
    """Return a quantile of sorted distinct values with their counts (Hyndman and Fan's definition 7)."""
    return exact_quantile(values, counts, q)


def bins(values: Floats, counts: NDArray[np.int64], *, whole: bool) -> pl.DataFrame:
    """Return low, high and count of up to `MOST_BINS` equal bins, ``[low, high)``, and one for what lies far beyond.

    Bins of whole numbers begin half-way between two of them, so that each number lies in the middle of its bin. Where
    the largest value is far above the 99.9 % quantile, the last row holds everything above the others.

    >>> bins(np.array([1.0, 2.0, 4.0]), np.array([5, 3, 1]), whole=True).rows()
    [(0.5, 1.5, 5), (1.5, 2.5, 3), (2.5, 3.5, 0), (3.5, 4.5, 1)]
    """
    if not values.size:
        return pl.DataFrame(schema=BINS)
    low, high = float(values[0]), float(values[-1])
    most = exact_quantile(values, counts, 0.999)
    cap = most + (most - low) + 1
    top = min(high, cap)
    if whole:
        width = max(1.0, math.ceil((top - low + 1) / MOST_BINS))
        edges = low - 0.5 + width * np.arange(math.ceil((top - low + 1) / width) + 1)
    else:
        edges = np.linspace(low, top if top > low else low + 1.0, MOST_BINS + 1)
    inner = values <= edges[-1]
    counted = np.histogram(values[inner], edges, weights=counts[inner].astype(np.float64))[0].astype(np.int64)
    frame = pl.DataFrame({"low": edges[:-1], "high": edges[1:], "count": counted}, schema=BINS)
    beyond = int(counts[~inner].sum())
    if beyond:
        last = pl.DataFrame(
            {"low": [float(edges[-1])], "high": [high + 0.5 if whole else high], "count": [beyond]}, schema=BINS
        )
        frame = pl.concat([frame, last])
    return frame


def drawn(frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Return the equal bins, which a chart can show, and how many values lie in the one beyond them."""
    if frame.height < 2:
        return frame, 0
    width = frame["high"][0] - frame["low"][0]
    last = frame.row(-1, named=True)
    if last["high"] - last["low"] > width * 1.5 or frame.height > MOST_BINS:
        return frame.head(frame.height - 1), int(last["count"])
    return frame, 0
