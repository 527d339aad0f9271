"""`python -m benchmarks`: run the benchmarks and render their results.

Enters: what to run. Leaves: JSON results and `docs/benchmarks.md`. Layer: none (outside the package).

    python -m benchmarks all                    everything at full size, about an hour -> docs/benchmarks.md
    python -m benchmarks quick                  everything on small data -> build/bench/results only
    python -m benchmarks analyses --runs 3      one of: analyses, rules, engine, memory, jsonl, lookups, alerts,
                                                metrics, snapshots, live
    python -m benchmarks report                 render docs/benchmarks.md from the results that are there
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

from benchmarks import alerts, compare, engine_step, jsonl, live, memory, metrics, report, rules, simulated, snapshots
from benchmarks import data as made
from benchmarks.harness import RESULTS, save

JSONL_SIZE = made.Size(events=1_000_000, users=10_000, days=90, ranges=50_000)
JSONL_QUICK = made.Size(events=50_000, users=400, days=60, ranges=3_000)
NAMES = ("analyses", "rules", "engine", "memory", "jsonl", "lookups", "alerts", "metrics", "snapshots", "live")


def _lookups(target: Path, runs: int, quick: bool) -> None:
    """Look-ups have a module of their own, with `run(ranges, runs) -> dict`."""
    module = import_module("benchmarks.lookups")
    save("lookups", module.run(ranges=50_000 if quick else 3_000_000, runs=runs), target)


def run(name: str, folder: Path, target: Path, runs: int, quick: bool) -> None:
    """Run one benchmark and save what it found."""
    size, long = (made.TINY, made.QUICK) if quick else (made.FULL, made.LONG)
    middle = made.QUICK if quick else made.FULL
    if name == "analyses":
        save(name, compare.run(middle, folder, runs), target)
    elif name == "rules":
        save(name, rules.run(simulated.QUICK if quick else simulated.FULL, folder, runs), target)
    elif name == "engine":
        entities, batches = (20_000, 200) if quick else (1_000_000, 2_000)
        save(name, engine_step.run(middle, folder, runs, entities, batches), target)
    elif name == "memory":
        save(name, memory.run(size, long, folder), target)
    elif name == "jsonl":
        save(name, jsonl.run(JSONL_QUICK if quick else JSONL_SIZE, folder, runs), target)
    elif name == "alerts":
        save(name, alerts.in_new_process(quick), target)
    elif name == "metrics":
        save(name, metrics.run(20_000 if quick else 1_000_000), target)
    elif name == "snapshots":
        save(name, snapshots.run(quick), target)
    elif name == "live":
        save(name, live.run(folder, runs, quick), target)
    else:
        _lookups(target, runs, quick)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("what", nargs="+", choices=["all", "quick", "report", *NAMES])
    parser.add_argument("--runs", type=int, default=None, help="how often each contestant runs (default 3, quick 1)")
    parser.add_argument("--quick", action="store_true", help="small data, results to build/bench only")
    options = parser.parse_args(arguments)
    quick = options.quick or "quick" in options.what
    folder = made.bench_folder()
    target = folder / "results" if quick else RESULTS
    names = NAMES if {"all", "quick"} & set(options.what) else tuple(n for n in options.what if n in NAMES)
    failed = []
    for name in names:
        started = time.monotonic()
        print(f"{name}:", flush=True)
        try:
            run(name, folder, target, options.runs or (1 if quick else 3), quick)
        except Exception as error:  # noqa: BLE001 - the others are still worth their hour
            failed.append(name)
            print(f"  failed: {error}", file=sys.stderr, flush=True)
        print(f"  done in {time.monotonic() - started:.0f} s", flush=True)
    report.write(target, folder / "benchmarks.md" if quick else report.PAGE)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
