"""Calendar-window measures with their baselines and populations.

Enters: rows in (time, event_id) order; late rows with the clock they were late against. Leaves: ``value``, the
statistics of each own-history fit (``own0.mean`` ...) and of each population fit (``pop0.mean`` ...).
Layer: running.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tocsin.hashing import ORIGIN, make_room, new_table
from tocsin.kernels import windows as k
from tocsin.kernels.populations import population_baselines, population_values
from tocsin.kernels.statistics import CODES, NONE, QUANTILE, summarise
from tocsin.measures import Distinct
from tocsin.running.state import Arrays, Saved, grow, lanes, operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl
    from numpy.typing import NDArray

    from tocsin.fits import Fit, OwnHistory, Population
    from tocsin.measures import Spanned
    from tocsin.running.rows import Rows

PENDING_COLUMNS = 7  # slot, window, visible window, lane 0, lane 1, two words of hash


def codes_of(fit: Fit, width: int) -> tuple[list[int], list[float]]:
    """Return the statistics of a fit as codes and quantiles, padded to ``width``."""
    codes = [CODES[s] for s in fit.stats] + [QUANTILE] * len(fit.quantiles)
    quantiles = [0.0] * len(fit.stats) + list(fit.quantiles)
    pad = width - len(codes)
    return codes + [NONE] * pad, quantiles + [0.0] * pad


def span_of(fit: OwnHistory) -> list[int]:
    """Return what the kernels need to know of a baseline: windows, stride, minimum, and how far back it ends."""
    return [fit.windows, fit.stride, fit.at_least, fit.skip * fit.stride]


def _is_plain(fit: OwnHistory) -> bool:
    """Whether mean and maximum over windows in a row are all that is asked."""
    return fit.stride == 1 and set(fit.stats) <= {"mean"} and set(fit.quantiles) <= {1.0}


class Spread:
    """A column whose values hold for many events each: ``places`` says which is whose. Looked up for the events asked about."""

    dtype = np.dtype(np.float64)

    def __init__(self, values: NDArray[np.float64], places: NDArray[np.int32]) -> None:
        """Take the values and each event's place among them."""
        self._values, self._places = values, places

    def __getitem__(self, index: Any) -> NDArray[np.float64]:
        """Return the values of some events: their rows, or a slice of all."""
        return k.take(self._values, self._places[index])  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Shown:
    """The statistics that a batch's events are compared with, each written once: ``values`` by fit, statistic and place.

    Place 0 is that of the events which take no part.
    """

    values: NDArray[np.float64]
    places: NDArray[np.int32]

    @classmethod
    def empty(cls, fits: int, width: int, places: int, events: int) -> _Shown:
        values = np.empty((fits, width + 1, places))
        values[:, :, 0] = np.nan
        return cls(values, np.zeros(events if fits else 0, np.int32))

    def columns(self, prefix: str, fits: Sequence[Fit]) -> dict[str, Any]:
        """Return the columns of the fits' statistics, the number of windows or entities last."""
        return {
            f"{prefix}{b}.{c}": Spread(self.values[b, i], self.places)
            for b, fit in enumerate(fits)
            for i, c in [*enumerate(fit.columns[:-1]), (self.values.shape[1] - 1, "n")]
        }


class WindowState(Saved):
    """Running values by calendar window, for one measure, one ``on`` and one kind of entity."""

    kept: ClassVar[tuple[str, ...]] = (
        "win", "acc", "ring", "first", "fired", "base_win", "base", "table", "used", "touched", "n_touched",
        "touched_window", "current", "pending", "too_old", "seen", "last", "past", "days", "pop",
    )  # fmt: skip
    by_slot: ClassVar[tuple[str, ...]] = (
        "win", "acc", "ring", "first", "fired", "base_win", "base", "touched", "seen", "last", "past", "days"
    )  # fmt: skip

    def __init__(
        self,
        measure: Spanned,
        on: pl.Expr,
        entity: str,
        own: Sequence[OwnHistory],
        populations: Sequence[Population],
        gaps: Sequence[tuple[int, int]],
    ) -> None:
        """Lay out the arrays; ``gaps`` are the intervals (microseconds) in which the source was not covered."""
        self.measure, self.on, self.entity = measure, on, entity
        self.calendar, self.op = measure.calendar, operation(measure)
        self.scale = float(getattr(measure, "scale", None) or 1)
        self.bound = measure.bound if isinstance(measure, Distinct) else 0
        self.own = [f for f in own if not f.notebook]
        self.notebook = [f for f in own if f.notebook]
        self.populations = list(populations)
        fits: list[Fit] = [*self.own, *self.populations, *(p.of for p in self.populations if p.of)]
        self.width = max((len(f.columns) - 1 for f in fits), default=0)
        spans = [f.span for f in [*self.own, *(p.of for p in self.populations if p.of)]]
        self.excludes = any(f.exclude_alerted for f in self.own)
        self._make_arrays(max(spans, default=0))
        self.missing = np.array(sorted({w for a, b in gaps for w in self.calendar.touched(a, b)}), np.int64)
        self._skips_known: tuple[int, int] | None = None

    def _make_arrays(self, size: int) -> None:
        lane_count, n_own = lanes(self.op), len(self.own)
        self.win = np.full(0, k.NEVER)
        self.acc = np.zeros((0, lane_count), np.int64)
        self.ring = np.zeros((0, size, lane_count), np.int64)
        self.first = np.full(0, k.NEVER)
        self.fired = np.full(0, k.NEVER)
        self.base_win = np.full(0, k.NEVER)
        self.base = np.zeros((0, n_own, self.width + 1))
        self.shown, self.n_before = np.zeros(0, np.int64), 0  # of the batch at hand: not kept
        self.table, self.used = new_table(), 0
        self.heard = np.full(0, k.NEVER)  # of use to ``ClosingState`` alone
        self.touched, self.n_touched, self.touched_window = np.zeros(0, np.int64), 0, int(k.NEVER)
        self.current, self.too_old = int(k.NEVER), 0
        self.pending = np.zeros((0, PENDING_COLUMNS), np.int64)
        self.seen, self.last = np.full(0, k.NEVER), np.zeros(0)
        self.past, self.days = np.zeros(0), np.zeros(0, np.int64)
        self.pop = np.full((len(self.populations), self.width + 1), np.nan)
        self.spans = np.array([span_of(f) for f in self.own], np.int64).reshape(n_own, 4)
        self.plain = np.array([self.op == k.COUNT and _is_plain(f) for f in self.own], np.bool_)
        coded = [codes_of(f, self.width) for f in self.own]
        self.codes = np.array([c for c, _ in coded], np.int64).reshape(n_own, self.width)
        self.quantiles = np.array([q for _, q in coded], np.float64).reshape(n_own, self.width)
        self.values = np.empty(max([f.windows for f in self.own], default=0))

    def grow(self, n: int) -> None:
        """Make room for ``n`` entities."""
        self.n_slots = n
        self.win, self.acc = grow(self.win, n, k.NEVER), grow(self.acc, n, 0)
        self.ring, self.first = grow(self.ring, n, 0), grow(self.first, n, k.NEVER)
        self.base_win, self.base = grow(self.base_win, n, k.NEVER), grow(self.base, n, np.nan)
        self.shown = grow(self.shown, n, 0)
        if self.excludes:
            self.fired = grow(self.fired, n, k.NEVER)
        if self.populations:
            self.touched = grow(self.touched, n, 0)
        if self.notebook:
            self.seen, self.last = grow(self.seen, n, k.NEVER), grow(self.last, n, 0.0)
            self.past, self.days = grow(self.past, n, 0.0), grow(self.days, n, 0)

    def mask(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which events take part."""
        takes_part = rows.takes_part(self.on, self.entity)
        column = getattr(self.measure, "column", None)
        return takes_part if column is None else takes_part & rows.present(column)

    def run(self, rows: Rows, n_slots: int) -> Arrays:
        """Fold a batch into the windows and return its columns."""
        self.grow(n_slots)
        mask, window = self.mask(rows), rows.windows(self.calendar)
        self.know_skips(window)
        pieces = self._pieces(mask, window)
        out = np.empty(len(rows)) if pieces else np.full(len(rows), np.nan)  # the loop below writes every place
        own = _Shown.empty(len(self.own), self.width, len(rows) + 1 if self.own and pieces else 1, len(rows))
        everyone = _Shown.empty(len(self.populations), self.width, len(pieces) + 1, len(rows))
        hashes = np.zeros((0, 2), np.uint64)
        if isinstance(self.measure, Distinct):
            hashes = rows.hashes(self.measure.column, mask)
        taken = 0
        for number, (part, d) in enumerate(pieces, 1):
            self.begin(d)
            taken = self._fold(rows, part, mask, window, hashes, taken, (out[part], own.values, own.places[part]))
            if self.populations:
                everyone.values[:, :, number] = self.pop
                everyone.places[part] = np.where(mask[part], number, 0)
        self.n_before += taken
        columns: Arrays = {"value": out}
        columns |= own.columns("own", self.own) | everyone.columns("pop", self.populations)
        return columns | self._notebook_columns(rows, window, mask, out)

    def _pieces(self, mask: NDArray[np.bool_], window: NDArray[np.int64]) -> list[tuple[slice, int]]:
        """Cut at the first participating event of each window, where something must happen at boundaries.

        Return the pieces, which cover all rows, with the window of each; nothing where no event takes part.
        """
        rows = np.flatnonzero(mask)
        if not rows.size:
            return []
        starts = rows[:1]
        if self.acts_at_boundaries:
            starts = rows[np.flatnonzero(np.diff(window[rows], prepend=k.NEVER))]
        edges = [0, *starts[1:].tolist(), mask.size]
        return [(slice(a, b), int(window[s])) for a, b, s in zip(edges, edges[1:], starts.tolist(), strict=False)]

    @property
    def acts_at_boundaries(self) -> bool:
        """Whether something must happen where one window ends and another begins."""
        return bool(self.populations) or len(self.pending) > 0

    def begin(self, d: int) -> None:
        """Events of window ``d`` come next."""
        if self.acts_at_boundaries:
            self.close(d)

    def _fold(
        self, rows: Rows, part: slice, mask: Any, window: Any, hashes: Any, taken: int, out: tuple[Any, Any, Any]
    ) -> int:
        p, q = rows.increments(self.measure)
        if self.op == k.DISTINCT:
            self._room(part.stop - part.start, int(window[part.start]))
        self.n_touched, new, taken = k.run_windows(
            rows.slots[self.entity][part], window[part], p[part], q[part], mask[part], self.op, self.scale, self.bound, hashes[part],
            self.table, self.win, self.acc, self.ring, self.first, self.heard, self.fired, self.missing, self.touched, self.n_touched,
            self.spans, self.plain, self.codes, self.quantiles, self.base_win, self.base, self.values,
            self.shown, self.n_before, taken, *out,
        )  # fmt: skip
        self.used += new
        return int(taken)

    def _room(self, adding: int, window: int) -> None:
        """Forget distinct values of windows that no baseline and no late event can reach any more."""
        oldest = int(ORIGIN) + window - self.ring.shape[1] - 1
        self.table, self.used = make_room(self.table, self.used, adding, oldest)

    def close(self, d: int) -> None:
        """Window ``d`` begins: late events that are due enter theirs, and the population of the window before is summed up."""
        if d <= self.current:
            return
        before = d - 1
        while before in self.skips:
            before -= 1
        if self.touched_window != before:
            self.touched_window, self.n_touched = before, 0
        self.enter_late(d)
        closed = self.touched[: self.n_touched]
        for b, fit in enumerate(self.populations):
            codes, quantiles = (np.array(x) for x in codes_of(fit, self.width))
            values = self._population(closed, d, fit)
            summarise(values, values.size, codes, quantiles, fit.at_least, self.pop[b])
        self.current, self.touched_window, self.n_touched = d, d, 0

    def _population(self, closed: Any, d: int, fit: Population) -> Any:
        if fit.of is None:
            return population_values(closed, self.op, self.scale, self.acc)
        codes, quantiles = (np.array(x) for x in codes_of(fit.of, self.width))
        span = np.array(span_of(fit.of), np.int64)
        return population_baselines(
            closed,
            d,
            span,
            codes,
            quantiles,
            self.op,
            self.scale,
            self.win,
            self.acc,
            self.ring,
            self.first,
            self.missing,
            self.fired,
        )

    def late(self, rows: Rows, floor: NDArray[np.int64], n_slots: int) -> None:
        """Set late events aside until the first boundary after the clock they were late against."""
        self.grow(n_slots)
        mask = self.mask(rows)
        p, q = rows.increments(self.measure)
        window, visible = rows.windows(self.calendar), self.calendar.number(floor) + 1
        words = np.zeros((len(rows), 2), np.int64)
        if isinstance(self.measure, Distinct):
            words = rows.hashes(self.measure.column, mask).view(np.int64)
        new = np.column_stack([rows.slots[self.entity], window, visible, p, q, words])[mask]
        self.pending = np.concatenate([self.pending, new])

    def enter_late(self, d: int) -> None:
        """Let the late events enter whose boundary has come with window ``d``."""
        due = self.pending[:, 2] <= d
        if not due.any():
            return
        rows, self.pending = self.pending[due], self.pending[~due]
        slot, window, visible, p, q = (np.ascontiguousarray(c) for c in rows[:, :5].T)
        if self.op == k.DISTINCT:
            self._room(len(rows), d)
        self.n_touched, new, too_old = k.run_late(
            slot, window, p, q, self.op, self.bound, np.ascontiguousarray(rows[:, 5:]).view(np.uint64), self.table,
            self.win, self.acc, self.ring, self.first, self.heard, self.fired, self.touched, self.n_touched, self.touched_window,
        )  # fmt: skip
        self.used += new
        self.too_old += too_old
        self.entered(slot, window, visible, p, q)

    def entered(self, slot: Any, window: Any, visible: Any, p: Any, q: Any) -> None:
        """Late events have entered their windows, each with what it added to the lanes."""

    def mark_fired(self, slot: NDArray[np.int64], window: NDArray[np.int64]) -> None:
        """Leave these windows out of the baselines to come (``exclude_alerted``)."""
        self.fired[slot] = window

    def _notebook_columns(self, rows: Rows, window: Any, mask: Any, value: Any) -> Arrays:
        if not self.notebook:
            return {}
        out = np.full((2, len(rows)), np.nan)
        k.run_notebook(rows.slots[self.entity], window, value, mask, self.seen, self.last, self.past, self.days, out)
        columns: Arrays = {}
        for b, fit in enumerate(self.notebook):
            enough = out[1] >= fit.at_least
            columns |= {
                f"notebook{b}.mean": np.where(enough, out[0], np.nan),
                f"notebook{b}.n": np.where(enough, out[1], np.nan),
            }
        return columns

    @property
    def skips(self) -> set[int]:
        """The windows that never happened, of those known."""
        return self._skipped if self._skips_known else set()

    def know_skips(self, window: NDArray[np.int64]) -> None:
        """Dates that a zone jumped over are missing from baselines, neither zero nor a value."""
        if self.calendar.zone == "UTC" or not window.size:
            return
        low, high = int(window[0]) - self.ring.shape[1] - 1, int(window[-1])
        if self._skips_known and self._skips_known[0] <= low and high <= self._skips_known[1]:
            return
        low, high = low - 400, high + 400
        self._skipped = set(self.calendar.skipped(low, high))
        self._skips_known = (low, high)
        self.missing = np.array(sorted({*self.missing.tolist(), *self._skipped}), np.int64)
