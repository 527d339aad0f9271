"""The alert log: findings become alerts once, triage moves them as their state allows, and nothing is ever changed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import timedelta

import polars as pl
import pytest
from log_rows import MINUTE, START, Clock, findings, minute

from tocsin.alerts import Added, Alerts, Grouping, NonsenseError
from tocsin.lifecycle import ACTIVITIES, STATES, TRANSITIONS, History, LifecycleError

pytest_plugins = ["log_fixtures"]
DAY = timedelta(days=1)


def one(log: Alerts, **about: object) -> str:
    """Raise one alert and return its id."""
    log.add(findings({}, **about))
    return log.alerts(limit=1)["alert_id"].item()


def stands(log: Alerts, alert: str) -> dict:
    return log.show(alert).current.row(0, named=True)


def test_findings_of_one_detection_entity_and_day_are_one_alert(log: Alerts) -> None:
    midnight = START.replace(hour=0)
    rows = findings(
        {"time": midnight}, {"time": midnight + DAY - timedelta(microseconds=1)}, {"time": midnight + DAY},
        {"entity": "bob"}, {"version": "2"}, {"detection_id": "mail.many"}, {"entity_kind": "src_ip"},
    )  # fmt: skip
    assert log.add(rows) == Added(alerts=6, findings=7)
    current = log.history().current
    ann = current.filter(rule_id="mail.exe", entity="ann", rule_version="1", entity_kind="user_id").sort("window_start")
    assert ann["findings"].to_list() == [2, 1]
    assert ann["window_end"].to_list() == [midnight + DAY, midnight + 2 * DAY]


def test_the_grouping_follows_the_calendar_of_its_zone_and_the_window_of_each_rule(new_log: Callable[[], str]) -> None:
    grouping = Grouping("1d", "America/Denver", {"mail.many": "30m"})
    rows = findings(
        {"time": START.replace(hour=6, minute=59)},
        {"time": START.replace(hour=7)},
        {"detection_id": "mail.many", "time": START},
        {"detection_id": "mail.many", "time": START + 29 * MINUTE},
        {"detection_id": "mail.many", "time": START + 30 * MINUTE},
    )
    with Alerts(new_log(), grouping=grouping) as log:
        assert log.add(rows).alerts == 4
        widths = log.history().alerts.group_by("rule_id").agg((pl.col("window_end") - pl.col("window_start")).first())
    assert dict(widths.iter_rows()) == {"mail.exe": DAY, "mail.many": 30 * MINUTE}


def test_the_number_of_alerts_of_a_backtest_is_the_one_it_reported(log: Alerts) -> None:
    import tocsin as tc

    mails = pl.DataFrame(
        {"event_id": [f"m{i}" for i in range(40)], "kind": "mail", "user_id": ["ann", "bob"] * 20, "nr_recipients": [20] * 40,
         "timestamp": [START + i * timedelta(hours=3) for i in range(40)]}
    )  # fmt: skip
    rule = tc.Detection(
        id="mail.many", title="Many", severity="low", on=tc.col("kind") == "mail", entity="user_id",
        score=tc.col("nr_recipients"), when=tc.score > 10, grouping="12h",
    )  # fmt: skip
    past = tc.backtest([rule], tc.read(mails))
    log.grouping = Grouping.of_rules([rule])
    added = log.add(past.findings, source="backtest")
    assert (added.alerts, added.findings) == (past.by_detection()["alerts"].item(), past.findings.height)
    assert log.history().alerts["created_at"].to_list() == log.history().alerts["first_activity_at"].to_list()


def test_adding_the_same_again_changes_nothing(log: Alerts, clock: Clock) -> None:
    rows = findings({}, {"time": minute(3), "peak_score": 7.0})
    assert log.add(rows) == Added(alerts=1, findings=2)
    before = log.history()
    clock.set(60)
    assert log.add(pl.concat([rows, rows])) == Added(known=4)
    for ours, theirs in zip(before.frames(), log.history().frames(), strict=True):
        assert ours.equals(theirs)


def test_an_alert_says_what_its_first_finding_said_and_never_changes(log: Alerts, clock: Clock) -> None:
    log.add(findings({"time": minute(9), "score": 7.0}, {"time": minute(5), "score": 6.0, "src_ip": "10.0.0.1"}))
    first = log.history().alerts
    assert first.select("score", "first_activity_at", "created_at").row(0) == (6.0, minute(5), START)
    told = json.loads(first["observables"].item())
    assert told == [
        {"kind": "user", "role": "entity", "value": "ann"},
        {"kind": "ip", "role": "source", "value": "10.0.0.1"},
    ]
    clock.set(30)
    log.add(findings({"finding_id": "f" * 32, "time": minute(1), "score": 9.0}))
    assert log.history().alerts.equals(first)
    current = log.history().current
    assert current.select("findings", "first_finding_at", "last_finding_at").row(0) == (3, minute(1), minute(9))


def test_what_an_allow_list_covers_is_kept_and_counted_and_raises_no_alert(log: Alerts) -> None:
    rows = findings({"suppressed_by": "scanner"}, {"entity": "bob"}, {"entity": "bob", "suppressed_by": "scanner"})
    assert log.add(rows) == Added(alerts=1, findings=3, suppressed=2)
    history = log.history()
    assert history.findings.filter(pl.col("alert_id").is_null()).height == 2
    assert history.current["findings"].to_list() == [1]


@pytest.mark.parametrize("sign", [1, -1], ids=["above its threshold", "below it"])
def test_a_higher_score_of_a_known_finding_becomes_a_peak_and_a_lower_one_nothing(
    log: Alerts, clock: Clock, sign: int
) -> None:
    about = {"score": 5.0 * sign, "threshold": 3.0 * sign}
    log.add(findings({}, {"time": minute(1)}, peak_score=6.0 * sign, **about))
    clock.set(10)
    assert log.add(findings({}, peak_score=8.0 * sign, **about)).peaks == 1
    assert log.add(findings({}, peak_score=7.0 * sign, **about)).peaks == 0
    told = pl.DataFrame({"finding_id": [f"{0:032x}"], "peak_score": [9.0 * sign]})
    assert log.add(findings({}).clear(), peaks=told) == Added(peaks=1)
    assert log.add(findings({}).clear(), peaks=told) == Added()
    assert log.history().current["peak_score"].to_list() == [9.0 * sign]
    assert log.as_of(START).current["peak_score"].to_list() == [6.0 * sign]


def test_a_finding_with_hostile_text_comes_back_as_it_was_but_for_nul(log: Alerts) -> None:
    text = 'a"b\\c\x1b[31m\u202e\n\x1f,[]{}%s $1 \U0001f600\x00'
    log.add(findings({"entity": text, "score": 0.1 + 0.2, "peak_score": float("inf"), "title": ""}, {"title": None}))
    rows = log.history().findings
    assert rows["entity"][0] == text.replace("\x00", "\ufffd")
    assert rows.select("score", "peak_score").row(0) == (0.1 + 0.2, None)
    assert rows["title"].to_list() == ["", None]


# Triage

VERBS: dict[str, Callable[[Alerts, str], str]] = {
    "assigned": lambda log, a: log.assign(a, "bob", actor="ann"),
    "unassigned": lambda log, a: log.unassign(a, actor="ann"),
    "viewed": lambda log, a: log.view(a, actor="ann"),
    "work_started": lambda log, a: log.start(a, actor="ann"),
    "work_ended": lambda log, a: log.stop(a, "lunch", minutes=4.5, actor="ann"),
    "held": lambda log, a: log.hold(a, "the user", actor="ann"),
    "resumed": lambda log, a: log.resume(a, actor="ann"),
    "investigative_action": lambda log, a: log.act(a, "sandbox", actor="ann"),
    "escalated": lambda log, a: log.escalate(a, "INV-1", actor="ann"),
    "promoted": lambda log, a: log.promote(a, "INC-1", actor="ann"),
    "notified": lambda log, a: log.notify(a, "the customer", actor="ann"),
    "remediated": lambda log, a: log.remediate(a, "password reset", actor="ann"),
    "verdict": lambda log, a: log.verdict(a, "true_positive", "she did not send it", actor="ann"),
    "closed": lambda log, a: log.close(a, "done", actor="ann"),
    "reopened": lambda log, a: log.reopen(a, "again", actor="ann"),
    "severity_changed": lambda log, a: log.severity(a, "critical", "an administrator", actor="ann"),
    "suppressed": lambda log, a: log.suppress(a, "known scanner", actor="ann"),
    "unsuppressed": lambda log, a: log.unsuppress(a, "no longer", actor="ann"),
    "enriched": lambda log, a: log.enrich(a, [{"kind": "host", "value": "pc1"}], actor="ann"),
    "commented": lambda log, a: log.comment(a, "hm", actor="ann"),
}
PATHS = {
    "new": (), "in_progress": ("work_started",), "on_hold": ("held",), "closed": ("closed",), "reopened": ("closed", "reopened"),
    "suppressed": ("suppressed",), "merged": ("merged",),
}  # fmt: skip


def test_every_verb_is_possible_from_exactly_the_states_that_allow_it(log: Alerts, clock: Clock) -> None:
    assert {*VERBS, "merged", "peak", "retracted"} == set(ACTIVITIES), (
        "what is no verb of its own: peaks and corrections"
    )
    people = [f"{state}-{verb}" for state in STATES for verb in [*VERBS, "merged"]]
    log.add(findings(*({"entity": name} for name in [*people, "other"])))
    ids = dict(log.history().alerts.select("entity", "alert_id").iter_rows())
    verbs = VERBS | {"merged": lambda log, a: log.merge(a, ids["other"], "same wave", actor="ann")}
    for state, path in PATHS.items():
        for verb in verbs:
            for n, step in enumerate(path):
                clock.set(n)
                verbs[step](log, ids[f"{state}-{verb}"])
    clock.set(9)
    before = log.history()
    states = dict(before.current.select("alert_id", "state").iter_rows())
    expected = {}
    for state in PATHS:
        for verb, say in verbs.items():
            alert = ids[f"{state}-{verb}"]
            assert states[alert] == state
            allowed = state in TRANSITIONS[verb][0] if verb in TRANSITIONS else state != "merged" or verb == "commented"
            if allowed:
                expected[say(log, alert)] = (alert, verb)
                states[alert] = TRANSITIONS[verb][1] if verb in TRANSITIONS else state
            else:
                with pytest.raises(LifecycleError, match=alert):
                    say(log, alert)
    after = log.history()
    new = after.activities.join(before.activities, on="key", how="anti")
    assert {row["key"]: (row["alert_id"], row["type"]) for row in new.to_dicts()} == expected
    assert dict(after.current.select("alert_id", "state").iter_rows()) == states


def test_what_was_said_is_how_the_alert_stands(log: Alerts, clock: Clock) -> None:
    alert = one(log)
    log.assign(alert, "bob", actor="ann")
    log.severity(alert, "high", "an administrator", actor="ann")
    log.suppress(alert, "until the scan ends", until=minute(5), actor="ann")
    assert stands(log, alert)["state"] == "suppressed"
    clock.set(5)
    assert stands(log, alert)["state"] == "new", "the suppression is over"
    log.start(alert, actor="bob")
    log.close(alert, "done", verdict="benign_true_positive", actor="bob", actor_kind="automation")
    row = stands(log, alert)
    assert [row[c] for c in ("state", "verdict", "assignee", "severity_now")] == [
        "closed", "benign_true_positive", "bob", "high"
    ]  # fmt: skip
    assert json.loads(log.show(alert).activities.filter(type="verdict")["payload"].item()) == {"reason": "done"}


@pytest.mark.parametrize(
    ("say", "words"),
    [
        (lambda log, a: log.close(a, " ", actor="ann"), "needs a reason"),
        (lambda log, a: log.close(a, "x", actor=""), "needs an actor"),
        (lambda log, a: log.verdict(a, "true_positive", "", actor="ann"), "needs a reason"),
        (lambda log, a: log.verdict(a, "true_positve", "x", actor="ann"), 'Did you mean "true_positive"'),
        (lambda log, a: log.severity(a, "hihg", "x", actor="ann"), 'Did you mean "high"'),
        (lambda log, a: log.view(a, actor="ann", actor_kind="robot"), "human, automation"),
        (lambda log, a: log.view(a, actor="ann", at=START - MINUTE), "nothing can have happened"),
        (lambda log, a: log.merge(a, a, "x", actor="ann"), "into itself"),
        (lambda log, a: log.start("0123", actor="ann"), "no alert '0123'"),
        (lambda log, a: log.start(f"{a[:30]}zz", actor="ann"), "Did you mean [0-9a-f]{32}"),
        (lambda log, a: log.start("", actor="ann"), "no alert ''"),
        (lambda log, a: log.correct("00", "x", actor="ann"), "no activity '00'"),
        (lambda log, a: log.alerts(state="open"), "no state"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words_and_nothing_is_written(log: Alerts, say: Callable, words: str) -> None:
    alert = one(log)
    with pytest.raises(LifecycleError, match=words):
        say(log, alert)
    assert log.history().activities.is_empty()


def test_an_id_may_be_given_by_as_much_of_its_beginning_as_is_unique(log: Alerts) -> None:
    log.add(findings(*({"entity": f"u{i}"} for i in range(40))))
    ids = log.history().alerts["alert_id"].sort()
    same = next(a[0] for a, b in itertools.pairwise(ids) if a[0] == b[0])
    with pytest.raises(LifecycleError, match="several alerts begin with"):
        log.start(same, actor="ann")
    log.start(ids[7][:12], actor="ann")
    assert log.alerts(state="in_progress")["alert_id"].to_list() == [ids[7]]


def test_saying_it_again_under_the_same_idempotency_key_changes_nothing(log: Alerts, clock: Clock) -> None:
    alert = one(log)
    first = log.close(alert, "done", verdict="test", actor="ann", idempotency_key="ticket 7")
    clock.set(1)
    assert log.close(alert, "done", verdict="test", actor="ann", idempotency_key="ticket 7") == first
    assert log.history().activities.height == 2
    with pytest.raises(LifecycleError, match="is closed"):
        log.close(alert, "done", actor="ann")


def test_a_merged_alert_goes_on_in_one_that_can_go_on(log: Alerts, clock: Clock) -> None:
    log.add(findings({"entity": "a"}, {"entity": "b"}, {"entity": "c"}))
    ids = dict(log.history().alerts.select("entity", "alert_id").iter_rows())
    log.merge(ids["a"], ids["b"][:16], "same wave", actor="ann")
    assert stands(log, ids["a"])["merged_into"] == ids["b"]
    with pytest.raises(LifecycleError, match="merge into that one"):
        log.merge(ids["c"], ids["a"], "same wave", actor="ann")
    with pytest.raises(LifecycleError, match="itself merged"):
        log.merge(ids["b"], ids["a"], "and back", actor="ann")


def test_a_correction_is_a_retraction_and_a_new_row_and_both_pasts_stay(log: Alerts, clock: Clock) -> None:
    alert = one(log)
    clock.set(5)
    wrong = log.close(alert, "done", actor="bob")
    clock.set(20)
    right = log.correct(wrong, "he closed it at nine", at=minute(9), actor="ann")
    assert log.as_of(minute(7)).current["state"].item() == "new"
    assert log.as_of(minute(9)).current["state"].item() == "closed"
    assert log.as_known_at(minute(7)).current["state"].item() == "closed"
    row = log.history().activities.filter(key=right).row(0, named=True)
    assert (row["actor"], row["value"], json.loads(row["payload"])["corrected_by"]) == ("bob", "done", "ann")
    with pytest.raises(LifecycleError, match="was retracted"):
        log.correct(wrong, "once more", actor="ann")
    log.correct(right[:12], "never closed", actor="ann")
    assert stands(log, alert)["state"] == "new"


def test_a_correction_after_which_a_later_step_was_not_possible_is_refused(log: Alerts, clock: Clock) -> None:
    alert = one(log)
    clock.set(5)
    closed = log.close(alert, "done", actor="bob")
    clock.set(6)
    log.reopen(alert, "again", actor="bob")
    with pytest.raises(LifecycleError, match=r"the later `reopened` \([0-9a-f]{12}, 2026.*correct that one first"):
        log.correct(closed, "not closed", actor="ann")
    clock.set(9)
    with pytest.raises(LifecycleError, match=r"the later `(reopened|closed)` .* impossible"):
        log.suppress(alert, "in hindsight", at=minute(4), actor="ann")
    assert stands(log, alert)["state"] == "reopened"


def test_alerts_are_listed_newest_first_and_by_how_they_stand_now(log: Alerts, clock: Clock) -> None:
    assert log.alerts().is_empty()
    for n in range(6):
        clock.set(n)
        log.add(findings({"finding_id": f"{n:032x}", "entity": f"u{n}", "detection_id": f"r{n % 2}"}))
    ids = dict(log.history().alerts.select("entity", "alert_id").iter_rows())
    log.assign(ids["u1"], "ann", actor="ann")
    log.severity(ids["u2"], "critical", "x", actor="ann")
    log.close(ids["u3"], "x", actor="ann")
    listed = log.alerts()
    assert listed["entity"].to_list() == ["u5", "u4", "u3", "u2", "u1", "u0"]
    assert log.alerts(limit=2)["entity"].to_list() == ["u5", "u4"]
    assert log.alerts(assignee="ann")["entity"].to_list() == ["u1"]
    assert log.alerts(severity="critical")["entity"].to_list() == ["u2"]
    assert log.alerts(state="closed")["entity"].to_list() == ["u3"]
    assert log.alerts(rule="r0", limit=2)["entity"].to_list() == ["u4", "u2"]
    assert listed.columns == log.alerts(state="merged").columns


def test_the_journal_says_what_was_true_around_the_alerts_once(log: Alerts) -> None:
    rows = pl.DataFrame(
        {"kind": ["covered", "release"], "name": ["mail", "mail.exe"], "at": [START, START], "value": [None, "2"]}
    )
    assert (log.journal(rows), log.journal(rows)) == (2, 0)
    assert log.history().journal["recorded_at"].to_list() == [START, START]
    with pytest.raises(LifecycleError, match='Did you mean "covered"'):
        log.journal(rows.with_columns(kind=pl.lit("coverd")))


# Imports


def imported(n: int = 3) -> History:
    alerts = pl.DataFrame({"alert_id": [f"a{i}" for i in range(n)], "created_at": [minute(i) for i in range(n)]})
    closed = pl.DataFrame(
        {"alert_id": alerts["alert_id"], "at": alerts["created_at"] + MINUTE, "type": ["closed"] * n, "number": [0.1 * i for i in range(n)]}
    )  # fmt: skip
    return History.of(alerts, closed)


def test_an_imported_history_comes_back_as_it_was_and_importing_it_again_changes_nothing(
    log: Alerts, clock: Clock, new_log: Callable[[], str]
) -> None:
    clock.set(100)
    assert log.import_history(imported(), source="other") == Added(alerts=3, activities=3)
    back = log.history()
    assert back.alerts.drop("recorded_at", "source").equals(imported().alerts.drop("recorded_at", "source"))
    assert back.activities.drop("recorded_at").equals(imported().activities.drop("recorded_at"))
    assert back.alerts["source"].unique().to_list() == ["other"]
    assert back.alerts["recorded_at"].unique().to_list() == [minute(100)]
    clock.set(200)
    assert log.import_history(imported(4), source="other") == Added(alerts=1, known=6, activities=1)
    with Alerts(new_log(), clock=clock) as copy:
        copy.import_history(log.history())
        for ours, theirs in zip(log.history().frames(), copy.history().frames(), strict=True):
            assert ours.equals(theirs), "a copy keeps when each row was learnt"


def test_activities_of_an_alert_that_nobody_knows_are_refused(log: Alerts) -> None:
    history = imported()
    log.import_history(History.of(history.alerts[:1]))
    with pytest.raises(LifecycleError, match="2 alerts have activities"):
        log.import_history(History.of(history.alerts[:1], history.activities))
    assert log.history().activities.is_empty()


def test_a_large_import_is_whole_in_an_empty_log_and_in_one_that_has_rows(
    log: Alerts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin.store.rows.BULK_ROWS", 10)
    monkeypatch.setattr("tocsin.store.rows.CHUNK_ROWS", 7)
    monkeypatch.setattr("tocsin.alerts.reading.CHUNK_ROWS", 7)
    many = imported(40)
    twice = History.of(pl.concat([many.alerts, many.alerts]), pl.concat([many.activities, many.activities]))
    assert log.import_history(twice) == Added(alerts=40, activities=40, known=80)
    assert log.import_history(imported(60)) == Added(alerts=20, activities=20, known=80)
    assert log.history().alerts["alert_id"].to_list() == [f"a{i}" for i in range(60)]
    assert (
        log.history().activities["number"].to_list()
        == imported(40).activities["number"].to_list() + imported(60).activities["number"].to_list()[40:]
    )


@pytest.mark.parametrize(
    ("say", "words"),
    [
        (lambda log, a: log.comment(a, "hm", actor="ann", at=minute(11)), "09:11.*09:00"),
        (lambda log, a: log.correct(log.comment(a, "hm", actor="ann"), "x", at=minute(11), actor="ann"), "09:11.*09:00"),
        (lambda log, a: log.correct(log.verdict(a, "test", "x", actor="ann"), "x", value="bogus", actor="ann"), "no verdict"),
        (lambda log, a: log.correct(log.severity(a, "low", "x", actor="ann"), "x", value="bad", actor="ann"), "no severity"),
        (lambda log, a: log.correct(log.assign(a, "bob", actor="ann"), "x", value=" ", actor="ann"), "a value"),
        (lambda log, a: log.correct(log.comment(a, "hm", actor="ann"), "x", value="ho", actor="ann"), "no value"),
        (lambda log, a: log.stop(a, minutes=-5, actor="ann"), "minutes"),
        (lambda log, a: log.stop(a, minutes=float("nan"), actor="ann"), "minutes"),
        (lambda log, a: log.suppress(a, "x", until=START, actor="ann"), "begins at"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_not_written(log: Alerts, say: Callable[[Alerts, str], str], words: str) -> None:
    alert = one(log)
    with pytest.raises(LifecycleError, match=words):
        say(log, alert)
    told = log.history().activities
    assert "retracted" not in told["type"]
    assert told["at"].max() in (None, START)


def test_a_clock_may_be_ten_minutes_ahead_and_words_may_be_in_capitals(log: Alerts) -> None:
    alert = one(log)
    log.close(alert, "x", verdict="FALSE_POSITIVE", actor="ann", at=minute(10))
    assert log.alerts(state="Closed", severity="LOW")["verdict"].to_list() == ["false_positive"]
    with pytest.raises(NonsenseError, match="no state"):
        log.alerts(state="shut")
