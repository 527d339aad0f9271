"""Plan: which state each detection reads, and which columns of the source the whole set needs.

Enters: detections, the columns a source has, the columns reference data can attach. Leaves: the running states
(equal measures share one), the names under which each detection finds its columns, and the detections that cannot
run, with the reason. Layer: engine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from tocsin.detection import LOOKED_UP, Detection, ref_name
from tocsin.errors import RuleError, did_you_mean
from tocsin.expressions import canonical, row_wise
from tocsin.fits import Fit, Limit, OwnHistory, Population
from tocsin.measures import Distinct, FirstSeen, Hours, Max, Measure, Min, Previous, Spanned
from tocsin.running import (
    ClosingState,
    EverState,
    FirstSeenState,
    HoursState,
    LimitState,
    PreviousState,
    SlidingExtremeState,
    SlidingState,
    WindowState,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from tocsin.detection import Context
    from tocsin.running import Running

Gap = tuple[int, int]
SHOWN = ("event_id", "timestamp", "source", "src_ip", "dst_ip")
"""The event columns that every finding shows, where there are such."""


@dataclass
class Planned:
    """A detection and where its columns come from: ``@name`` -> (state, column of that state)."""

    detection: Detection
    columns: dict[str, tuple[str, str]] = field(default_factory=dict)
    contexts: dict[str, str] = field(default_factory=dict)
    """``@ctx`` column -> the state that makes it."""
    feeds_back: str | None = None
    """The window state whose baselines leave out windows in which this detection fired."""

    @property
    def state(self) -> str:
        """The state of its measure."""
        assert self.detection.measure is not None
        return self.columns[self.detection.measure.outputs[0]][0]


@dataclass
class _Shared:
    """A state to be: detections that ask for the same measure add their fits to it."""

    measure: Any
    on: pl.Expr
    entity: str = ""
    own: list[OwnHistory] = field(default_factory=list)
    populations: list[Population] = field(default_factory=list)
    patience: int = 0
    """How long it remembers who was silent, in windows; 0 where no rule is asked when windows close."""


@dataclass
class Plan:
    """What the engine runs."""

    planned: list[Planned]
    shared: dict[str, _Shared]
    skipped: dict[str, str]
    gaps: Sequence[Gap]

    def new_states(self, *, keep_windows: bool = False) -> dict[str, Running]:
        """Return fresh running states by key; ``keep_windows``: those of calendar windows tell what closes."""
        return {key: _new_state(s, self.gaps, keep_windows=keep_windows) for key, s in self.shared.items()}

    @property
    def entities(self) -> list[str]:
        """The entity columns, sorted."""
        contexts = {c.entity for p in self.planned for c in p.detection.context.values()}
        return sorted({p.detection.entity for p in self.planned} | contexts)

    @cached_property
    def closing(self) -> dict[str, list[Planned]]:
        """The detections that are asked when a window closes, by the state that closes it."""
        found: dict[str, list[Planned]] = {}
        for p in self.planned:
            if p.detection.closes:
                found.setdefault(p.state, []).append(p)
        return found

    @property
    def contexts(self) -> dict[str, str]:
        """The ``@ctx`` columns of all detections, and the state that makes each."""
        return {column: key for p in self.planned for column, key in p.contexts.items()}

    @property
    def reads(self) -> list[str]:
        """The event columns that some detection needs, attached ones included, sorted."""
        needed = {c for p in self.planned for c in (*p.detection.reads, *p.detection.evidence)}
        return sorted(needed)

    @cached_property
    def hashed(self) -> list[str]:
        """The entity columns whose values some measure tells apart: the hashes that arrival made serve again."""
        measures = [s.measure for s in self.shared.values()]
        columns = {m.column for m in measures if isinstance(m, Distinct | FirstSeen)}
        return sorted(columns & set(self.entities))

    def conditions(self, types: Mapping[str, Any], *, stateful: bool) -> list[pl.Expr]:
        """Return the conditions that the rules with or without state ask of each event, each once, those that are row-wise."""
        asked = [p.detection.on for p in self.planned if p.detection.stateful == stateful]
        for shared in self.shared.values() if stateful else ():
            parts = [getattr(shared.measure, name, None) for name in ("num", "den", "where")]
            asked += [shared.on, *(e for e in parts if isinstance(e, pl.Expr))]
        distinct = {canonical(e): e for e in asked}
        return [e for e in distinct.values() if row_wise(e, types)]

    @cached_property
    def released(self) -> set[str]:
        """The event columns that are read or shown after release, by the detections with state."""
        stateful = [p.detection for p in self.planned if p.detection.stateful]
        return {*SHOWN, *(c for d in stateful for c in (*d.reads, *d.evidence))}

    @property
    def optional(self) -> set[str]:
        """The columns that are null where the source lacks them."""
        return {c for p in self.planned for c in p.detection.optional}


def plan(detections: Iterable[Detection], available: Collection[str], gaps: Sequence[Gap] = ()) -> Plan:
    """Compile detections for a source with the columns ``available`` (attached ones included)."""
    result = Plan([], {}, {}, gaps)
    for detection in detections:
        missing = [c for c in detection.reads if c not in available and c not in detection.optional]
        if missing:
            result.skipped[detection.id] = _why_skipped(missing[0], available)
        else:
            result.planned.append(_plan_one(detection, result))
    return result


def _why_skipped(column: str, available: Collection[str]) -> str:
    if column in LOOKED_UP:
        return f"needs {column}: give reference data that attaches it (geo=, networks=, threats= or assets=)"
    return f"the events have no column {column}.{did_you_mean(column, available)}"


def _plan_one(detection: Detection, plan: Plan) -> Planned:
    planned, shared = Planned(detection), plan.shared
    for name, context in detection.context.items():
        _plan_context(planned, f"@ctx.{name}", context, plan)
    for name, fit in detection.fits.items():
        if isinstance(fit, Limit):
            key = f"limit:{fit.key}:{canonical(detection.on)}"
            shared.setdefault(key, _Shared(fit, detection.on))
            planned.columns |= {ref_name(name, c): (key, c) for c in fit.columns}
    if detection.measure is None:
        return planned
    excludes = any(isinstance(fit, OwnHistory) and fit.exclude_alerted for fit in detection.fits.values())
    key = _state_key(detection.measure, detection.on, detection.entity, detection.id if excludes else "")
    state = shared.setdefault(key, _Shared(detection.measure, detection.on, detection.entity))
    planned.feeds_back = key if excludes else None
    if detection.closes:
        state.patience = max(state.patience, detection.patience)
    for name in detection.measure.outputs:
        planned.columns[name] = (key, name.removeprefix("@prev.").removeprefix("@"))
    for name, fit in detection.fits.items():
        if isinstance(fit, OwnHistory | Population):
            prefix = _attach_fit(state, fit)
            planned.columns |= {ref_name(name, c): (key, f"{prefix}.{c}") for c in fit.columns}
    return planned


def _plan_context(planned: Planned, column: str, context: Context, plan: Plan) -> None:
    """Add a context's state; one name means one thing in a set of rules, since expressions are shared by their text."""
    key = _state_key(context.measure, context.on, context.entity)
    taken = next((p.detection for p in plan.planned if p.contexts.get(column, key) != key), None)
    if taken is not None:
        mine = planned.detection
        msg = (
            f"{mine.where[0]}:{mine.where[1]}: {mine.id}: the context {column[5:]} means something else in {taken.id} "
            f"({taken.where[0]}:{taken.where[1]}). Rename one of them."
        )
        raise RuleError(msg)
    plan.shared.setdefault(key, _Shared(context.measure, context.on, context.entity))
    planned.contexts[column] = key


def _state_key(measure: Measure, on: pl.Expr, entity: str, alone: str = "") -> str:
    """Return text that is equal for states that can be shared."""
    return ":".join([measure.key, canonical(on), entity, alone])


def _attach_fit(state: _Shared, fit: Fit) -> str:
    """Add a fit to a shared state, once, and return the prefix of its columns."""
    if isinstance(fit, Population):
        if fit not in state.populations:
            state.populations.append(fit)
        return f"pop{state.populations.index(fit)}"
    own = fit
    assert isinstance(own, OwnHistory)
    if own not in state.own:
        state.own.append(own)
    same_kind = [f for f in state.own if f.notebook == own.notebook]
    return f"{'notebook' if own.notebook else 'own'}{same_kind.index(own)}"


def _new_state(shared: _Shared, gaps: Sequence[Gap], *, keep_windows: bool) -> Running:
    measure, on, entity = shared.measure, shared.on, shared.entity
    if isinstance(measure, Limit):
        return LimitState(measure, on)
    if isinstance(measure, Spanned):
        if measure.per:
            described = (measure, on, entity, shared.own, shared.populations, gaps)
            closes = shared.patience or keep_windows
            return ClosingState(*described, patience=shared.patience) if closes else WindowState(*described)
        if measure.ever:
            return EverState(measure, on, entity)
        if isinstance(measure, Min | Max):
            return SlidingExtremeState(measure, on, entity)
        return SlidingState(measure, on, entity)
    kinds: dict[type[Measure], Any] = {Previous: PreviousState, FirstSeen: FirstSeenState, Hours: HoursState}
    state: Running = kinds[type(measure)](measure, on, entity)
    return state
