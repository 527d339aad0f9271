"""Adopt: a state goes on under other rules.

Enters: the engine that made a state, the state, the engine that is to go on. Leaves: the state for that engine, with
everything of the old one that still means the same. Layer: engine.

What a piece of state means is said by its name: an entity's column, a measure with its ``on`` (and the contexts that
reads), a detection with its version. What bears the same name is taken over, all else begins as if the rules had been
loaded onto an empty state. So a rule that did not change scores as if there had been no change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from tocsin.errors import StateError
from tocsin.expressions import columns_read, root_names
from tocsin.hashing import hash_words
from tocsin.kernels.arrival import UNKNOWN
from tocsin.running import WindowState
from tocsin.running.refit import refit, same_fits

if TYPE_CHECKING:
    from tocsin.engine.core import Engine, State
    from tocsin.running import Running

WITHIN_A_BATCH = ("received_at", "partition", "source")
"""The columns that a batch may carry beside those that rules read."""


def adopt(engine: Engine, old: Engine, state: State) -> State:
    """Return ``state`` as ``engine`` goes on with it; see ``Engine.adopt``."""
    _refuse_other_times(engine, old)
    adopted = engine.new_state()
    adopted.arrival, adopted.counts = state.arrival, state.counts
    if _content(engine) != _content(old):
        state.arrival.ids.kept[:, 2] = UNKNOWN
    adopted.slots |= {e: slots for e, slots in state.slots.items() if e in adopted.slots}
    for key, running in adopted.running.items():
        if key in state.running and _meaning(engine, key) == _meaning(old, key):
            same_gaps = engine.plan.gaps == old.plan.gaps
            adopted.running[key] = _go_on(running, state.running[key], state.arrival.passed, same_gaps=same_gaps)
    versions = {p.detection.id: p.detection.version for p in old.plan.planned}
    for planned in engine.plan.planned:
        detection = planned.detection
        if versions.get(detection.id) == detection.version:
            adopted.firing[detection.id] = state.firing[detection.id]
            adopted.tallies[detection.id] = state.tallies[detection.id]
    pieces = [piece.frame for piece in state.arrival.pieces]
    fitted = [_fitted(engine, adopted, frame) for frame in pieces]
    if [f.schema for f in fitted] != [p.schema for p in pieces]:
        adopted.arrival.wait(fitted)
    return adopted


def _refuse_other_times(engine: Engine, old: Engine) -> None:
    settings = {"lateness": "lateness", "skew": "future_skew", "horizon": "dedup_horizon"}
    differ = [name for field, name in settings.items() if getattr(engine, field) != getattr(old, field)]
    if differ:
        raise StateError(
            f"The state was made with another {' and '.join(differ)}: which events are late, in the future or repeated was decided by it. "
            "Keep the setting, or start with an empty state and replay from the source."
        )
    if engine.key != old.key:
        raise StateError(
            "The state was made with another key: its ids and entities could not be recognised. "
            "Go on with the key of the state folder, or start with an empty one."
        )


def _content(engine: Engine) -> list[tuple[str, bool, Any]]:
    """Return what the digest of an event's content is made of."""
    return [(c, c in engine.plan.entities, _type(engine, c)) for c in engine.columns]


def _type(engine: Engine, column: str) -> Any:
    return pl.String if column in engine.plan.entities else engine.types.get(column)


def _meaning(engine: Engine, key: str) -> Any:
    """Return what a state's key leaves open: the contexts that its ``on`` names, and the types of what it reads."""
    shared = engine.plan.shared[key]
    contexts = engine.plan.contexts
    named = {name: contexts[name] for name in root_names(shared.on) if name in contexts}
    reads = [*columns_read(shared.on), *getattr(shared.measure, "reads", [])]
    return named, {c: _type(engine, c) for c in reads}


def _go_on(new: Running, old: Running, passed: int, *, same_gaps: bool) -> Running:
    """Return the running state to go on with: the old one itself, or the new one with what the old one counted."""
    if not (isinstance(new, WindowState) and isinstance(old, WindowState)) or (same_fits(new, old) and same_gaps):
        return old
    refit(new, old, passed)
    return new


def _fitted(engine: Engine, state: State, waiting: pl.DataFrame) -> pl.DataFrame:
    """Return waiting events in the columns of this engine."""
    beside = [c for c in WITHIN_A_BATCH if c in waiting.columns]
    form = engine.form(state, beside)
    made = [c for c in form.columns if c.startswith("@h.") and c not in waiting.columns]
    fitted = waiting.select(
        pl.col(c).cast(dtype, strict=False) if c in waiting.columns else pl.lit(_default(c), dtype).alias(c)
        for c, dtype in form.schema.items()
    )
    for entity in {c.removeprefix("@h.")[:-1] for c in made}:
        pair = hash_words(fitted[entity], engine.key)
        fitted = fitted.with_columns(pl.Series(f"@h.{entity}{i}", words) for i, words in enumerate(pair, 1))
    return fitted


def _default(column: str) -> int | None:
    """Return what stands in a column that an old engine did not make: no entity, or null."""
    return -1 if column.startswith("@s.") else 0 if column.startswith("@h.") else None
