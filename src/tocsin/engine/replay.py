"""Backtest: the step folded over history.

Enters: detections, events, reference data. Leaves: ``Backtest``, the findings and what every rule did.
Layer: engine. There is no second implementation of a rule: this module only feeds batches to the step.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tocsin.calendars import DAY, duration_us, instant_us
from tocsin.engine import findings as fnd
from tocsin.engine.arrive import End, in_order
from tocsin.engine.core import Engine, State
from tocsin.engine.score import REASONS
from tocsin.errors import RuleError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from tocsin.detection import Detection
    from tocsin.engine.output import Output
    from tocsin.references import References
    from tocsin.sources import Events

BATCH_ROWS = 250_000
COMPATS = (None, "notebook")


@dataclass
class Backtest:
    """What the detections did with a history.

    findings: one row per firing, ordered by time, detection and id. counts: events by fate, and rejected rows.
    days: the length of the history reported on, from its first to its last event. scores: see ``keep_scores``.
    """

    findings: pl.DataFrame
    counts: dict[str, int]
    days: float
    engine: Engine
    state: State
    scores: dict[str, pl.DataFrame] = field(default_factory=dict)

    def by_detection(self) -> pl.DataFrame:
        """Return one row per detection: how often it fired, for how many entities, and what was not scored.

        ``fired`` counts findings. An alert groups the findings of one entity in one tumbling window of the
        rule's ``grouping``; ``alerts_a_day`` is their number over the days of the history. ``unscored`` counts events, by
        reason in ``unscored_why``.
        """
        rows = [self._row(d) for d in self.engine.detections]
        schema = {
            "detection": pl.String, "tier": pl.Int64, "severity": pl.String, "events": pl.Int64, "scored": pl.Int64, "fired": pl.Int64,
            "entities": pl.Int64, "alerts": pl.Int64, "alerts_a_day": pl.Float64, "suppressed": pl.Int64, "unscored": pl.Int64,
            "unscored_why": pl.String, "errors": pl.Int64, "note": pl.String,
        }  # fmt: skip
        return pl.DataFrame(rows, schema=schema, orient="row")

    def _row(self, detection: Detection) -> tuple[Any, ...]:
        if detection.id in self.engine.skipped:
            return (
                detection.id,
                detection.tier,
                detection.severity,
                *([None] * 9),
                None,
                f"not run: {self.engine.skipped[detection.id]}",
            )
        tally = self.state.tallies[detection.id]
        mine = self.findings.filter(pl.col("detection_id") == detection.id, pl.col("suppressed_by").is_null())
        group = pl.col("time").dt.epoch("us") // duration_us(detection.grouping)
        alerts = mine.select("entity", group).unique().height
        a_day = alerts / self.days if self.days else 0.0
        reasons = {r: n for r in REASONS if r != "error" and (n := tally.unscored.get(r, 0))}
        return (
            detection.id, detection.tier, detection.severity, tally.events, tally.scored, mine.height, mine["entity"].n_unique(), alerts,
            a_day, tally.suppressed, sum(reasons.values()), ", ".join(f"{r} {n}" for r, n in reasons.items()),
            tally.unscored.get("error", 0), tally.error,
        )  # fmt: skip

    def top(self, detection_id: str, n: int = 3) -> pl.DataFrame:
        """Return the ``n`` entities with the most extreme scores of a detection, fired or not, with the time of each."""
        known = {d.id: d for d in self.engine.detections if d.id not in self.engine.skipped}
        if detection_id not in known:
            raise RuleError(f'No detection "{detection_id}" was run.{did_you_mean(detection_id, known)}')
        detection, firing = known[detection_id], self.state.firing[detection_id]
        names = self.state.slots[detection.entity].names
        scored = np.flatnonzero(~np.isnan(firing.best[: len(names)]))
        frame = pl.DataFrame(
            {"entity": names.gather(scored), "score": firing.best[scored], "time": firing.best_t[scored]}
        )
        times = pl.col("time").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        return frame.with_columns(times).sort("score", "entity", descending=[fnd.sign(detection) > 0, False]).head(n)

    def top_entities(self, n: int = 10) -> pl.DataFrame:
        """Return the entities with findings of the most different detections, then the most findings."""
        return (
            self.findings.filter(pl.col("suppressed_by").is_null())
            .group_by("entity_kind", "entity")
            .agg(
                detections=pl.col("detection_id").n_unique(), findings=pl.len(), first=pl.col("time").min(), last=pl.col("time").max(),
                fired=pl.col("detection_id").unique().sort().str.join(", "),
            )
            .sort(["detections", "findings", "entity"], descending=[True, True, False])
            .head(n)
        )  # fmt: skip


def backtest(
    detections: Iterable[Detection],
    events: Events,
    refs: References | None = None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    gaps: Sequence[tuple[datetime, datetime]] = (),
    compat: str | None = None,
    keep_scores: bool = False,
    batch_rows: int = BATCH_ROWS,
    progress: Callable[[int], None] | None = None,
) -> Backtest:
    """Replay a history through detections: each event is compared only with what was known before it.

    Args:
        detections: The rules, for example ``tocsin.rules.ALL``.
        events: What ``tocsin.read`` returned; replayed in event-time order.
        refs: Reference data; rules that need a look-up it cannot attach are listed as not run.
        since: Findings and tallies start here; earlier events are history for baselines only.
        until: Events from here on are not read.
        gaps: Intervals in which the source was not covered; windows without events there are missing, not zero.
        compat: ``"notebook"`` reproduces the workshop notebook's arithmetic for own-history rules.
        keep_scores: Keep every event's score in ``Backtest.scores``; memory then grows with the history.
        batch_rows: Events in a step; the scores do not depend on it.
        progress: Called with the number of events done so far.

    Raises:
        RuleError: Two detections share an id, or ``compat`` is unknown.
    """
    rules = _checked(detections, compat)
    engine = Engine(
        rules, events.columns, refs, lateness=events.lateness, gaps=[(instant_us(a), instant_us(b)) for a, b in gaps],
        keep_scores=keep_scores, report_from=instant_us(since) if since else None,
    )  # fmt: skip
    state, outputs, span = engine.new_state(), [], _Span(engine.report_from)
    done = 0
    for batch in _ahead(
        engine.prepare(in_order(b, "timestamp")) for b in events.batches(engine.columns, batch_rows, until=until)
    ):
        state, output = engine.step(state, batch)
        outputs.append(output)
        span.see(batch)
        done += batch.height
        if progress:
            progress(done)
    state, output = engine.step(state, End())
    counts = state.counts | {"rejected": events.counts.rejected}
    return Backtest(
        _all_findings([*outputs, output]), counts, span.days, engine, state, _all_scores([*outputs, output])
    )


def _checked(detections: Iterable[Detection], compat: str | None) -> list[Detection]:
    if compat not in COMPATS:
        raise RuleError(f'compat="{compat}" is unknown; there is only "notebook".')
    rules = [d.as_notebook() if compat else d for d in detections]
    seen: dict[str, Detection] = {}
    for d in rules:
        if d.id in seen:
            raise RuleError(
                f"{d.where[0]}:{d.where[1]}: the id {d.id} is taken by {seen[d.id].where[0]}:{seen[d.id].where[1]}. Ids are unique."
            )
        seen[d.id] = d
    return rules


class _Span:
    """First and last time of the events reported on."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._ends: tuple[int, int] | None = None

    def see(self, batch: pl.DataFrame) -> None:
        t = batch["@t"].to_numpy()
        t = t[t >= self._start]
        if t.size:
            low, high = int(t.min()), int(t.max())
            self._ends = (min(low, self._ends[0]), max(high, self._ends[1])) if self._ends else (low, high)

    @property
    def days(self) -> float:
        return max((self._ends[1] - self._ends[0]) / DAY, 1.0) if self._ends else 0.0


def _ahead(batches: Iterator[pl.DataFrame], depth: int = 1) -> Iterator[pl.DataFrame]:
    """Run an iterator in a thread, so that reading and preparing the next batch overlaps the step."""
    ready: queue.Queue[Any] = queue.Queue(depth)
    stop = threading.Event()

    def work() -> None:
        try:
            for batch in batches:
                ready.put(batch)
                if stop.is_set():
                    return
            ready.put(None)
        except BaseException as error:  # noqa: BLE001 - handed over to the consumer, which raises it
            ready.put(error)

    thread = threading.Thread(target=work, name="tocsin-prepare", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        while thread.is_alive():
            try:
                ready.get_nowait()
            except queue.Empty:
                thread.join(0.01)


def _all_findings(outputs: Sequence[Output]) -> pl.DataFrame:
    """Return all findings with the final peak of their window, in an order that depends on nothing but them."""
    found = pl.concat([fnd.empty(), *(o.findings for o in outputs)])
    peaks = pl.concat([pl.DataFrame(schema=fnd.PEAKS), *(o.peaks for o in outputs)])
    last = peaks.group_by("finding_id", maintain_order=True).last().rename({"peak_score": "raised"})
    joined = (
        found.join(last, on="finding_id", how="left")
        .with_columns(peak_score=pl.coalesce("raised", "peak_score"))
        .drop("raised")
    )
    return joined.sort("time", "detection_id", "finding_id")


def _all_scores(outputs: Sequence[Output]) -> dict[str, pl.DataFrame]:
    ids = {d for o in outputs for d in o.scores}
    return {d: pl.concat([o.scores[d] for o in outputs if d in o.scores]) for d in sorted(ids)}
