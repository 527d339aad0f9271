"""The eight analyses by all contestants: answers checked equal, then wall time, CPU time and peak memory.

Enters: a size. Leaves: `analyses.json`. Layer: none (outside the package).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from benchmarks import analyses as an
from benchmarks import rivals
from benchmarks.harness import in_new_process, interleaved, medians

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.data import Size

REFERENCE = "duckdb"


class UnequalError(Exception):
    """Two contestants found different answers: their times cannot be compared."""


def run(size: Size, folder: Path, runs: int, names: tuple[str, ...] = rivals.NAMES) -> dict[str, Any]:
    """Check that all find the same, then measure them side by side."""
    rows = check(size, folder, tuple(name for name in names if name not in rivals.UNCHECKED))
    measured = interleaved(names, runs, lambda name: in_new_process("rival", size, folder, name=name))
    return {
        "size": size.__dict__,
        "runs": runs,
        "rows": rows,
        "contestants": {name: medians(each) for name, each in measured.items()},
        "seed": in_new_process("seed", size, folder)["us_per_event"],
    }


def check(size: Size, folder: Path, names: tuple[str, ...]) -> dict[str, int]:
    """Raise UnequalError where answers are not the reference's; return how many rows each analysis has."""
    found = {}
    for name in names:
        answers = folder / size.name / "answers" / name
        in_new_process("rival", size, folder, name=name, answers=str(answers))
        found[name] = {analysis: pl.read_parquet(answers / f"{analysis}.parquet") for analysis in an.KEYS}
        print(f"  answers of {name}: " + ", ".join(f"{a} {f.height:,}" for a, f in found[name].items()), flush=True)
    for name in names:
        if lines := an.differences(found[REFERENCE], found[name]):
            raise UnequalError(f"{name} and {REFERENCE} disagree:\n  " + "\n  ".join(lines))
    return {analysis: frame.height for analysis, frame in found[REFERENCE].items()}
