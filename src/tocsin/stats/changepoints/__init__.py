"""Change points: on which day did the level change, by how much, and how sure is that.

Enters: series as arrays. Leaves: ``ChangePoints``. Layer: ground floor (stats).

``counts`` is the default for counts a day or hour and ``level`` for any other level. ``cusum`` is Taylor's method, the one
that explains itself on paper; ``binseg`` binary segmentation with MBIC; ``notebook`` the way of the notebook, its defects
included; ``find`` takes the method by name. ``batch`` and ``screen`` take thousands of series at once, ``nightly`` tells how
many nights a change waits until it is reported, ``count_windows`` makes a series from times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tocsin.errors import StatisticsError, did_you_mean
from tocsin.stats.changepoints.batch import Batch, batch, nightly, screen
from tocsin.stats.changepoints.binseg import binseg
from tocsin.stats.changepoints.cusum import cusum
from tocsin.stats.changepoints.notebook import notebook
from tocsin.stats.changepoints.regimes import counts, p_any
from tocsin.stats.changepoints.regimes import level_changes as level
from tocsin.stats.changepoints.result import ChangePoints
from tocsin.stats.changepoints.windows import Windows, count_windows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

__all__ = [
    "METHODS", "Batch", "ChangePoints", "Windows", "batch", "binseg", "count_windows", "counts", "cusum", "find", "level",
    "nightly", "notebook", "p_any", "screen",
]  # fmt: skip

METHODS: dict[str, Callable[..., ChangePoints]] = {
    "counts": counts,
    "level": level,
    "cusum": cusum,
    "binseg": binseg,
    "notebook": notebook,
}


def find(values: ArrayLike, method: str = "counts", **options: Any) -> ChangePoints:
    """Find change points by the method of this name, with its own options.

    Raises:
        StatisticsError: No such method; or whatever the method refuses.

    >>> find([0.1, 0.2, 0.0, 0.1, 5.1, 5.0, 5.2, 5.1], method="binseg").index.tolist()
    [4]
    """
    if method not in METHODS:
        hint = did_you_mean(method, METHODS)
        raise StatisticsError(f'"{method}" is no method; there are {", ".join(METHODS)}.{hint}')
    return METHODS[method](values, **options)
