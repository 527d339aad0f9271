"""How long each metric takes over a million alerts with four million activities, beside the notebook's way in pandas.

Enters: nothing. Leaves: a table of seconds. Layer: none (outside the package).

    python -m benchmarks.metrics             a million alerts, about a minute
    python -m benchmarks.metrics 100000      so many
"""

from __future__ import annotations

import json
import random
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from benchmarks import metrics_data, metrics_notebook
from tocsin.lifecycle import History
from tocsin.metrics import Scope
from tocsin.metrics.assets import top_assets
from tocsin.metrics.backlog import backlog, reopened
from tocsin.metrics.changes import change_points
from tocsin.metrics.coverage import coverage
from tocsin.metrics.overview import funnel, overview
from tocsin.metrics.rules import rules

if TYPE_CHECKING:
    from collections.abc import Callable

ZONE = "America/Denver"
METRICS: dict[str, Callable[[Scope], Any]] = {
    "overview": overview,
    "funnel": funnel,
    "rules": rules,
    "backlog, hourly": lambda scope: backlog(scope, every="1h"),
    "reopened": reopened,
    "coverage": coverage,
    "top assets, all kinds": lambda scope: top_assets(scope, kind=None),
    "change points": change_points,
    "change points by rule": lambda scope: change_points(scope, by="rule"),
    "change points by severity": lambda scope: change_points(scope, by="severity"),
}


def seconds(work: Callable[[], Any]) -> tuple[float, float]:
    """Return wall and processor seconds of one call."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return round(time.perf_counter() - wall, 3), round(time.process_time() - processor, 3)


def measured(history: History) -> dict[str, tuple[float, float]]:
    """Return wall and processor seconds of each metric on a history nobody looked at yet; compiled code is warm."""
    since = metrics_data.START + timedelta(days=metrics_data.DAYS // 2)

    def fresh() -> Scope:
        return Scope(
            History(history.alerts, history.activities, history.findings, history.journal, history.at), since, zone=ZONE
        )

    small = metrics_data.history(2_000)
    for metric in METRICS.values():
        metric(Scope(small, since, zone=ZONE))
    scope = fresh()
    assert scope.before is not None
    found = {
        "activities in order": seconds(lambda: scope.history.events),
        "alerts as they stand": seconds(lambda: scope.history.current),
        "evidence decoded": seconds(lambda: scope.history.mentions),
        "alerts of both spans": seconds(lambda: (scope.alerts, scope.before and scope.before.alerts)),
    }
    found |= {name: seconds(lambda metric=metric: metric(scope)) for name, metric in METRICS.items()}
    return found


def as_the_notebook(history: History, changes_days: int = 365) -> dict[str, tuple[float, float]]:
    """Return the seconds of the notebook's cells in pandas; its evidence from memory instead of three calls an alert."""
    rows = metrics_notebook.prepared(metrics_notebook.exported(history))
    counts = metrics_notebook.daily(rows)[:changes_days]
    random.seed(0)
    pairs = [("HOSTNAME", "pc"), ("USERNAME", "ann"), ("DST_IP", "10.0.0.1")]
    ids = rows["Expel Alert ID"].tolist()
    return {
        "overview": seconds(lambda: metrics_notebook.overview(rows)),
        "top assets (101 alerts)": seconds(lambda: metrics_notebook.top_assets(ids, lambda _: (pairs, ["Windows"]))),
        "alerts a day": seconds(lambda: metrics_notebook.daily(rows)),
        "change points": seconds(lambda: metrics_notebook.change_points(counts)),
    }


def main(arguments: list[str]) -> None:
    """Print the figures as a table, and as JSON with ``--json``."""
    size = int(next((a for a in arguments if a.isdigit()), 1_000_000))
    history = metrics_data.history(size)
    ours, theirs = measured(history), as_the_notebook(history)
    if "--json" in arguments:
        print(json.dumps({"alerts": size, "activities": history.activities.height, "ours": ours, "notebook": theirs}))
        return
    print(f"{size:,} alerts, {history.activities.height:,} activities; seconds: wall, processor")
    for name, (wall, processor) in ours.items():
        print(f"{name:32} {wall:8.2f} {processor:8.2f}")
    print(f"{'together':32} {sum(w for w, _ in ours.values()):8.2f} {sum(p for _, p in ours.values()):8.2f}")
    for name, (wall, processor) in theirs.items():
        print(f"{'notebook: ' + name:32} {wall:8.2f} {processor:8.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
