"""Calendar windows that somebody is asked about when they close: who was silent in them, or said less than usual.

Enters: rows in (time, event_id) order, and how far time has come. Leaves: what ``WindowState`` makes for events, and to
``tell`` one ``Closed`` for each window, in order, with a place for every entity known before it. Layer: running.

A window closes when everything before its end is released. Its value is what the baseline of the next window will know
of it: the events on time, and late ones whose own clock was still within it. Its baseline is that of an event in it.
Who wants to keep what windows held is told that too (``Keep``), and what late events add to it later.
Entities are asked about until they were silent for ``patience`` covered windows in a row, so a close costs what lives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from tocsin.kernels import closing as k
from tocsin.kernels.windows import NEVER
from tocsin.running.state import Arrays, grow
from tocsin.running.windowed import WindowState

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Closed:
    """A window that closed: whom it is about, and the columns of an event in it, one place for each of them.

    ``silent``: how many covered windows in a row, this one included, each was without events. ``covered``: whether the
    source was, all through the window.
    """

    window: int
    begin: int
    end: int
    covered: bool
    slots: NDArray[np.int64]
    silent: NDArray[np.int64]
    columns: Arrays


@dataclass(frozen=True)
class Ended:
    """What a window held when it closed: the lanes of each entity that had an event in it, or in which a rule fired.

    heard: who had an event. left_out: in whose window the rule fired that leaves such windows out of its baselines.
    """

    window: int
    slots: NDArray[np.int64]
    lanes: NDArray[np.int64]
    heard: NDArray[np.bool_]
    left_out: NDArray[np.bool_]


@dataclass(frozen=True)
class Entered:
    """What late events added to windows that had closed, one place for each event.

    visible: the first window whose baselines know of it. lanes: what it added, or the extreme that it had.
    """

    slots: NDArray[np.int64]
    windows: NDArray[np.int64]
    visible: NDArray[np.int64]
    lanes: NDArray[np.int64]


class Keep(Protocol):
    """Who keeps what windows held."""

    def ended(self, ended: Ended) -> None:
        """Take a window that has just closed; each does once, in order."""

    def entered(self, entered: Entered) -> None:
        """Take what late events added to windows taken before."""


def nobody(_: Closed) -> None:
    """Tell nobody."""


class ClosingState(WindowState):
    """Running values by calendar window, and the closing of windows."""

    kept: ClassVar[tuple[str, ...]] = (*WindowState.kept, "heard", "closed")

    def __init__(self, *described: Any, patience: int) -> None:
        """Take what a ``WindowState`` takes; ``patience`` is how many silent windows make an entity gone."""
        super().__init__(*described)
        self.patience, self.closed = patience, int(NEVER)
        self.tell: Callable[[Closed], None] = nobody  # of the step at hand: not kept
        self.keep: Keep | None = None  # so is this

    def _make_arrays(self, size: int) -> None:
        """Lay out the arrays; one closed window at least is held, so that fits that come later know who was there."""
        super()._make_arrays(max(size, 1))

    @property
    def acts_at_boundaries(self) -> bool:
        """Something always must happen."""
        return True

    def grow(self, n: int) -> None:
        """Make room for ``n`` entities."""
        super().grow(n)
        self.heard = grow(self.heard, n, NEVER)

    def begin(self, d: int) -> None:
        """Events of window ``d`` come next: all windows before it have closed."""
        self.close_through(d - 1)
        super().begin(d)

    def close_before(self, instant: int, n_slots: int) -> None:
        """Close every window that ends by ``instant``."""
        self.grow(n_slots)
        self.close_through(int(self.calendar.number(np.array([instant], np.int64))[0]) - 1)

    def close_through(self, last: int) -> None:
        """Close the windows up to ``last`` that did not close before; those in which nobody can be silent cost nothing."""
        d = self._next(self.closed + 1, last)
        while d <= last:
            self._close_one(d)
            d = self._next(d + 1, last)
        self.closed = max(self.closed, last)

    def _next(self, d: int, last: int) -> int:
        """Return the first window from ``d`` on at whose end there is somebody to ask about, or a late event enters."""
        if d > last:
            return d
        due = int(self.pending[:, 2].min()) - 1 if len(self.pending) else last + 1
        known = self.first != NEVER
        if not known.any():
            return max(d, due)
        nobody_before = 0 if self.keep else 1
        d = max(d, min(int(self.first[known].min()) + nobody_before, due))
        self.know_skips(np.array([d - self.patience, min(last, d + self.patience)]))
        return d if self.heard.max() >= self._oldest(d) else max(d, due)

    def _oldest(self, d: int) -> int:
        """Return the first window from which on no more than ``patience + 1`` covered ones lead up to ``d``."""
        oldest = d - self.patience - 1
        while True:
            further = d - self.patience - 1 - self._missing_after(oldest, d)
            if further == oldest:
                break
            oldest = further
        while self._missing_after(oldest - 1, oldest):
            oldest -= 1
        return oldest

    def _missing_after(self, window: Any, d: int) -> Any:
        """Return how many windows after ``window``, up to ``d``, the source did not cover."""
        return np.searchsorted(self.missing, d, "right") - np.searchsorted(self.missing, window, "right")

    def _close_one(self, d: int) -> None:
        if d in self.skips:
            return
        self.close(d)
        after = d + 1
        while after in self.skips:
            after += 1
        if self.patience:
            self._close_asked(d, after)
        self.close(after)
        if self.keep:
            self.keep.ended(self._ended(d))

    def _close_asked(self, d: int, after: int) -> None:
        """Close a window, and tell about it."""
        heard = self._heard_by_the_end_of(d)
        slots = k.known_and_heard(heard.size, d, self._oldest(d), self.first, heard)
        columns = self._compared(slots, d)
        self.close(after)
        columns["value"] = k.close_values(slots, d, self.op, self.scale, self.win, self.acc)
        silent = d - heard[slots]
        if self.missing.size:
            silent -= self._missing_after(heard[slots], d)
        covered = not self._missing_after(d - 1, d)
        if slots.size:
            begin, end = self.calendar.begin(d), self.calendar.begin(d + 1)
            self.tell(Closed(d, begin, end, covered, slots, silent, columns))

    def _ended(self, d: int) -> Ended:
        """Return what window ``d``, the last that any entity has had an event in, held."""
        heard, n = self.heard[: self.n_slots] == d, self.n_slots
        left_out = self.fired[:n] == d if self.excludes else np.zeros(n, np.bool_)
        slots = np.flatnonzero(heard | left_out)
        return Ended(d, slots, self.acc[slots], heard[slots], left_out[slots])

    def entered(self, slot: Any, window: Any, visible: Any, p: Any, q: Any) -> None:
        """Tell what was added to windows that had closed: those that ended before the clock the events were late against."""
        aside = window < visible - 1
        if self.keep and aside.any():
            lanes = np.column_stack([p, q])[aside, : self.acc.shape[1]]
            self.keep.entered(Entered(slot[aside], window[aside], visible[aside], lanes))

    def restore(self, saved: Arrays) -> None:
        """Take over saved arrays; where nobody cared when windows closed, those before the newest known have."""
        if "heard" not in saved:
            newest = int(saved["win"].max(initial=NEVER))
            saved = saved | {"heard": saved["win"].copy(), "closed": np.array(max(newest - 1, int(NEVER)))}
        super().restore(saved)

    def _heard_by_the_end_of(self, d: int) -> NDArray[np.int64]:
        """Return when each entity was heard last, with the late events that enter at the end of the window."""
        due = self.pending[self.pending[:, 2] == d + 1]
        if not len(due):
            return self.heard
        heard = self.heard.copy()
        np.maximum.at(heard, due[:, 0], due[:, 1])
        return heard

    def _compared(self, slots: NDArray[np.int64], d: int) -> Arrays:
        """Return the statistics that window ``d`` of some entities is compared with."""
        columns: Arrays = {}
        out = np.empty((len(self.own), self.width + 1, slots.size))
        k.close_baselines(
            slots, d, self.spans, self.plain, self.codes, self.quantiles, self.op, self.scale, self.win, self.acc, self.ring,
            self.first, self.missing, self.fired, self.base_win, self.base, self.values, out,
        )  # fmt: skip
        for prefix, fits, values in (("own", self.own, out), ("pop", self.populations, self.pop)):
            for b, fit in enumerate(fits):
                for i, name in [*enumerate(fit.columns[:-1]), (self.width, "n")]:
                    columns[f"{prefix}{b}.{name}"] = np.array(np.broadcast_to(values[b, i], slots.size))
        return columns

    def mark_fired(self, slot: NDArray[np.int64], window: NDArray[np.int64]) -> None:
        """Leave these closed windows out of the baselines to come (``exclude_alerted``)."""
        for d in np.unique_values(window).tolist():
            k.mark_closed(slot[window == d], d, self.win, self.acc, self.ring, self.fired)
