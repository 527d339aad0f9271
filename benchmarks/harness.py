"""How anything is measured here: fresh processes, interleaved runs, medians, the machine stated, results as JSON.

Enters: what to run. Leaves: measurements, and files under `benchmarks/results/` (or the folder asked for).
Layer: none (outside the package).

Every run of every contestant is a process of its own, so that none warms another's caches or hides another's memory;
runs are interleaved (a, b, c, a, b, c, ...), so that a slow minute of the machine hits all alike.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from benchmarks.data import Size
    from benchmarks.simulated import Organisation

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("polars", "numpy", "numba", "duckdb", "pandas", "pyarrow")
Measurement = dict[str, Any]


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, cores, memory, system, versions."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "ram_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def peak_mb() -> float:
    """Return this process' peak resident memory in megabytes (10^6 bytes).

    `ru_maxrss` would count what the parent had before it started us; the kernel's VmHWM does not.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) * 1024 / 1e6


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what the work returns, its wall seconds and its CPU seconds (all threads)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def in_new_process(job: str, size: Size | Organisation, folder: Path, **options: Any) -> Measurement:
    """Run `benchmarks.jobs.<job>` in a fresh process and return what it measured."""
    request = json.dumps({"job": job, "size": asdict(size), "folder": str(folder), "options": options})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.jobs", request],
        capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parent.parent,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"the job {job} ({options}) failed:\n{done.stderr[-4000:]}")
    measured: Measurement = json.loads(done.stdout.splitlines()[-1])
    return measured


def interleaved(
    contestants: Iterable[str], runs: int, measure: Callable[[str], Measurement]
) -> dict[str, list[Measurement]]:
    """Measure every contestant `runs` times, round by round, saying each as it is done."""
    names = list(contestants)
    measured: dict[str, list[Measurement]] = {name: [] for name in names}
    for run in range(runs):
        for name in names:
            measured[name].append(measure(name))
            seconds = sum(measured[name][-1].get("seconds", {}).values())
            print(f"  run {run + 1} of {runs}: {name:11} {seconds:8.2f} s", flush=True)
    return measured


def medians(runs: list[Measurement]) -> Measurement:
    """Return the run-by-run median of every number, nested ones too; what is not a number is the first run's.

    >>> medians([{"s": {"A1": 1.0}, "n": "x"}, {"s": {"A1": 3.0}, "n": "x"}, {"s": {"A1": 2.0}, "n": "x"}])
    {'s': {'A1': 2.0}, 'n': 'x'}
    """
    first = runs[0]
    result: Measurement = {}
    for key, value in first.items():
        if isinstance(value, dict):
            result[key] = medians([run[key] for run in runs])
        elif isinstance(value, int | float) and not isinstance(value, bool):
            middle = statistics.median(run[key] for run in runs)
            result[key] = (
                int(middle) if all(run[key] == middle and isinstance(run[key], int) for run in runs) else middle
            )
        else:
            result[key] = value
    return result


def save(name: str, measured: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Write one benchmark's result with the machine beside it; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    stamp = time.strftime("%Y-%m-%d", time.gmtime())
    path.write_text(json.dumps({"taken": stamp, "machine": machine(), **measured}, indent=2) + "\n", encoding="utf-8")
    return path
