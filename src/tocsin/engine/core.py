"""The engine: one ``step(state, batch)`` that replay, live stream and cluster share.

Enters: batches of events in arrival order, and control records. Leaves: findings, raised peaks, and on request the
score of every event. Layer: engine.

A step is five stages: arrive (future, duplicate, late, clocks, waiting room), slots (entity to number), measure
(running values, baselines, populations), close (inside measure, at window boundaries), score. Rules without state
are scored on arrival, in arrival order; the others at release, in (time, event_id) order; those asked about whole windows
when everything before a window's end is released.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tocsin.calendars import duration_us
from tocsin.detection import LOOKED_UP, Detection
from tocsin.engine import findings as fnd
from tocsin.engine.adopt import adopt
from tocsin.engine.apply import Applied, Tally, apply, made_series
from tocsin.engine.arrive import Arrival, Control, in_one_chunk
from tocsin.engine.closing import listen
from tocsin.engine.kept import Keeper
from tocsin.engine.output import Gathered, Output
from tocsin.engine.plan import Planned, plan
from tocsin.engine.slots import Slots
from tocsin.engine.workers import PARALLEL_ROWS, beside, make_and_use
from tocsin.expressions import digest
from tocsin.hashing import content_digest, hash_words
from tocsin.kernels.arrival import DUPLICATE, FATES, LATE, OK
from tocsin.kernels.windows import NEVER
from tocsin.references import References
from tocsin.running import Rows, WindowState
from tocsin.schema import STANDARD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tocsin.running import Arrays, Running

LATENESS = "1h"
DEDUP_HORIZON = "7d"
FUTURE_SKEW = "10m"


@dataclass
class State:
    """All that a step carries over. ``step`` takes it over: use what it returns, and ``save`` to keep a copy."""

    arrival: Arrival
    slots: dict[str, Slots]
    running: dict[str, Running]
    firing: dict[str, fnd.Firing]
    tallies: dict[str, Tally]
    counts: dict[str, int]
    rules: str

    @property
    def size_bytes(self) -> int:
        """How much its arrays hold, about; names and waiting events are not counted."""
        groups: tuple[Any, ...] = (*self.running.values(), *self.firing.values())
        parts = [a for part in groups for a in part.arrays().values()]
        tables = [s.table for s in self.slots.values()]
        return sum(a.nbytes for a in (*parts, *tables, self.arrival.ids.entries, self.arrival.ids.index))


class Engine:
    """Compiled detections; holds no state of its own.

    columns: the names and types of the source's columns. refs: reference data to attach. lateness, dedup_horizon,
    future_skew: durations. gaps: intervals (microseconds) in which the source was not covered. key: 16 bytes for the
    hashes of identifiers; a live engine takes a secret one. trace, keep_scores: give measure columns and scores out.
    report_from: events before this instant (microseconds) are history: they feed measures and fits, but are neither
    tallied nor reported. keep_windows: give out what calendar windows held as they close (``Output.kept``).
    """

    def __init__(
        self,
        detections: Iterable[Detection],
        columns: Mapping[str, Any],
        refs: References | None = None,
        *,
        lateness: Any = LATENESS,
        dedup_horizon: Any = DEDUP_HORIZON,
        future_skew: Any = FUTURE_SKEW,
        gaps: Sequence[tuple[int, int]] = (),
        key: bytes = bytes(16),
        trace: bool = False,
        keep_scores: bool = False,
        report_from: int | None = None,
        keep_windows: bool = False,
    ) -> None:
        self.detections, self.types = tuple(detections), dict(columns)
        self.refs = References() if refs is None else refs
        self.key, self.trace, self.keep_scores, self.keep_windows = key, trace, keep_scores, keep_windows
        self.report_from = int(NEVER) if report_from is None else report_from
        self.lateness, self.horizon, self.skew = (
            duration_us(lateness),
            duration_us(dedup_horizon),
            duration_us(future_skew),
        )
        attachable = set(self.refs.carried)
        self.plan = plan(self.detections, {*columns, *attachable}, tuple(gaps))
        reads = set(self.plan.reads)
        self.attached = sorted((reads & attachable) - set(columns))
        addresses = {f"{c.split('_')[0]}_ip" for c in self.attached if not c.startswith("user_")} | {
            "user_id" for c in self.attached if c.startswith("user_")
        }
        shown = {"src_ip", "dst_ip"}
        self.columns = sorted(((reads - LOOKED_UP) | (reads & set(columns)) | addresses | shown) & set(columns))
        self.absent = sorted((self.plan.optional & reads) - set(columns) - attachable)
        self.skipped = self.plan.skipped
        self._conditions: dict[bool, list[pl.Expr]] = {}
        self.rules = digest(
            *(f"{d.id}:{d.version}" for d in self.detections), self.lateness, self.horizon, self.skew, gaps, key.hex()
        )

    def new_state(self) -> State:
        """Return the state before the first event."""
        return State(
            Arrival(self.lateness, self.skew, self.horizon),
            {e: Slots() for e in self.plan.entities},
            self.plan.new_states(keep_windows=self.keep_windows),
            {p.detection.id: fnd.Firing() for p in self.plan.planned},
            {p.detection.id: Tally() for p in self.plan.planned},
            dict.fromkeys(FATES, 0),
            self.rules,
        )

    def adopt(self, old: Engine, state: State) -> State:
        """Return the state for these rules, with everything that still means the same in a state of the ``old`` engine.

        Clocks, ids, waiting events and counts go on; so do entities, measures that both engines run, and what a detection
        of the same version fired and tallied. A calendar measure whose fits changed keeps its counts and as much history
        as it held. So a rule that did not change scores as if there had been no change. What is new begins empty: a
        new population, for one, is undefined (events are unscored: no_history) until the next boundary.

        Events that wait were prepared by the old engine. Columns that it did not keep for them are null, and entities
        of a kind that it did not know are none: for the new rules those events count as no_entity. Repeated ids are known,
        but where other columns are read now, not whether they were repeated with other content.

        ``state`` is used up, like that of a step. A batch that the old engine prepared has to be prepared anew.

        Raises:
            StateError: The old engine has another lateness, horizon, skew or key.
        """
        return adopt(self, old, state)

    def form(self, state: State, beside: Iterable[str] = ()) -> pl.DataFrame:
        """Return the frame in which events wait, without rows; ``beside``: what batches carry beside what rules read."""
        names = dict.fromkeys(["event_id", "timestamp", *self.columns, *beside])
        types = {c: self.types.get(c, STANDARD[c].dtype if c in STANDARD else pl.String) for c in names}
        return self._kept(self._number(state, self.prepare(pl.DataFrame(schema=types))))

    def _kept(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return what is kept of events until they are released."""
        kept = (c for c in frame.get_columns() if c.name.startswith("@") or c.name in self.plan.released)
        return pl.DataFrame(kept)

    def prepare(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Attach look-ups and hashes to a batch. It needs no state, so it can run ahead in another thread."""
        more = [c for c in ("received_at", "partition", "source") if c in batch.columns and c not in self.columns]
        frame = in_one_chunk(batch.select("event_id", "timestamp", *self.columns, *more))
        frame = frame.with_columns(
            pl.lit(None, STANDARD[c].dtype if c in STANDARD else pl.String).alias(c) for c in self.absent
        )
        if self.attached:
            frame = self.refs.attach(frame, self.attached)
        frame = frame.with_columns(pl.col(e).cast(pl.String) for e in self.plan.entities)
        ids = pl.col("event_id")
        if "source" in frame.columns:
            ids = pl.concat_str([pl.col("source").fill_null(""), ids], separator="\x1f")
        hashes = {"@id": hash_words(frame.select(ids.alias("id"))["id"], self.key)}
        hashes |= {f"@h.{e}": hash_words(frame[e], self.key) for e in self.plan.entities}
        words = [pl.Series(f"{name}{i + 1}", h) for name, pair in hashes.items() for i, h in enumerate(pair)]
        read = [pl.Series(c, hashes[f"@h.{c}"][0]) if f"@h.{c}" in hashes else frame[c] for c in self.columns]
        content = content_digest(pl.DataFrame([frame["timestamp"], *read]))  # entities by the hashes just made
        times = [pl.col("timestamp").dt.epoch("us").alias("@t")]
        if "received_at" in frame.columns:
            times.append(pl.col("received_at").dt.epoch("us").fill_null(int(NEVER)).alias("@received"))
        return frame.with_columns(*times, *words, _series("@content", content)).rechunk()

    def step(self, state: State, batch: pl.DataFrame | Control) -> tuple[State, Output]:
        """Advance by one batch of events (prepared or not) or one control record."""
        gathered = Gathered()
        if not isinstance(batch, pl.DataFrame):
            self._release(state, state.arrival.control(batch), gathered)
            return state, gathered.output(None, trace=self.trace)
        frame = batch if "@id1" in batch.columns else self.prepare(batch)
        fate, floor = state.arrival.judge(frame)
        for code, n in enumerate(np.bincount(fate, minlength=len(FATES)).tolist()):
            state.counts[FATES[code]] += n
        ok, late = fate == OK, fate == LATE
        accepted = self._number(state, frame if ok.all() else frame.filter(pl.Series(ok | late)))
        arriving = beside(accepted.height, partial(self._arrive, state, accepted))
        if late.any():
            self._set_aside(state, accepted.filter(pl.Series(late[ok | late])), floor[late])
        fresh = self._kept(accepted)
        if late.any():
            fresh = fresh.filter(pl.Series(ok[ok | late]))
        self._release(state, state.arrival.release(fresh), gathered)
        gathered = arriving().then(gathered)
        fates = pl.DataFrame({"event_id": frame["event_id"], "fate": [FATES[f] for f in fate]}) if self.trace else None
        output = gathered.output(fates, trace=self.trace)
        output.aside = _aside(frame["event_id"], fate)
        return state, output

    def _number(self, state: State, frame: pl.DataFrame) -> pl.DataFrame:
        slots = [_series(f"@s.{e}", s.number(frame, e)) for e, s in state.slots.items()]
        kept = {f"@h.{e}{i}" for e in self.plan.hashed for i in (1, 2)}
        done = [c for c in frame.columns if c.startswith(("@h.", "@id", "@content", "@received")) and c not in kept]
        return pl.DataFrame([*(c for c in frame.get_columns() if c.name not in done), *slots])

    def _rows(self, frame: pl.DataFrame) -> Rows:
        return Rows(
            frame, frame["@t"].to_numpy(), {e: frame[f"@s.{e}"].to_numpy() for e in self.plan.entities}, self.key
        )

    def _arrive(self, state: State, frame: pl.DataFrame) -> Gathered:
        """Score the rules without state on every accepted event."""
        gathered = Gathered()
        if self.report_from != NEVER:
            frame = frame.filter(pl.col("@t") >= self.report_from)
        rows = self._rows(frame)
        self._hold(rows, stateful=False)
        for p in self.plan.planned:
            if not p.detection.stateful and (applied := self._apply(state, p, rows, {})) is not None:
                gathered.add(p.detection.id, applied)
        return gathered

    def _hold(self, rows: Rows, *, stateful: bool) -> None:
        """Evaluate all conditions of a small batch by one query; of a large one, whoever needs them, several side by side."""
        if stateful not in self._conditions:
            self._conditions[stateful] = self.plan.conditions(rows.frame.schema, stateful=stateful)
        if len(rows) < PARALLEL_ROWS:
            rows.hold(self._conditions[stateful])

    def _set_aside(self, state: State, frame: pl.DataFrame, floor: Any) -> None:
        """Late events wait for the next boundary of each measure; rules with state leave them unscored."""
        rows = self._rows(_without_context(frame, self.plan.contexts))
        for key, running in state.running.items():
            running.late(rows, floor, self._entities(state, key))
        for planned in self.plan.planned:
            if planned.detection.stateful and not planned.detection.closes:
                n = int((rows.holds(planned.detection.on) & (rows.t >= self.report_from)).sum())
                tally = state.tallies[planned.detection.id]
                tally.events += n
                tally.skip("late", n)

    @staticmethod
    def _entities(state: State, key: str) -> int:
        entity = getattr(state.running[key], "entity", None)
        return state.slots[entity].n if entity else 0

    def _release(self, state: State, frame: pl.DataFrame | None, gathered: Gathered) -> None:
        """Measure and score events whose time has come, and close the windows whose end has come."""
        closers = listen(self, state)
        keeper = Keeper(state.running, state.slots) if self.keep_windows else None
        if frame is not None:
            self._measure(state, frame, gathered)
        for closer in closers:
            for detection_id, applied in closer.done(state.arrival.passed):
                gathered.add(detection_id, applied)
            gathered.traces += closer.traces
        if keeper:
            gathered.kept = keeper.taken(state.arrival.passed)

    def _measure(self, state: State, frame: pl.DataFrame, gathered: Gathered) -> None:
        """Measure and score events, in order."""
        stateful = [p for p in self.plan.planned if p.detection.stateful and not p.detection.closes]
        for part in self._pieces(state, self._rows(frame)):
            self._hold(part, stateful=True)
            columns = self._measure_contexts(state, part)
            others = sorted(state.running.keys() - columns.keys(), key=self._longest_first(state))
            makers = {key: partial(state.running[key].run, part, self._entities(state, key)) for key in others}
            users = [
                ({key for key, _ in p.columns.values()} - columns.keys(), partial(self._score, state, p, part, columns))
                for p in stateful
            ]
            made, results = make_and_use(len(part), makers, users)
            for p, applied in zip(stateful, results, strict=True):
                if applied is not None:
                    gathered.add(p.detection.id, applied)
                    if p.feeds_back:
                        state.running[p.feeds_back].mark_fired(applied.slot, applied.window)  # type: ignore[attr-defined]
            if self.trace:
                gathered.traces.append(self._trace(part, columns | made))

    def _measure_contexts(self, state: State, rows: Rows) -> dict[str, Arrays]:
        """Run the states that make a context, and put their columns beside those of the events: others may read them."""
        contexts = self.plan.contexts
        makers = {k: partial(state.running[k].run, rows, self._entities(state, k)) for k in set(contexts.values())}
        columns, _ = make_and_use(len(rows), makers, [])
        if contexts:
            made = [made_series(name, columns[k]["value"]) for name, k in contexts.items()]
            rows.frame = rows.frame.with_columns(made)
        return columns

    @staticmethod
    def _longest_first(state: State) -> Callable[[str], tuple[bool, str]]:
        """Order states so that windows, which take longest, are begun first."""
        return lambda key: (not isinstance(state.running[key], WindowState), key)

    def _score(
        self, state: State, planned: Planned, rows: Rows, contexts: dict[str, Arrays], made: dict[str, Arrays]
    ) -> Applied | None:
        return self._apply(state, planned, rows, contexts | made)

    def _pieces(self, state: State, rows: Rows) -> list[Rows]:
        """Cut at window boundaries where a fit must know what fired before it goes on."""
        keys = [p.feeds_back for p in self.plan.planned if p.feeds_back and not p.detection.closes]
        calendars = [state.running[key].calendar for key in keys]  # type: ignore[attr-defined]
        cuts = {0, len(rows), int(np.searchsorted(rows.t, self.report_from, "left"))}
        for calendar in calendars:
            cuts |= set((np.flatnonzero(np.diff(rows.windows(calendar))) + 1).tolist())
        edges = sorted(cuts)
        return [rows] if len(edges) <= 2 else [rows.slice(a, b) for a, b in pairwise(edges)]

    def _apply(self, state: State, planned: Planned, rows: Rows, columns: Mapping[str, Arrays]) -> Applied | None:
        detection = planned.detection
        firing = state.firing[detection.id]
        firing.grow(state.slots[detection.entity].n)
        reported = len(rows) > 0 and (int(rows.t[0]) >= self.report_from or not detection.stateful)
        return apply(
            planned, rows, columns, state.tallies[detection.id], firing,
            refs=self.refs, reported=reported, keep_scores=self.keep_scores,
        )  # fmt: skip

    def _trace(self, rows: Rows, columns: Mapping[str, Arrays]) -> pl.DataFrame:
        made = [rows.column("event_id")]
        for planned in self.plan.planned:
            made += [
                made_series(f"{planned.detection.id}{name}", columns[key][c][:])
                for name, (key, c) in planned.columns.items()
            ]
            made += [rows.frame[name].alias(f"{planned.detection.id}{name}") for name in planned.contexts]
        return pl.DataFrame(made)


def _aside(ids: pl.Series, fate: Any) -> pl.DataFrame | None:
    """Return the events that somebody may ask about: neither scored in their order nor plain repetitions."""
    row = np.flatnonzero((fate != OK) & (fate != DUPLICATE))
    if not row.size:
        return None
    rows = pl.Series("row", row, pl.UInt32)
    return pl.DataFrame([rows, ids.gather(rows), pl.Series("fate", [FATES[f] for f in fate[row].tolist()])])


def _without_context(frame: pl.DataFrame, contexts: Iterable[str]) -> pl.DataFrame:
    """Return the frame with empty context columns: a late event was not there when its neighbours were measured."""
    return frame.with_columns(pl.lit(None, pl.Float64).alias(name) for name in contexts)


def _series(name: str, array: Any) -> pl.Series:
    return pl.Series(name, np.ascontiguousarray(array))
