"""What a step gives: findings, raised peaks, and on request fates, traces and scores; and how their pieces are gathered.

Enters: what each rule gave for some events. Leaves: `Output`. Layer: engine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from tocsin.engine import findings as fnd
from tocsin.engine.kept import NOTHING
from tocsin.expressions import own_text

if TYPE_CHECKING:
    from tocsin.engine.apply import Applied
    from tocsin.engine.kept import Kept


@dataclass
class Output:
    """What a step gives. ``fates`` and ``trace`` are there when the engine traces, ``scores`` when it keeps them.

    aside: the events of the batch that are late, conflict or future (``row`` in the batch as it was given, ``event_id``,
    ``fate``), or None where there are none. kept: what calendar windows held that closed, where the engine keeps them.
    """

    findings: pl.DataFrame
    peaks: pl.DataFrame
    fates: pl.DataFrame | None = None
    trace: pl.DataFrame | None = None
    scores: dict[str, pl.DataFrame] = field(default_factory=dict)
    aside: pl.DataFrame | None = None
    kept: Kept = NOTHING


class Gathered:
    """Pieces of output of one step."""

    def __init__(self) -> None:
        self.findings: list[pl.DataFrame] = []
        self.peaks: list[pl.DataFrame] = []
        self.traces: list[pl.DataFrame] = []
        self.scores: dict[str, list[pl.DataFrame]] = {}
        self.kept = NOTHING

    def add(self, detection_id: str, applied: Applied) -> None:
        """Add what one detection gave for some events."""
        if applied.findings is not None:
            self.findings.append(applied.findings)
        if applied.peaks is not None:
            self.peaks.append(applied.peaks)
        if applied.scores is not None:
            self.scores.setdefault(detection_id, []).append(applied.scores)

    def then(self, later: Gathered) -> Gathered:
        """Return all of this and then all of ``later``."""
        self.findings += later.findings
        self.peaks += later.peaks
        self.traces += later.traces
        for detection_id, scores in later.scores.items():
            self.scores.setdefault(detection_id, []).extend(scores)
        self.kept = later.kept
        return self

    def output(self, fates: pl.DataFrame | None, *, trace: bool) -> Output:
        """Put the pieces together."""
        findings = pl.concat([fnd.empty(), *self.findings])
        if findings.height:
            findings = pl.DataFrame([own_text(c) if c.dtype == pl.String else c for c in findings.get_columns()])
        return Output(
            findings, pl.concat([pl.DataFrame(schema=fnd.PEAKS), *self.peaks]), fates,
            pl.concat(self.traces, how="diagonal") if trace and self.traces else None, {k: pl.concat(v) for k, v in self.scores.items()},
            kept=self.kept,
        )  # fmt: skip
