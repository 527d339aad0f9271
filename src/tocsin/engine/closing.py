"""Close: the rules that are asked when a window has closed, about every entity known before it.

Enters: the windows that a ``ClosingState`` closes, in order. Leaves: findings at the windows' ends, tallies, and on request
the score of every entity at every close. Layer: engine, last stage.

A close has no event. What stands for one is a row with the window's end as its time and ``close:BEGIN:ENTITY`` as its id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tocsin.calendars import moment
from tocsin.engine import findings as fnd
from tocsin.engine.apply import Applied, count_scored, joined, made_series
from tocsin.engine.score import score
from tocsin.expressions import root_names
from tocsin.kernels.streams import keep_peaks
from tocsin.kernels.windows import NEVER
from tocsin.running.closing import nobody
from tocsin.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from tocsin.engine.apply import Tally
    from tocsin.engine.core import Engine, State
    from tocsin.engine.plan import Planned
    from tocsin.engine.score import Scored
    from tocsin.engine.slots import Slots
    from tocsin.references import References
    from tocsin.running import Closed, ClosingState

FLUSH_ROWS = 50_000
"""From so many rows on, closes are scored; before, small ones wait for each other."""


@dataclass
class Closer:
    """Scores the rules of one state as its windows close; of one step."""

    asked: Sequence[Planned]
    slots: Slots
    state: ClosingState
    tallies: dict[str, Tally]
    firing: dict[str, fnd.Firing]
    refs: References
    report_from: int
    keep_scores: bool
    trace: bool
    traces: list[pl.DataFrame] = field(default_factory=list)
    _waiting: list[Closed] = field(default_factory=list)
    _done: list[tuple[str, Applied]] = field(default_factory=list)

    def take(self, closed: Closed) -> None:
        """Take a window that has just closed. Where its findings matter to the next, they are made at once."""
        self._waiting.append(closed)
        if sum(c.slots.size for c in self._waiting) >= FLUSH_ROWS or any(p.feeds_back for p in self.asked):
            self._flush()

    def done(self, passed: int) -> list[tuple[str, Applied]]:
        """Close what ends by ``passed``; return what each rule gave, in the order of the rules and windows."""
        if passed != NEVER:
            self.state.close_before(passed, self.slots.n)
        self._flush()
        self.state.tell = nobody
        place = {p.detection.id: i for i, p in enumerate(self.asked)}
        return sorted(self._done, key=lambda d: place[d[0]])

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for reported in (False, True):
            told = [c for c in waiting if (c.end >= self.report_from) == reported]
            if told:
                self._score(_Rows.of(told), reported=reported)

    def _score(self, rows: _Rows, *, reported: bool) -> None:
        for planned in self.asked:
            patience, tally = planned.detection.patience, self.tallies[planned.detection.id]
            here, silent = rows.covered, rows.silent
            if reported:
                uncovered = int((~here & (silent <= patience)).sum())
                gone = int((here & (silent == patience + 1)).sum())
                tally.events += uncovered + gone
                tally.skip("uncovered", uncovered)
                tally.skip("gone", gone)
            mine = np.flatnonzero(here & (silent <= patience))
            part = rows if mine.size == silent.size else rows.only(mine)
            if not mine.size:
                continue
            fired = self._ask(planned, part, reported=reported)
            if planned.feeds_back:
                self.state.mark_fired(part.slot[fired], part.window[fired])

    def _ask(self, planned: Planned, rows: _Rows, *, reported: bool) -> NDArray[np.int64]:
        """Score one rule, and return the places where it fires."""
        detection, tally = planned.detection, self.tallies[planned.detection.id]
        scored = score(detection, self._scope(planned, rows), tally.unscored.get("error", 0))
        fired = np.flatnonzero(scored.fired)
        if not reported:
            return fired
        applied = Applied(rows.slot[fired], rows.window[fired])
        tally.events += rows.slot.size
        failed = scored.error if scored.error and not tally.error else ""
        count_scored(tally, scored, rows.slot.size)
        firing = self.firing[detection.id]
        firing.grow(self.slots.n)
        keep_peaks(rows.slot, scored.score, rows.end, fnd.sign(detection), firing.best, firing.best_t)
        if self.keep_scores:
            applied.scores = self._scores(planned, rows, scored)
        if self.trace:
            self.traces.append(self._traced(planned, rows))
        if fired.size:
            applied.findings = self._findings(planned, rows.only(fired), scored.score[fired], tally)
        if failed:
            at = self._events(planned, rows.only(np.array([scored.error_row])))
            error = fnd.write_error(detection, at, failed)
            applied.findings = error if applied.findings is None else pl.concat([error, applied.findings])
        self._done.append((detection.id, applied))
        return fired

    def _scope(self, planned: Planned, rows: _Rows) -> pl.DataFrame:
        """Return the columns that score and condition name."""
        detection = planned.detection
        names = {n for e in (detection.score, detection.when.expression) for n in root_names(e)}
        made = [made_series(n, rows.columns[c]) for n, (_, c) in planned.columns.items() if n in names]
        beside = {*names, *(detection.against.key if isinstance(detection.against, Table) else ())}
        if beside & {detection.entity, "timestamp"}:
            made += self._events(planned, rows).get_columns()
        return joined(detection, pl.DataFrame(made or {"@row": np.arange(rows.slot.size)}))

    def _events(self, planned: Planned, rows: _Rows) -> pl.DataFrame:
        """Return what stands for an event at each close."""
        entity = planned.detection.entity
        names = self.slots.names.gather(rows.slot)
        begins = pl.Series(rows.begin).replace_strict(
            list(rows.begins), list(rows.begins.values()), return_dtype=pl.String
        )
        told = pl.DataFrame({"begin": begins, "name": names})
        ids = told.select(pl.concat_str(pl.lit("close"), "begin", "name", separator=":").alias("event_id"))
        return ids.with_columns(_times(rows.end).alias("timestamp"), names.alias(entity))

    def _scores(self, planned: Planned, rows: _Rows, scored: Scored) -> pl.DataFrame:
        ids = self._events(planned, rows)["event_id"]
        return pl.DataFrame({"event_id": ids, "score": pl.Series(scored.score).fill_nan(None), "fired": scored.fired})

    def _traced(self, planned: Planned, rows: _Rows) -> pl.DataFrame:
        """Return the columns of each close, with its time and whom it is about."""
        detection = planned.detection
        made = [made_series(f"{detection.id}{n}", rows.columns[c]) for n, (_, c) in planned.columns.items()]
        events = self._events(planned, rows)
        whom = pl.col(detection.entity).alias("@entity")
        return events.select("event_id", pl.col("timestamp").alias("@closed"), whom).with_columns(made)

    def _findings(self, planned: Planned, rows: _Rows, scores: NDArray[np.float64], tally: Tally) -> pl.DataFrame:
        """Write what fired; each entity and window closes once, so each firing is a finding."""
        made = [made_series(n, rows.columns[c]) for n, (_, c) in planned.columns.items()]
        frame = joined(planned.detection, self._events(planned, rows).with_columns(made))
        frame = frame.with_columns(pl.Series("@score", scores), pl.Series("@window", rows.window))
        found = self.refs.suppress(fnd.write(planned.detection, frame, self.refs.digest))
        tally.fired += found.height
        tally.findings += found.height
        tally.suppressed += found.height - found["suppressed_by"].null_count()
        return found


def listen(engine: Engine, state: State) -> list[Closer]:
    """Return who listens, from now on, to each state that closes windows."""
    closers = []
    for key, asked in engine.plan.closing.items():
        running: Any = state.running[key]
        closers.append(Closer(
            asked, state.slots[running.entity], running, state.tallies, state.firing, engine.refs,
            report_from=engine.report_from, keep_scores=engine.keep_scores, trace=engine.trace,
        ))  # fmt: skip
        running.tell = closers[-1].take
    return closers


@dataclass(frozen=True)
class _Rows:
    """Closes in order, one place for each entity and window; ``begins``: how each window's begin is written."""

    slot: NDArray[np.int64]
    silent: NDArray[np.int64]
    covered: NDArray[np.bool_]
    window: NDArray[np.int64]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    columns: dict[str, NDArray[np.float64]]
    begins: dict[int, str]

    @classmethod
    def of(cls, closed: Sequence[Closed]) -> _Rows:
        """Put closes behind each other."""
        sizes = [c.slots.size for c in closed]

        def each(values: Iterator[Any], dtype: Any) -> NDArray[Any]:
            return np.repeat(np.fromiter(values, dtype, len(sizes)), sizes)

        return cls(
            np.concatenate([c.slots for c in closed]),
            np.concatenate([c.silent for c in closed]),
            each((c.covered for c in closed), np.bool_),
            each((c.window for c in closed), np.int64),
            each((c.begin for c in closed), np.int64),
            each((c.end for c in closed), np.int64),
            {n: np.concatenate([c.columns[n] for c in closed]) for n in closed[0].columns},
            {c.begin: f"{moment(c.begin):%Y-%m-%dT%H:%M:%SZ}" for c in closed},
        )

    def only(self, places: NDArray[np.int64]) -> _Rows:
        """Return some of them."""
        return _Rows(
            self.slot[places], self.silent[places], self.covered[places], self.window[places], self.begin[places],
            self.end[places], {n: a[places] for n, a in self.columns.items()}, self.begins,
        )  # fmt: skip


def _times(us: NDArray[np.int64]) -> pl.Series:
    return pl.Series(us).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
