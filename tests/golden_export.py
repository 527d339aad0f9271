"""Every cell of the SOC manager's notebook on one export of the stand-in Workbench: its numbers, ours, and the reason.

`python tests/golden_export.py` writes them anew to `tests/data/golden-export.json`; look at the difference before you keep it.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "data" / "golden-export.json"
SINCE, UNTIL, ZONE = "2026-10-01", "2026-10-29", "America/New_York"
RENAMED = {
    "Insert At (T3)": "Created At", "First Assigned To User At (T4)": "First Assigned To User At",
    "Time Promoted To Incident": "Promoted To Incident At", "Time First Closed (T60)": "First Closed At",
    "First Assigned To Org At": "First Notification At",
}  # fmt: skip
WHY = {
    "overview": "the notebook counts tuning alerts, test closes and simulated phishing, a blank investigation id as one more, and "
    "untouched alerts as such that needed nothing",
    "off hours": "13 to 21 UTC is 9 to 17 in New York in October only; ours are the hours of the zone's own clock, tests left out",
    "time to action": "untouched alerts are -1 minute in its mean, and its first action is the first filled column, not the earliest; "
    "ours counts them as waiting, leaves automation out, and shows the median",
    "assets": "it stops after 101 alerts, counts a system once a vendor alert, and counts None; ours sees all alerts, each asset once",
    "changes": "its days are UTC, from first to last alert, without weekdays; ours are the local days that were asked for",
}


def numbers(folder: Path) -> dict[str, Any]:
    """Fetch the export and its evidence into a folder, and return what both say of each cell."""
    import pandas as pd

    from benchmarks import metrics_notebook as cells
    from tocsin import metrics
    from tocsin.sources.histories import read_history
    from tocsin.sources.workbench import ApiKey, Workbench
    from tocsin.testing.workbench import StandIn, example_alerts

    alerts = example_alerts(420, 11, days=28)
    with StandIn(alerts) as server, Workbench(server.url, ApiKey(server.api_key)) as workbench:
        fetched = workbench.fetch(SINCE, UNTIL, "UTC", into=folder)
        assert fetched.complete
    export = pd.DataFrame([alert["csv"] for alert in alerts]).rename(columns=RENAMED)
    rows = cells.prepared(export)
    evidence = {
        a["id"]: (
            [(e["evidence_type"], e["evidence"]) for e in a["evidence"]],
            [_system(v) for v in a["vendor_alerts"]],
        )
        for a in alerts
    }
    random.seed(0)
    minutes = rows.assign(minutes=cells.minutes_to_action(rows)).groupby("Severity")["minutes"].agg(["mean", "count"])
    seen = cells.top_assets(rows["Expel Alert ID"].tolist(), evidence.__getitem__)
    theirs = {
        "overview": cells.overview(rows),
        "off hours": {str(k): int(v) for k, v in cells.off_hours_and_heatmap(rows, "UTC")[0].items()},
        "time to action": {k: [round(m, 3), int(n)] for k, (m, n) in minutes.iterrows() if k},
        "assets": {kind: counted.most_common(3) for kind, counted in seen.items()},
        "changes": cells.change_points(cells.daily(rows)),
    }
    m = metrics.of(read_history(folder).history, since=SINCE, until=UNTIL, zone=ZONE)
    assets = {kind: m.top_assets(kind=kind).table for kind in ("host", "user", "dst_ip", "os")}
    response = m.time_to_action().table
    ours = {
        "overview": dict(m.overview().table.select("measure", "count").iter_rows()),
        "off hours": dict(m.on_off_hours().table.select("part", "alerts").iter_rows()),
        "time to action": {
            severity: [_round(median), n, waiting]
            for severity, median, n, waiting in response.select(
                "severity", "median_minutes", "n", "waiting"
            ).iter_rows()
        },
        "assets": {kind: table.head(3).select("asset", "alerts").rows() for kind, table in assets.items()},
        "changes": [str(day) for day in m.change_points().table["since"][1:]],
    }
    told = {cell: {"notebook": theirs[cell], "tocsin": ours[cell], "why": WHY[cell]} for cell in WHY}
    return json.loads(json.dumps(told))


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _system(vendor_alert: dict[str, Any]) -> Any:
    """Return what the notebook takes for the operating system: the first flattened key that ends in os.name."""

    def walk(value: Any, name: str) -> Any:
        if isinstance(value, dict):
            parts = ((f"{name}{k}.", v) for k, v in value.items())
        elif isinstance(value, list):
            parts = ((f"{name}{i}.", v) for i, v in enumerate(value))
        else:
            yield name[:-1], value
            return
        for key, item in parts:
            yield from walk(item, key)

    return next((v for k, v in walk(vendor_alert.get("evidence_summary"), "") if k.endswith("os.name")), None)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    with tempfile.TemporaryDirectory() as scratch:
        GOLDEN.write_text(json.dumps(numbers(Path(scratch) / "raw"), indent=1) + "\n", encoding="utf-8")
    print(f"{GOLDEN} written")
