"""Running state of measures and fits: NumPy arrays by entity slot, advanced by one batch at a time.

Enters: ``Rows``, the events of one batch in (time, event_id) order. Leaves: output columns, and the state as named
arrays that can be saved and restored. Layer: above ``kernels``, ``measures`` and ``fits``; below detections.
"""

from tocsin.running.closing import Closed, ClosingState, Ended, Entered
from tocsin.running.limits import LimitState
from tocsin.running.rows import Part, Rows
from tocsin.running.spans import (
    EverState,
    FirstSeenState,
    HoursState,
    PreviousState,
    SlidingExtremeState,
    SlidingState,
)
from tocsin.running.state import Arrays, Running
from tocsin.running.windowed import WindowState

__all__ = [
    "Arrays",
    "Closed",
    "ClosingState",
    "Ended",
    "Entered",
    "EverState",
    "FirstSeenState",
    "HoursState",
    "LimitState",
    "Part",
    "PreviousState",
    "Rows",
    "Running",
    "SlidingExtremeState",
    "SlidingState",
    "WindowState",
]
