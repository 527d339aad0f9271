"""Arrive: which events count, which are late, and in which order the others are released.

Enters: prepared batches in arrival order, and control records. Leaves: the fate of each event, the clock that late ones
were late against, and released events in (time, event_id) order.
Layer: engine, first stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from tocsin.engine.ids import Ids
from tocsin.kernels import arrival as k
from tocsin.kernels.windows import NEVER
from tocsin.running.state import grow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

END_OF_TIME = 1 << 62
UNHEARD = NEVER + 1
"""The clock of a partition that is expected: earlier than any event, so that nothing is released before it speaks."""
FEW_TIES = 100
"""Instants with several events in one frame, up to which the frame is not gathered row by row."""


@dataclass(frozen=True)
class Idle:
    """Control record: a partition is silent; it no longer holds the others back. Its next event ends the silence."""

    partition: str = ""


@dataclass(frozen=True)
class Expect:
    """Control record: a partition has events that were not read yet; it holds the others back until it speaks or falls silent.

    Of a partition that was heard before it changes nothing.
    """

    partition: str = ""


@dataclass(frozen=True)
class End:
    """Control record: the input has ended; everything that waits is released."""


Control = Idle | Expect | End


class Arrival:
    """The clocks of the partitions, the remembered ids, and the events that wait for the frontier."""

    def __init__(self, lateness: int, skew: int, horizon: int) -> None:
        """Durations in microseconds."""
        self.lateness, self.skew, self.horizon = lateness, skew, max(horizon, lateness)
        self.partitions: dict[str, int] = {}
        self.clock, self.idle = np.full(0, NEVER), np.zeros(0, np.bool_)
        self.frontier = int(NEVER)
        self.ids = Ids()
        self._waiting: list[Piece] = []
        self._pieces = 0

    def control(self, record: Control) -> pl.DataFrame | None:
        """Apply a control record and release what it sets free."""
        if isinstance(record, End):
            self.frontier = END_OF_TIME
            return self.release(None)
        if isinstance(record, Expect):
            self._expect(record.partition)
        elif record.partition in self.partitions:
            self.idle[self.partitions[record.partition]] = True
            low = k.lowest_clock(self.clock, self.idle)
            if low != NEVER:
                self.frontier = max(self.frontier, int(low) - self.lateness)
        return self.release(None)

    def _expect(self, name: str) -> None:
        self._number(name)
        number = self.partitions[name]
        if self.clock[number] <= UNHEARD:
            self.clock[number], self.idle[number] = UNHEARD, False

    def expected(self) -> list[str]:
        """Return the partitions that hold the others back and were not heard yet."""
        holding = (self.clock == UNHEARD) & ~self.idle
        return [name for name, i in self.partitions.items() if holding[i]] if holding.any() else []

    def judge(self, frame: pl.DataFrame) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
        """Return the fate of each event, in arrival order, and the clock that late ones were late against."""
        n = frame.height
        self.ids.make_room(n, self.frontier + self.lateness - self.horizon if self.frontier != NEVER else int(NEVER))
        fate, floor = np.zeros(n, np.int8), np.zeros(n, np.int64)
        received = frame["@received"].to_numpy() if "@received" in frame.columns else np.zeros(0, np.int64)
        t, id1, id2, content = (frame[c].to_numpy() for c in ("@t", "@id1", "@id2", "@content"))
        frontier, self.ids.used, _ = k.judge(
            t, self._partition_numbers(frame), received, id1, id2, content, self.lateness, self.skew, self.horizon,
            self.clock, self.idle, self.frontier, self.ids.index, self.ids.entries, self.ids.used, fate, floor,
        )  # fmt: skip
        self.frontier = int(frontier)
        return fate, floor

    def _partition_numbers(self, frame: pl.DataFrame) -> NDArray[np.int64]:
        if "partition" not in frame.columns:
            self._number("")
            if len(self.partitions) == 1:
                return np.zeros(0, np.int64)
            return np.full(frame.height, self.partitions[""])
        column = frame["partition"].fill_null("")
        distinct = column.unique(maintain_order=True).to_list()
        for name in distinct:
            self._number(name)
        numbers = column.replace_strict(distinct, [self.partitions[x] for x in distinct], return_dtype=pl.Int64)
        return np.ascontiguousarray(numbers.to_numpy())

    def _number(self, name: str) -> None:
        self.partitions.setdefault(name, len(self.partitions))
        self.clock = grow(self.clock, len(self.partitions), NEVER)
        self.idle = grow(self.idle, len(self.partitions), fill=False)

    def release(self, fresh: pl.DataFrame | None) -> pl.DataFrame | None:
        """Return the events that the frontier has passed, in order, or None.

        What waits is kept in the pieces it came in, so a step looks only at pieces that hold something to release.
        """
        if fresh is not None and not fresh.is_empty():
            self._wait(fresh)
        ready, kept = [], []
        for piece in self._waiting:
            if piece.first >= self.frontier:
                kept.append(piece)
                continue
            out, rest = piece.split(self.frontier)
            ready.append(out)
            if rest is not None:
                kept.append(rest)
        self._waiting = kept
        return in_order(pl.concat([p.frame for p in sorted(ready, key=lambda p: p.first)])) if ready else None

    @property
    def passed(self) -> int:
        """The instant by which a window must end to have closed: the frontier; at the end, the largest time seen.

        The end of the input is not the end of its last window: who has sent nothing in half of it is not silent.
        """
        if self.frontier < END_OF_TIME:
            return self.frontier
        last = int(self.clock.max(initial=NEVER))
        return last if last > UNHEARD else int(NEVER)

    @property
    def waiting(self) -> pl.DataFrame | None:
        """All that waits, in one frame, or None."""
        return in_one_chunk(pl.concat([p.frame for p in self._waiting])) if self._waiting else None

    @property
    def waiting_rows(self) -> int:
        """How many events wait."""
        return sum(p.frame.height for p in self._waiting)

    @property
    def pieces(self) -> Sequence[Piece]:
        """All that waits, in the pieces it came in."""
        return self._waiting

    def wait(self, frames: Iterable[pl.DataFrame]) -> None:
        """Let exactly these events wait, each frame as a piece of its own."""
        self._waiting = []
        for frame in frames:
            if not frame.is_empty():
                self._wait(frame)

    def _wait(self, frame: pl.DataFrame) -> None:
        self._pieces += 1
        self._waiting.append(Piece.of(frame, self._pieces))


@dataclass(frozen=True)
class Piece:
    """Part of what waits: a frame, its first and last time, whether its times ascend.

    ``serial``: which one it is of all that ever waited. What is left of a piece keeps it: those of its events that lie at
    the frontier or after.
    """

    frame: pl.DataFrame
    first: int
    last: int
    ascends: bool
    serial: int

    @classmethod
    def of(cls, frame: pl.DataFrame, serial: int) -> Piece:
        """Look at the times of a frame that is not empty."""
        t = frame["@t"].to_numpy()
        ascends = bool((np.diff(t) >= 0).all())
        first, last = (int(t[0]), int(t[-1])) if ascends else (int(t.min()), int(t.max()))
        return cls(frame, first, last, ascends, serial)

    def split(self, frontier: int) -> tuple[Piece, Piece | None]:
        """Return what lies before the frontier and what does not; something does."""
        if self.last < frontier:
            return self, None
        t = self.frame["@t"].to_numpy()
        if self.ascends:
            cut = int(np.searchsorted(t, frontier, "left"))
            return Piece.of(self.frame[:cut], self.serial), Piece.of(self.frame[cut:], self.serial)
        before = pl.Series(t < frontier)
        return Piece.of(self.frame.filter(before), self.serial), Piece.of(self.frame.filter(~before), self.serial)


def in_order(frame: pl.DataFrame, time: str = "@t") -> pl.DataFrame:
    """Return a frame in (time, event_id, source) order, untouched where it already is: then in the chunks it lies in."""
    step = np.diff(frame[time].to_physical().to_numpy())
    by = [time, "event_id", *(["source"] if "source" in frame.columns else [])]
    if (step < 0).any():
        return frame.sort(by)
    ties = np.flatnonzero(step == 0)
    if not ties.size:
        return frame
    if len(by) == 2 and (frame["event_id"].gather(ties) <= frame["event_id"].gather(ties + 1)).all():
        return frame
    starts = ties[np.diff(ties, prepend=-2) > 1]
    stops = ties[np.diff(ties, append=frame.height + 1) > 1] + 2
    if starts.size <= FEW_TIES:
        return _sorted_between(frame, by, starts.tolist(), stops.tolist())
    tied = np.zeros(frame.height, np.bool_)
    tied[ties] = tied[ties + 1] = True
    order = np.arange(frame.height)
    places = np.flatnonzero(tied)
    group = frame.select(by).with_columns(pl.Series("@row", order))[places]
    order[places] = group.sort(by)["@row"].to_numpy()
    return frame[order]


def _sorted_between(frame: pl.DataFrame, by: list[str], starts: list[int], stops: list[int]) -> pl.DataFrame:
    """Sort a few stretches of a frame and copy the rest as it is, which is several times faster than gathering rows."""
    pieces = []
    for end, start, stop in zip([0, *stops], starts, stops, strict=False):
        pieces += [frame[end:start], frame[start:stop].sort(by)]
    return in_one_chunk(pl.concat([*pieces, frame[stops[-1] :]]))


def in_one_chunk(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame whose columns are one chunk each. Column by column, which is faster than ``frame.rechunk``."""
    if frame.n_chunks() == 1:
        return frame
    return pl.DataFrame([column.rechunk() for column in frame.get_columns()])
