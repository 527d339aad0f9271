"""Response times and SLOs: what still waits counts as waiting, and the answer is near the truth however much waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lifecycle import START, history_of, logs, minute

from tocsin import metrics
from tocsin.lifecycle import History
from tocsin.metrics.clocks import durations, shipped
from tocsin.metrics.groups import Group
from tocsin.metrics.misses import REASONS
from tocsin.metrics.response import in_time, response, slo
from tocsin.metrics.scope import MetricError, Scope
from tocsin.sources.simulate import Desk, SimulatedTriage, simulate_alerts
from tocsin.workhours import WorkHours

TIME = pl.Datetime("us", "UTC")
SPAN = {"since": START - timedelta(minutes=1), "until": START + timedelta(days=1)}
EMPTY = History.of(pl.DataFrame(schema={"alert_id": pl.String, "created_at": TIME}))


def told(rows: list[tuple], at: int = 1_000, **alert: object) -> Scope:
    """A scope of alerts (created, first action or None, severity), in minutes."""
    alerts = [
        {"alert_id": f"a{i}", "created_at": minute(t), "severity": s, **alert} for i, (t, _, s) in enumerate(rows)
    ]
    acts = [
        {"alert_id": f"a{i}", "at": minute(t), "type": "assigned", "value": f"p{i}"}
        for i, (_, t, _) in enumerate(rows)
        if t is not None
    ]
    schema = {"alert_id": pl.String, "at": TIME, "type": pl.String, "value": pl.String}
    return Scope(History.of(pl.DataFrame(alerts), pl.DataFrame(acts, schema=schema), at=minute(at)), **SPAN)


# ---- censoring


@pytest.fixture(scope="module", params=[1, 2, 3, 4])
def swamped(request: pytest.FixtureRequest) -> SimulatedTriage:
    return simulate_alerts(9_000, 28, request.param, desk=Desk(utilisation=1.15), change=1)


@pytest.mark.parametrize("waiting", [0.14, 0.40])
def test_attainment_is_within_two_points_of_the_truth_however_many_wait(
    swamped: SimulatedTriage, waiting: float
) -> None:
    at = datetime(2026, 6, 26, 12, tzinfo=UTC)
    history = swamped.whole.as_of(at)
    everything = Scope(history)
    timed = durations(everything).with_columns(everything.alerts["created_at"]).filter(pl.col("excluded").is_null())
    # The longest span up to now of which so large a share still waits.
    latest = timed.sort("created_at", descending=True)
    share = (~latest["ended"]).cum_sum() / np.arange(1, latest.height + 1)
    since = latest["created_at"][int((share >= waiting).arg_true()[-1])]
    scope = Scope(history, since=since, until=at)
    mine = durations(scope).with_columns(scope.alerts["alert_id"]).filter(pl.col("excluded").is_null())
    truth = mine.join(swamped.truth, on="alert_id", how="left")["true_minutes"].fill_null(np.inf)  # nobody ever came
    assert abs((~mine["ended"]).mean() - waiting) < 0.03
    assert mine.height > 200
    for target in (30, 60, 120, 240):
        row = slo(scope, targets=target, by=None).table.row(0, named=True)
        true = (truth <= target).mean()
        assert abs(row["in_time_share"] - true) <= 0.02
        assert row["low"] <= true <= row["high"]
        # What waits is mostly missed by now, and the naive share leaves it out: true / (1 - waiting), nearly.
        assert row["naive_share"] - true > 0.7 * true * waiting / (1 - waiting)
    answer = response(scope, by=None).table.row(0, named=True)
    assert answer["naive_mean_minutes"] < 0.7 * float(truth.filter(truth.is_finite()).mean())


def test_the_median_is_reached_only_when_half_of_the_curve_has_come_down() -> None:
    scope = told([(0, 5, "high"), (0, None, "high"), (0, None, "high"), (0, 9, "low"), (0, 2, "low")])
    answer = response(scope)
    rows = {r["severity"]: r for r in answer.table.to_dicts()}
    assert rows["high"]["median_minutes"] is None
    assert rows["low"]["median_minutes"] == 2
    assert any(note.startswith("median is not reached for high") for note in answer.notes)
    assert rows["high"]["restricted_mean_minutes"] == pytest.approx((5 + 2 * 1000) / 3)
    assert (rows["high"]["naive_mean_minutes"], rows["high"]["waiting"]) == (5, 2)


# ---- by hand


def test_kaplan_meier_by_hand() -> None:
    # 4 at 10 minutes, one lost from sight at 20, one at 30: 1 - S(30) = 1 - (2/6)(0/1) = 1.
    scope = told([(0, 10, "high")] * 4 + [(80, None, "high"), (0, 30, "high")], at=100)
    row = slo(scope, targets={"high": 25}).table.row(0, named=True)
    assert row["in_time_share"] == pytest.approx(4 / 6)
    assert row["naive_share"] == pytest.approx(4 / 5)
    assert (row["met"], row["missed"], row["undecided"]) == (4, 1, 1)
    assert slo(scope, targets={"high": 30}).table["in_time_share"][0] == 1


def test_an_alert_that_has_waited_longer_than_its_target_has_missed_it() -> None:
    row = slo(told([(0, None, "critical"), (0, 3, "critical")]), targets={"critical": 15}).table.row(0, named=True)
    assert (row["in_time_share"], row["naive_share"], row["missed"]) == (0.5, 1.0, 1)


def test_on_the_minute_is_in_time() -> None:
    row = slo(told([(0, 15, "critical")]), targets={"critical": 15}).table.row(0, named=True)
    assert (row["in_time_share"], row["met"], row["missed"]) == (1, 1, 0)


def test_shares_of_all_or_none_have_an_interval_with_a_width() -> None:
    three = np.array([1.0, 2.0, 3.0])
    share, low, high = in_time(Group("g", three, np.ones(3, np.bool_)), 5)
    assert (share, high) == (1, 1)
    assert low == pytest.approx(0.4385, abs=1e-4)
    share, low, high = in_time(Group("g", three, np.ones(3, np.bool_)), 0.5)
    assert (share, low) == (0, 0)
    assert high == pytest.approx(0.5615, abs=1e-4)
    assert in_time(Group("g", three, np.zeros(3, np.bool_)), 5) == (None, None, None), "nobody was watched for so long"


def test_severities_stand_from_critical_down_and_the_group_of_all_last() -> None:
    scope = told([(0, 5, s) for s in ("low", "unknown", "critical", "informational", "high", "medium")])
    assert response(scope).table["severity"].to_list() == [
        "critical",
        "high",
        "medium",
        "low",
        "informational",
        "unknown",
        "all",
    ]
    assert response(scope, by=None).table["group"].to_list() == ["all"]


def test_the_span_before_stands_beside_each_number_and_says_as_of_when() -> None:
    history = told([(0, 5, "high"), (1450, 1453, "high"), (1460, None, "high")], at=1500).history
    scope = Scope(history, since=minute(1440), until=minute(1470))
    answer = response(scope, by=None)
    row = answer.table.row(0, named=True)
    assert (row["n"], row["before_n"]) == (2, None), "in the half hour before nothing was raised"
    longer = response(Scope(history, since=minute(1000), until=minute(2000)), by=None).table.row(0, named=True)
    assert (longer["before_n"], longer["before_median_minutes"], longer["before_waiting"]) == (1, 5, 0)
    assert "seen at the same time" in answer.definition


def test_single_people_are_not_shown_unless_asked_for() -> None:
    scope = told([(0, i, "high") for i in range(5)] + [(0, None, "high")])
    shown = response(scope, by="assignee").table
    assert shown["assignee"].to_list() == ["people", "nobody", "all"]
    assert shown["n"].to_list() == [5, 1, 6]
    assert response(scope, by="assignee", names=True).table["assignee"].to_list()[:2] == ["p0", "p1"]
    few = response(told([(0, 1, "high"), (0, 2, "high"), (0, None, "high")]), by="assignee").table
    assert few["assignee"].to_list() == ["too few people to show apart", "all"]


def test_each_miss_has_the_first_reason_that_holds() -> None:
    rows: list[tuple] = [(900, None, "high")]  # still waiting
    rows += [(0, 40, "high")]  # handed over, below
    rows += [(-55, 5, "high")]  # 08:05: before work begins
    rows += [(300, 305, "high")] * 9 + [(301, 360, "high")]  # a burst
    rows += [(600, 700, "high")]
    scope = told(rows)
    handed = scope.history.activities.filter(pl.col("alert_id") == "a1").with_columns(
        at=pl.lit(minute(40), TIME), value=pl.lit("other"), key=pl.lit("k")
    )
    first = scope.history.activities
    scope = Scope(
        History(scope.history.alerts, pl.concat([first, handed]), at=minute(1_000)),
        since=START - timedelta(hours=2),
        until=minute(999),
    )
    answer = slo(scope, targets={"high": 30}, work=WorkHours.of("daily 09:00-24:00"))
    found = dict(answer.more["Missed"].select("alert_id", "reason").rows())
    assert found == {
        "a0": "still waiting", "a1": "handed over", "a2": "arrived off hours", "a12": "burst", "a13": "other",
    }  # fmt: skip
    why = dict(answer.more["Why missed"].select("reason", "alerts").rows())
    assert set(why) == set(REASONS)
    assert sum(why.values()) == answer.facts["missed"] == 5


def test_a_long_queue_is_one_when_many_wait_at_once() -> None:
    calm = [(100 * i, 100 * i + 1, "low") for i in range(1, 20)]
    waiting = [(2100 + 20 * i, 2600, "low") for i in range(8)]
    scope = told([*calm, *waiting], at=3_000)
    scope = Scope(scope.history, since=START, until=minute(3_000))
    misses = slo(scope, targets={"low": 60}).more["Missed"].sort("created_at")
    assert misses["reason"].to_list() == ["other"] * 5 + ["long queue"] * 3


def test_a_log_rank_test_compares_the_groups() -> None:
    fast, slow = [(0, i + 1, "high") for i in range(30)], [(0, 40 + i, "low") for i in range(30)]
    assert response(told([*fast, *slow])).facts["log_rank_p"] < 1e-6
    assert response(told(fast)).facts == {}


# ---- what is left out, and nothing at all


def test_tests_and_merged_suppressed_and_backward_alerts_are_left_out_and_counted_by_reason() -> None:
    kinds = {"a0": "merged", "a1": "suppressed", "a3": "assigned"}
    alerts = pl.DataFrame(
        {"alert_id": [f"a{i}" for i in range(5)], "created_at": [START] * 5, "is_test": [False] * 4 + [True]}
    )
    acts = pl.DataFrame(
        {"alert_id": list(kinds), "type": list(kinds.values()), "at": [minute(1), minute(1), minute(-4)]}
    )
    answer = response(Scope(History.of(alerts, acts, at=minute(60)), **SPAN), by=None)
    assert dict(answer.more["Left out, by reason"].select("reason", "alerts").rows()) == {
        "suppressed": 1, "ended before it began (clock skew)": 1, "tests": 1, "merged into another alert": 1,
    }  # fmt: skip
    assert (answer.n, answer.table["waiting"].item(), answer.table["excluded"].item()) == (1, 1, 2)
    assert "1 tests" in answer.definition


@pytest.mark.parametrize("clock", shipped())
@pytest.mark.parametrize("by", [None, "severity", "rule", "vendor", "assignee"])
def test_nothing_gives_an_empty_answer_and_a_chart_that_says_so(clock: str, by: str | None) -> None:
    for ask in (response, slo):
        if ask is slo and clock == "notebook":
            continue
        answer = ask(Scope(EMPTY), clock=clock, by=by)
        assert answer.table.is_empty()
        assert answer.empty
        assert answer.n == 0
        assert answer.plot().layout.annotations
        assert set(answer.table.columns) == set(ask(told([(0, 1, "high")]), clock=clock, by=by).table.columns)


@pytest.mark.parametrize("clock", shipped())
@settings(deadline=None, max_examples=25)
@given(log=logs(), at=st.integers(0, 45))
def test_any_history_gets_an_answer_without_nan_minus_one_or_crash(clock: str, log: tuple, at: int) -> None:
    scope = Scope(history_of(*log).as_of(minute(at)), **SPAN)
    answers = [response(scope, clock=clock)]
    if clock != "notebook":
        answers.append(slo(scope, clock=clock, targets=5, by=None))
    for answer in answers:
        numbers = answer.table.select(pl.selectors.float())
        assert not any(numbers[c].is_nan().any() or numbers[c].is_infinite().any() for c in numbers.columns)
        if clock != "notebook":
            assert not any((numbers[c] < 0).any() for c in numbers.columns)
        assert sum(answer.table["n"][-1:]) + sum(answer.table["excluded"][-1:]) == scope.alerts.height
        answer.to_dict()
        answer.plot()


def test_what_makes_no_sense_is_refused() -> None:
    scope = told([(0, 1, "high")])
    for wish, words in (
        ({"by": "severty"}, 'Did you mean "severity"'), ({"targets": {"hihg": 3}}, 'Did you mean "high"'),
        ({"targets": {"high": 0}}, "above 0"), ({"clock": "notebook"}, "would be in time"),
    ):  # fmt: skip
        with pytest.raises(MetricError, match=words):
            slo(scope, **wish)


def test_metrics_ask_both_and_take_a_clock_from_a_file(tmp_path) -> None:
    scope = told([(0, 1, "high"), (0, 7, "low")])
    asked = metrics.of(scope.history, since=START, hours=(9, 17))
    assert asked.time_to_action().n == 2
    assert asked.slo(targets=5, by=None).table["in_time_share"].item() == 0.5
    (tmp_path / "own.toml").write_text('[clock.mine]\nend = "assigned"\ncalendar = "business"\n')
    assert asked.response(clock=str(tmp_path / "own.toml")).table["median_minutes"].to_list() == [1, 7, 1]
