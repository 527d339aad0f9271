"""The whole shipped rule set on a simulated organisation: from Parquet to findings, and the step alone.

Enters: the simulated files. Leaves: events a second of both. Inside the first: reading and checking the file, look-ups
in geography, networks and threat list (loaded before), hashes, steps, and writing the findings. Inside the second: the steps, on chunks of
500,000 whose columns are prepared (look-ups and hashes included). Layer: none (outside the package).
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.data import CHUNK_EVENTS
from benchmarks.engine_step import stepped
from benchmarks.harness import in_new_process, interleaved, medians, timed

if TYPE_CHECKING:
    from benchmarks.harness import Measurement
    from benchmarks.simulated import Organisation, Simulated

JOBS = {"whole": "rules_whole", "step": "rules_step"}


def run(size: Organisation, folder: Path, runs: int) -> dict[str, Any]:
    """Measure both, `runs` times each in turn."""
    size.make(folder)
    measured = interleaved(JOBS, runs, lambda name: in_new_process(JOBS[name], size, folder))
    return {"size": size.__dict__, "runs": runs} | {name: medians(each) for name, each in measured.items()}


def whole(data: Simulated, small: Simulated) -> Measurement:
    """Time one backtest of every rule and the writing of its findings, after one on a small organisation."""
    import tocsin as tc

    _to_findings(small, tc.reference(**small.references))
    refs = tc.reference(**data.references)
    (events, rules, findings), wall, cpu = timed(lambda: _to_findings(data, refs))
    return {
        "events": events,
        "rules": rules,
        "findings": findings,
        "seconds": {"whole": wall},
        "cpu_seconds": {"whole": cpu},
        "events_per_second": events / wall,
    }


def step(data: Simulated) -> Measurement:
    """Time the steps alone."""
    import tocsin as tc
    from tocsin.rules import ALL

    events = tc.read(data.events)
    engine = tc.Engine(ALL, events.columns, tc.reference(**data.references), lateness=events.lateness)
    _all_run(engine)
    result = {"chunk_events": CHUNK_EVENTS, "rules": len(engine.plan.planned)}
    return result | stepped(engine, events.batches(engine.columns, CHUNK_EVENTS))


def _to_findings(data: Simulated, refs: Any) -> tuple[int, int, int]:
    """Return how many events there were, how many rules ran on them and how many findings were written."""
    import tocsin as tc
    from tocsin.rules import ALL

    past = tc.backtest(ALL, tc.read(data.events), refs)
    with TemporaryDirectory() as folder:
        past.findings.write_parquet(Path(folder) / "findings.parquet")
    _all_run(past.engine)
    return past.counts["ok"], len(past.engine.plan.planned), past.findings.height


def _all_run(engine: Any) -> None:
    """A rule that was skipped for want of a column would cost nothing and flatter the figure."""
    if engine.skipped:
        raise AssertionError(f"rules that cannot run on the simulation: {engine.skipped}")
