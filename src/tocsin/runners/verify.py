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
from tocsin.runners.verify_results import Book, Result, difference, result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tocsin.detection import Detection
    from tocsin.engine import State
    from tocsin.references import References
    from tocsin.sources import Events

VERIFY_ROWS = 100_000
LATE_SHARE = 0.02
DUPLICATE_SHARE = 0.05
SINGLE_EVENTS = 1000
KILLS = 3


@dataclass
class Run:
    """One way to feed the events: a name, the arrival log, where to cut it, whether to save and load at every cut."""

    name: str
    log: pl.DataFrame
    cuts: list[int]
    restart: bool = False


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
    live: bool = False,
    kills: int = KILLS,
    rule_files: Sequence[str | Path] = (),
    reference_files: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] | None = None,
) -> VerifyReport:
    """Replay events in several ways and compare every score with the plain replay in one batch.

    The runs: fixed and random batches; shuffled within the source's lateness; with repeated events; saved and loaded
    at every cut; with late events (there the plain replay of the same arrival log is the yardstick, and the events
    that the sorted replay scores otherwise are counted in the note). At most the first ``rows`` events are used.

    With ``live``, `tocsin run` is driven as well, in processes of its own: over a growing file, killed ``kills`` times at
    random moments and started again, with the events in order, shuffled and repeated, and late. A process loads what
    it runs from files: ``rule_files`` names those of the detections, unless they are rules that ship;
    ``reference_files`` those of ``refs``, by the names `reference` has for them.

    Raises:
        RuleError, SourceError: With ``live``: the files do not hold these detections or references, or JSON lines cannot hold
            these events. That the process fails is no error but a difference.
    """
    from tocsin.runners import verify_live

    tell = progress or _nothing
    detections = tuple(detections)
    engine = Engine(detections, events.columns, refs, lateness=events.lateness, keep_scores=True)
    log = _once_each(_first_rows(events, engine.columns, rows))
    driver = None
    if live:
        files = verify_live.LiveFiles.of(detections, refs, rule_files, reference_files)
        log = verify_live.carried(log)
        engine = Engine(detections, {**events.columns, **log.schema}, refs, lateness=events.lateness, keep_scores=True)
        driver = verify_live.Driver(engine, files, kills=kills, seed=seed, progress=tell)
    book, rng = Book(log), np.random.default_rng(seed)
    plain = _run(engine, Run("one batch", log, []))
    book.enter("one batch", 1, log.height, plain, plain, "the yardstick of the runs below")
    for run in _runs(engine, log, rng):
        tell(run.name)
        _enter(book, run, plain, _run(engine, run))
    delayed, whole = _late_runs(engine, log, plain, rng, book, tell)
    if driver:
        shuffled = _repeated(_shuffled(engine, log, rng), rng, engine.horizon)
        driver.drive(book, f"live, killed {_times(kills)}", log, plain, stopped=True)
        driver.drive(book, f"live, shuffled and repeated, killed {_times(kills)}", shuffled, plain)
        driver.drive(book, "live, late events, killed", delayed, whole, kills=1)
    return VerifyReport(pl.DataFrame(book.rows, infer_schema_length=None), book.first, engine.skipped)


def _nothing(_text: str) -> None:
    """Say nothing."""


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


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
    shuffled = _shuffled(engine, log, rng)
    yield Run("shuffled within lateness", shuffled, _random_cuts(n, rng))
    repeated = _repeated(shuffled, rng, engine.horizon)
    yield Run("repeated events", repeated, _random_cuts(repeated.height, rng))
    yield Run("saved and loaded", shuffled, _random_cuts(n, rng, 8), restart=True)


def _late_runs(
    engine: Engine, log: pl.DataFrame, plain: Result, rng: np.random.Generator, book: Book, tell: Callable[[str], None]
) -> tuple[pl.DataFrame, Result]:
    """Delay some events past the lateness; every cut of that log must agree with its own plain replay, which is returned."""
    delay = rng.uniform(0, 1, log.height) * (engine.lateness - 1)
    late = rng.random(log.height) < LATE_SHARE
    delay[late] += engine.lateness + rng.uniform(0, 26, int(late.sum())) * 3_600_000_000
    delayed = _repeated(_delayed(log, delay), rng, engine.horizon)
    yardstick = Run("late events, one batch", delayed, [])
    whole = _run(engine, yardstick)
    moved = difference(plain, whole, log).n
    _enter(
        book,
        yardstick,
        whole,
        whole,
        f"{moved} scores differ from the sorted replay: late events and their corrections",
    )
    for name, restart in (("late events, random batches", False), ("late events, saved and loaded", True)):
        tell(name)
        run = Run(name, delayed, _random_cuts(delayed.height, rng, 8 if restart else 40), restart=restart)
        _enter(book, run, whole, _run(engine, run))
    return delayed, whole


def _enter(book: Book, run: Run, expected: Result, got: Result, note: str = "") -> None:
    duplicates = got.counts["duplicate"] + got.counts["conflict"]
    extra = f"{duplicates} duplicates set aside" if duplicates else ""
    book.enter(run.name, len(run.cuts) + 1, run.log.height, expected, got, "; ".join(t for t in (note, extra) if t))


def _random_cuts(n: int, rng: np.random.Generator, most: int = 40) -> list[int]:
    if n < 2:
        return []
    return sorted(set(rng.integers(1, n, size=min(most, n - 1)).tolist()))


def _shuffled(engine: Engine, log: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    return _delayed(log, rng.uniform(0, 1, log.height) * (engine.lateness - 1))


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
    peaks = [row for o in outputs for row in o.peaks.iter_rows()]
    return result(scores, pl.concat([o.findings for o in outputs]), peaks, dict(state.counts))


def _restarted(engine: Engine, state: State, path: Path) -> State:
    save_state(state, path)
    return load_state(engine, path)
