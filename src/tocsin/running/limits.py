"""The limit of a stateless rule: a quantile over the events of the last closed days.

Enters: rows in (time, event_id) order; late rows. Leaves: ``limit`` and ``n``. Layer: running.

Each closed day is kept as its distinct values with their counts, so the state is as large as the variety of the
column, not as its traffic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tocsin.calendars import Calendar

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from tocsin.fits import Limit
    from tocsin.running.rows import Rows
    from tocsin.running.state import Arrays

    Floats = NDArray[np.float64]


class LimitState:
    """Value counts by day, and the limit that holds today."""

    def __init__(self, fit: Limit, on: pl.Expr) -> None:
        """Start without a day."""
        self.fit, self.on = fit, on
        self.calendar = Calendar("1d", fit.zone)
        self.counts: dict[int, dict[float, int]] = {}
        self.pending = np.zeros((0, 3))  # day, first day it may be used, value
        self.today: int | None = None
        self.row = (np.nan, np.nan)

    def run(self, rows: Rows, n_slots: int) -> Arrays:  # noqa: ARG002 - the same face as every running state
        """Count a batch and return the limit that held at each event."""
        mask = rows.holds(self.on) & rows.present(self.fit.column)
        days, values = rows.windows(self.calendar), rows.column(self.fit.column).cast(float).to_numpy()
        holds = rows.holds(self.on)
        out = np.full((2, len(rows)), np.nan)
        starts = np.flatnonzero(np.diff(days, prepend=days[0] - 1)).tolist() if len(rows) else []
        for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
            self.open(int(days[start]))
            out[:, start:stop] = np.where(holds[start:stop], np.array(self.row)[:, None], np.nan)
            self._count(int(days[start]), values[start:stop][mask[start:stop]])
        return {"limit": out[0], "n": out[1]}

    def late(self, rows: Rows, floor: NDArray[np.int64], n_slots: int) -> None:  # noqa: ARG002
        """Set late events aside until the first boundary after the clock they were late against."""
        mask = rows.holds(self.on) & rows.present(self.fit.column)
        values = rows.column(self.fit.column).cast(float).to_numpy()
        new = np.column_stack([rows.windows(self.calendar), self.calendar.number(floor) + 1, values])[mask]
        self.pending = np.concatenate([self.pending, new])

    def _count(self, day: int, values: Floats) -> None:
        into = self.counts.setdefault(day, {})
        for value, n in zip(*(x.tolist() for x in np.unique(values, return_counts=True)), strict=True):
            into[value] = into.get(value, 0) + n

    def open(self, day: int) -> None:
        """A new day: late events that are due enter theirs, old days go, the limit is read off."""
        if self.today is not None and day <= self.today:
            return
        self.today = day
        due = self.pending[:, 1] <= day
        for d, _, value in self.pending[due].tolist():
            self._count(int(d), np.array([value]))
        self.pending = self.pending[~due]
        self.counts = {d: c for d, c in self.counts.items() if d >= day - self.fit.windows}
        self.row = self._quantile([c for d, c in self.counts.items() if d < day])

    def _quantile(self, days: list[dict[float, int]]) -> tuple[float, float]:
        total: dict[float, int] = {}
        for counts in days:
            for value, n in counts.items():
                total[value] = total.get(value, 0) + n
        n = sum(total.values())
        if n < max(self.fit.at_least, 1):
            return np.nan, np.nan
        values = sorted(total)
        ends = np.cumsum([total[v] for v in values])
        h = (n - 1) * self.fit.quantiles[0]
        i = int(np.floor(h))
        low, high = (values[int(np.searchsorted(ends, j, "right"))] for j in (i, min(i + 1, n - 1)))
        return low + (h - i) * (high - low) if i + 1 < n else low, float(n)

    def arrays(self) -> Arrays:
        """Return the state as named arrays."""
        flat = [(d, v, n) for d, counts in self.counts.items() for v, n in counts.items()]
        today: Any = [] if self.today is None else [self.today]
        return {
            "counts": np.array(flat, np.float64).reshape(len(flat), 3),
            "pending": self.pending,
            "today": np.array(today, np.int64),
            "row": np.array(self.row),
        }

    def restore(self, saved: Arrays) -> None:
        """Take over saved arrays."""
        self.counts = {}
        for d, v, n in saved["counts"].tolist():
            self.counts.setdefault(int(d), {})[v] = int(n)
        self.pending = saved["pending"]
        self.today = int(saved["today"][0]) if saved["today"].size else None
        self.row = (float(saved["row"][0]), float(saved["row"][1]))
