"""The running engine, all of it: throughput and memory, latency of an alert, recovery, and the common subset beside rivals.

Enters: which folder, how many runs, small or full. Leaves: one result for `live.json`. Each part prints what it finds as it is
found; one that fails is named and leaves the others. Layer: none (outside the package).
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

from benchmarks import live_latency, live_recovery, live_subset, live_throughput, simulated

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FULL = simulated.Organisation(users=100_000, days=10)  # 11.7 M events
QUICK = simulated.QUICK
PARTS = ("latency", "recovery", "throughput", "subset")


def run(folder: Path, runs: int, quick: bool, parts: tuple[str, ...] = PARTS) -> dict[str, Any]:
    """Measure the parts; raise at the end if all failed."""
    size = QUICK if quick else FULL
    tasks: dict[str, Callable[[], dict[str, Any]]] = {
        "latency": lambda: live_latency.run(QUICK, folder, quick),
        "recovery": lambda: live_recovery.run(QUICK, folder, runs, quick),
        "throughput": lambda: live_throughput.run(size, folder, runs, quick),
        "subset": lambda: live_subset.run(live_subset.QUICK if quick else live_subset.FULL, folder, runs),
    }
    found: dict[str, Any] = {"runs": runs, "load_before": os.getloadavg()[0]}
    for name in parts:
        began = time.monotonic()
        try:
            found[name] = tasks[name]()
        except Exception:  # noqa: BLE001 - the others are still worth their minutes
            traceback.print_exc(file=sys.stderr)
        print(f"  {name}: {time.monotonic() - began:.0f} s", flush=True)
    missing = [name for name in parts if name not in found]
    if len(missing) == len(parts):
        raise RuntimeError("no part of it could be measured")
    return found | {"missing": missing}
