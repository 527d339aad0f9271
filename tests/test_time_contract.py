"""The edges of the time contract, one hand-worked example each: what random logs meet too seldom to be relied on.

Each test names one instant that decides, and looks one microsecond to either side of it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

import tocsin as tc
from tocsin.engine import End, Engine, Idle

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR, MICROSECOND = timedelta(hours=1), timedelta(microseconds=1)
SCHEMA = {
    "event_id": pl.String,
    "timestamp": pl.Datetime("us", "UTC"),
    "received_at": pl.Datetime("us", "UTC"),
    "partition": pl.String,
    "user_id": pl.String,
    "note": pl.String,
}
COUNT = tc.Detection(
    id="test.count", title="Counts", severity="low", on=pl.lit(value=True), entity="user_id",
    measure=tc.Count(per="1d"), score=tc.value, when=tc.score > 0, evidence=("note",),
)  # fmt: skip


def event(event_id: str, after: timedelta, **more: Any) -> dict[str, Any]:
    row = {
        "event_id": event_id,
        "timestamp": START + after,
        "received_at": None,
        "partition": "p",
        "user_id": "ada",
        "note": None,
    }
    return row | more


def run(log: list[Any], *detections: tc.Detection, **settings: Any) -> tuple[list[str], dict[str, float | None]]:
    """Fold the log over the step, one record at a time; return the fates and the count that each event saw."""
    engine = Engine(detections or [COUNT], SCHEMA, trace=True, **{"lateness": "1h", "dedup_horizon": "7d"} | settings)
    state, fates, values = engine.new_state(), [], {}
    for record in [*log, End()]:
        state, output = engine.step(
            state, pl.DataFrame([record], schema=SCHEMA) if isinstance(record, dict) else record
        )
        fates += output.fates["fate"].to_list() if output.fates is not None else []
        if output.trace is not None:
            rule = (detections or [COUNT])[0].id
            values |= dict(zip(output.trace["event_id"], output.trace[f"{rule}@value"], strict=True))
    return fates, values


def test_an_event_exactly_at_the_bar_is_in_time_and_one_microsecond_before_it_is_late() -> None:
    fates, _ = run([event("a", HOUR), event("b", timedelta(0)), event("c", -MICROSECOND)])
    assert fates == ["ok", "ok", "late"]


def test_a_slow_partition_is_judged_by_its_own_clock() -> None:
    log = [event("a", timedelta(0), partition="slow"), event("b", 9 * HOUR), event("c", HOUR, partition="slow")]
    assert run(log)[0] == ["ok", "ok", "ok"]


def test_what_is_released_is_released_for_all_partitions() -> None:
    log = [event("a", 9 * HOUR), event("b", HOUR, partition="new")]
    assert run(log)[0] == ["ok", "late"]


def test_an_idle_partition_holds_nobody_back_and_wakes_with_its_next_event() -> None:
    quiet, loud = {"partition": "quiet"}, {"partition": "loud"}
    asleep = [event("a", timedelta(0), **quiet), Idle("quiet"), event("b", 5 * HOUR, **loud), event("c", HOUR, **quiet)]
    assert run(asleep)[0] == ["ok", "ok", "late"]
    awake = [*asleep[:3], event("c", 5 * HOUR, **quiet), event("d", 9 * HOUR, **loud), event("e", 5 * HOUR, **quiet)]
    assert run(awake)[0] == ["ok", "ok", "ok", "ok", "ok"]


def test_an_id_is_remembered_through_the_last_microsecond_of_its_horizon() -> None:
    at = event("a", timedelta(0))
    inside = [at, event("b", 8 * HOUR), event("a", 8 * HOUR)]
    outside = [at, event("b", 8 * HOUR + MICROSECOND), event("a", 8 * HOUR + MICROSECOND)]
    assert run(inside, dedup_horizon="8h")[0] == ["ok", "ok", "conflict"]
    assert run(outside, dedup_horizon="8h")[0] == ["ok", "ok", "ok"]


def test_the_same_id_with_the_same_content_is_a_duplicate_and_with_other_content_a_conflict() -> None:
    log = [event("a", HOUR, note="x"), event("a", HOUR, note="x"), event("a", HOUR, note="y")]
    fates, values = run(log)
    assert fates == ["ok", "duplicate", "conflict"]
    assert values == {"a": 1}


def test_a_duplicate_from_the_future_moves_no_clock() -> None:
    log = [event("a", timedelta(0)), event("a", 9 * HOUR), event("b", timedelta(0))]
    assert run(log)[0] == ["ok", "conflict", "ok"]


def test_an_event_may_be_ahead_of_its_receipt_by_the_skew_and_no_microsecond_more() -> None:
    received = {"received_at": START}
    log = [event("a", timedelta(minutes=10), **received), event("b", timedelta(minutes=10) + MICROSECOND, **received)]
    assert run(log, future_skew="10m")[0] == ["ok", "future"]


def test_events_of_one_instant_are_counted_in_the_order_of_their_ids() -> None:
    _, values = run([event("c", HOUR), event("a", HOUR), event("b", HOUR)])
    assert values == {"a": 1, "b": 2, "c": 3}


def test_events_at_the_released_frontier_still_wait_for_others_of_the_same_instant() -> None:
    _, values = run([event("b", HOUR), event("z", 2 * HOUR), event("a", HOUR)])
    assert values == {"a": 1, "b": 2, "z": 3}


def counting(measure: tc.Count) -> tc.Detection:
    return tc.Detection(
        id="test.count", title="Counts", severity="low", on=pl.lit(value=True), entity="user_id",
        measure=measure, score=tc.value, when=tc.score > 0,
    )  # fmt: skip


def test_a_sliding_window_leaves_out_its_old_end() -> None:
    log = [event("a", timedelta(0)), event("b", HOUR - MICROSECOND), event("c", HOUR)]
    assert run(log, counting(tc.Count(sliding="1h")))[1] == {"a": 1, "b": 2, "c": 2}


def test_a_silence_of_exactly_the_span_is_not_yet_forgotten() -> None:
    log = [event("a", timedelta(0)), event("b", HOUR), event("c", 2 * HOUR + MICROSECOND)]
    assert run(log, counting(tc.Count(ever=True, forget_after="1h")))[1] == {"a": 1, "b": 2, "c": 1}


def test_a_day_begins_at_its_first_midnight_where_the_clock_strikes_twelve_twice() -> None:
    """In Havana on 2026-11-01 the clock goes from 01:00 back to 00:00: the date begins at 04:00 UTC, not at 05:00."""
    begin = datetime(2026, 11, 1, 4, tzinfo=UTC) - START
    log = [event("a", begin - MICROSECOND), event("b", begin), event("c", begin + HOUR)]
    assert run(log, counting(tc.Count(per="1d", zone="America/Havana")))[1] == {"a": 1, "b": 1, "c": 2}


def test_a_week_begins_on_monday() -> None:
    monday = datetime(2026, 3, 9, tzinfo=UTC) - START
    log = [event("a", monday - MICROSECOND), event("b", monday), event("c", monday + HOUR)]
    assert run(log, counting(tc.Count(per="1w")))[1] == {"a": 1, "b": 1, "c": 2}
