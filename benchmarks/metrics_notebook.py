"""What the cells of the SOC manager's notebook compute, written anew in pandas: the rival, and the reference of its numbers.

Enters: a frame as its export has it (after its own renaming), and evidence by alert. Leaves: its numbers, defects included.
Layer: none (outside the package).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from dateutil import parser

from tocsin.lifecycle import History

Evidence = Mapping[str, tuple[Sequence[tuple[str, str]], Sequence[Any]]]
"""Alert -> its (type, value) pairs, and the operating system of each of its vendor alerts (None where none is named)."""


ACTIONS = ("First Assigned To User At", "First Investigated At", "Promoted To Incident At", "First Closed At")
"""The columns of the Time to Action cell, in its order."""


def prepared(export: pd.DataFrame) -> pd.DataFrame:
    """Fill blanks with "", and leave out what the export calls a test: that is all the cleaning the notebook does."""
    filled = export.fillna("")
    return filled[filled["Severity"] != "TESTING"]


def overview(rows: pd.DataFrame) -> dict[str, int]:
    """Return the five numbers of the Alerting Overview cell."""
    kind, case, told = rows["Investigation Type"], rows["Investigation ID"], rows["First Notification At"]
    return {
        "alerts": len(rows),
        "needed no action": int(((case == "") & (told == "")).sum()),
        "investigations": case[kind == "Investigation"].nunique(),
        "incidents": case[kind == "Incident"].nunique(),
        "notifications": int((told != "").sum()),
    }


def top_assets(ids: Sequence[str], evidence: Callable[[str], Any]) -> dict[str, Counter[Any]]:
    """Count as the Top Asset Values cell does: the first 101 alerts, systems once a vendor alert, None among them."""
    counted: dict[str, Counter[Any]] = {name: Counter() for name in ("HOSTNAME", "USERNAME", "DST_IP", "os")}
    for n, alert in enumerate(dict.fromkeys(ids)):
        if n > 100:
            break
        pairs, systems = evidence(alert)
        for kind, value in dict.fromkeys(pairs):
            if kind in counted:
                counted[kind][value] += 1
        counted["os"].update(systems)
    return counted


def daily(rows: pd.DataFrame) -> list[int]:
    """Return the number of alerts of each UTC day, from the first alert to the last."""
    days = pd.to_datetime(rows["Created At"], utc=True).dt.normalize()
    counts = rows.groupby(days)["Expel Alert ID"].nunique()
    return [int(n) for n in counts.reindex(pd.date_range(counts.index[0], counts.index[-1]), fill_value=0)]


def change_points(counts: Sequence[int], iterations: int = 1_000, offset: int = 0) -> list[int]:
    """Search as the Change point cell does: shuffle by drawing and removing, halves on the right one too early."""

    def wander(values: Sequence[float]) -> list[float]:
        return [0.0, *np.cumsum(np.asarray(values, float) - np.average(values)).tolist()]

    def shuffled() -> list[float]:
        left, drawn = list(counts), []
        for _ in range(len(left)):
            drawn.append(random.choice(left))  # noqa: S311 - its numbers, not its secrecy, are wanted
            left.remove(drawn[-1])
        return drawn

    own = wander(counts)
    ranges = [max(w) - min(w) for w in (wander(shuffled()) for _ in range(iterations))]
    if sum(r < max(own) - min(own) for r in ranges) / iterations * 100 <= 95:
        return []
    at = int(np.argmax(np.abs(own)))
    left = change_points(counts[:at], iterations, offset)
    return sorted([at + offset, *left, *change_points(counts[at:], iterations, offset + at - 1)])


def minutes_to_action(rows: pd.DataFrame) -> pd.Series:
    """Return the minutes of the Time to Action cell, row by row: the first filled column in a fixed order, -1 where NEW."""

    def minutes(row: pd.Series) -> float:
        acted = next((row[c] for c in ACTIONS if row[c]), "")
        if row["Alert Status"] == "NEW" or not acted:
            return -1.0
        return round((parser.parse(acted) - parser.parse(row["Created At"])).total_seconds() / 60, 2)

    return rows.apply(minutes, axis=1)


def off_hours_and_heatmap(rows: pd.DataFrame, zone: str) -> tuple[dict[bool, int], pd.DataFrame]:
    """Return on- and off-hours alerts (Monday to Friday, 13 to 21) and alerts by hour and weekday, row by row as the cell does."""
    local = rows.apply(lambda row: parser.parse(row["Created At"]).astimezone(ZoneInfo(zone)), axis=1)
    off = local.apply(lambda at: not (at.weekday() < 5 and 13 <= at.hour < 21))
    placed = rows.assign(hour=local.apply(lambda at: at.hour), day=local.apply(lambda at: at.weekday()))
    return off.value_counts().to_dict(), placed.groupby(["hour", "day"])["Expel Alert ID"].nunique().reset_index()


def exported(history: History) -> pd.DataFrame:
    """Return a history as the export would hold it: one row an alert, one investigation and first times only."""
    import polars as pl

    events = history.events
    first = events.group_by("alert").agg(
        pl.col("value").filter(pl.col("type").is_in(["escalated", "promoted"])).last().alias("Investigation ID"),
        pl.when((pl.col("type") == "promoted").any()).then(pl.lit("Incident"))
        .when((pl.col("type") == "escalated").any()).then(pl.lit("Investigation")).alias("Investigation Type"),
        *(
            pl.col("at").filter(pl.col("type") == kind).min().alias(name)
            for kind, name in (
                ("notified", "First Notification At"), ("assigned", ACTIONS[0]), ("investigative_action", ACTIONS[1]),
                ("promoted", ACTIONS[2]), ("closed", ACTIONS[3]),
            )
        ),
    )  # fmt: skip
    rows = history.current.select(
        "alert", pl.col("alert_id").alias("Expel Alert ID"), pl.col("created_at").alias("Created At"),
        pl.when("is_test").then(pl.lit("TESTING")).otherwise(pl.col("severity").str.to_uppercase()).alias("Severity"),
        pl.col("state").str.to_uppercase().alias("Alert Status"),
    )  # fmt: skip
    made = rows.join(first, on="alert", how="left", maintain_order="left").drop("alert")
    times = pl.col("Created At", "First Notification At", *ACTIONS).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    return pd.DataFrame(made.with_columns(times).to_dict(as_series=False))
