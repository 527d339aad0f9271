"""Snapshots against the size of the state: the pause of the step, the write, the bytes, and the way back.

Enters: how many entities. Leaves: seconds and bytes of a full snapshot, of deltas after 10,000 and 100,000 random events,
of a full one put together from those, and of the recovery, which is a process of its own. Outside the timing: the events
that make the state. Layer: none (outside the package).

All shipped rules run, except on ten million entities, where there are three.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from benchmarks.data import START_US
from benchmarks.harness import peak_mb

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness import Measurement

SIZES = {"10 thousand": 10_000, "100 thousand": 100_000, "1 million": 1_000_000, "10 million, 3 rules": 10_000_000}
QUICK = {"1 thousand": 1_000, "10 thousand": 10_000}
FEW_RULES_FROM, FEW = 10_000_000, ("mail.rate-vs-population", "login.failed-burst", "login.unusual-hour")
DELTA_EVENTS = (10_000, 100_000)
CHUNK_EVENTS = 500_000
DAY_US = 86_400_000_000
DAYS = 2


def run(quick: bool, names: tuple[str, ...] = ()) -> dict[str, Any]:
    """Measure every size, each in processes of its own."""
    sizes = QUICK if quick else SIZES
    return {name: _measured(n) for name, n in sizes.items() if not names or name in names}


def _measured(entities: int) -> Measurement:
    with TemporaryDirectory() as folder:
        result = _process("write", entities, folder)
        result["recovery"] = _process("recover", entities, folder)
    print(f"  {entities:10,} entities: {json.dumps(result)}", flush=True)
    return result


def _process(what: str, entities: int, folder: str) -> Measurement:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.snapshots", what, str(entities), folder],
        capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parent.parent,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"{what} of {entities} entities failed:\n{done.stderr[-4000:]}")
    measured: Measurement = json.loads(done.stdout.splitlines()[-1])
    return measured


def _engine(entities: int) -> Any:
    import tocsin as tc
    from tocsin.rules import ALL

    rules = [r for r in ALL if entities < FEW_RULES_FROM or r.id in FEW]
    engine = tc.Engine(rules, made_events(np.arange(2), START_US, 0, 1).schema, lateness="1m")
    if engine.skipped:
        raise AssertionError(f"rules that cannot run on these events: {engine.skipped}")
    return engine


def _timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    wall, cpu = time.perf_counter(), os.times()
    result = work()
    now = os.times()
    spent = {"wall": time.perf_counter() - wall, "user": now.user - cpu.user, "system": now.system - cpu.system}
    return result, {name: round(seconds, 4) for name, seconds in spent.items()}


def write(entities: int, folder: Path) -> Measurement:
    """Make a state, and write a full snapshot of it, deltas, and a full one put together from them."""
    from tocsin.engine.saved import arrays_of
    from tocsin.engine.snapshots import Snapshots

    engine, rng = _engine(entities), np.random.default_rng(5)
    state, first = engine.new_state(), 0
    step_us = DAY_US // (entities + 2 * max(DELTA_EVENTS))
    for day in range(DAYS):
        for start in range(0, entities, CHUNK_EVENTS):
            users = np.arange(start, min(start + CHUNK_EVENTS, entities))
            at = START_US + day * DAY_US + start * step_us
            who = rng.integers(0, entities, users.size) if day else users
            state, _ = engine.step(state, made_events(who, at, first, step_us))
            first += users.size
    snapshots = Snapshots(folder, full_every=len(DELTA_EVENTS) + 2)
    state_bytes = sum(x.nbytes for _, x in arrays_of(state))
    result: Measurement = {"entities": entities, "rules": len(engine.plan.planned), "state_bytes": state_bytes}
    result["snapshots"] = [_snapshot(snapshots, state, 1, 0)]
    at = START_US + (DAYS - 1) * DAY_US + entities * step_us
    for number, events in enumerate((1_000, *DELTA_EVENTS, DELTA_EVENTS[0]), 2):
        state, _ = engine.step(state, made_events(rng.integers(0, entities, events), at, first, step_us))
        first, at = first + events, at + events * step_us
        result["snapshots"].append(_snapshot(snapshots, state, number, events))
    return result | {"peak_mb": peak_mb()}


def _snapshot(snapshots: Any, state: Any, number: int, events: int) -> Measurement:
    captured, pause = _timed(lambda: snapshots.capture(state, number, {}, copy=number > 1))
    written, writing = _timed(lambda: snapshots.write(captured))
    return {"kind": written.kind, "events": events, "pause": pause, "write": writing, "bytes": written.bytes}


def recover(entities: int, folder: Path) -> Measurement:
    """Load the newest snapshot; once before, what is compiled is loaded by a small state."""
    from tocsin.engine.snapshots import Snapshots

    engine = _engine(entities)
    with TemporaryDirectory() as small:
        state, _ = engine.step(engine.new_state(), made_events(np.arange(100), START_US, 0, 1000))
        Snapshots(small).save(state, 1, {})
        Snapshots(small).newest(engine)
    found, spent = _timed(lambda: Snapshots(folder).newest(engine))
    assert found is not None
    return {"number": found.number, "seconds": spent, "peak_mb": peak_mb()}


def made_events(users: np.ndarray, at_us: int, first_id: int, step_us: int) -> pl.DataFrame:
    """Return mails and logins with every column that a shipped rule reads; the look-ups are columns too."""
    n, rng = users.size, np.random.default_rng(first_id)
    user = pl.Series(users).cast(pl.String).str.zfill(8)
    net = pl.Series(users // 256 % 65_536)
    prefix = _prefix(net)
    return pl.DataFrame(
        {
            "event_id": pl.Series(np.arange(first_id, first_id + n)).cast(pl.String).str.zfill(13),
            "timestamp": pl.Series(at_us + np.arange(n) * step_us).cast(pl.Datetime("us", "UTC")),
            "kind": pl.Series(["mail", "login"])[rng.choice(2, n, p=[0.6, 0.4])],
            "user_id": user,
            "src_ip": prefix + "." + pl.Series(users % 256).cast(pl.String),
            "src_prefix": prefix + ".0/24",
            "dst_ip": pl.Series(["192.0.2.1"])[np.zeros(n, np.int64)],
            "outcome": pl.Series(["success", "failure"])[rng.choice(2, n, p=[0.9, 0.1])],
            "device_id": "d" + user,
            "nr_recipients": pl.Series(rng.poisson(4, n)).cast(pl.Int64),
            "nr_attachments": pl.Series(rng.poisson(1, n)).cast(pl.Int64),
            "attachments": pl.Series([[], ["report.pdf"], ["setup.exe"]])[rng.choice(3, n, p=[0.9, 0.08, 0.02])],
            "src_latitude": rng.uniform(40, 41, n),
            "src_longitude": rng.uniform(-105, -104, n),
            "src_country": pl.Series(["US", "DE", "FR"])[rng.choice(3, n, p=[0.97, 0.02, 0.01])],
            "src_city": pl.Series(["Denver", "Bonn"])[rng.choice(2, n)],
            "src_network": pl.Series(["AS1", "AS2", "AS3"])[rng.choice(3, n)],
            "src_listed": pl.Series(rng.random(n) < 1e-4),
            "dst_listed": pl.Series(np.zeros(n, np.bool_)),
        }
    )


def _prefix(net: pl.Series) -> pl.Series:
    return "10." + (net // 256).cast(pl.String) + "." + (net % 256).cast(pl.String)


if __name__ == "__main__":
    what, entities, folder = sys.argv[1:]
    print(json.dumps({"write": write, "recover": recover}[what](int(entities), Path(folder))))
