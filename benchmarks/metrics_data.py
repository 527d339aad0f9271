"""A made history of alerts, as large as wished: the input of `benchmarks.metrics`.

Enters: how many alerts, and a seed. Leaves: a `History` with about four activities an alert, a journal, and the evidence
of each alert. Layer: none (outside the package).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from tocsin.lifecycle import History

START, DAYS, RULES, HOSTS, USERS = datetime(2025, 1, 6, tzinfo=UTC), 365, 200, 5_000, 8_000
DAY_US, MINUTE_US = 86_400_000_000, 60_000_000
SEVERITIES = ["informational", "low", "medium", "high", "critical"]
TIME = pl.Datetime("us", "UTC")


def history(alerts: int = 1_000_000, seed: int = 7) -> History:
    """Return a year of alerts with a week's rhythm; from day 200 on rule-017 fires far more often."""
    rng = np.random.default_rng(seed)
    raised = _alerts(rng, alerts)
    journal = [
        {"kind": "covered", "name": "edr", "at": START, "until": START + timedelta(days=120)},
        {"kind": "covered", "name": "edr", "at": START + timedelta(days=121), "until": START + timedelta(days=DAYS)},
        {"kind": "events", "name": "edr", "at": START, "until": START + timedelta(days=DAYS), "number": 4e9},
        {"kind": "release", "name": "rule-017", "value": "2", "at": START + timedelta(days=200)},
    ]
    return History.of(raised, _activities(rng, raised), journal=pl.DataFrame(journal), at=START + timedelta(days=DAYS))


def _alerts(rng: np.random.Generator, n: int) -> pl.DataFrame:
    weight = np.tile([1.2, 1.2, 1.2, 1.2, 1.2, 0.5, 0.5], DAYS // 7 + 1)[:DAYS]
    weight = weight * np.where(np.arange(DAYS) >= 200, 1.3, 1.0)
    day = np.sort(rng.choice(DAYS, n, p=weight / weight.sum()))
    rule = np.minimum(rng.zipf(1.3, n) - 1, RULES - 1)
    rule[(day >= 200) & (rng.random(n) < 0.2)] = 17
    drawn = pl.DataFrame(
        {
            "number": np.arange(n),
            "at": int(START.timestamp()) * 1_000_000 + day * DAY_US + rng.integers(0, DAY_US, n),
            "rule": rule,
            "version": np.where((day >= 200) & (rule == 17), 2, 1),
            "level": rng.choice(len(SEVERITIES), n, p=[0.1, 0.4, 0.3, 0.15, 0.05]),
            "host": rng.integers(0, HOSTS, n),
            "user": np.minimum(rng.zipf(1.2, n), USERS),
            "system": rng.integers(0, 4, n),
            "net": rng.integers(0, 250, n),
            "address": rng.integers(0, 250, n),
        }
    )
    parts = [
        pl.lit('[{"kind": "host", "role": null, "value": "PC'), "host",
        pl.lit('.corp.example"}, {"kind": "user", "role": null, "value": "CORP\\\\user'), "user",
        pl.lit('"}, {"kind": "os", "role": null, "value": "Windows '), "system",
        pl.lit('"}, {"kind": "ip", "role": "source", "value": "10.0.'), "net", pl.lit("."), "address", pl.lit('"}]'),
    ]  # fmt: skip
    return drawn.select(
        alert_id=pl.col("number").cast(pl.String).str.zfill(32),
        created_at=pl.col("at").cast(TIME),
        rule_id=pl.lit("rule-") + pl.col("rule").cast(pl.String).str.zfill(3),
        rule_version=pl.col("version").cast(pl.String),
        severity=pl.col("level").replace_strict(dict(enumerate(SEVERITIES)), return_dtype=pl.String),
        entity_kind=pl.lit("user_id"),
        entity=pl.lit("user") + pl.col("user").cast(pl.String),
        vendor=pl.lit("edr"),
        observables=pl.concat_str(parts),
    )


def _activities(rng: np.random.Generator, raised: pl.DataFrame) -> pl.DataFrame:
    n = raised.height
    created = raised["created_at"].dt.epoch("us").to_numpy()
    waited = (rng.lognormal(3.0, 1.2, n) * MINUTE_US).astype(np.int64)
    minutes = rng.lognormal(2.0, 0.8, n)
    begun, ended = created + waited, created + waited + (minutes * MINUTE_US).astype(np.int64)
    verdicts = np.array(["false_positive", "benign_true_positive", "true_positive", "inconclusive"])
    told = verdicts[rng.choice(4, n, p=[0.6, 0.2, 0.15, 0.05])]
    ids, rare = raised["alert_id"], rng.random(n)

    def rows(kind: str, which: Any, at: Any, value: Any = None, number: Any = None) -> pl.DataFrame:
        at = at[which]
        return pl.DataFrame(
            {
                "alert_id": ids.filter(pl.Series(which)),
                "at": pl.Series(at).cast(TIME),
                "type": pl.repeat(kind, at.size, eager=True),
                "value": pl.Series(value[which]) if value is not None else pl.repeat(None, at.size, dtype=pl.String, eager=True),
                "number": pl.Series(number[which]) if number is not None else pl.repeat(None, at.size, dtype=pl.Float64, eager=True),
            }
        )  # fmt: skip

    seen = rng.random(n) < 0.96
    case = np.char.add("INV-", (np.arange(n) // 3).astype(str))
    parts = [
        rows("work_started", seen, begun),
        rows("work_ended", seen, ended, number=minutes),
        rows("verdict", seen, ended, told),
        rows("closed", seen, ended + 1),
        rows("escalated", rare < 0.05, ended, case),
        rows("promoted", rare < 0.01, ended + 2, case),
        rows("notified", rare < 0.02, ended + 3),
        rows("reopened", seen & (rare > 0.97), ended + 60 * MINUTE_US),
    ]
    actor = pl.lit("analyst-") + (pl.int_range(pl.len()) % 12).cast(pl.String)
    return pl.concat(parts).with_columns(actor.alias("actor"))
