"""How many wait, and how long they have waited, at each of many times.

Enters: when each wait began and ended, and the times asked for, as integers of one unit. Leaves: ``Waiting``. Layer: ground
floor (stats).

One sweep over beginnings and ends; those who wait are counted in a Fenwick tree over the order of beginnings, so that any
quantile of their ages costs log n steps. Source: Fenwick, Software: Practice and Experience 24 (1994).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from tocsin.errors import StatisticsError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

NEVER = np.iinfo(np.int64).max
"""The end of a wait that is not over."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """At each time: ``count`` wait, ``ages`` (a row a time, a column a quantile) and ``oldest``; NaN where nobody waits."""

    count: Ints
    ages: Floats
    oldest: Floats


def waiting_at(
    begins: ArrayLike, ends: ArrayLike, times: ArrayLike, quantiles: tuple[float, ...] = (0.5, 0.9)
) -> Waiting:
    """Count who waits at each time, ``begin <= time < end``, and return quantiles of how long they have.

    Quantiles interpolate linearly between ages in order (Hyndman and Fan's definition 7). Takes (n + times) log n steps.

    Raises:
        StatisticsError: Times that do not ascend, ends before their begins, quantiles outside 0 to 1.

    >>> found = waiting_at([0, 4, 5], [10, 6, NEVER], times=[3, 5, 10])
    >>> found.count.tolist(), found.ages[:, 0].tolist(), found.oldest.tolist()
    ([1, 3, 1], [3.0, 1.0, 5.0], [3.0, 5.0, 5.0])
    """
    begin, end, at = (np.asarray(x, np.int64) for x in (begins, ends, times))
    share = np.asarray(quantiles, np.float64)
    if begin.shape != end.shape or begin.ndim != 1 or (end < begin).any():
        raise StatisticsError("Each wait has a begin and an end that is not before it.")
    if (np.diff(at) < 0).any():
        raise StatisticsError("The times asked for ascend; these do not.")
    if ((share < 0) | (share > 1)).any():
        raise StatisticsError(f"A quantile lies between 0 and 1; these are {quantiles}.")
    order = np.argsort(begin, kind="stable")
    begin, end = begin[order], end[order]
    count, ages = np.zeros(at.size, np.int64), np.full((at.size, share.size + 1), np.nan)
    _sweep(begin, end, np.argsort(end, kind="stable"), at, np.append(share, 1.0), count, ages)
    return Waiting(count, ages[:, :-1], ages[:, -1])


@njit(cache=True, nogil=True)
def _place(tree: Any, rank: Any) -> Any:
    """Return the place, in order of begin, of the one with so many waiting before it."""
    place, step = 0, 1
    while step * 2 < tree.size:
        step *= 2
    while step:
        if place + step < tree.size and tree[place + step] <= rank:
            place += step
            rank -= tree[place]
        step //= 2
    return place


@njit(cache=True, nogil=True)
def _add(tree: Any, place: Any, one: Any) -> None:
    i = place + 1
    while i < tree.size:
        tree[i] += one
        i += i & -i


@njit(cache=True, nogil=True)
def _sweep(begin: Any, end: Any, by_end: Any, at: Any, share: Any, count: Any, ages: Any) -> None:
    tree = np.zeros(begin.size + 1, np.int64)
    come = gone = 0
    for k in range(at.size):
        while come < begin.size and begin[come] <= at[k]:
            _add(tree, come, 1)
            come += 1
        while gone < come and end[by_end[gone]] <= at[k]:
            _add(tree, by_end[gone], -1)
            gone += 1
        n = come - gone
        count[k] = n
        if n == 0:
            continue
        for q in range(share.size):
            where = (n - 1) * share[q]
            low = int(where)
            # The youngest began last: ages ascend as places descend.
            young = float(at[k] - begin[_place(tree, n - 1 - low)])
            ages[k, q] = young
            if where > low:
                old = float(at[k] - begin[_place(tree, n - 2 - low)])
                ages[k, q] = young + (where - low) * (old - young)
