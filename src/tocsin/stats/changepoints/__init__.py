"""Change points: on which day did the level change, by how much, and how sure is that.

Enters: series as arrays. Leaves: ``ChangePoints``. Layer: ground floor (stats).

``counts`` is the default for counts a day or hour and ``level`` for any other level. ``cusum`` is Taylor's method, the one
that explains itself on paper; ``binseg`` binary segmentation with MBIC; ``notebook`` the way of the notebook, its defects
included. ``batch`` and ``screen`` take thousands of series at once, ``nightly`` tells how many nights a change waits until
it is reported, ``count_windows`` makes a series from times.
"""

from tocsin.stats.changepoints.batch import Batch, batch, nightly, screen
from tocsin.stats.changepoints.binseg import binseg
from tocsin.stats.changepoints.cusum import cusum
from tocsin.stats.changepoints.notebook import notebook
from tocsin.stats.changepoints.regimes import counts, p_any
from tocsin.stats.changepoints.regimes import level_changes as level
from tocsin.stats.changepoints.result import ChangePoints
from tocsin.stats.changepoints.windows import Windows, count_windows

__all__ = [
    "Batch", "ChangePoints", "Windows", "batch", "binseg", "count_windows", "counts", "cusum", "level", "nightly", "notebook",
    "p_any", "screen",
]  # fmt: skip
