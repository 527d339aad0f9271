"""What all running states share: arrays by slot that grow, named arrays that are saved.

Enters: array names. Leaves: ``arrays()`` and ``restore()`` for each state. Layer: running.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from tocsin.kernels import windows as k

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tocsin.measures import Spanned
    from tocsin.running.rows import Rows

Arrays = dict[str, "NDArray[Any]"]

OPS = {
    "Count": k.COUNT,
    "Sum": k.SUM,
    "Mean": k.MEAN,
    "Min": k.MIN,
    "Max": k.MAX,
    "Ratio": k.RATIO,
    "Distinct": k.DISTINCT,
}
ONE_LANE = {k.COUNT, k.DISTINCT}


def grow(array: NDArray[Any], n: int, fill: Any, axis: int = 0) -> NDArray[Any]:
    """Return ``array`` with at least ``n`` places along ``axis``; new places hold ``fill``. Doubles, so growing is cheap."""
    have = array.shape[axis]
    if have >= n:
        return array
    shape = list(array.shape)
    shape[axis] = max(n, 2 * have)
    bigger = np.full(shape, fill, array.dtype)
    bigger[tuple(slice(None) if a != axis else slice(0, have) for a in range(array.ndim))] = array
    return bigger


def lanes(op: int) -> int:
    """Return how many lanes an accumulator has."""
    return 1 if op in ONE_LANE else 2


def operation(measure: Spanned) -> int:
    """Return the code of a measure's arithmetic; a count of some of the events is a sum of ones and zeros."""
    if getattr(measure, "where", None) is not None:
        return k.SUM
    return OPS[type(measure).__name__]


class Running(Protocol):
    """The state of one measure (or fit), shared by every detection that asks for the same."""

    def run(self, rows: Rows, n_slots: int) -> Arrays:
        """Fold a batch into the state; return output columns, NaN where an event took no part."""

    def late(self, rows: Rows, floor: NDArray[np.int64], n_slots: int) -> None:
        """Set late events aside until the first boundary after ``floor``."""

    def arrays(self) -> Arrays:
        """Return the state as named arrays."""

    def restore(self, saved: Arrays) -> None:
        """Take over saved arrays, which nobody else may hold."""


class Saved:
    """Saving and restoring for states whose whole content is the attributes named in ``kept``.

    Of arrays ``by_slot``, which have room for more entities than there are, the places of ``n_slots`` are kept.
    """

    kept: ClassVar[tuple[str, ...]] = ()
    by_slot: ClassVar[tuple[str, ...]] = ()
    n_slots = 0

    def arrays(self) -> Arrays:
        """Return the state as named arrays."""
        return {name: self._used(name) for name in self.kept}

    def _used(self, name: str) -> NDArray[Any]:
        array = np.asarray(getattr(self, name))
        return array[: self.n_slots] if name in self.by_slot else array

    def restore(self, saved: Arrays) -> None:
        """Take over saved arrays, which nobody else may hold; whole numbers come back as such."""
        for name in self.kept:
            array = saved[name]
            setattr(self, name, array if array.ndim else array.item())
        self.n_slots = max((len(saved[name]) for name in self.by_slot), default=0)

    def late(self, rows: Rows, floor: NDArray[np.int64], n_slots: int) -> None:
        """Leave late events out: what is not a calendar window has no boundary at which they could enter."""
