"""Measures and baselines at the engine's face, worked out by hand: one small history each, one claim.

Layer: tests. The naive reference covers more; these say where it hurts, and they are what `make mutants` runs.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import polars as pl
import pytest

import tocsin as tc
from tocsin.engine import End, Engine

START = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SCHEMA = {
    "event_id": pl.String,
    "timestamp": pl.Datetime("us", "UTC"),
    "user_id": pl.String,
    "n": pl.Int64,
    "word": pl.String,
}


def rule(measure: Any, against: Any = None, **more: Any) -> tc.Detection:
    score = pl.col("timestamp").dt.hour().cast(pl.Float64)  # the tests read the trace, not the score
    options = {"on": pl.lit(value=True), "entity": "user_id", "score": score, "when": tc.score > 100} | more
    return tc.Detection(id="test.rule", title="By hand", severity="low", measure=measure, against=against, **options)


def days(*counts: int, user: str = "ada") -> list[dict[str, Any]]:
    """So many events on each day, from 06:00 on, an hour apart."""
    return [at(day + (6 + i) / 24, user_id=user) for day, n in enumerate(counts) for i in range(n)]


def at(day: float, **more: Any) -> dict[str, Any]:
    return {"timestamp": START + timedelta(days=day), "user_id": "ada", "n": None, "word": None} | more


def trace(rows: list[dict[str, Any]], detection: tc.Detection, column: str, **settings: Any) -> list[float | None]:
    """Return a column of the rule for each event in order of time."""
    rows = [{"event_id": f"{i:04}"} | row for i, row in enumerate(sorted(rows, key=lambda r: r["timestamp"]))]
    engine = Engine([detection], SCHEMA, trace=True, **settings)
    state, output = engine.step(engine.new_state(), pl.DataFrame(rows, schema=SCHEMA))
    parts = [output.trace] if output.trace is not None else []
    parts += [o.trace for _, o in [engine.step(state, End())] if o.trace is not None]
    return pl.concat(parts).sort("event_id")[f"test.rule{column}"].to_list()


def own(**more: Any) -> Any:
    return tc.own_history(**{"mean": True, "at_least": 1} | more)


# --------------------------------------------------------------------------------------------------------- baselines
@pytest.fixture(params=[{}, {"sd": True}], ids=["counts alone", "any statistic"])
def base(request: pytest.FixtureRequest) -> Any:
    """Both ways to a mean: counts are summed where they stand, every other baseline is gathered first."""
    return partial(own, **request.param)


def test_days_without_events_count_as_zero_from_the_first_day_on(base: Any) -> None:
    assert trace(days(0, 4, 0, 0, 2, 1), rule(tc.Count(per="1d"), base()), "@ref.mean")[-3:] == [4 / 3, 4 / 3, 6 / 4]


def test_the_day_being_scored_is_not_in_its_own_baseline_and_the_day_before_is(base: Any) -> None:
    assert trace(days(2, 3, 5), rule(tc.Count(per="1d"), base()), "@ref.mean") == [None] * 2 + [2.0] * 3 + [2.5] * 5


def test_a_baseline_reaches_back_exactly_its_windows_even_over_a_silence(base: Any) -> None:
    fit = base(windows=3)
    assert trace(days(6, 0, 0, 1, 1), rule(tc.Count(per="1d"), fit), "@ref.mean")[-2:] == [2.0, 1 / 3]
    assert trace(days(6, 0, 0, 0, 1), rule(tc.Count(per="1d"), fit), "@ref.mean")[-1] == 0.0


def test_a_skipped_day_does_not_show_what_an_older_day_left_in_its_place(base: Any) -> None:
    history = days(9, 9, 9, 9, 9, 9, 9, 0, 1, 1, 1)  # three days in a row: the ring begins at each of its places
    assert trace(history, rule(tc.Count(per="1d"), base(windows=3)), "@ref.mean")[-3:] == [6.0, 10 / 3, 2 / 3]


def test_what_the_ring_held_before_a_long_silence_is_gone_after_it(base: Any) -> None:
    history = days(9, 9, 9, 0, 0, 0, 1, 1)
    assert trace(history, rule(tc.Count(per="1d"), base(windows=3)), "@ref.mean")[-2:] == [0.0, 1 / 3]


def test_uncovered_days_without_events_are_missing_and_not_zero(base: Any) -> None:
    gap = [(int((START + d * DAY).timestamp() * 1e6)) for d in (1, 3)]
    history = days(4, 0, 0, 0, 1)
    assert trace(history, rule(tc.Count(per="1d"), base()), "@ref.mean", gaps=[tuple(gap)])[-1] == 4 / 2


def test_fewer_windows_than_asked_for_give_no_baseline_and_exactly_as_many_do(base: Any) -> None:
    history = days(1, 1, 1, 1)
    assert trace(history, rule(tc.Count(per="1d"), base(at_least=3)), "@ref.mean") == [None, None, None, 1.0]


def test_statistics_of_four_days_are_those_of_the_textbook() -> None:
    fit = own(sd=True, median=True, mad=True, quantiles=(0.9,))
    history = days(1, 2, 4, 9, 1)  # sorted 1 2 4 9: mean 4, squares 9 + 4 + 0 + 25
    expected = {"mean": 4.0, "sd": math.sqrt(38 / 3), "median": 3.0, "mad": 1.5, "q90": 4 + 0.7 * 5, "n": 4.0}
    found = {name: trace(history, rule(tc.Count(per="1d"), fit), f"@ref.{name}")[-1] for name in expected}
    assert found == pytest.approx(expected, abs=1e-12)


def test_an_alerted_day_leaves_the_baseline_only_when_asked() -> None:
    history = days(1, 9, 1, 1)
    for exclude, mean in ((True, 1.0), (False, 11 / 3)):
        fit = own(exclude_alerted=exclude)
        loud = rule(tc.Count(per="1d"), fit, score=tc.value / tc.ref.mean, when=tc.score > 3)
        assert trace(history, loud, "@ref.mean")[-1] == mean


def test_a_late_event_before_the_first_one_moves_the_first_day_back() -> None:
    rows = [at(5), at(5.5), at(2), at(7)]  # in order of arrival: the third is late, day 2 becomes the first
    rows = [{"event_id": f"{i:04}"} | row for i, row in enumerate(rows)]
    engine = Engine([rule(tc.Count(per="1d"), own())], SCHEMA, trace=True, lateness="1h")
    state, _ = engine.step(engine.new_state(), pl.DataFrame(rows, schema=SCHEMA))
    _, output = engine.step(state, End())
    assert output.trace is not None
    assert output.trace["test.rule@ref.n"].to_list()[-1] == 5.0
    assert output.trace["test.rule@ref.mean"].to_list()[-1] == 3 / 5


# ------------------------------------------------------------------------------------------------------- populations
def crowd(*counts: int) -> list[dict[str, Any]]:
    """On day 0 each user sends so many events; on day 1 ada sends one."""
    return [row for i, n in enumerate(counts) for row in days(n, user=f"user{i}")] + [at(1.5)]


def test_a_population_is_one_value_of_each_active_entity_of_the_day_before() -> None:
    fit = tc.population(mean=True, sd=True, at_least=1)
    assert trace(crowd(1, 2, 6), rule(tc.Count(per="1d"), fit), "@ref.mean")[-1] == 3.0
    assert trace(crowd(1, 2, 6), rule(tc.Count(per="1d"), fit), "@ref.sd")[-1] == math.sqrt(7)


def test_a_populations_quantile_does_not_depend_on_the_order_in_which_users_came() -> None:
    fit = tc.population(quantiles=(0.25,), at_least=1)
    found = [trace(crowd(*c), rule(tc.Count(per="1d"), fit), "@ref.q25")[-1] for c in ((1, 5, 3), (5, 3, 1), (3, 1, 5))]
    assert found == [2.0, 2.0, 2.0]


def test_a_populations_mean_is_the_same_to_the_last_bit_in_whatever_order_users_came() -> None:
    """0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1 in floats, so values are added in order of value."""
    fit, found = tc.population(mean=True, at_least=1), []
    for tenths in ((1, 2, 3), (3, 2, 1), (2, 3, 1)):
        mails = [
            at(i / 10 + j / 1000, user_id=f"u{i}", n=k if j == 0 else 0)
            for i, k in enumerate(tenths)
            for j in range(10)
        ]
        found.append(trace([*mails, at(1.5, n=0)], rule(tc.Mean("n", per="1d"), fit), "@ref.mean")[-1])
    assert found == [(0.1 + 0.2 + 0.3) / 3] * 3


def test_too_small_a_population_gives_nothing_to_compare_with() -> None:
    assert trace(crowd(1, 2), rule(tc.Count(per="1d"), tc.population(mean=True, at_least=3)), "@ref.mean")[-1] is None


# ------------------------------------------------------------------------------------------------- measures of columns
def test_a_minimum_starts_from_the_first_value_and_not_from_zero() -> None:
    rows = [at(0.1, n=7), at(0.2, n=5), at(0.3, n=9)]
    assert trace(rows, rule(tc.Min("n", per="1d")), "@value") == [7.0, 5.0, 5.0]
    assert trace(rows, rule(tc.Max("n", per="1d")), "@value") == [7.0, 7.0, 9.0]
    assert trace([at(0.1, n=-3), at(0.2, n=-8)], rule(tc.Max("n", per="1d")), "@value") == [-3.0, -3.0]


def test_a_ratio_of_nothing_is_null_and_not_zero() -> None:
    measure = tc.Ratio(num=pl.col("word") == "bounce", den=pl.col("n") > 0, per="1d")
    rows = [at(0.1, n=0), at(0.2, n=1), at(0.3, n=1, word="bounce")]
    assert trace(rows, rule(measure), "@value") == [None, 0.0, 0.5]


def test_a_value_counts_again_on_another_day_and_once_on_the_same() -> None:
    rows = [at(0.1, word="x"), at(0.2, word="x"), at(0.3, word="y"), at(1.1, word="x")]
    assert trace(rows, rule(tc.Distinct("word", per="1d")), "@value") == [1.0, 1.0, 2.0, 1.0]


def test_a_value_that_left_a_sliding_window_is_no_longer_counted() -> None:
    rows = [at(0.0, word="x"), at(0.01, word="y"), at(0.5, word="y")]
    assert trace(rows, rule(tc.Distinct("word", sliding="1h")), "@value") == [1.0, 2.0, 1.0]


def test_when_the_extreme_leaves_a_sliding_window_the_next_one_still_inside_takes_its_place() -> None:
    rows = [at(minute / 1440, n=n) for minute, n in ((0, 9), (20, 5), (40, 7), (50, 6), (61, 1), (101, 2), (130, 3))]
    assert trace(rows, rule(tc.Max("n", sliding="1h")), "@value") == [9.0, 9.0, 9.0, 9.0, 7.0, 6.0, 3.0]
    assert trace(rows, rule(tc.Min("n", sliding="1h")), "@value") == [9.0, 5.0, 5.0, 5.0, 1.0, 1.0, 2.0]


def test_the_extreme_of_a_sliding_window_leaves_it_after_exactly_its_width() -> None:
    rows = [at(0, n=9), at(1 / 24, n=5), at(3 / 24, n=-7), at(3 / 24, n=-8)]
    assert trace(rows, rule(tc.Max("n", sliding="1h")), "@value") == [9.0, 5.0, -7.0, -7.0]
    assert trace(rows[1:], rule(tc.Max("n", sliding="2h")), "@value") == [5.0, -7.0, -7.0]


def test_an_event_without_the_column_or_of_another_entity_does_not_touch_a_sliding_extreme() -> None:
    rows = [at(0, n=4), at(0.01, n=None), at(0.02, n=6), at(0.03, user_id="bob", n=1), at(0.035, n=5)]
    assert trace(rows, rule(tc.Min("n", sliding="1h")), "@value") == [4.0, None, 4.0, 1.0, 4.0]


# --------------------------------------------------------------------------------------------------- special measures
def test_the_previous_event_is_forgotten_after_its_time_and_not_before() -> None:
    rows = [at(0, n=1), at(1, n=2), at(2.5, n=3)]
    assert trace(rows, rule(tc.Previous("n", forget_after="1d")), "@prev.n") == [None, 1, None]


def test_known_is_what_was_known_before_this_event() -> None:
    rows = [at(0, word="x"), at(1, word="y"), at(2, word="x")]
    assert trace(rows, rule(tc.FirstSeen("word")), "@known") == [0.0, 1.0, 2.0]
    assert trace(rows, rule(tc.FirstSeen("word")), "@value") == [1.0, 1.0, 0.0]


def test_a_value_not_seen_for_long_is_seen_for_the_first_time_again() -> None:
    rows = [at(0, word="x"), at(1, word="x"), at(2.5, word="x")]
    assert trace(rows, rule(tc.FirstSeen("word", forget_after="1d")), "@value") == [1.0, 0.0, 1.0]


def test_hours_count_this_event_in_its_hour_and_in_the_total() -> None:
    rows = [at(9 / 24), at(10 / 24), at(1 + 9 / 24)]
    assert trace(rows, rule(tc.Hours()), "@value") == [1.0, 1.0, 2.0]
    assert trace(rows, rule(tc.Hours()), "@total") == [1.0, 2.0, 3.0]
