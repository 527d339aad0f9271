"""When the number of events a day changed: dates, zones, gaps and too little data.

Layer: tests. The search itself is tested in test_stats_changepoints.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

import tocsin as tc
from tocsin.stats import changepoints


def steps(levels: list[int], *, seed: int = 3) -> tc.Events:
    noise, start = np.random.default_rng(seed), datetime(2026, 3, 2, 23, tzinfo=UTC)
    counts = [int(noise.poisson(level)) for level in levels]
    times = [start + timedelta(days=d, seconds=i) for d, n in enumerate(counts) for i in range(n)]
    kinds = ["mail" if i % 2 else "login" for i in range(len(times))]
    return tc.read(pl.DataFrame({"timestamp": times, "kind": kinds}))


def test_a_doubling_is_dated_and_the_days_at_the_ends_are_left_out() -> None:
    answer = tc.ask.change_points(steps([30] * 60 + [60] * 40))
    assert answer.facts["days"] == 98
    assert answer.table["since"].to_list() == [date(2026, 3, 3), date(2026, 5, 1)]
    assert answer.table["effect"][1] == pytest.approx(2, abs=0.2)
    assert answer.plot().data


def test_days_are_those_of_the_zone_and_of_the_events_picked() -> None:
    events = steps([30] * 60 + [60] * 40)
    there = tc.ask.change_points(events, zone="Asia/Tokyo", on=pl.col("kind") == "mail")
    assert there.table["since"].to_list() == [date(2026, 3, 4), date(2026, 5, 2)], "23:00 UTC is the next day there"
    assert there.table["mean"][0] == pytest.approx(15, abs=1)


def test_a_steady_log_has_no_change_and_a_short_one_is_refused() -> None:
    assert tc.ask.change_points(steps([30] * 100)).facts["changes"] == 0
    with pytest.raises(tc.SourceError, match="change points need 14"):
        tc.ask.change_points(steps([30] * 10))


def test_days_without_coverage_are_unknown_and_no_change() -> None:
    gap = (datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 4, 20, tzinfo=UTC))
    levels = [0 if 30 <= d < 49 else 30 for d in range(100)]
    assert tc.ask.change_points(steps(levels), gaps=[gap]).facts["changes"] == 0
    assert tc.ask.change_points(steps(levels)).facts["changes"] == 2


def test_change_points_draw_themselves() -> None:
    found = changepoints.counts(np.random.default_rng(1).poisson([10] * 50 + [30] * 50), start="2026-01-01")
    names = [trace.name for trace in found.plot("Alerts").data]
    assert names[:3] == ["change, with the interval of its date", "value", "mean of the regime"]
