"""The step alone: six rules on prepared chunks, and small batches with a million entities in state.

Enters: the made data. Leaves: events a second by chunk size, and the percentiles of one step's time.
Inside the timing: arrive, slots, measure, close/fit, score, findings. Outside: reading the file, look-ups of addresses,
and, for large chunks, `prepare` (hashes of ids and entities), which is timed by itself; small batches include it.
Layer: none (outside the package).
"""

from __future__ import annotations

import time
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from benchmarks import analyses as an
from benchmarks.data import CHUNK_EVENTS, START_US, Data, Size
from benchmarks.harness import in_new_process, interleaved, medians, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.harness import Measurement

SMALL_BATCH_EVENTS = 1_000
WARM_CHUNKS = 3
ATTACHED = ("src_latitude", "src_longitude", "src_listed", "dst_listed")


def run(size: Size, folder: Path, runs: int, entities: int, batches: int) -> dict[str, Any]:
    """Measure both forms, `runs` times each in turn."""
    jobs = {
        "chunks": ("engine_chunks", {"chunk_events": CHUNK_EVENTS}),
        "small batches": ("engine_small_batches", {"entities": entities, "batches": batches}),
    }

    def measure(name: str) -> Measurement:
        job, options = jobs[name]
        return in_new_process(job, size, folder, **options)

    return {name: medians(each) for name, each in interleaved(jobs, runs, measure).items()}


def _engine(sample: pl.DataFrame) -> Any:
    import tocsin as tc
    from benchmarks.rivals.by_tocsin import detections, sixth

    return tc.Engine([*detections(an.FIVE), sixth()], sample.schema)


def _prepared(data: Data, chunk_events: int) -> Iterator[pl.DataFrame]:
    """Yield chunks as they would come from ingest: canonical columns, look-ups attached."""
    import tocsin as tc

    refs = tc.reference(geo=data.geo, threats=data.threats)
    for batch in tc.read(data.events).batches(size=chunk_events):
        yield refs.attach(batch, ATTACHED)


def in_chunks(data: Data, chunk_events: int) -> Measurement:
    """Step through the whole file in large chunks."""
    chunks = _prepared(data, chunk_events)
    first = next(chunks)
    return {"chunk_events": chunk_events} | stepped(_engine(first), chain([first], chunks))


def stepped(engine: Any, chunks: Iterator[pl.DataFrame]) -> Measurement:
    """Time the steps through chunks, the last included that ends the log; `prepare`, which needs no state, by itself."""
    from tocsin.engine import End

    first = list(islice(chunks, WARM_CHUNKS))
    # Compile, or load what was compiled, on a state that is thrown away: days must pass for every kernel to be called.
    thrown_away = engine.new_state()
    for chunk in first:
        thrown_away, _ = engine.step(thrown_away, chunk)
    del thrown_away
    state = engine.new_state()
    seconds, cpu_seconds = {"prepare": 0.0, "step": 0.0}, {"prepare": 0.0, "step": 0.0}
    events, findings = 0, 0

    def timed_as(label: str, work: Callable[[], Any]) -> Any:
        result, wall, cpu = timed(work)
        seconds[label] += wall
        cpu_seconds[label] += cpu
        return result

    for chunk in chain(first, chunks):
        prepared = timed_as("prepare", partial(engine.prepare, chunk))
        state, output = timed_as("step", partial(engine.step, state, prepared))
        events += chunk.height
        findings += output.findings.height
    _, output = timed_as("step", partial(engine.step, state, End()))
    return {
        "events": events,
        "findings": findings + output.findings.height,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "events_per_second": events / seconds["step"],
        "events_per_second_with_prepare": events / sum(seconds.values()),
    }


def in_small_batches(entities: int, batches: int) -> Measurement:
    """Fill the state with entities, then time single small steps; the clock goes on at 1,000 events a second."""
    rng = np.random.default_rng(5)
    engine = state = None
    names = pl.Series(np.arange(entities)).cast(pl.String).str.zfill(8)
    for start in range(0, entities, CHUNK_EVENTS):
        users = np.arange(start, min(start + CHUNK_EVENTS, entities))
        batch = _made(names, users, START_US + start * 1_000, start, rng)
        if engine is None:
            engine = _engine(batch)
            state = engine.new_state()
        state, _ = engine.step(state, batch)
    took = np.empty(batches)
    for number in range(batches + 100):
        at = START_US + (entities + number * SMALL_BATCH_EVENTS) * 1_000
        batch = _made(names, rng.integers(0, entities, SMALL_BATCH_EVENTS), at, entities + number * 10**6, rng)
        started = time.perf_counter()
        state, _ = engine.step(state, batch)
        if number >= 100:  # the first hundred warm the caches
            took[number - 100] = time.perf_counter() - started
    p50, p99 = np.percentile(took, [50, 99]) * 1e3
    return {
        "entities": entities,
        "batch_events": SMALL_BATCH_EVENTS,
        "batches": batches,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "max_ms": float(took.max() * 1e3),
        "seconds": {"step": float(took.sum())},
        "events_per_second": SMALL_BATCH_EVENTS * batches / float(took.sum()),
    }


def _made(names: pl.Series, users: np.ndarray, at_us: int, first_id: int, rng: np.random.Generator) -> pl.DataFrame:
    n = users.size
    mail = pl.Series(rng.random(n) < 0.7)
    return pl.DataFrame(
        {
            "event_id": pl.Series(np.arange(first_id, first_id + n)).cast(pl.String).str.zfill(13),
            "timestamp": pl.Series(at_us + np.arange(n) * 1_000).cast(pl.Datetime("us", "UTC")),
            "kind": mail.replace_strict({True: "mail", False: "login"}, return_dtype=pl.String),
            "user_id": names[users],
            "nr_recipients": pl.Series(rng.poisson(4, n)).cast(pl.Int64),
            "attachments": pl.Series([[], ["report.pdf"], ["setup.exe"]])[rng.choice(3, n, p=[0.9, 0.08, 0.02])],
            "src_latitude": rng.uniform(40, 41, n),
            "src_longitude": rng.uniform(-105, -104, n),
            "src_listed": pl.Series(rng.random(n) < 1e-4),
            "dst_listed": pl.Series(np.zeros(n, bool)),
        }
    )
