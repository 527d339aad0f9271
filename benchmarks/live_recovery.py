"""How long a running engine takes to come back, with a million entities in its state and all shipped rules.

Enters: how many entities. Leaves: seconds from the start of the process until it follows its source again, after a clean stop
and after a kill -9 that left 100,000 events to be done again. Layer: none (outside the package).
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from benchmarks.data import START_US
from benchmarks.harness import medians
from benchmarks.live_process import run as run_engine
from benchmarks.live_process import settings_of
from benchmarks.snapshots import DAY_US, made_events

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.live_process import Settings
    from benchmarks.simulated import Organisation

ENTITIES, AGAIN = 1_000_000, 100_000
QUICK_ENTITIES, QUICK_AGAIN = 20_000, 20_000
CHUNK = 250_000
LOOKED_UP = (
    "src_prefix",
    "src_latitude",
    "src_longitude",
    "src_country",
    "src_city",
    "src_network",
    "src_listed",
    "dst_listed",
)


def _write(folder: Path, name: str, users: np.ndarray, at_us: int, first: int) -> int:
    """Write events of these users, a file for each chunk; return the next free number."""
    step_us = DAY_US // (2 * max(len(users), 1))
    for n, start in enumerate(range(0, len(users), CHUNK)):
        who = users[start : start + CHUNK]
        made_events(who, at_us + start * step_us, first, step_us).drop(LOOKED_UP).with_columns(
            src_ip=pl.format(
                "240.{}.{}.{}", pl.Series(who // 65_536), pl.Series(who // 256 % 256), pl.Series(who % 256)
            )
        ).write_parquet(folder / f"{name}-{n}.parquet")
        first += len(who)
    return first


def run(size: Organisation, folder: Path, runs: int, quick: bool) -> dict[str, Any]:
    """Make the state by a run over every entity on two days, then start upon copies of it."""
    entities, again = (QUICK_ENTITIES, QUICK_AGAIN) if quick else (ENTITIES, AGAIN)
    here = (folder / "live-recovery").resolve()
    shutil.rmtree(here, ignore_errors=True)
    source, warm = here / "drop", here / "warm"
    source.mkdir(parents=True)
    rng = np.random.default_rng(5)
    first = _write(source, "a", np.arange(entities), START_US, 0)
    first = _write(source, "b", rng.permutation(entities)[: entities // 2], START_US + DAY_US, first)
    references = {name: str(path.resolve()) for name, path in size.make(folder).references.items()}
    references["threats"] = [references["threats"]]  # type: ignore[assignment]

    def settings(state: Path) -> Settings:
        told = {"kind": "folder", "name": "mail", "path": str(source), "settle_seconds": 0, "follow": False}
        return settings_of(state, told, references=references, snapshots={"every_seconds": 3600.0})

    made = run_engine(settings(warm), warm)
    state = made.notes["status"]["state"]
    found: list[dict[str, Any]] = []
    for _ in range(runs):
        found.append({"after a clean stop": _said(run_engine(settings(warm), warm))})
    _write(source, "c", rng.permutation(entities)[: 2 * again], START_US + DAY_US * 3 // 2, first)
    for one in found:
        copy = here / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(warm, copy)
        run_engine(settings(copy), copy, kill_after=again)
        one[f"after kill -9, {again:,} events to do again"] = _said(run_engine(settings(copy), copy))
    snapshot_bytes = sum(p.stat().st_size for p in (warm / "state" / "snapshots").rglob("*") if p.is_file())
    shutil.rmtree(here)
    kept = {
        "entities": state["entities"],
        "ids": state["ids"],
        "state_mb": state["bytes"] / 1e6,
        "snapshots_mb": snapshot_bytes / 1e6,
    }
    result = kept | {"load": os.getloadavg()[0], "runs": runs, "ways": medians(found)}
    print(f"  recovery: {result}", flush=True)
    return result


def _said(ran: Any) -> dict[str, float]:
    return {"seconds": ran.recovery_seconds, "of these before the state": ran.recovery_seconds - ran.to_recover_seconds}
