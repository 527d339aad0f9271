"""Small histories for the tests of metrics: random ones, and plain ways to walk through them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from hypothesis import strategies as st

from tocsin.lifecycle import TRANSITIONS, VERDICTS, History

START = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
TIME = pl.Datetime("us", "UTC")
ALERTS = {
    "alert_id": pl.String, "created_at": TIME, "rule_id": pl.String, "rule_version": pl.String, "severity": pl.String,
    "vendor": pl.String, "observables": pl.String, "is_test": pl.Boolean,
}  # fmt: skip
ACTIVITIES = {
    "key": pl.String, "alert_id": pl.String, "at": TIME, "type": pl.String, "actor": pl.String, "actor_kind": pl.String,
    "value": pl.String, "number": pl.Float64, "until": TIME,
}  # fmt: skip
JOURNAL = {"kind": pl.String, "name": pl.String, "at": TIME, "until": TIME, "value": pl.String, "number": pl.Float64}
KINDS = (*TRANSITIONS, "viewed", "assigned", "verdict", "commented", "escalated", "promoted", "notified", "work_ended")


def hour(n: float) -> datetime:
    """Return the n-th hour."""
    return START + n * HOUR


def history_of(
    alerts: list[dict], rows: list[dict], journal: list[dict] | None = None, at: datetime | None = None
) -> History:
    """Return a history of plain rows; what they leave out is null."""
    frames = [
        pl.DataFrame([{name: row.get(name) for name in schema} for row in given], schema=schema)
        for given, schema in ((alerts, ALERTS), (rows, ACTIVITIES), (journal or [], JOURNAL))
    ]
    frames[0] = frames[0].with_columns(pl.col("is_test").fill_null(value=False), pl.col("severity").fill_null("low"))
    frames[1] = frames[1].with_columns(pl.col("actor_kind").fill_null("human"))
    return History.of(frames[0], frames[1].with_columns(), journal=frames[2], at=at)


@st.composite
def logs(draw: st.DrawFn, most_hours: int = 60) -> tuple[list[dict], list[dict]]:
    """Return alerts and activities, in any order and with whatever may follow whatever."""
    alerts = [
        {
            "alert_id": f"a{i}", "created_at": hour(t), "rule_id": draw(st.sampled_from(["r1", "r2", None])),
            "rule_version": draw(st.sampled_from(["1", "2"])), "severity": draw(st.sampled_from(["low", "high"])),
            "vendor": draw(st.sampled_from(["edr", "mail"])), "is_test": draw(st.integers(0, 9)) == 0,
        }
        for i, t in enumerate(draw(st.lists(st.integers(0, most_hours), min_size=1, max_size=7)))
    ]  # fmt: skip
    rows = []
    for n, kind in enumerate(draw(st.lists(st.sampled_from(KINDS), max_size=25))):
        at = draw(st.integers(0, most_hours))
        value = {
            "verdict": draw(st.sampled_from(VERDICTS)), "escalated": draw(st.sampled_from(["i1", "i2", "", None])),
            "promoted": draw(st.sampled_from(["i1", "i3", " "])), "assigned": "ann",
        }.get(kind)  # fmt: skip
        until = hour(at + draw(st.integers(0, 9))) if kind == "suppressed" and draw(st.booleans()) else None
        rows.append(
            {
                "key": f"k{n}", "alert_id": draw(st.sampled_from(alerts))["alert_id"], "at": hour(at), "type": kind,
                "actor": draw(st.sampled_from(["ann", "bob"])), "actor_kind": draw(st.sampled_from(["human", "automation"])),
                "value": value, "until": until, "number": float(draw(st.integers(0, 60))) if kind == "work_ended" else None,
            }
        )  # fmt: skip
    return alerts, rows


def of_alert(rows: list[dict], alert_id: str, *kinds: str) -> list[dict]:
    """Return an alert's activities of these types (all without any) in order of time and learning."""
    mine = [r for r in rows if r["alert_id"] == alert_id and (not kinds or r["type"] in kinds)]
    return sorted(mine, key=lambda r: r["at"])


def state_at(created: datetime, rows: list[dict], when: datetime) -> str | None:
    """Walk through an alert's activities in order and say how it stood at a time; None before its creation."""
    if when < created:
        return None
    state = "new"
    for row in rows:
        over = row["type"] == "suppressed" and row["until"] is not None and row["until"] <= when
        if row["at"] <= when and row["type"] in TRANSITIONS and not over:
            state = TRANSITIONS[row["type"]][1]
    return state


def observables(*told: tuple[str, str | None, str | None]) -> str:
    """Return kind, role and value of each as an alert holds them."""
    return json.dumps([{"kind": k, "role": r, "value": v} for k, r, v in told])


def daily(counts: list[int] | np.ndarray, rules: list[str] | None = None, start: datetime = START) -> list[dict]:
    """Return so many alerts at noon UTC of each day."""
    alerts = []
    for day, count in enumerate(counts):
        for n in range(int(count)):
            at = start + timedelta(days=day, hours=12, seconds=n)
            alerts.append(
                {
                    "alert_id": f"{(rules or ['r'])[0]}-{day}-{n}",
                    "created_at": at,
                    "rule_id": (rules or ["r"])[0],
                    "vendor": "edr",
                }
            )
    return alerts
