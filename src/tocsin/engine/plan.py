"""Plan: which state each detection reads, and which columns of the source the whole set needs.

Enters: detections, the columns a source has, the columns reference data can attach. Leaves: the running states
(equal measures share one), the names under which each detection finds its columns, and the detections that cannot
run, with the reason. Layer: engine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tocsin.detection import LOOKED_UP, Detection
from tocsin.errors import did_you_mean
from tocsin.expressions import canonical
from tocsin.fits import Fit, Limit, OwnHistory, Population
from tocsin.measures import FirstSeen, Hours, Measure, Previous, Spanned
from tocsin.running import EverState, FirstSeenState, HoursState, LimitState, PreviousState, SlidingState, WindowState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from tocsin.running import Running

Gap = tuple[int, int]


@dataclass
class Planned:
    """A detection and where its columns come from: ``@name`` -> (state, column of that state)."""

    detection: Detection
    columns: dict[str, tuple[str, str]] = field(default_factory=dict)
    feeds_back: str | None = None
    """The window state whose baselines leave out windows in which this detection fired."""


@dataclass
class _Shared:
    """A state to be: detections that ask for the same measure add their fits to it."""

    measure: Any
    detection: Detection
    own: list[OwnHistory] = field(default_factory=list)
    populations: list[Population] = field(default_factory=list)


@dataclass
class Plan:
    """What the engine runs."""

    planned: list[Planned]
    shared: dict[str, _Shared]
    skipped: dict[str, str]
    gaps: Sequence[Gap]

    def new_states(self) -> dict[str, Running]:
        """Return fresh running states by key."""
        return {key: _new_state(s, self.gaps) for key, s in self.shared.items()}

    @property
    def entities(self) -> list[str]:
        """The entity columns, sorted."""
        return sorted({p.detection.entity for p in self.planned})

    @property
    def reads(self) -> list[str]:
        """The event columns that some detection needs, attached ones included, sorted."""
        needed = {c for p in self.planned for c in (*p.detection.reads, *p.detection.evidence)}
        return sorted(needed)


def plan(detections: Iterable[Detection], available: Collection[str], gaps: Sequence[Gap] = ()) -> Plan:
    """Compile detections for a source with the columns ``available`` (attached ones included)."""
    result = Plan([], {}, {}, gaps)
    for detection in detections:
        missing = [c for c in detection.reads if c not in available]
        if missing:
            result.skipped[detection.id] = _why_skipped(missing[0], available)
        else:
            result.planned.append(_plan_one(detection, result.shared))
    return result


def _why_skipped(column: str, available: Collection[str]) -> str:
    if column in LOOKED_UP:
        return f"needs {column}: give reference data that attaches it (geo=, threats= or assets=)"
    return f"the events have no column {column}.{did_you_mean(column, available)}"


def _plan_one(detection: Detection, shared: dict[str, _Shared]) -> Planned:
    planned = Planned(detection)
    against = detection.against
    if isinstance(against, Limit):
        key = f"limit:{against.key}:{canonical(detection.on)}"
        shared.setdefault(key, _Shared(against, detection))
        planned.columns = {f"@ref.{c}": (key, c) for c in against.columns}
    if detection.measure is None:
        return planned
    excludes = isinstance(against, OwnHistory) and against.exclude_alerted
    key = ":".join([detection.measure.key, canonical(detection.on), detection.entity, detection.id if excludes else ""])
    state = shared.setdefault(key, _Shared(detection.measure, detection))
    planned.feeds_back = key if excludes else None
    for name in detection.measure.outputs:
        planned.columns[name] = (key, name.removeprefix("@prev.").removeprefix("@"))
    if isinstance(against, OwnHistory | Population):
        prefix = _attach_fit(state, against)
        planned.columns |= {f"@ref.{c}": (key, f"{prefix}.{c}") for c in against.columns}
    return planned


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


def _new_state(shared: _Shared, gaps: Sequence[Gap]) -> Running:
    measure, on, entity = shared.measure, shared.detection.on, shared.detection.entity
    if isinstance(measure, Limit):
        return LimitState(measure, on)
    if isinstance(measure, Spanned):
        if measure.per:
            return WindowState(measure, on, entity, shared.own, shared.populations, gaps)
        return SlidingState(measure, on, entity) if measure.sliding else EverState(measure, on, entity)
    kinds: dict[type[Measure], Any] = {Previous: PreviousState, FirstSeen: FirstSeenState, Hours: HoursState}
    state: Running = kinds[type(measure)](measure, on, entity)
    return state
