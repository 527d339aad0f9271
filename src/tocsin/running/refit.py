"""Refit: a calendar-window state goes on under other fits.

Enters: the state of a measure under the old rules, and the empty state of the same measure under the new ones. Leaves:
the new one with the counts of the old, ready for the next event. Layer: running.

Which fits a state carries depends on all rules that share it. So when one of those rules comes, goes or changes, the
state is laid out anew; what the others are compared with must stay as it is, bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tocsin.kernels.windows import NEVER
from tocsin.running.closing import ClosingState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tocsin.running.windowed import WindowState

LAID_OUT = {
    "ring", "first", "base_win", "base", "touched", "n_touched", "touched_window", "current", "seen", "last", "past",
    "days", "pop",
}  # fmt: skip
"""The arrays whose form depends on the fits; all others mean the same under any."""


def same_fits(a: WindowState, b: WindowState) -> bool:
    """Whether two states of one measure are laid out alike, and ask about the same entities where windows close."""
    if type(a) is not type(b) or getattr(a, "patience", 0) != getattr(b, "patience", 0):
        return False
    return a.own == b.own and a.notebook == b.notebook and a.populations == b.populations


def refit(new: WindowState, old: WindowState, passed: int) -> None:
    """Let ``new``, which is empty, go on from ``old``, a state of the same measure, ``on`` and entity. It is used up.

    Counts, first windows, distinct values, late events that wait and windows left out are the same memory. The ring keeps
    as many windows as both have room for. Where the new one is longer, an entity's history begins with the oldest window
    that was held: what was forgotten is no zero. Baselines are computed again when they are next asked for. A population
    that both know stays; a new one is undefined until the next boundary.

    passed: the instant by which windows have closed; where nobody was asked before, the first is the one that ends after.
    """
    for name in new.kept:
        if name in old.kept and name not in LAID_OUT:
            setattr(new, name, getattr(old, name))
    if isinstance(new, ClosingState) and not isinstance(old, ClosingState):
        new.heard = old.win.copy()
        if passed != NEVER:
            new.closed = int(new.calendar.number(np.array([passed], np.int64))[0]) - 1
    n, new.n_slots = len(old.win), old.n_slots
    new.ring = _longer_or_shorter(old, new.ring.shape[1])
    new.first = old.first
    if new.ring.shape[1] > old.ring.shape[1]:
        new.first = np.where(old.first == NEVER, NEVER, np.maximum(old.first, old.win - old.ring.shape[1]))
    new.base_win, new.base = np.full(n, NEVER), np.full((n, *new.base.shape[1:]), np.nan)
    _keep_populations(new, old)
    if new.notebook and old.notebook:
        new.seen, new.last, new.past, new.days = old.seen, old.last, old.past, old.days


def _longer_or_shorter(old: WindowState, size: int) -> NDArray[np.int64]:
    """Return the ring with another number of windows; each stands at its number modulo that."""
    have = old.ring.shape[1]
    if have == size:
        return old.ring
    ring = np.zeros((len(old.win), size, old.ring.shape[2]), np.int64)
    known = np.flatnonzero(old.win != NEVER)
    for back in range(1, min(have, size) + 1):
        window = old.win[known] - back
        ring[known, window % size] = old.ring[known, window % have]
    return ring


def _keep_populations(new: WindowState, old: WindowState) -> None:
    """Take over what is known of everybody, and who took part in the window at hand: the next population is of them."""
    new.current, new.touched_window = old.current, old.touched_window
    if not new.populations:
        return
    for row, fit in enumerate(new.populations):
        if fit in old.populations:
            new.pop[row] = _moved(old.pop[old.populations.index(fit)], len(fit.columns) - 1, new.width)
    heard = old.heard if isinstance(old, ClosingState) else old.win
    latest = int(heard.max(initial=NEVER))
    if latest == NEVER:
        return
    here = np.flatnonzero(heard == latest)
    new.touched, new.n_touched = np.zeros(len(old.win), np.int64), here.size
    new.touched[: here.size] = here
    new.current = new.touched_window = latest


def _moved(row: NDArray[np.float64], n_stats: int, width: int) -> Any:
    """Return a row of statistics in another width: they come first, the number behind them last."""
    moved = np.full(width + 1, np.nan)
    moved[:n_stats], moved[width] = row[:n_stats], row[-1]
    return moved
