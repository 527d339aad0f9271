"""The events of one batch as the measures and rules see them: columns computed once and shared.

Enters: a frame in (time, event_id) order with the entity slots. Leaves: columns and arrays, memoised by what
they are, so that twenty rules over one zone compute its day numbers once. Layer: running.

The frame may lie in the pieces it waited in. A column is put into one piece when it is first read as a whole; of the
others only the few events that fire are gathered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import polars as pl

from tocsin.calendars import local_hour
from tocsin.expressions import canonical, evaluate, evaluate_all, root_names
from tocsin.hashing import hash_column
from tocsin.text_views import present

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tocsin.calendars import Calendar
    from tocsin.hashing import Hashes
    from tocsin.measures import Spanned

    Int64s = NDArray[np.int64]
    Mask = NDArray[np.bool_]


T = TypeVar("T")


class _Once:
    """A value to be made by whoever asks first; others wait for it."""

    def __init__(self) -> None:
        self.lock, self.made = Lock(), False
        self.value: Any = None


@dataclass
class Part:
    """The events of a batch that match one ``on`` and have an entity: ``index`` are their rows (None: all), in order.

    ``n_on``: how many match. What is gathered of them is not shared between rules: in memory just used it is made faster
    than it is read again from memory that was used long ago.
    """

    rows: Rows
    n_on: int
    index: Int64s | None

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.rows) if self.index is None else self.index.size

    def column(self, name: str) -> pl.Series:
        """Return a column of the frame."""
        whole = self.rows.column(name)
        return whole if self.index is None else whole.gather(self.index)

    def some(self, array: Any) -> Any:
        """Return these events' values of an array that has a place for every row."""
        return array[:] if self.index is None else array[self.index]


@dataclass
class Rows:
    """A batch: ``frame`` (any columns), ``t`` (int64 microseconds), ``slots`` by entity column (-1 where null)."""

    frame: pl.DataFrame
    t: Int64s
    slots: dict[str, Int64s]
    key: bytes
    _memo: dict[Any, _Once] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """Return the number of events."""
        return self.t.size

    def slice(self, start: int, stop: int) -> Rows:
        """Return the events ``start .. stop``, sharing memory."""
        return Rows(
            self.frame[start:stop], self.t[start:stop], {k: v[start:stop] for k, v in self.slots.items()}, self.key
        )

    def column(self, name: str) -> pl.Series:
        """Return a column of the frame in one piece."""
        return self.once(("column", name), self.frame[name].rechunk)

    def part(self, on: pl.Expr, entity: str) -> Part:
        """Return the events that match ``on`` and have an entity, and how many match."""
        name = (canonical(on), entity)
        n_on, index = self.once(("events", name), lambda: self._events(on, entity))
        return Part(self, n_on, index)  # not kept: it would keep the batch, and the batch it, until a collection

    def _events(self, on: pl.Expr, entity: str) -> tuple[int, Int64s | None]:
        index = np.flatnonzero(self.takes_part(on, entity))
        return int(np.count_nonzero(self.holds(on))), None if index.size == len(self) else index

    def windows(self, calendar: Calendar) -> Int64s:
        """Return the window number of each event."""
        return self.once(("window", calendar.per, calendar.zone, calendar.rounded), lambda: calendar.number(self.t))

    def hours(self, calendar: Calendar) -> Int64s:
        """Return the local clock hour of each event, given the hour windows of a zone."""
        return self.once(("hour", calendar.zone), lambda: local_hour(self.t, calendar))

    def holds(self, expression: pl.Expr) -> Mask:
        """Return where a boolean expression is true; null counts as false."""
        return self.once(("holds", canonical(expression)), lambda: self._evaluate(expression))

    def hold(self, expressions: Sequence[pl.Expr]) -> None:
        """Evaluate boolean expressions that are about to be asked for, in one query; each gives one value for each event."""
        seen = set(self.frame.columns)
        wanted = [
            e for e in expressions if seen.issuperset(root_names(e)) and ("holds", canonical(e)) not in self._memo
        ]
        names = dict.fromkeys(c for e in wanted for c in root_names(e))
        if len(wanted) < 2 or not len(self):
            return
        try:
            results = evaluate_all(pl.DataFrame([self.column(c) for c in names]), wanted)
        except Exception:  # noqa: BLE001 - a rule may raise anything; asked for by itself it will say so, and the others not
            return
        for expression, result in zip(wanted, results, strict=True):
            self.once(("holds", canonical(expression)), partial(_mask, result))

    def takes_part(self, expression: pl.Expr, entity: str) -> Mask:
        """Return where an event matches ``expression`` and has an entity."""
        return self.once(
            ("part", canonical(expression), entity), lambda: self.holds(expression) & (self.slots[entity] >= 0)
        )

    def present(self, column: str) -> Mask:
        """Return where a column is neither null nor NaN."""
        return self.once(("present", column), lambda: self._present(self.column(column)))

    def hashes(self, column: str, where: Mask) -> Hashes:
        """Return keyed hashes of a column, shape (rows, 2), for the rows chosen; those of an entity were made on arrival."""
        if f"@h.{column}1" not in self.frame.columns:
            return hash_column(self.column(column), self.key, where)
        return self.once(("hash", column), lambda: np.column_stack([self.column(f"@h.{column}{i}") for i in (1, 2)]))

    def ones(self) -> Int64s:
        """Return as many ones as there are events."""
        return self.once("ones", lambda: np.ones(len(self), np.int64))

    def zeros(self) -> Int64s:
        """Return as many zeros as there are events."""
        return self.once("zeros", lambda: np.zeros(len(self), np.int64))

    def scaled(self, column: str, scale: int | None) -> Int64s:
        """Return a numeric column as integers of ``1 / scale``; nulls become zero (mask them with ``present``)."""
        return self.once(("scaled", column, scale), lambda: _scaled(self.column(column), scale or 1))

    def increments(self, measure: Spanned) -> tuple[Int64s, Int64s]:
        """Return what each event adds to the two lanes of an accumulator."""
        kind = type(measure).__name__
        if kind == "Ratio":
            den, num = self.holds(measure.den), self.holds(measure.num)  # type: ignore[attr-defined]
            return den.astype(np.int64), num.astype(np.int64)
        if kind == "Count" and measure.where is not None:  # type: ignore[attr-defined]
            return self.ones(), self.holds(measure.where).astype(np.int64)  # type: ignore[attr-defined]
        if kind in {"Count", "Distinct"}:
            return self.ones(), self.zeros()
        return self.ones(), self.scaled(measure.column, measure.scale)  # type: ignore[attr-defined]

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """Return what ``make`` gives, made once for each key, by whichever thread asks first."""
        place = self._memo.get(key) or self._memo.setdefault(key, _Once())
        if not place.made:
            with place.lock:
                if not place.made:
                    place.value, place.made = make(), True
        found: T = place.value
        return found

    def _evaluate(self, expression: pl.Expr) -> Mask:
        names = [c for c in root_names(expression) if c in self.frame.columns] or self.frame.columns[:1]
        return _mask(evaluate(pl.DataFrame([self.column(c) for c in dict.fromkeys(names)]), expression))

    @staticmethod
    def _present(column: pl.Series) -> Mask:
        if column.dtype.is_float():
            missing: Mask = np.isnan(column.to_numpy())  # null is NaN there
            return ~missing
        return present(column)


def _mask(values: pl.Series) -> Mask:
    if values.null_count():
        values = values.fill_null(value=False)
    return np.ascontiguousarray(values.to_numpy(), dtype=np.bool_)


def _scaled(column: pl.Series, scale: int) -> Int64s:
    if column.dtype.is_float():
        rounded: Int64s = np.rint(column.fill_nan(None).fill_null(0).to_numpy() * scale).astype(np.int64)
        return rounded
    whole: Int64s = np.ascontiguousarray(column.cast(pl.Int64).fill_null(0).to_numpy()) * scale
    return whole
