"""The jobs that run in a process of their own; `harness.in_new_process` starts them.

Enters: one JSON request as argument. Leaves: one JSON line on stdout. Layer: none (outside the package).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import data as made
from benchmarks import simulated
from benchmarks.harness import Measurement, peak_mb, timed

if TYPE_CHECKING:
    from collections.abc import Callable


def rival(data: made.Data, name: str, answers: str | None = None) -> Measurement:
    """Time one contestant's steps; with `answers`, leave them as Parquet files in that folder.

    Before the clock starts the contestant runs once on a small file: what is compiled, imported or started at first use
    is not what we compare. For large data it is one large enough to take the paths of large batches.
    """
    from benchmarks.rivals import contestant

    warm = contestant(name)
    small = made.QUICK if data.size.events > made.QUICK.events else made.TINY
    warm.prepare(made.make(small, data.folder.parent))
    for step in warm.steps().values():
        step()
    mine = contestant(name)
    _, prepare_seconds, _ = timed(lambda: mine.prepare(data))
    result: Measurement = {"prepare_seconds": prepare_seconds, "seconds": {}, "cpu_seconds": {}, "rows": {}}
    for label, step in mine.steps().items():
        found, wall, cpu = timed(step)
        result["seconds"][label], result["cpu_seconds"][label] = wall, cpu
        for analysis, frame in found.items():
            result["rows"][analysis] = frame.height
            if answers:
                Path(answers).mkdir(parents=True, exist_ok=True)
                frame.write_parquet(Path(answers) / f"{analysis}.parquet")
    return result | {"peak_mb": peak_mb()}


def seed(data: made.Data) -> Measurement:
    """Time the notebook's own cells on samples."""
    from benchmarks.rivals.by_seed import microseconds_an_event

    return {"us_per_event": microseconds_an_event(data)}


def engine_chunks(data: made.Data, **options: Any) -> Measurement:
    """Time the step alone in large chunks."""
    from benchmarks.engine_step import in_chunks

    return in_chunks(data, **options) | {"peak_mb": peak_mb()}


def engine_small_batches(_data: made.Data, **options: Any) -> Measurement:
    """Time the step in small batches with many entities in state."""
    from benchmarks.engine_step import in_small_batches

    return in_small_batches(**options) | {"peak_mb": peak_mb()}


def rules_whole(data: simulated.Simulated) -> Measurement:
    """Time all rules from Parquet to findings."""
    from benchmarks.rules import whole

    small = simulated.QUICK if data.size.users > simulated.QUICK.users else simulated.TINY
    return whole(data, small.make(data.folder.parent)) | {"peak_mb": peak_mb()}


def rules_step(data: simulated.Simulated) -> Measurement:
    """Time the steps alone with all rules."""
    from benchmarks.rules import step

    return step(data) | {"peak_mb": peak_mb()}


def jsonl(data: made.Data, reader: str) -> Measurement:
    """Time one reader of JSONL.gz."""
    from benchmarks.jsonl import read

    return read(data, reader) | {"peak_mb": peak_mb()}


JOBS: dict[str, Callable[..., Measurement]] = {
    "rival": rival,
    "seed": seed,
    "engine_chunks": engine_chunks,
    "engine_small_batches": engine_small_batches,
    "rules_whole": rules_whole,
    "rules_step": rules_step,
    "jsonl": jsonl,
}


def main() -> None:
    """Run the job of the request."""
    request = json.loads(sys.argv[1])
    size, folder = request["size"], Path(request["folder"])
    data = made.make(made.Size(**size), folder) if "events" in size else simulated.Organisation(**size).make(folder)
    print(json.dumps(JOBS[request["job"]](data, **request["options"])))


if __name__ == "__main__":
    main()
