"""From times to a series: counts by calendar window, with partial windows dropped and windows without data missing.

Enters: instants and the begins of windows (days of a zone, say), as integers of one unit. Leaves: ``Windows``. Layer: ground
floor (stats).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tocsin.errors import StatisticsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Windows:
    """``counts`` of whole windows that start at ``begins`` (NaN: a gap in the data), and why others are not there.

    ``dropped`` holds (begin, "partial") of windows that the span asked for covers only in part.
    """

    begins: Ints
    counts: NDArray[np.float64]
    dropped: tuple[tuple[int, str], ...]


def count_windows(
    times: ArrayLike, edges: ArrayLike, *, since: int, until: int, gaps: Iterable[tuple[int, int]] = ()
) -> Windows:
    """Count times in the windows ``[edges[i], edges[i + 1])`` of the span ``[since, until)``.

    The windows are those of the span asked for, not from the first to the last time: a quiet day is a zero. A window that
    the span covers in part is dropped and named. A window that touches one of the ``gaps`` (half-open spans without data)
    is NaN: no data is not zero. Times outside the span are not counted.

    Raises:
        StatisticsError: Edges that do not ascend, or an empty span.

    >>> made = count_windows([5, 12, 13, 31], [0, 10, 20, 30, 40], since=4, until=40, gaps=[(22, 23)])
    >>> made.begins.tolist(), made.counts.tolist(), made.dropped
    ([10, 20, 30], [2.0, nan, 1.0], ((0, 'partial'),))
    """
    t, edge = np.asarray(times, np.int64), np.asarray(edges, np.int64)
    if edge.size < 2 or (np.diff(edge) <= 0).any():
        raise StatisticsError("Edges are at least two and ascend.")
    if until <= since:
        raise StatisticsError(f"The span [{since}, {until}) is empty.")
    low, high = edge[:-1], edge[1:]
    touched, whole = (high > since) & (low < until), (low >= since) & (high <= until)
    t = t[(t >= since) & (t < until)]
    place = np.searchsorted(edge, t, "right") - 1
    inside = (place >= 0) & (place < low.size)
    counts = np.bincount(place[inside], minlength=low.size).astype(np.float64)
    for begin, end in gaps:
        counts[(low < end) & (high > begin)] = np.nan
    dropped = tuple((int(begin), "partial") for begin in low[touched & ~whole])
    return Windows(low[whole], counts[whole], dropped)
