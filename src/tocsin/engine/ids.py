"""Ids: the events seen within the horizon, by the keyed hash of their id.

Enters: how many ids are to come, and how old one may be. Leaves: room for them. Layer: engine, inside of ``arrive``.

Ids are kept in the order they came, four words each; beside them stands an index of one word a place: half of the id
and the number of its entry. A look-up therefore reads eight bytes at a random place, and an entry only where half the
id agrees, which for an id not seen before is next to never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tocsin.kernels import arrival as k

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FULL_TENTHS = 6
_SMALLEST = 1024


class Ids:
    """Remembered ids: ``entries`` (id, id, content, time of the clock at first arrival), of which ``used`` are taken."""

    def __init__(self) -> None:
        """Start with nothing remembered."""
        self.index, self.entries, self.used = np.zeros(0, np.uint64), np.zeros((0, 4), np.uint64), 0

    def make_room(self, adding: int, oldest: int) -> None:
        """Make room for ``adding`` more ids.

        Where there is none, those stamped before ``oldest`` are forgotten. That only frees memory: whoever finds an id
        judges its age by itself.
        """
        if self.used + adding <= len(self.entries):
            return
        kept = int(np.count_nonzero(self.entries[: self.used, 3].view(np.int64) >= oldest))
        room = kept + max(2 * adding, kept)  # so that it lasts for a while: numbering anew costs as much as looking up
        places = max(_SMALLEST, 1 << (room * 10 // _FULL_TENTHS).bit_length())
        if places <= self.index.size <= 4 * places:
            self.used = k.keep_ids(self.entries, self.used, oldest, self.entries)
            self.index[:] = 0
        else:
            entries = np.empty((places * _FULL_TENTHS // 10, 4), np.uint64)
            self.used = k.keep_ids(self.entries, self.used, oldest, entries)
            self.entries, self.index = entries, np.zeros(places, np.uint64)
        k.number_ids(self.entries, self.used, self.index)

    @property
    def kept(self) -> NDArray[np.uint64]:
        """The entries that are taken: all that has to be saved."""
        return self.entries[: self.used]

    def restore(self, kept: NDArray[np.uint64]) -> None:
        """Take over saved entries."""
        self.make_room(len(kept), 0)
        self.entries[: len(kept)], self.used = kept, len(kept)
        k.number_ids(self.entries, self.used, self.index)
