"""The alert log at the size of some years: imported, loaded, and brought to how each alert stands.

Enters: how many alerts. Leaves: seconds, megabytes on disk and peak megabytes of memory. Layer: none (outside the package).

    python -m benchmarks.alerts                       a million alerts, four million activities; SQLite in a temporary folder
    python -m benchmarks.alerts --quick               a hundredth of that
    python -m benchmarks.alerts --log postgresql://user@host/empty_database
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from benchmarks.harness import peak_mb, timed
from tocsin.alerts import Alerts
from tocsin.lifecycle import History

if TYPE_CHECKING:
    from collections.abc import Callable

ALERTS, ACTIVITIES_EACH = 1_000_000, 4
MINUTE_US, DAY_US = 60_000_000, 86_400_000_000
FIRST_US = 1_704_067_200_000_000  # 2024-01-01
DAYS = 700


def history(alerts: int, seed: int = 7) -> History:
    """Return alerts over some two years, each assigned, worked on, judged and closed; one in eight still waits."""
    rng = np.random.default_rng(seed)
    created = np.sort(rng.integers(FIRST_US, FIRST_US + DAYS * DAY_US, alerts))
    ids = pl.select(
        pl.format("{}", pl.int_range(alerts).hash(seed)).str.zfill(20)
        + pl.int_range(alerts).cast(pl.String).str.zfill(12)
    )
    rules = rng.integers(0, 120, alerts)
    user, host = rng.integers(0, 20_000, alerts), rng.integers(0, 5_000, alerts)
    frame = pl.DataFrame({"created": created, "rule": rules, "user": user, "host": host}).select(
        ids.to_series().alias("alert_id"),
        _time("created").alias("created_at"),
        (_time("created") + pl.duration(seconds=90)).alias("recorded_at"),
        pl.format("rule.{}", "rule").alias("rule_id"),
        pl.lit("1").alias("rule_version"),
        pl.Series(np.array(["low", "medium", "high", "critical"])[rules % 4]).alias("severity"),
        pl.format("What rule {} is about", "rule").alias("title"),
        pl.lit("user_id").alias("entity_kind"),
        pl.format("u{}", "user").alias("entity"),
        (pl.col("rule") % 6).cast(pl.String).alias("vendor"),
        pl.Series(rng.gamma(3, 2, alerts)).alias("score"),
        pl.concat_str(
            pl.lit('[{"kind": "user", "role": "entity", "value": "u'), "user",
            pl.lit('"}, {"kind": "host", "role": "entity", "value": "h'), "host", pl.lit('"}]'),
        ).alias("observables"),
        pl.lit("benchmark").alias("source"),
    )  # fmt: skip
    return History.of(frame, _activities(rng, ids.to_series(), created))


def _time(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _activities(rng: np.random.Generator, ids: pl.Series, created: np.ndarray) -> pl.DataFrame:
    kinds = ("assigned", "work_started", "verdict", "closed")
    each = np.repeat(np.arange(ids.len()), ACTIVITIES_EACH)
    kind = np.tile(np.arange(ACTIVITIES_EACH), ids.len())
    waits = rng.random(ids.len()) < 1 / 8
    kind[(kind == 3) & waits[each]] = 1  # its work goes on
    delay = np.cumsum(rng.exponential(20 * MINUTE_US, (ids.len(), ACTIVITIES_EACH)), axis=1).astype(np.int64).ravel()
    who = pl.Series(rng.integers(1, 31, each.size))
    verdicts = np.array(["false_positive", "benign_true_positive", "true_positive", "inconclusive"])
    frame = pl.DataFrame({"n": each, "kind": kind, "at": created[each] + delay, "who": who})
    analyst = pl.format("analyst-{}", pl.col("who").cast(pl.String).str.zfill(2))
    judged = pl.Series(verdicts[rng.choice(4, each.size, p=[0.6, 0.25, 0.1, 0.05])])
    value = pl.when(kind=0).then(analyst).when(kind=2).then(judged).when(kind=3).then(pl.lit("seen before"))
    return frame.sort("at").select(
        pl.Series(ids).gather(frame.sort("at")["n"]).alias("alert_id"),
        _time("at"),
        (_time("at") + pl.duration(seconds=5)).alias("recorded_at"),
        pl.Series(np.array(kinds)[frame.sort("at")["kind"].to_numpy()]).alias("type"),
        analyst.alias("actor"),
        value.alias("value"),
        pl.when(kind=2).then(pl.lit('{"reason": "seen before"}')).alias("payload"),
    )


def run(alerts: int, where: str | None = None) -> dict[str, Any]:
    """Import, load and judge a history once; later steps take what earlier ones left."""
    made = [history(alerts)]
    rows = made[0].activities.height
    found: dict[str, Any] = {"alerts": alerts, "activities": rows, "seconds": {}, "cpu_seconds": {}}

    def step(name: str, work: Callable[[], Any]) -> Any:
        result, found["seconds"][name], found["cpu_seconds"][name] = timed(work)
        print(f"  {name:40} {found['seconds'][name]:8.2f} s", file=sys.stderr, flush=True)
        return result

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "soc.db"
        with Alerts(where or path) as log:
            added = step("import into an empty log", lambda: log.import_history(made[0]))
            assert (added.alerts, added.activities) == (alerts, rows)
            again = step("import the same again", lambda: log.import_history(made[0]))
            assert again.known == alerts + rows
            made.clear()
        with Alerts(where or path) as log:
            loaded = step("load", log.history)
            current = step("how each alert stands", lambda: loaded.current)
            assert current.height == alerts
            newest = loaded.alerts["alert_id"][-1]
            step("list the 50 newest", lambda: log.alerts(limit=50))
            step("show one alert", lambda: log.show(newest).current)
            step("one comment", lambda: log.comment(newest, "hm", actor="bench"))
            found["mb_on_disk"] = round(path.stat().st_size / 1e6) if path.exists() else None
    return found | {"peak_mb": round(peak_mb())}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print its figures as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.alerts", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="ten thousand alerts")
    parser.add_argument("--log", default=None, help="the URL of an empty PostgreSQL database")
    options = parser.parse_args(arguments)
    found = run(ALERTS // 100 if options.quick else ALERTS, options.log)
    print(json.dumps(found))
    return 0


def in_new_process(quick: bool) -> dict[str, Any]:
    """Run it in a process of its own, so that its peak of memory is its own, too."""
    command = [sys.executable, "-m", "benchmarks.alerts", *(["--quick"] if quick else [])]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).resolve().parent.parent
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


if __name__ == "__main__":
    sys.exit(main())
