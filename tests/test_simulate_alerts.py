"""Simulated alerts and their triage: legal lives, the documented habits, the truth, and the same again for a seed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from tocsin.calendars import DAY, HOUR, MINUTE
from tocsin.errors import SourceError
from tocsin.kernels import triage as queue
from tocsin.lifecycle import History, check_transition
from tocsin.metrics.clocks import durations
from tocsin.metrics.scope import Scope
from tocsin.sources.simulate import Desk, SimulatedTriage, arrive, simulate_alerts, triage
from tocsin.sources.simulate.alerts import RULES

START = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def made() -> SimulatedTriage:
    return simulate_alerts(6_000, 42, 7)


def test_the_same_seed_gives_the_same_and_another_another(made: SimulatedTriage) -> None:
    again = simulate_alerts(6_000, 42, 7)
    for name in ("alerts", "activities", "journal"):
        assert getattr(made.whole, name).equals(getattr(again.whole, name))
    assert made.truth.equals(again.truth)
    assert not simulate_alerts(6_000, 42, 8).whole.activities.equals(made.whole.activities)


def test_every_life_is_legal(made: SimulatedTriage) -> None:
    state: dict[str, str] = {}
    for alert, kind in made.whole.activities.select("alert_id", "type").iter_rows():
        state[alert] = check_transition(alert, state.get(alert, "new"), kind)
    assert made.whole.activities["at"].is_sorted()
    assert set(state.values()) == {"closed"}, "watched for ever, everything is closed"
    assert made.whole.activities["key"].is_unique().all()


def test_the_truth_is_the_wait_of_an_alert_watched_for_ever(made: SimulatedTriage) -> None:
    timed = durations(Scope(made.whole, tests=True))
    waited = timed.select(pl.when(pl.col("ended")).then("minutes")).to_series()
    assert waited.equals(made.truth["true_minutes"])
    assert made.truth["alert_id"].equals(made.whole.alerts["alert_id"])


def test_the_history_is_the_whole_cut_where_the_span_ends(made: SimulatedTriage) -> None:
    end = START + timedelta(days=42)
    assert made.history.at == end
    assert made.history.activities.equals(made.whole.activities.filter(pl.col("at") <= end))


def test_analysts_work_in_their_shifts_and_on_one_alert_at_a_time(made: SimulatedTriage) -> None:
    acts = made.whole.activities.filter(pl.col("actor_kind") == "human")
    began = acts.filter(pl.col("type") == "work_started").select("actor", "alert_id", "at")
    ended = acts.filter(pl.col("type") == "work_ended").select("actor", until="at")
    spans = pl.concat([began.sort("actor", "at"), ended.sort("actor", "until").drop("actor")], how="horizontal")
    assert (spans["until"] >= spans["at"]).all()
    following = spans.select(pl.col("at").shift(-1).over("actor")).to_series()
    assert (following.is_null() | (following + timedelta(microseconds=1) >= spans["until"])).all()
    roster = (
        made.history.journal.filter(pl.col("kind") == "roster").select("name", shift="at", off="until").sort("shift")
    )
    on = (
        spans.filter(pl.col("at") < made.history.at)
        .sort("at")
        .join_asof(roster, left_on="at", right_on="shift", by_left="actor", by_right="name", check_sortedness=False)
    )
    assert (on["at"] < on["off"]).all()
    late = on.filter(pl.col("off") < made.history.at)
    assert (late["until"] <= late["off"] + timedelta(minutes=20)).all()
    assert roster["name"].n_unique() == made.parameters["analysts"]
    assert "analyst-01" in set(roster["name"])


def test_volume_follows_the_clock_and_one_rule_changes_on_its_day() -> None:
    came = arrive(60_000, 70, 3)
    alerts, truth = came.alerts, came.truth
    hour, weekday = alerts["created_at"].dt.hour(), alerts["created_at"].dt.weekday()
    day = ((hour >= 9) & (hour < 17) & (weekday <= 5)).sum() / (8 * 5)
    night = ((hour < 7) & (weekday <= 5)).sum() / (7 * 5)
    assert 3.3 < day / night < 4.7
    assert truth["changed_at"] == START + timedelta(days=42)
    for rule in RULES:
        mine = alerts.filter(pl.col("rule_id") == rule.id)["created_at"]
        bursts = [b["at"] for b in truth["bursts"] if b["rule"] == rule.id]
        mine = mine.filter(~mine.dt.truncate("1h").is_in(bursts))
        before, after = (mine < truth["changed_at"]).sum() / 42, (mine >= truth["changed_at"]).sum() / 28
        assert after / before == pytest.approx(3.0 if rule.id == truth["changed_rule"] else 1.0, rel=0.35)
    release = came.journal.filter(pl.col("kind") == "release", pl.col("value") == "2").row(0, named=True)
    assert (release["name"], release["at"]) == (truth["changed_rule"], truth["changed_at"])
    assert arrive(500, 7, 3, change=1).journal.filter(pl.col("value") == "2").is_empty()
    assert len(truth["bursts"]) == 7


def test_alerts_name_hosts_users_systems_and_addresses_some_of_which_come_back() -> None:
    came = arrive(5_000, 28, 5)
    seen = History(came.alerts, journal=came.journal).observables
    assert set(seen["kind"]) == {"host", "user", "os", "ip"}
    hosts = seen.filter(pl.col("kind") == "host")["value"].value_counts(sort=True)["count"]
    assert hosts[0] > 8 * hosts.median()
    assert 0.003 < came.alerts["is_test"].mean() < 0.02
    assert came.alerts.filter("is_test")["title"].str.starts_with("TESTING ").all()


def test_verdicts_have_the_precision_their_rule_states(made: SimulatedTriage) -> None:
    big = simulate_alerts(30_000, 60, 11, tests=0)
    truth = big.truth.with_columns(big.whole.alerts["rule_id"])
    for rule in RULES:
        share = truth.filter(pl.col("rule_id") == rule.id)["true_positive"].mean()
        assert share == pytest.approx(rule.precision, abs=0.05)
    judged = big.whole.current.select((pl.col("verdict") == "true_positive").alias("said"))["said"]
    people = big.truth["true_minutes"].is_not_null()
    assert (judged != truth["true_positive"]).filter(people).mean() == pytest.approx(0.03, abs=0.01)


def test_other_peoples_alerts_can_be_triaged_too() -> None:
    alerts = pl.DataFrame(
        {"alert_id": ["a", "b"], "created_at": [START, START], "severity": ["low", "critical"], "rule_id": ["r", None]}
    )
    made = triage(alerts, 3, desk=Desk(analysts=1, roster=(("always", 1.0),), notice_minutes=0, reopen=0, hold=0))
    assert made.whole.alerts.height == 2
    waited = dict(made.truth.select("alert_id", "true_minutes").rows())
    assert waited["b"] == 0, "critical goes first"
    assert waited["a"] > 0
    with pytest.raises(SourceError, match="no alerts"):
        triage(alerts.clear())
    with pytest.raises(SourceError, match="at least one analyst"):
        triage(alerts, desk=Desk(analysts=0))
    with pytest.raises(SourceError, match="at least one alert"):
        simulate_alerts(0)


# ---- the queue


def slow_queue(created, urgency, work, delay, shifts, overtime) -> list[tuple]:
    """Serve alerts as the kernel says, one moment after the other, with plain lists."""
    n, moments = len(created), set(created) | {s[0] for s in shifts}
    analysts = {a: {"off": 0, "busy": None, "idle": 0} for _, _, a in shifts}
    waiting: list[tuple] = []  # (urgency, order, alert)
    left, piece, later, spans = [w[0] for w in work], [0] * n, [], []
    order = 0
    while moments:
        now = min(moments)
        moments.discard(now)
        for a in sorted(analysts):
            desk = analysts[a]
            if desk["busy"] and desk["busy"][1] == now:
                i = desk["busy"][0]
                desk["busy"], desk["idle"] = None, now
                if left[i] > 0:
                    waiting.append((urgency[i], -(order := order + 1), i))
                else:
                    piece[i] += 1
                    if piece[i] < len(work[i]) and work[i][piece[i]]:
                        left[i] = work[i][piece[i]]
                        later.append((now + delay[i][piece[i]], i))
                        moments.add(now + delay[i][piece[i]])
        for begin, end, a in shifts:
            if begin == now:
                analysts[a]["off"], analysts[a]["idle"] = max(analysts[a]["off"], end), now
        coming = [i for i in range(n) if created[i] == now and left[i]] + [i for t, i in sorted(later) if t == now]
        later = [x for x in later if x[0] != now]
        waiting += [(urgency[i], (order := order + 1), i) for i in coming]
        while waiting:
            free = [(d["idle"], a) for a, d in analysts.items() if d["busy"] is None and d["off"] > now]
            if not free:
                break
            _, a = min(free)
            waiting.sort()
            i = waiting.pop(0)[2]
            end = now + left[i]
            if end > analysts[a]["off"] + overtime:
                end = analysts[a]["off"]
            left[i] -= end - now
            analysts[a]["busy"] = (i, end)
            moments.add(end)
            spans.append((i, piece[i], a, now, end, int(left[i] == 0)))
    return spans


@pytest.mark.parametrize("seed", range(30))
def test_the_compiled_queue_serves_as_the_slow_one(seed: int) -> None:
    draw = np.random.default_rng(seed)
    n = 40
    created = np.sort(draw.integers(0, 2_000, n) * MINUTE)
    urgency = draw.integers(0, 3, n)
    work = draw.integers(0, 60, (n, 3)) * MINUTE
    work[:, 1] *= draw.random(n) < 0.4
    work[:, 2] *= (draw.random(n) < 0.5) & (work[:, 1] > 0)
    delay = draw.integers(1, 300, (n, 3)) * MINUTE + draw.integers(0, MINUTE, (n, 3))
    shifts = np.array(
        sorted((d * DAY + (8 + 6 * a) * HOUR, d * DAY + (16 + 6 * a) * HOUR, a) for d in range(4) for a in range(3))
    )
    found = queue.serve(created, urgency, work, delay, shifts, 3, np.int64(20 * MINUTE))
    wanted = slow_queue(created.tolist(), urgency.tolist(), work.tolist(), delay.tolist(), shifts.tolist(), 20 * MINUTE)
    assert [tuple(row) for row in found.tolist()] == wanted
