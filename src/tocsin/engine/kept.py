"""Kept: what calendar windows held, told as they close, and what late events add to them afterwards.

Enters: the windows that the running states end, in order, and late events as they enter windows that ended before. Leaves:
frames of both, and how far each measure has come. Layer: engine.

What a window held when it closed is what the running baselines know of it at the next window's begin: the events on time, and
late ones whose own clock was still within it. All other late events are corrections. A correction is told when it is applied,
which is at the first boundary after the clock its events were late against; from there on baselines know of it. So the
frames of a run do not depend on how it was cut into batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from tocsin.calendars import moment
from tocsin.expressions import digest
from tocsin.kernels.windows import MAX, MIN, NEVER
from tocsin.running import ClosingState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tocsin.engine.slots import Slots
    from tocsin.running import Ended, Entered, Running

INSTANT = pl.Datetime("us", "UTC")
CLOSED: dict[str, Any] = {
    "measure": pl.String, "window": pl.Int64, "begin": INSTANT, "end": INSTANT, "entity": pl.String, "lane0": pl.Int64,
    "lane1": pl.Int64, "heard": pl.Boolean, "left_out": pl.Boolean,
}  # fmt: skip
"""Columns of closed windows, a row for each entity.

measure: see `window_key`. lane0, lane1: the accumulator, from which the value follows (``batchfit.values_of``): how many events
(of a ratio, those of its denominator; of distinct values, how many), and their sum or extreme (0 where a measure has none).
heard: whether it had an event. left_out: whether the rule fired that leaves such windows out of its baselines.
"""
CORRECTIONS: dict[str, Any] = {
    "measure": pl.String, "window": pl.Int64, "begin": INSTANT, "visible": pl.Int64, "visible_from": INSTANT,
    "entity": pl.String, "lane0": pl.Int64, "lane1": pl.Int64,
}  # fmt: skip
"""Columns of corrections, a row for each entity, window and boundary from which it counts.

lane0, lane1: what is added; of a smallest or largest value, the extreme of the late events. visible: the first window whose
baselines know of it, and visible_from its begin.
"""


def window_key(state: str) -> str:
    """Return the short name of a measure's windows: equal for equal measures over the same events and entity.

    >>> window_key("a measure") == window_key("a measure"), len(window_key("a measure"))
    (True, 16)
    """
    return digest(state)


def merged(op: int) -> list[pl.Expr]:
    """Return how the lanes of several rows about one entity and window become one; rows without events change nothing."""
    lane1 = pl.col("lane1")
    some = lane1.filter(pl.col("lane0") > 0)
    extremes = {MIN: some.min(), MAX: some.max()}
    return [pl.col("lane0").sum(), extremes[op].fill_null(0).alias("lane1") if op in extremes else lane1.sum()]


class Kept(NamedTuple):
    """What a step told of windows. ``boundaries``: by measure, the window that is first to close next, where that changed."""

    closed: pl.DataFrame | None
    corrections: pl.DataFrame | None
    boundaries: Mapping[str, int]

    def then(self, later: Kept) -> Kept:
        """Return all of this and then all of ``later``."""
        closed, late = ([x for x in pair if x is not None] for pair in zip(self[:2], later[:2], strict=True))
        boundaries = {**self.boundaries, **later.boundaries}
        return Kept(pl.concat(closed) if closed else None, pl.concat(late) if late else None, boundaries)


NOTHING = Kept(None, None, {})


class Keeper:
    """Gathers what windows held; of one step."""

    def __init__(self, running: Mapping[str, Running], slots: Mapping[str, Slots]) -> None:
        self._listening = [_Listener(k, s, slots[s.entity]) for k, s in running.items() if isinstance(s, ClosingState)]
        for listener in self._listening:
            listener.state.keep = listener

    def taken(self, passed: int) -> Kept:
        """Close the windows that end by ``passed``, return what the step told, and listen no more."""
        closed: list[pl.DataFrame] = []
        late: list[pl.DataFrame] = []
        boundaries = {}
        for listener in self._listening:
            if passed != NEVER:
                listener.state.close_before(passed, listener.slots.n)
            listener.state.keep = None
            closed += listener.closed
            late += listener.late
            if listener.state.closed != listener.before:
                boundaries[listener.key] = listener.boundary()
        return Kept(pl.concat(closed) if closed else None, pl.concat(late) if late else None, boundaries)


class _Listener:
    """Listens to one state."""

    def __init__(self, key: str, state: ClosingState, slots: Slots) -> None:
        self.key, self.state, self.before = window_key(key), state, state.closed
        self.slots = slots
        self.closed: list[pl.DataFrame] = []
        self.late: list[pl.DataFrame] = []

    def boundary(self) -> int:
        """Return the first window that has not closed."""
        window, calendar = self.state.closed + 1, self.state.calendar
        while calendar.skipped(window, window):
            window += 1
        return window

    def ended(self, ended: Ended) -> None:
        """Take a window that has just closed."""
        n = ended.slots.size
        if not n:
            return
        begin, end = (self.state.calendar.begin(w) for w in (ended.window, ended.window + 1))
        same: dict[str, Any] = {"measure": self.key, "window": ended.window, "begin": moment(begin), "end": moment(end)}
        columns = [pl.repeat(v, n, dtype=CLOSED[c], eager=True).alias(c) for c, v in same.items()]
        own = [
            self._names(ended.slots),
            *_two(ended.lanes),
            pl.Series("heard", ended.heard),
            pl.Series("left_out", ended.left_out),
        ]
        self.closed.append(pl.DataFrame([*columns, *own]))

    def entered(self, entered: Entered) -> None:
        """Take what late events added to windows that had closed, summed up."""
        rows = pl.DataFrame([
            pl.Series("slot", entered.slots), pl.Series("window", entered.windows), pl.Series("visible", entered.visible),
            *_two(entered.lanes),
        ])  # fmt: skip
        by = ["visible", "window", "slot"]
        rows = rows.group_by(by).agg(merged(self.state.op)).sort(by)
        instants = {w: moment(self.state.calendar.begin(w)) for c in by[:2] for w in rows[c].unique().to_list()}
        named = {"begin": "window", "visible_from": "visible"}
        begins = [rows[c].replace_strict(instants, return_dtype=INSTANT).alias(name) for name, c in named.items()]
        measure = pl.repeat(self.key, rows.height, dtype=pl.String, eager=True).alias("measure")
        whole = rows.with_columns(measure, *begins, self._names(rows["slot"].to_numpy()))
        self.late.append(whole.select(*CORRECTIONS))

    def _names(self, slots: Any) -> pl.Series:
        return self.slots.names.gather(slots).alias("entity")


def _two(lanes: Any) -> list[pl.Series]:
    """Return both lanes; a measure of one has zeros in the other."""
    other = lanes[:, 1] if lanes.shape[1] > 1 else np.zeros(len(lanes), np.int64)
    return [pl.Series(f"lane{i}", np.ascontiguousarray(x), pl.Int64) for i, x in enumerate((lanes[:, 0], other))]
