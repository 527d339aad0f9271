"""Slow, plain answers about scores and findings, from the columns the reference has already found.

Enters: an `Answer`. Leaves: for each spec the score of every accepted event (a finite float or None), and the
findings: one for each firing event, or for a calendar measure one for each entity and window. Layer: tests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import polars as pl

from tests.oracle import Answer, Spec, calendar_of, evaluated, outputs


@dataclass(frozen=True, order=True)
class Found:
    """A finding: which rule, about whom, at which event, with which score, and the highest score of its window."""

    spec: str
    entity: str
    event_id: str
    us: int
    score: float
    peak: float


def scores(spec: Spec, said: Answer) -> list[float | None]:
    """In release order. NaN and infinity are no scores, nor is anything said about nobody."""
    assert spec.score is not None
    types = said.frame.schema
    made = {c: types[c.removeprefix("@prev.")] if c.startswith("@prev.") else pl.Float64() for c in outputs(spec)}
    cells = {c: [columns[c] for _, columns in said.columns[spec.id]] for c in made}
    frame = said.frame.with_columns(pl.Series(c, cells[c], dtype=made[c]) for c in made)
    asked = evaluated(frame, on=spec.on.fill_null(False), score=spec.score.cast(pl.Float64))
    return [
        score
        if on and score is not None and math.isfinite(score) and j.row.get(spec.entity or "") is not None
        else None
        for (on, score), j in zip(asked, said.released, strict=True)
    ]


def findings(spec: Spec, said: Answer, scored: list[float | None]) -> list[Found]:
    """What fires, in release order; in a window the first event that crosses, with the highest score of them all."""
    calendar = calendar_of(spec) if getattr(spec.measure, "per", None) else None
    firing: dict[Any, Found] = {}
    highest: dict[Any, float] = {}
    for j, score in zip(said.released, scored, strict=True):
        if score is None:
            continue
        entity = j.row[spec.entity or ""]
        group = j.position if calendar is None else (entity, calendar.window(j.us))
        highest[group] = max(score, highest.get(group, score))
        if score > spec.threshold and group not in firing:
            firing[group] = Found(spec.id, entity, j.row["event_id"], j.us, score, score)
    return [Found(f.spec, f.entity, f.event_id, f.us, f.score, highest[group]) for group, f in firing.items()]
