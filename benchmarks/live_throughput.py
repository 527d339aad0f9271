"""Events a second, latency and memory of a running engine whose state is warm.

Enters: a simulated organisation. Leaves: for six rules and for all, from a drop folder of Parquet and from a growing file of
JSON lines: the soak that warms the state, and what a process started upon it then does at several batch sizes.
Layer: none (outside the package).

The state is warmed with all days but the end of the last one, so that what is new to a rule is rare, as it is on any day but
the first. A started process first takes some batches that do not count (the run-in: compiled code is loaded at first use).
The clock starts when the batch after these is cut, and stops when the last finding and the snapshot at the end are durable.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from benchmarks.harness import medians
from benchmarks.live_process import run as run_engine
from benchmarks.live_process import settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.live_process import Ran, Settings
    from benchmarks.simulated import Organisation, Simulated

RULES = {"six rules": [str(Path(__file__).with_name("live_rules.py"))], "all shipped rules": []}
SOURCES = ("Parquet", "JSONL")
SOAK_BATCH = 10_000
WRITE_ROWS = 500_000
SHORT_HORIZON = "2d"


@dataclass(frozen=True)
class Part:
    """What is measured at one batch size: so many events, after so many of a run-in."""

    batch: int
    run_in: int
    events: int


FULL = (Part(1_000, 20_000, 200_000), Part(10_000, 200_000, 1_000_000), Part(100_000, 500_000, 1_000_000))
QUICK = (Part(1_000, 5_000, 10_000), Part(10_000, 10_000, 40_000))
SOAK_AT = (1_000_000, 2_000_000, 5_000_000, 10_000_000)
QUICK_AT = (50_000, 100_000)


class Files:
    """The events of an organisation, cut in two: what warms, and for each part what is measured."""

    def __init__(self, data: Simulated, parts: tuple[Part, ...]) -> None:
        self.data, self._parts = data, parts
        self._folder = data.folder / "live"
        self._warm = data.rows - max(p.run_in + p.events for p in parts)

    def path(self, source: str, part: Part | None) -> Path:
        """Return a file, made where it is not there: of a part, or of what comes before all of them."""
        rows = self._warm if part is None else part.run_in + part.events
        name = f"{0 if part is None else self._warm}-{rows}.{source.lower()}"
        path = self._folder / name
        if not path.exists():
            self._folder.mkdir(exist_ok=True)
            self._write(path, 0 if part is None else self._warm, rows)
        return path

    def _write(self, path: Path, first: int, rows: int) -> None:
        unfinished = path.with_suffix(".part")
        if path.suffix == ".parquet":
            pl.scan_parquet(self.data.events).slice(first, rows).sink_parquet(
                unfinished, row_group_size=SOAK_BATCH * 10
            )
        else:
            with unfinished.open("wb") as file:
                for start in range(first, first + rows, WRITE_ROWS):
                    left = min(WRITE_ROWS, first + rows - start)
                    pl.scan_parquet(self.data.events).slice(start, left).collect().write_ndjson(file)
        unfinished.rename(path)


class Bench:
    """One rule set over one kind of source: a state that is warmed once, and copies of it that go on."""

    def __init__(self, files: Files, folder: Path, rules: str, source: str) -> None:
        self.files, self.rules, self.source = files, rules, source
        self._folder = folder / f"live-{rules}-{source}".replace(" ", "-")
        self._warm = self._folder / "warm"
        self._input = self._folder / "input"

    def settings(self, folder: Path, batch: int, **times: str) -> Settings:
        """Return the settings of a run that ends with its source; references are looked up in."""
        files = self.files.data.references
        source: dict[str, Any] = {"name": "mail", "follow": False}
        if self.source == "Parquet":
            source |= {"kind": "folder", "path": str(self._input), "settle_seconds": 0}
        else:
            source |= {"kind": "file", "path": str(self._input / "mail.jsonl")}
        return settings_of(
            folder, source, batches={"rows": batch}, rules={"files": RULES[self.rules]}, times=times,
            references={"geo": str(files["geo"]), "networks": str(files["networks"]), "threats": [str(files["threats"])]},
        )  # fmt: skip

    def warm(self, **times: str) -> Ran:
        """Run over what comes before the measured parts, on an empty state."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._input.mkdir(parents=True)
        self._give(None)
        return run_engine(self.settings(self._warm, SOAK_BATCH, **times), self._warm)

    def measure(self, part: Part) -> dict[str, Any]:
        """Go on with a copy of the warm state."""
        copy = self._folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self._warm, copy)
        os.sync()  # or the copy is written out while we measure
        self._give(part)
        ran = run_engine(self.settings(copy, part.batch), copy)
        return ran.measured(part.run_in)

    def _give(self, part: Part | None) -> None:
        """Put the file of a part where the source looks; a tail finds what it read before beside it, as after a rotation."""
        file, warm = self.files.path(self.source, part), self.files.path(self.source, None)
        for old in self._input.iterdir():
            old.unlink()
        os.link(
            warm, self._input / {"Parquet": "1.parquet", "JSONL": "mail.jsonl.1" if part else "mail.jsonl"}[self.source]
        )
        if part:
            os.link(file, self._input / {"Parquet": "2.parquet", "JSONL": "mail.jsonl"}[self.source])

    def clean(self) -> None:
        """Give the room back."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _soaked(ran: Ran, at: tuple[int, ...]) -> dict[str, Any]:
    measured = ran.measured(SOAK_BATCH)
    events = ran.notes["status"]["events"]["read"]
    kept = {k: measured[k] for k in ("events_per_second", "p50_ms", "p99_ms", "findings", "cpu_seconds", "load")}
    memory = ran.resident([n for n in at if n <= events * 1.05])
    snapshots = [[kind, size, round(seconds, 3)] for _, kind, size, seconds in ran.notes["snapshots"]]
    return kept | {
        "events": events,
        "resident_mb": memory,
        "ids": ran.notes["status"]["state"]["ids"],
        "snapshots": snapshots,
    }


def run(size: Organisation, folder: Path, runs: int, quick: bool) -> dict[str, Any]:
    """Measure every rule set over every source, each part `runs` times, after one soak each; and one soak with a short horizon."""
    parts, at = (QUICK, QUICK_AT) if quick else (FULL, SOAK_AT)
    folder = folder.resolve()
    files = Files(size.make(folder), parts)
    found: dict[str, Any] = {"users": size.users, "days": size.days, "throughput": {}, "soak": {}}
    for bench in _benches(files, folder):
        key = f"{bench.rules}, {bench.source}"
        found["soak"][key] = soak = _soaked(bench.warm(), at)
        print(
            f"  soak {key}: {soak['events_per_second']:,.0f} events/s, {soak['resident_mb']['most']:,.0f} MB",
            flush=True,
        )
        for part in parts:
            measured = [bench.measure(part) for _ in range(runs)]
            found["throughput"][f"{key}, {part.batch}"] = one = medians(measured) | {"batch": part.batch}
            print(
                f"  {key}, batches of {part.batch:,}: {one['events_per_second']:,.0f} events/s, p99 {one['p99_ms']:,.0f} ms,"
                f" start {one['start_seconds']:.1f} s, load {one['load']:.1f}", flush=True,
            )  # fmt: skip
        bench.clean()
    bench = Bench(files, folder, "all shipped rules", "Parquet")
    found["soak"][f"all shipped rules, Parquet, ids kept {SHORT_HORIZON}"] = _soaked(
        bench.warm(dedup_horizon=SHORT_HORIZON), at
    )
    bench.clean()
    return found


def _benches(files: Files, folder: Path) -> Iterator[Bench]:
    for rules in RULES:
        for source in SOURCES:
            yield Bench(files, folder, rules, source)
