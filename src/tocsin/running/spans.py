"""Measures that are not calendar windows: sliding, ever, previous event, first sighting, hours of the day.

Enters: rows in (time, event_id) order. Leaves: ``value`` and the other columns of each measure. Late events do not
enter them: they have no boundary at which an earlier value could be corrected. Layer: running.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl

from tocsin.calendars import Calendar, duration_us
from tocsin.hashing import ORIGIN, make_room, new_table
from tocsin.kernels import streams
from tocsin.kernels import windows as k
from tocsin.measures import Distinct
from tocsin.running.state import Arrays, Saved, grow, lanes, operation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tocsin.measures import FirstSeen, Hours, Max, Min, Previous, Spanned
    from tocsin.running.rows import Rows


class _Accumulating(Saved):
    """What sliding and ever have in common: lanes by slot, and a table for distinct values."""

    def __init__(self, measure: Spanned, on: pl.Expr, entity: str) -> None:
        self.measure, self.on, self.entity = measure, on, entity
        self.op = operation(measure)
        self.scale = float(getattr(measure, "scale", None) or 1)
        self.bound = measure.bound if isinstance(measure, Distinct) else 0
        self.acc = np.zeros((0, lanes(self.op)), np.int64)
        self.table, self.used = new_table(), 0

    def _inputs(self, rows: Rows, oldest: int) -> tuple[Any, ...]:
        """Return mask, increments and hashes; the table has room for every event afterwards."""
        mask = rows.takes_part(self.on, self.entity)
        column: str = getattr(self.measure, "column", "")
        if column:
            mask = mask & rows.present(column)
        p, q = rows.increments(self.measure)
        hashes = np.zeros((0, 2), np.uint64)
        if self.op == k.DISTINCT:
            hashes = rows.hashes(column, mask)
            self.table, self.used = make_room(self.table, self.used, len(rows), oldest)
        return mask, p, q, hashes


class SlidingState(_Accumulating):
    """``(t - width, t]`` by one queue for all entities."""

    kept: ClassVar[tuple[str, ...]] = ("acc", "table", "used", "queue", "queue_hashes", "ends")
    by_slot: ClassVar[tuple[str, ...]] = ("acc",)

    def __init__(self, measure: Spanned, on: pl.Expr, entity: str) -> None:
        """Start with an empty queue."""
        super().__init__(measure, on, entity)
        self.width = duration_us(measure.sliding or "0s")
        self.queue = np.zeros((1024, 4), np.int64)
        self.queue_hashes = np.zeros((1024 if self.op == k.DISTINCT else 1, 2), np.uint64)
        self.ends = np.zeros(2, np.int64)

    def run(self, rows: Rows, n_slots: int) -> Arrays:
        """Fold a batch in and return its running values."""
        self.n_slots, self.acc = n_slots, grow(self.acc, n_slots, 0)
        self.queue = _lengthen(self.queue, self.ends, len(rows))
        if self.op == k.DISTINCT:
            self.queue_hashes = _lengthen(self.queue_hashes, self.ends, len(rows))
        mask, p, q, hashes = self._inputs(rows, oldest=1)
        out = np.full(len(rows), np.nan)
        self.used += streams.run_sliding(
            rows.slots[self.entity], rows.t, p, q, mask, self.op, self.scale, self.bound, hashes, self.table,
            self.width, self.queue, self.queue_hashes, self.ends, self.acc, out,
        )  # fmt: skip
        return {"value": out}


class SlidingExtremeState(Saved):
    """The smallest or largest of ``(t - width, t]``: one queue for all entities, and each entity's line through it."""

    kept: ClassVar[tuple[str, ...]] = ("queue", "ends", "line")
    by_slot: ClassVar[tuple[str, ...]] = ("line",)

    def __init__(self, measure: Min | Max, on: pl.Expr, entity: str) -> None:
        """Start with an empty queue."""
        self.measure, self.on, self.entity = measure, on, entity
        self.largest = operation(measure) == k.MAX
        self.width = duration_us(measure.sliding or "0s")
        self.queue = np.zeros((1024, 5), np.int64)
        self.ends = np.zeros(2, np.int64)
        self.line = np.full((0, 2), streams.NOBODY)

    def run(self, rows: Rows, n_slots: int) -> Arrays:
        """Fold a batch in and return its running values."""
        self.n_slots, self.line = n_slots, grow(self.line, n_slots, streams.NOBODY)
        self.queue = _lengthen(self.queue, self.ends, len(rows))
        mask = rows.takes_part(self.on, self.entity) & rows.present(self.measure.column)
        _, values = rows.increments(self.measure)
        out = np.full(len(rows), np.nan)
        streams.run_sliding_extreme(
            rows.slots[self.entity], rows.t, values, mask, self.largest, float(self.measure.scale or 1), self.width,
            self.queue, self.ends, self.line, out,
        )  # fmt: skip
        return {"value": out}


def _lengthen(queue: NDArray[Any], ends: NDArray[np.int64], adding: int) -> NDArray[Any]:
    """Return the queue with room for so many more; rows keep their place modulo its length, a power of two."""
    head, tail = ends.tolist()
    have = queue.shape[0]
    if head - tail + adding <= have:
        return queue
    size = 1 << (head - tail + adding).bit_length()
    old = np.arange(tail, head)
    longer = np.zeros((size, queue.shape[1]), queue.dtype)
    longer[old & (size - 1)] = queue[old & (have - 1)]
    return longer


class EverState(_Accumulating):
    """Everything so far, begun anew after ``forget_after`` of silence."""

    kept: ClassVar[tuple[str, ...]] = ("acc", "table", "used", "last", "epoch")
    by_slot: ClassVar[tuple[str, ...]] = ("acc", "last", "epoch")

    def __init__(self, measure: Spanned, on: pl.Expr, entity: str) -> None:
        """Start knowing nobody."""
        super().__init__(measure, on, entity)
        self.forget = duration_us(measure.forget_after) if measure.forget_after else 0
        self.last, self.epoch = np.full(0, k.NEVER), np.zeros(0, np.int64)

    def run(self, rows: Rows, n_slots: int) -> Arrays:
        """Fold a batch in and return its running values."""
        self.n_slots, self.acc, self.last, self.epoch = (
            n_slots,
            grow(self.acc, n_slots, 0),
            grow(self.last, n_slots, k.NEVER),
            grow(self.epoch, n_slots, 0),
        )
        mask, p, q, hashes = self._inputs(rows, oldest=0)
        out = np.full(len(rows), np.nan)
        self.used += streams.run_ever(
            rows.slots[self.entity], rows.t, p, q, mask, self.op, self.scale, self.bound, hashes, self.table,
            self.forget, self.last, self.epoch, self.acc, out,
        )  # fmt: skip
        return {"value": out}


class Texts:
    """The texts of entities' previous events, looked up only for the events that are asked about."""

    dtype = np.dtype(object)

    def __init__(
        self, batch: pl.Series, source: NDArray[np.int64], rows: NDArray[np.int64], kept: NDArray[Any]
    ) -> None:
        """Take a batch's column, the row of each event's previous one, and what was remembered for ``rows`` (ascending)."""
        self._batch, self._source, self._rows, self._kept = batch, source, rows, kept

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Return the texts for some events, None where there is no previous one."""
        events = np.arange(self._source.size)[index]
        source = self._source[events]
        found = np.full(events.size, None, object)
        here = source >= 0
        found[here] = self._batch.gather(source[here]).to_list()
        before = source == streams.REMEMBERED
        found[before] = self._kept[np.searchsorted(self._rows, events[before])]
        return found

    def tolist(self) -> list[str | None]:
        """Return the text for every event."""
        texts: list[str | None] = self[:].tolist()
        return texts


class PreviousState(Saved):
    """The remembered columns of each entity's previous event: numbers as float64, texts as they are, one for each entity."""

    kept: ClassVar[tuple[str, ...]] = ("last", "numbers", "texts")
    by_slot: ClassVar[tuple[str, ...]] = ("last",)

    def __init__(self, measure: Previous, on: pl.Expr, entity: str) -> None:
        """Start with nothing remembered."""
        self.measure, self.on, self.entity = measure, on, entity
        self.columns = [c for c in measure.columns if c != "timestamp"]
        self.forget = duration_us(measure.forget_after) if measure.forget_after else 0
        self.last = np.full(0, k.NEVER)
        self.numbers = np.full((len(self.columns), 0), np.nan)
        self.texts = np.full((len(self.columns), 0), None, object)

    def run(self, rows: Rows, n_slots: int) -> Arrays:
        """Hand out what was remembered and remember the batch."""
        self.n_slots, self.last = n_slots, grow(self.last, n_slots, k.NEVER)
        self.numbers, self.texts = grow(self.numbers, n_slots, np.nan, 1), grow(self.texts, n_slots, None, 1)
        slot, mask = rows.slots[self.entity], rows.takes_part(self.on, self.entity)
        source, out_t = np.full(len(rows), streams.NOTHING), np.full(len(rows), k.NEVER)
        latest = streams.run_previous(slot, rows.t, mask, self.forget, self.last, np.full(n_slots, -1), source, out_t)
        remembered = np.flatnonzero(source == streams.REMEMBERED)
        columns: Arrays = {"timestamp": out_t}
        for c, name in enumerate(self.columns):
            column = rows.column(name)
            if column.dtype == pl.String:
                columns[name] = Texts(column, source, remembered, self.texts[c, slot[remembered]])  # type: ignore[assignment]
                self.texts[c, slot[latest]] = column.gather(latest).to_list()
            else:
                columns[name] = self._numbers(c, column, source, remembered, slot)
                self.numbers[c, slot[latest]] = _numbers(column.gather(latest))
        return columns

    def _numbers(self, c: int, column: pl.Series, source: Any, remembered: Any, slot: Any) -> NDArray[np.float64]:
        out, here = np.full(source.size, np.nan), source >= 0
        out[here] = _numbers(column)[source[here]]
        out[remembered] = self.numbers[c, slot[remembered]]
        return out


def _numbers(column: pl.Series) -> NDArray[np.float64]:
    return column.cast(pl.Float64).to_numpy()  # null becomes NaN


class FirstSeenState(Saved):
    """Which values each entity has shown, and when last."""

    kept: ClassVar[tuple[str, ...]] = ("known", "table", "used")
    by_slot: ClassVar[tuple[str, ...]] = ("known",)

    def __init__(self, measure: FirstSeen, on: pl.Expr, entity: str) -> None:
        """Start with nothing seen."""
        self.measure, self.on, self.entity = measure, on, entity
        self.forget = duration_us(measure.forget_after) if measure.forget_after else 0
        self.known = np.zeros(0, np.int64)
        self.table, self.used = new_table(), 0

    def run(self, rows: Rows, n_slots: int) -> Arrays:
        """Fold a batch in; say for each event whether its value was new, and how many were known."""
        self.n_slots, self.known = n_slots, grow(self.known, n_slots, 0)
        oldest = int(rows.t[0]) + int(ORIGIN) - self.forget if self.forget and len(rows) else 0
        self.table, self.used = make_room(self.table, self.used, len(rows), oldest)
        mask = rows.takes_part(self.on, self.entity) & rows.present(self.measure.column)
        out, known = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
        self.used += streams.run_first_seen(
            rows.slots[self.entity],
            rows.t,
            rows.hashes(self.measure.column, mask),
            mask,
            self.forget,
            self.table,
            self.known,
            out,
            known,
        )
        return {"value": out, "known": known}


class HoursState(Saved):
    """Each entity's events by local clock hour."""

    kept: ClassVar[tuple[str, ...]] = ("counts",)
    by_slot: ClassVar[tuple[str, ...]] = ("counts",)

    def __init__(self, measure: Hours, on: pl.Expr, entity: str) -> None:
        """Start at zero."""
        self.measure, self.on, self.entity = measure, on, entity
        self.calendar = Calendar("1h", measure.zone)
        self.counts = np.zeros((0, 25), np.int64)

    def run(self, rows: Rows, n_slots: int) -> Arrays:
        """Fold a batch in; return the count of the event's hour and of all hours."""
        self.n_slots, self.counts = n_slots, grow(self.counts, n_slots, 0)
        out, total = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
        streams.run_hours(
            rows.slots[self.entity],
            rows.hours(self.calendar),
            rows.takes_part(self.on, self.entity),
            self.counts,
            out,
            total,
        )
        return {"value": out, "total": total}
