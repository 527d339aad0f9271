"""A digest of the inputs of a report.

Enters: a history. Leaves: 32 hex digits, the same for the same content in any order and whenever it was recorded.
Layer: reports.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import polars as pl

from tocsin.lifecycle.frames import SCHEMAS, TIME, digest

if TYPE_CHECKING:
    from tocsin.lifecycle import History


def digest_of(history: History) -> str:
    """Return what a report names its inputs by.

    >>> from datetime import UTC, datetime
    >>> from tocsin.lifecycle import History
    >>> when = datetime(2026, 1, 5, tzinfo=UTC)
    >>> frame = pl.DataFrame({"alert_id": ["a", "b"], "created_at": [when, when]})
    >>> digest_of(History.of(frame)) == digest_of(History.of(frame.reverse()))
    True
    """
    total = hashlib.sha256(str(history.seen_at).encode())
    frames = {
        "alert": history.alerts,
        "activity": history.activities,
        "finding": history.findings,
        "journal": history.journal,
    }
    for name, frame in frames.items():
        said = [
            pl.col(c).dt.epoch("us") if dtype == TIME else pl.col(c)
            for c, dtype in SCHEMAS[name].items()
            if c not in ("recorded_at", "key")
        ]
        rows = digest(said, frame).sort()
        total.update(f"{name} {rows.len()}\n".encode())
        for part in rows.slice(0).to_frame().iter_slices(100_000):
            total.update("".join(part.to_series().to_list()).encode())
    return total.hexdigest()[:32]
