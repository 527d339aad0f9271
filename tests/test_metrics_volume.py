"""Coverage, assets and changes of volume: no data is never zero, each asset counts once an alert, a change has a cause."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics_fixtures import START, daily, history_of, hour, observables

from tocsin.errors import StatisticsError
from tocsin.lifecycle.frames import empty_history
from tocsin.lifecycle.history import History
from tocsin.metrics import MetricError, Scope
from tocsin.metrics.assets import KINDS, top_assets
from tocsin.metrics.changes import change_points
from tocsin.metrics.coverage import coverage, covered_days

DAY = timedelta(days=1)
quick = settings(max_examples=60, deadline=None)
spans = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda x: (x[0], x[0] + x[1])), max_size=6)


@quick
@given(spans, spans, st.integers(0, 30), st.integers(1, 40))
def test_a_feed_is_covered_hour_by_hour_as_the_journal_says(covered: list, gaps: list, since: int, length: int) -> None:
    until = since + length
    journal = [
        {"kind": k, "name": "edr", "at": hour(a), "until": hour(b)}
        for k, part in (("covered", covered), ("gap", gaps))
        for a, b in part
    ]
    history = history_of([{"alert_id": "a", "created_at": hour(since)}], [], journal, hour(99))
    table = coverage(Scope(history, hour(since), hour(until))).table
    if not journal:
        assert not table.height
        return
    row = table.row(0, named=True)
    begin = max(since, min((a for a, _ in covered), default=since))
    inside = {h for a, b in covered for h in range(a, b)} if covered else set(range(until))
    lost = {h for a, b in gaps for h in range(a, b)}
    recorded = set(range(begin, until))
    assert row["not_recorded_hours"] == pytest.approx(min(begin, until) - since)
    assert row["covered_hours"] == pytest.approx(len(recorded & inside - lost))
    assert row["gap_hours"] == pytest.approx(len(recorded - inside | recorded & lost))
    assert row["share_covered"] == (pytest.approx(row["covered_hours"] / len(recorded)) if recorded else None)


def test_days_are_local_partial_ones_are_left_out_and_uncovered_ones_named() -> None:
    zone = ZoneInfo("America/New_York")  # clocks go forward on 8 March
    at = lambda day, h=0: datetime(2026, 3, day, h, tzinfo=zone)  # noqa: E731
    journal = [
        {"kind": "covered", "name": "edr", "at": at(1), "until": at(9)},
        {"kind": "covered", "name": "edr", "at": at(9, 6), "until": at(30)},
    ]
    history = history_of([{"alert_id": "a", "created_at": at(5)}], [], journal, at(20, 15))
    days = covered_days(Scope(history, at(6, 1), at(25), "America/New_York"))
    assert days.first == "2026-03-07"
    assert days.partial == ("2026-03-06", "2026-03-20"), "the history ends on the 20th; later days did not happen yet"
    assert days.uncovered == {"2026-03-09": "edr"}
    assert len(days.numbers) == 13
    assert days.known.tolist() == [True, True, False, *[True] * 10]


def test_a_feed_that_died_is_no_quiet_day_of_the_rules_that_live_on_it() -> None:
    alerts = [*daily([1] * 20, ["edr-rule"]), *({**a, "vendor": "mail"} for a in daily([1, 0] * 15, ["mail-rule"]))]
    journal = [
        {"kind": "covered", "name": "edr", "at": START, "until": START + 20 * DAY},
        {"kind": "covered", "name": "mail", "at": START, "until": START + 30 * DAY},
    ]
    answer = coverage(Scope(history_of(alerts, [], journal, START + 30 * DAY), START))
    assert answer.table.select("feed", "days_with_a_gap").rows() == [("edr", 10), ("mail", 0)]
    rows = (
        answer.more["Days without an alert, by rule"]
        .select("rule", "days_with_alerts", "days_zero", "days_no_data")
        .rows()
    )
    assert rows == [("edr-rule", 20, 0, 10), ("mail-rule", 15, 15, 0)]


ASSETS = (
    ("host", None, "PC1.corp.example"), ("hostname", None, " pc1.corp.example. "), ("host", None, "pc1"), ("user", None, "CORP\\Ann"),
    ("username", "actor", "ann@corp.example"), ("user", None, "bob"), ("os", None, "Windows 11"), ("os", None, "windows 11"),
    ("os", None, "None"),
    ("ip", "source", "::ffff:10.0.0.1"), ("ip", "src", "10.0.0.1"), ("src_ip", None, "2001:DB8::0"), ("ip", "victim", "10.0.0.9"),
    ("ip", None, "10.9.9.9"), ("user", None, ""), ("host", None, "  "), ("process", None, "evil.exe"), ("host", None, None),
)  # fmt: skip
MEANT = {
    "PC1.corp.example": "pc1.corp.example", " pc1.corp.example. ": "pc1.corp.example", "CORP\\Ann": "ann", "ann@corp.example": "ann",
    "Windows 11": "windows 11", "::ffff:10.0.0.1": "10.0.0.1", "2001:DB8::0": "2001:db8::",
}  # fmt: skip
KIND_OF = {"hostname": "host", "username": "user"}


@quick
@given(
    st.lists(st.tuples(st.integers(0, 72), st.lists(st.sampled_from(ASSETS), max_size=6)), max_size=8),
    st.integers(1, 3),
)
def test_an_asset_counts_once_an_alert_however_it_is_spelt(told: list, top: int) -> None:
    alerts = [
        {"alert_id": f"a{i}", "created_at": hour(h), "observables": observables(*what)}
        for i, (h, what) in enumerate(told)
    ]
    scope = Scope(history_of(alerts, [], at=hour(99)), hour(0), hour(99))
    answer = top_assets(scope, kind=None, top=top)
    for kind, plural in KINDS.items():
        expected: dict[str, list[int]] = {}
        for h, what in told:
            named = set()
            for k, role, value in what:
                mine = KIND_OF.get(k, k)
                if k == "ip":
                    mine = {"source": "src_ip", "src": "src_ip", "victim": "dst_ip"}.get(role)
                if mine == kind and value is not None and value.strip() not in ("", "None"):
                    named.add(MEANT.get(value, value))
            for name in named:
                expected.setdefault(name, []).append(h)
        table = answer.more[plural.capitalize()]
        ranked = sorted(expected, key=lambda name: (-len(expected[name]), name))
        shown = table.filter(pl.col("asset") != "(other)")
        assert shown["asset"].to_list() == ranked[:top]
        assert shown["alerts"].to_list() == [len(expected[name]) for name in ranked[:top]]
        assert shown["days"].to_list() == [len({h // 24 for h in expected[name]}) for name in ranked[:top]]
        assert shown["first_seen"].to_list() == [hour(min(expected[name])) for name in ranked[:top]]
        if len(ranked) > top:
            assert table["asset"][-1] == "(other)"
            assert table["alerts"][-1] == len(
                {i for i, (h, _) in enumerate(told) for name in ranked[top:] if h in expected[name]}
                & {i for i, (h, what) in enumerate(told) if any(MEANT.get(v, v) in ranked[top:] for _, _, v in what)}
            )


def test_names_can_be_kept_short_or_with_their_domain_and_ambiguous_ones_are_noted() -> None:
    what = (
        ("host", None, "pc1"),
        ("host", None, "pc1.corp.example"),
        ("host", None, "10.0.0.1"),
        ("user", None, "A\\ann"),
        ("user", None, "B\\ann"),
    )
    scope = Scope(history_of([{"alert_id": "a", "created_at": hour(1), "observables": observables(*what)}], []))
    assert top_assets(scope).table["asset"].to_list() == ["10.0.0.1", "pc1", "pc1.corp.example"]
    assert top_assets(scope, short_hosts=True).table["asset"].to_list() == ["10.0.0.1", "pc1"]
    users = top_assets(scope, kind="user")
    assert users.table.select("asset", "alerts").rows() == [("ann", 1)]
    assert any("1 names are spelt with several domains" in note for note in users.notes)
    assert top_assets(scope, kind="user", domains=True).table["asset"].to_list() == ["a\\ann", "b\\ann"]
    with pytest.raises(MetricError, match='Did you mean "host"'):
        top_assets(scope, kind="hots")
    with pytest.raises(MetricError, match="at least 1"):
        top_assets(scope, top=0)


def test_coverage_counts_alerts_with_any_evidence_and_with_this_kind() -> None:
    told = [
        observables(("host", None, "pc1")),
        observables(("user", None, "ann")),
        observables(("os", None, "None")),
        "[]",
    ]
    alerts = [{"alert_id": f"a{i}", "created_at": hour(i), "observables": text} for i, text in enumerate(told)]
    facts = top_assets(Scope(history_of(alerts, []))).facts
    assert (facts["alerts"], facts["alerts with any asset"], facts["alerts with this kind"], facts["coverage"]) == (
        4,
        2,
        1,
        0.25,
    )
    assert top_assets(Scope(history_of(alerts, [])), kind="os").facts["alerts whose text names nothing"] == 1


def made(change: int = 60, days: int = 120, seed: int = 3) -> list[dict]:
    """Three rules; from one day on the second fires four times as often."""
    rng = np.random.default_rng(seed)
    alerts = []
    for rule, before, after in (("steady", 8, 8), ("louder", 4, 16), ("small", 2, 2)):
        counts = rng.poisson(np.where(np.arange(days) < change, before, after))
        severity = "high" if rule == "louder" else "low"
        alerts += [{**a, "severity": severity} for a in daily(counts, [rule])]
    return alerts


def test_a_change_is_dated_and_its_cause_stands_on_top_with_the_release_beside_it() -> None:
    journal = [
        {"kind": "release", "name": "louder", "value": "2", "at": START + 60 * DAY},
        {"kind": "release", "name": "far", "value": "9", "at": START + 20 * DAY},
        {"kind": "covered", "name": "edr", "at": START, "until": START + 120 * DAY},
    ]  # fmt: skip
    answer = change_points(Scope(history_of(made(), [], journal, START + 120 * DAY), START))
    change = answer.table.row(1, named=True)
    assert change["earliest"] <= (START + 60 * DAY).date() <= change["latest"]
    causes = answer.more["Candidate causes"]
    first = causes.filter(pl.col("dimension") == "rule").row(0, named=True)
    assert first["group"] == "louder"
    assert first["share_low"] < 1 < first["share_high"]
    assert abs(first["difference"] - 12) < 2
    shares = causes.filter(pl.col("dimension") == "rule")["share_of_change"]
    assert shares.sum() == pytest.approx(1), "the parts of a change are the change"
    happened = answer.more["What happened near the changes"]
    assert ("rule released", "louder") in happened.select("what", "name").rows()
    assert "far" not in happened["name"].to_list()


def test_days_without_data_are_missing_and_a_feed_dead_at_the_end_is_seen() -> None:
    alerts = made(change=999)
    kept = [a for a in alerts if a["created_at"] < START + 110 * DAY]
    journal = [{"kind": "covered", "name": "edr", "at": START, "until": START + 110 * DAY}]
    dead = change_points(Scope(history_of(kept, [], journal, START + 120 * DAY), START, START + 120 * DAY))
    assert dead.facts["changes"] == 0, "no data is not zero"
    assert len(dead.facts["days unknown"]) == 10
    unknown = change_points(Scope(history_of(kept, [], [], START + 120 * DAY), START, START + 120 * DAY))
    assert str(unknown.table["since"][-1]) == "2026-06-20", (
        "without a word about coverage ten days of silence are a change"
    )


def test_every_rule_is_a_series_of_its_own_and_q_counts_all_of_them() -> None:
    alerts = made()
    for i in range(20):
        alerts += daily(np.random.default_rng(i).poisson(3, 120), [f"quiet-{i:02}"])
    scope = Scope(history_of(alerts, [], at=START + 120 * DAY), START)
    table = change_points(scope, by="rule").table
    assert table["group"].to_list() == ["louder"]
    assert table["date"][0] == "2026-05-01"
    assert table["p"][0] < table["q"][0] < 0.001
    assert change_points(scope, by="severity").table["group"].to_list() == ["high"]
    with pytest.raises(MetricError, match='Did you mean "rule"'):
        change_points(scope, by="ruel")
    with pytest.raises(MetricError, match="one"):
        change_points(scope, by="rule", method="cusum")
    with pytest.raises(StatisticsError, match="no method"):
        change_points(scope, method="cusom")


def test_days_of_the_span_are_looked_at_not_those_from_the_first_alert_to_the_last() -> None:
    alerts = daily([0] * 20 + [20] * 40)
    table = change_points(Scope(history_of(alerts, [], at=START + 60 * DAY), START, START + 60 * DAY), min_segment=3)
    assert table.facts["days"] == 60
    short = change_points(Scope(history_of(daily([3] * 10), [], at=START + 10 * DAY), START))
    assert short.empty == "10 whole days with data; change points need 14."


@pytest.mark.parametrize("metric", [coverage, top_assets, change_points], ids=lambda m: m.__name__)
def test_an_empty_history_has_an_empty_table_with_the_columns_of_a_full_one_and_says_why(metric) -> None:
    empty = metric(Scope(History(empty_history()["alert"])))
    alerts = [{**a, "observables": observables(("host", None, "pc"))} for a in daily([3] * 30)]
    journal = [{"kind": "covered", "name": "edr", "at": START, "until": START + 30 * DAY}]
    full = metric(Scope(history_of(alerts, [], journal, START + 30 * DAY), START))
    assert empty.empty
    assert not full.empty
    assert empty.table.height == 0
    assert empty.table.columns == full.table.columns
    assert empty.empty in str(empty.plot().to_dict())
    assert full.to_dict()["n"] == full.n
