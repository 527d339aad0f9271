"""Verify: the same rules over the same events, cut, shuffled, repeated, delayed and restarted, must score the same.

Enters: detections, events. Leaves: a report with one row per run, and the first difference in words.
Layer: runners. Every run is compared score by score, event by event, not by its findings alone: a rule that looks
ahead may well fire the same and still be wrong.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tocsin.engine import End, Engine
from tocsin.engine.saved import load_state, save_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tocsin.detection import Detection
    from tocsin.engine import State
    from tocsin.references import References
    from tocsin.sources import Events

VERIFY_ROWS = 100_000
LATE_SHARE = 0.02
DUPLICATE_SHARE = 0.05
SINGLE_EVENTS = 1000


@dataclass
class Run:
    """One way to feed the events: a name, the arrival log, where to cut it, whether to save and load at every cut."""

    name: str
    log: pl.DataFrame
    cuts: list[int]
    restart: bool = False


@dataclass
class Result:
    """What a run gave: scores (event_id, detection, score, fired), findings, counts."""

    scores: pl.DataFrame
    findings: pl.DataFrame
    counts: dict[str, int]


@dataclass
class VerifyReport:
    """``runs``: name, batches, events, compared, differences, late, note. ``first_difference``: in words, or empty."""

    runs: pl.DataFrame
    first_difference: str = ""
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every run gave the identical score for every event."""
        return not self.first_difference


def verify(
    detections: Iterable[Detection],
    events: Events,
    refs: References | None = None,
    *,
    seed: int = 7,
    rows: int = VERIFY_ROWS,
    progress: Callable[[str], None] | None = None,
) -> VerifyReport:
    """Replay events in several ways and compare every score with the plain replay in one batch.

    The runs: fixed and random batches; shuffled within the source's lateness; with repeated events; saved and loaded
    at every cut; with late events (there the plain replay of the same arrival log is the yardstick, and the events
    that the sorted replay scores otherwise are counted in the note). At most the first ``rows`` events are used.
    """
    engine = Engine(detections, events.columns, refs, lateness=events.lateness, keep_scores=True)
    log = _once_each(_first_rows(events, engine.columns, rows))
    rng = np.random.default_rng(seed)
    plain = _run(engine, Run("one batch", log, []))
    table, first = [_row(Run("one batch", log, []), plain, plain, 0, "the yardstick of the runs below")], ""
    for run in _runs(engine, log, rng):
        if progress:
            progress(run.name)
        result = _run(engine, run)
        difference = _difference(plain, result, log)
        first = first or (f"{run.name}: {difference[1]}" if difference[0] else "")
        table.append(_row(run, plain, result, difference[0], ""))
    late_rows, late_first = _late_runs(engine, log, plain, rng, progress)
    return VerifyReport(pl.DataFrame(table + late_rows), first or late_first, engine.skipped)


def _first_rows(events: Events, columns: list[str], rows: int) -> pl.DataFrame:
    parts, n = [], 0
    for batch in events.batches(columns, min(rows, 500_000)):
        parts.append(batch[: rows - n])
        n += parts[-1].height
        if n >= rows:
            break
    if parts:
        return pl.concat(parts)
    return pl.DataFrame(schema={c: events.columns[c] for c in dict.fromkeys(("event_id", "timestamp", *columns))})


def _once_each(log: pl.DataFrame) -> pl.DataFrame:
    """Leave out what the source itself repeats: which of two different copies counts is for the order to decide."""
    keys = ["source", "event_id"] if "source" in log.columns else ["event_id"]
    return log.unique(keys, keep="first", maintain_order=True).sort("timestamp", maintain_order=True)


def _runs(engine: Engine, log: pl.DataFrame, rng: np.random.Generator) -> Iterator[Run]:
    n = log.height
    yield Run("batches of 1,000", log, list(range(1000, n, 1000)))
    yield Run("random batches", log, _random_cuts(n, rng))
    yield Run(f"single events, the first {min(n, SINGLE_EVENTS):,}", log, list(range(1, min(n, SINGLE_EVENTS))))
    shuffled = _delayed(log, rng.uniform(0, 1, n) * (engine.lateness - 1))
    yield Run("shuffled within lateness", shuffled, _random_cuts(n, rng))
    repeated = _repeated(shuffled, rng, engine.horizon)
    yield Run("repeated events", repeated, _random_cuts(repeated.height, rng))
    yield Run("saved and loaded", shuffled, _random_cuts(n, rng, 8), restart=True)


def _late_runs(
    engine: Engine, log: pl.DataFrame, plain: Result, rng: np.random.Generator, progress: Any
) -> tuple[list[dict[str, Any]], str]:
    """Delay some events past the lateness; every cut of that log must agree with its own plain replay."""
    delay = rng.uniform(0, 1, log.height) * (engine.lateness - 1)
    late = rng.random(log.height) < LATE_SHARE
    delay[late] += engine.lateness + rng.uniform(0, 26, int(late.sum())) * 3_600_000_000
    delayed = _repeated(_delayed(log, delay), rng, engine.horizon)
    yardstick = Run("late events, one batch", delayed, [])
    whole = _run(engine, yardstick)
    moved = _difference(plain, whole, log)[0]
    rows, first = (
        [
            _row(
                yardstick,
                whole,
                whole,
                0,
                f"{moved} scores differ from the sorted replay: late events and their corrections",
            )
        ],
        "",
    )
    for name, restart in (("late events, random batches", False), ("late events, saved and loaded", True)):
        if progress:
            progress(name)
        run = Run(name, delayed, _random_cuts(delayed.height, rng, 8 if restart else 40), restart=restart)
        result = _run(engine, run)
        difference = _difference(whole, result, log)
        first = first or (f"{name}: {difference[1]}" if difference[0] else "")
        rows.append(_row(run, whole, result, difference[0], ""))
    return rows, first


def _random_cuts(n: int, rng: np.random.Generator, most: int = 40) -> list[int]:
    if n < 2:
        return []
    return sorted(set(rng.integers(1, n, size=min(most, n - 1)).tolist()))


def _delayed(log: pl.DataFrame, delay_us: np.ndarray[Any, Any]) -> pl.DataFrame:
    """Return the events in the order in which they arrive, each ``delay_us`` after it happened."""
    arrives = log["timestamp"].dt.epoch("us").to_numpy() + delay_us
    return log[np.argsort(arrives, kind="stable")]


def _repeated(log: pl.DataFrame, rng: np.random.Generator, horizon_us: int) -> pl.DataFrame:
    """Return the log with some events arriving again, up to a fiftieth of the log later, while their ids are remembered."""
    n = log.height
    again = np.flatnonzero(rng.random(n) < DUPLICATE_SHARE)
    places = np.minimum(again + rng.integers(1, max(2, n // 50), again.size), n)
    clock = np.maximum.accumulate(log["timestamp"].dt.epoch("us").to_numpy())
    places = np.where(clock[places - 1] - clock[again] > horizon_us, again + 1, places)
    order = np.concatenate([np.arange(n, dtype=np.float64), places - 0.5])
    rows = np.concatenate([np.arange(n), again])
    return log[rows[np.argsort(order, kind="stable")]]


def _run(engine: Engine, run: Run) -> Result:
    state = engine.new_state()
    outputs = []
    edges = [0, *run.cuts, run.log.height]
    with tempfile.TemporaryDirectory() as folder:
        for start, stop in pairwise(edges):
            state, output = engine.step(state, run.log[start:stop])
            outputs.append(output)
            if run.restart:
                state = _restarted(engine, state, Path(folder) / "state.arrow")
    state, output = engine.step(state, End())
    outputs.append(output)
    scores = [s.with_columns(detection=pl.lit(d)) for o in outputs for d, s in o.scores.items()]
    schema = {"event_id": pl.String, "score": pl.Float64, "fired": pl.Boolean, "detection": pl.String}
    peaks = {k: v for o in outputs for k, v in o.peaks.iter_rows()}
    findings = pl.concat([o.findings for o in outputs])
    findings = findings.with_columns(
        pl.Series(
            "peak_score",
            [peaks.get(i, p) for i, p in findings.select("finding_id", "peak_score").iter_rows()],
            pl.Float64,
        )
    )
    return Result(
        pl.concat([pl.DataFrame(schema=schema), *scores]),
        findings.sort("time", "detection_id", "finding_id"),
        dict(state.counts),
    )


def _restarted(engine: Engine, state: State, path: Path) -> State:
    save_state(state, path)
    return load_state(engine, path)


def _difference(expected: Result, got: Result, log: pl.DataFrame) -> tuple[int, str]:
    """Return how many scores differ, and the first of them (by time of the event) in words."""
    both = expected.scores.join(got.scores, on=["detection", "event_id"], how="full", coalesce=True, suffix="_got")
    same = pl.col("score").eq_missing(pl.col("score_got")) & pl.col("fired").eq_missing(pl.col("fired_got"))
    wrong = both.filter(~same)
    if wrong.is_empty() and expected.scores.height != got.scores.height:
        more = got.scores.height - expected.scores.height
        return abs(
            more
        ), f"{abs(more)} scores {'more' if more > 0 else 'fewer'} than in one batch: some events counted again."
    if wrong.is_empty():
        return _findings_difference(expected, got)
    first = (
        wrong.join(log.select("event_id", "timestamp"), on="event_id", how="left")
        .sort("timestamp", "event_id", "detection")
        .row(0, named=True)
    )
    at = (
        f"event {first['event_id']} ({first['timestamp']:%Y-%m-%d %H:%M:%S} UTC)"
        if first["timestamp"]
        else first["event_id"]
    )
    text = (
        f"{first['detection']} gives {at} the score "
        f"{_said(first['score_got'], first['fired_got'])}; in one batch it was {_said(first['score'], first['fired'])}."
    )
    return wrong.height, text


def _said(score: float | None, fired: bool | None) -> str:
    return "nothing (it was not scored at all)" if fired is None else f"{score!r}{', fired' if fired else ''}"


def _findings_difference(expected: Result, got: Result) -> tuple[int, str]:
    if expected.findings.equals(got.findings, null_equal=True):
        return 0, ""
    ids = set(expected.findings["finding_id"]) ^ set(got.findings["finding_id"])
    text = (
        f"all scores agree, but {len(ids)} findings are on one side only"
        if ids
        else "all scores agree, but findings differ in their evidence or peak"
    )
    return max(len(ids), 1), text + "."


def _row(run: Run, expected: Result, got: Result, differences: int, note: str) -> dict[str, Any]:
    duplicates = got.counts["duplicate"] + got.counts["conflict"]
    extra = f"{duplicates} duplicates set aside" if duplicates else ""
    return {
        "run": run.name, "batches": len(run.cuts) + 1, "events": run.log.height, "compared": max(expected.scores.height, got.scores.height),
        "differences": differences, "late": got.counts["late"], "note": "; ".join(t for t in (note, extra) if t),
    }  # fmt: skip
