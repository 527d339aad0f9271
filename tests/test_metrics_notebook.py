"""The notebook's numbers beside ours: re-implemented in pandas from what its cells do, and each difference has its reason."""

from __future__ import annotations

import random
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from metrics_fixtures import START, daily, history_of, hour, logs, observables

from tocsin.metrics import Scope
from tocsin.metrics.assets import top_assets
from tocsin.metrics.changes import change_points
from tocsin.metrics.overview import overview

pytestmark = pytest.mark.needs("pandas")
END = hour(70)

# What the stand-in export holds: id, hour, close, investigations (type, id), notifications; the seventh is a test.
STAND_IN = (
    ("a1", 1, 3, (("Investigation", "INV-1"),), (4,)),
    ("a2", 2, 4, (("Investigation", "INV-1"),), (5, 9)),
    ("a3", 3, 5, (("Investigation", ""),), ()),  # escalated, but nobody wrote down to what
    ("a4", 4, 6, (("Incident", "INV-2"),), (7,)),
    ("a5", 5, 8, (), ()),  # closed: needed nothing
    ("a6", 6, None, (), ()),  # nobody looked at it yet
    ("a7", 7, 9, (), ()),
    ("a8", 8, None, (), ()),  # merged into a1
)


def stand_in() -> tuple[list[dict], list[dict]]:
    alerts, rows = [], []

    def said(alert: str, at: float, kind: str, value: str | None = None) -> None:
        rows.append({"key": f"k{len(rows)}", "alert_id": alert, "at": hour(at), "type": kind, "value": value})

    for alert, at, closed, cases, told in STAND_IN:
        alerts.append({"alert_id": alert, "created_at": hour(at), "rule_id": "r", "is_test": alert == "a7"})
        for kind, case in cases:
            said(alert, at + 0.5, {"Investigation": "escalated", "Incident": "promoted"}[kind], case)
        for when in told:
            said(alert, when, "notified")
        if closed:
            said(alert, closed, "closed")
    said("a8", 9, "merged", "a1")
    return alerts, rows


def test_each_number_of_the_overview_cell_stands_beside_ours_with_the_reason() -> None:
    from benchmarks import metrics_notebook as cells

    history = history_of(*stand_in(), at=END)
    table = overview(Scope(history, hour(0), END), notebook=True).table
    theirs = cells.overview(cells.prepared(cells.exported(history)))
    assert theirs == {"alerts": 7, "needed no action": 4, "investigations": 2, "incidents": 1, "notifications": 3}
    told = {
        name: (ours, seen, why)
        for name, ours, seen, why in table.select("measure", "count", "notebook", "why").iter_rows()
    }
    assert {name: told[name][1] for name in theirs} == theirs
    assert told["alerts"] == (6, 7, "1 rows of alerts that were merged into others")
    assert told["needed no action"][0] == 1, "neither the untouched one nor the merged one"
    assert "1 of these are not closed, 1 part of a case without an id; 1 merged rows" in told["needed no action"][2]
    assert told["investigations"] == (1, 2, "1 rows with a blank id count as one more")
    assert told["incidents"] == (1, 1, "the same")
    assert told["notifications"] == (4, 3, "counts alerts with a notification, not notifications")
    assert told["undecided"][1] is None, "the notebook does not tell them apart"


@settings(max_examples=60, deadline=None)
@given(logs())
def test_the_notebooks_numbers_are_those_that_its_cell_prints(log: tuple) -> None:
    from benchmarks import metrics_notebook as cells

    rows = [{**r, "value": (r["value"] or "").strip() or None} for r in log[1]]
    history = history_of(log[0], rows, at=END)
    answer = overview(Scope(history, hour(0), END), notebook=True)
    if answer.empty:
        return
    theirs = cells.overview(cells.prepared(cells.exported(history)))
    seen = dict(answer.table.select("measure", "notebook").drop_nulls().iter_rows())
    same = ("alerts", "needed no action", "notifications")
    assert {name: seen[name] for name in same} == {name: theirs[name] for name in same}


def test_the_asset_cell_stops_at_101_alerts_counts_systems_by_vendor_alert_and_counts_none() -> None:
    from benchmarks import metrics_notebook as cells

    alerts, evidence = [], {}
    for i in range(150):
        host = "PC-LATE" if i >= 101 else "pc-1" if i % 2 else "PC-1"
        pairs = [("HOSTNAME", host), ("HOSTNAME", host), ("USERNAME", "CORP\\ann")]
        evidence[f"a{i:03}"] = pairs, ["Windows 11", "Windows 11", None]
        told = [
            *(("hostname", None, v) for k, v in pairs if k == "HOSTNAME"),
            ("username", None, "CORP\\ann"),
            ("os", None, "Windows 11"),
            ("os", None, None),
        ]
        alerts.append({"alert_id": f"a{i:03}", "created_at": hour(i), "observables": observables(*told)})
    theirs = cells.top_assets(list(evidence), evidence.__getitem__)
    assert theirs["HOSTNAME"] == {"PC-1": 51, "pc-1": 50}, "101 of 150 alerts, and one host in two spellings"
    assert theirs["os"] == {"Windows 11": 202, None: 101}
    ours = top_assets(Scope(history_of(alerts, []), hour(0), hour(150)), kind=None).more
    assert ours["Hosts"].select("asset", "alerts").rows() == [("pc-1", 101), ("pc-late", 49)]
    assert ours["Operating systems"].select("asset", "alerts").rows() == [("windows 11", 150)]
    assert ours["Users"].select("asset", "alerts").rows() == [("ann", 150)]


def test_the_change_point_cell_dates_later_changes_too_early_and_ours_do_not() -> None:
    from benchmarks import metrics_notebook as cells

    rng = np.random.default_rng(6)
    counts = rng.poisson(np.repeat([10, 90, 60], 40))
    history = history_of(daily(counts), [], at=START + timedelta(days=120))
    scope = Scope(history, START)
    theirs_daily = cells.daily(cells.prepared(cells.exported(history)))
    assert theirs_daily == counts.tolist()
    random.seed(0)
    theirs = cells.change_points(theirs_daily, 200)
    random.seed()
    as_theirs = change_points(scope, method="notebook", seed=0, iterations=200)
    days = [(since - START.date()).days for since in as_theirs.table["since"][1:]]
    assert days == theirs
    ours = [(since - START.date()).days for since in change_points(scope).table["since"][1:]]
    assert ours == [40, 80]
    assert theirs != ours
    assert 79 in theirs, "every further part on the right is one day early"


def test_the_change_point_cell_ends_at_the_last_alert_and_takes_utc_days() -> None:
    history = history_of(daily([3] * 40), [], at=START + timedelta(days=60))
    assert change_points(Scope(history, START), method="notebook").facts["days"] == 40
    assert change_points(Scope(history, START)).facts["days"] == 60
