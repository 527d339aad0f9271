"""How long each metric takes over a million alerts with four million activities, beside the notebook's way in pandas.

Enters: how many alerts. Leaves: seconds of each. Layer: none (outside the package). Run by `python -m benchmarks metrics`.
"""

from __future__ import annotations

import random
import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import metrics_data, metrics_notebook
from tocsin.lifecycle import History
from tocsin.metrics import Scope
from tocsin.metrics.arrivals import arrivals, on_off_hours
from tocsin.metrics.assets import top_assets
from tocsin.metrics.backlog import backlog, reopened
from tocsin.metrics.changes import change_points
from tocsin.metrics.coverage import coverage
from tocsin.metrics.overview import funnel, overview
from tocsin.metrics.response import response, slo
from tocsin.metrics.rules import rules
from tocsin.metrics.staffing import staffing
from tocsin.metrics.together import together
from tocsin.workhours import WorkHours

if TYPE_CHECKING:
    from collections.abc import Callable

ZONE = "America/Denver"
WORK = WorkHours.of(None, zone=ZONE)
ROWS_ONE_BY_ONE = 20_000
"""The cells that go row by row are given so many alerts; their seconds are told for all of them."""
TOGETHER = "all of them at once, from the frames"
METRICS: dict[str, Callable[[Scope], Any]] = {
    "overview": overview,
    "funnel": funnel,
    "arrivals": arrivals,
    "on and off hours": lambda scope: on_off_hours(scope, work=WORK),
    "time to action": lambda scope: response(scope, work=WORK),
    "targets met, and what missed them": lambda scope: slo(scope, work=WORK),
    "staffing": lambda scope: staffing(scope, work=WORK),
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
    scope = fresh()
    found[TOGETHER] = seconds(lambda: together([scope], {name: partial(m, scope) for name, m in METRICS.items()}))
    return found


def as_the_notebook(history: History, changes_days: int = 365) -> dict[str, tuple[float, float]]:
    """Return the seconds of the notebook's cells in pandas; its evidence from memory instead of three calls an alert."""
    rows = metrics_notebook.prepared(metrics_notebook.exported(history))
    some = rows.head(ROWS_ONE_BY_ONE)
    times = len(rows) / len(some)
    counts = metrics_notebook.daily(rows)[:changes_days]
    random.seed(0)
    pairs = [("HOSTNAME", "pc"), ("USERNAME", "ann"), ("DST_IP", "10.0.0.1")]
    ids = rows["Expel Alert ID"].tolist()

    def scaled(work: Callable[[], Any]) -> tuple[float, float]:
        wall, processor = seconds(work)
        return round(wall * times, 1), round(processor * times, 1)

    return {
        "overview": seconds(lambda: metrics_notebook.overview(rows)),
        "time to action": scaled(lambda: metrics_notebook.minutes_to_action(some)),
        "off hours and heatmap": scaled(lambda: metrics_notebook.off_hours_and_heatmap(some, ZONE)),
        "top assets (101 alerts)": seconds(lambda: metrics_notebook.top_assets(ids, lambda _: (pairs, ["Windows"]))),
        "alerts a day": seconds(lambda: metrics_notebook.daily(rows)),
        "change points": seconds(lambda: metrics_notebook.change_points(counts)),
    }


def run(alerts: int = 1_000_000) -> dict[str, Any]:
    """Return the seconds, wall and processor, of our metrics and of the notebook's cells."""
    history = metrics_data.history(alerts)
    ours, theirs = measured(history), as_the_notebook(history)
    return {
        "alerts": alerts,
        "activities": history.activities.height,
        "ours": ours,
        "notebook": theirs,
    }
