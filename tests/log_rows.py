"""What the tests of the alert log write into it: findings, minutes, and a clock that is turned by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def minute(n: float) -> datetime:
    """Return the n-th minute of the tests' time."""
    return START + n * MINUTE


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def set(self, n: float) -> None:
        """Turn it to the n-th minute."""
        self.now = minute(n)


def findings(*rows: dict, **every: object) -> pl.DataFrame:
    """Return findings of `mail.exe` about ann at the start, but for what the rows say."""
    usual = {
        "detection_id": "mail.exe", "version": "1", "severity": "low", "title": "An .exe", "tier": 1, "entity_kind": "user_id",
        "entity": "ann", "time": START, "score": 5.0, "threshold": 3.0, "peak_score": 5.0, "suppressed_by": None, "src_ip": "10.0.0.9",
    }  # fmt: skip
    made = [usual | {"finding_id": f"{i:032x}"} | every | row for i, row in enumerate(rows)]
    types = {
        "time": pl.Datetime("us", "UTC"),
        "suppressed_by": pl.String,
        "tier": pl.Int8,
        "score": pl.Float64,
        "peak_score": pl.Float64,
    }
    return pl.DataFrame(made, schema_overrides=types, infer_schema_length=None)
