"""What the runs of a verification gave, and how two of them differ.

Enters: scores and findings of two runs over the same events. Leaves: how many differ, and the first of them in words; the
rows of the report. Layer: runners.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SCORES = {"event_id": pl.String, "score": pl.Float64, "fired": pl.Boolean, "detection": pl.String}
"""The columns of all scores of a run."""


@dataclass
class Result:
    """What a run gave: scores (`SCORES`), findings with the peaks they reached, counts of events by fate."""

    scores: pl.DataFrame
    findings: pl.DataFrame
    counts: Mapping[str, int]


class Difference(NamedTuple):
    """How many scores or findings differ, and the first of them in words."""

    n: int
    words: str


def result(
    scores: Iterable[pl.DataFrame],
    findings: pl.DataFrame,
    peaks: Iterable[tuple[str, float]],
    counts: Mapping[str, int],
) -> Result:
    """Return a run's result from its parts; peaks: what windows of known findings reached since, the last one last."""
    reached = dict(peaks)
    peak = [reached.get(i, p) for i, p in findings.select("finding_id", "peak_score").iter_rows()]
    findings = findings.with_columns(pl.Series("peak_score", peak, pl.Float64))
    # The alert log follows no window of a finding that an allow-list covers.
    findings = findings.with_columns(pl.when(pl.col("suppressed_by").is_null()).then("peak_score"))
    return Result(
        pl.concat([pl.DataFrame(schema=SCORES), *(s.select(*SCORES) for s in scores)]),
        findings.sort("time", "detection_id", "finding_id"),
        counts,
    )


@dataclass
class Book:
    """The report as it is written: a row for each run, and the first difference of all."""

    log: pl.DataFrame
    """The events, for the times of those that differ."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    first: str = ""

    def enter(self, name: str, batches: int, events: int, expected: Result, got: Result, note: str = "") -> int:
        """Compare a run with its yardstick and write down what came of it; return how many scores differ."""
        found = difference(expected, got, self.log)
        self._differs(name, found.words)
        compared = max(expected.scores.height, got.scores.height)
        self._write(name, batches, events, compared, found.n, got.counts["late"], note)
        return found.n

    def fail(self, name: str, events: int, why: str) -> None:
        """Write down a run that did not come to its end."""
        self._differs(name, why)
        self._write(name, None, events, 0, None, None, "did not come to its end")

    def _differs(self, name: str, words: str) -> None:
        self.first = self.first or (f"{name}: {words}" if words else "")

    def _write(
        self,
        name: str,
        batches: int | None,
        events: int,
        compared: int,
        differ: int | None,
        late: int | None,
        note: str,
    ) -> None:
        row = {"run": name, "batches": batches, "events": events, "compared": compared, "differences": differ}
        self.rows.append(row | {"late": late, "note": note})


def difference(expected: Result, got: Result, log: pl.DataFrame) -> Difference:
    """Return how many scores differ, and the first of them (by time of the event) in words; where none does, of findings."""
    both = expected.scores.join(got.scores, on=["detection", "event_id"], how="full", coalesce=True, suffix="_got")
    same = pl.col("score").eq_missing(pl.col("score_got")) & pl.col("fired").eq_missing(pl.col("fired_got"))
    wrong = both.filter(~same)
    more = got.scores.height - expected.scores.height
    if wrong.is_empty() and more:
        said = "more" if more > 0 else "fewer"
        return Difference(abs(more), f"{abs(more)} scores {said} than in one batch: some events counted again.")
    if wrong.is_empty():
        return _findings_difference(expected, got)
    first = (
        wrong.join(log.select("event_id", "timestamp"), on="event_id", how="left")
        .sort("timestamp", "event_id", "detection")
        .row(0, named=True)
    )
    time = first["timestamp"]
    at = f"event {first['event_id']} ({time:%Y-%m-%d %H:%M:%S} UTC)" if time else first["event_id"]
    text = (
        f"{first['detection']} gives {at} the score "
        f"{_said(first['score_got'], first['fired_got'])}; in one batch it was {_said(first['score'], first['fired'])}."
    )
    return Difference(wrong.height, text)


def _said(score: float | None, fired: bool | None) -> str:
    return "nothing (it was not scored at all)" if fired is None else f"{score!r}{', fired' if fired else ''}"


def _findings_difference(expected: Result, got: Result) -> Difference:
    if expected.findings.equals(got.findings, null_equal=True):
        return Difference(0, "")
    ids = set(expected.findings["finding_id"]) ^ set(got.findings["finding_id"])
    text = (
        f"all scores agree, but {len(ids)} findings are on one side only"
        if ids
        else "all scores agree, but findings differ in their evidence or peak"
    )
    return Difference(max(len(ids), 1), text + ".")
