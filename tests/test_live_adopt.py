"""An engine whose rules change goes on with all that still means the same; and it says which events it set aside.

Layer: tests.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

import tocsin as tc
from tocsin.engine import End, Engine

START = datetime(2025, 3, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)
SCHEMA = {
    "event_id": pl.String,
    "timestamp": pl.Datetime("us", "UTC"),
    "received_at": pl.Datetime("us", "UTC"),
    "user_id": pl.String,
}
COUNT = tc.Detection(
    id="test.count", title="Counts", severity="low", on=pl.lit(value=True), entity="user_id",
    measure=tc.Count(per="1d"), score=tc.value, when=tc.score > 0,
)  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- set aside
def event(event_id: str, after: timedelta, **more: Any) -> dict[str, Any]:
    return {"event_id": event_id, "timestamp": START + after, "received_at": None, "user_id": "ada"} | more


def test_events_that_are_late_in_conflict_or_from_the_future_are_told_with_their_row_in_the_batch():
    engine = Engine([COUNT], SCHEMA, lateness="1h")
    rows = [
        event("a", 5 * HOUR), event("late", HOUR), event("b", 6 * HOUR), event("a", 5 * HOUR),
        event("b", 6 * HOUR, user_id="bob"), event("future", 9 * HOUR, received_at=START),
    ]  # fmt: skip
    batch = pl.DataFrame(rows, schema=SCHEMA)
    for given in (batch, engine.prepare(batch)):
        _, output = engine.step(engine.new_state(), given)
        assert output.aside is not None
        assert output.aside.schema == {"row": pl.UInt32, "event_id": pl.String, "fate": pl.String}
        assert output.aside.rows() == [(1, "late", "late"), (4, "b", "conflict"), (5, "future", "future")]


def test_nothing_is_set_aside_where_all_is_well():
    engine = Engine([COUNT], SCHEMA, lateness="1h")
    state, output = engine.step(engine.new_state(), pl.DataFrame([event("a", HOUR), event("a", HOUR)], schema=SCHEMA))
    assert output.aside is None
    assert engine.step(state, End())[1].aside is None
