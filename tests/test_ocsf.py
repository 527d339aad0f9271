"""OCSF: what is written validates against the published schema, and what is read back is what was written."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import jsonschema
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
from test_lifecycle import history_of, logs

from tocsin.lifecycle import History, LifecycleError
from tocsin.lifecycle.ocsf import VERSIONS, from_ocsf, to_ocsf
from tocsin.sources.histories import read_history

START = datetime(2026, 1, 5, 9, 0, 0, 123_456, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@cache
def validator(version: str, name: str) -> jsonschema.Draft202012Validator:
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version)).get_class_schema(name, ["incident"])
    return jsonschema.Draft202012Validator(schema)


def problems(record: dict, version: str) -> list[str]:
    name = {2004: "detection_finding", 2005: "incident_finding"}[record["class_uid"]]
    return [f"{list(e.path)}: {e.message[:200]}" for e in validator(version, name).iter_errors(record)]


def rich() -> History:
    """Return alerts in every state and with every verdict, one of them with evidence of every kind."""
    seen = [
        {"kind": kind, "role": role, "value": value}
        for kind, role, value in (
            ("ip", "source", "192.0.2.7"),
            ("ip", "destination", "2001:db8::1"),
            ("ip", "source", "not an address"),
            ("user", None, "ann"),
            ("host", "victim", "pc1"),
            ("host", None, "pc2"),
            ("os", None, "Debian 13"),
            ("url", None, "https://x.example/?a=1"),
            ("hash", "file", "00ff"),
        )
    ]
    ends = {
        "closed": ("closed",),
        "suppressed": ("suppressed",),
        "on_hold": ("held",),
        "in_progress": ("work_started",),
        "merged": ("merged",),
        "reopened": ("closed", "reopened"),
        "new": (),
    }
    verdicts = ["true_positive", "benign_true_positive", "false_positive", "inconclusive", "test", "duplicate", None]
    alerts, rows = [], []
    for n, (state, kinds) in enumerate(ends.items()):
        alerts.append(
            {
                "alert_id": state,
                "created_at": START,
                "severity": "high",
                "title": "=1+1",
                "rule_id": "r",
                "rule_version": "3",
                "vendor": "v",
                "external_id": f"x{n}",
                "source": "test",
                "score": 4.5,
                "observables": json.dumps(seen if n == 0 else []),
                "tier": 3,
                "first_activity_at": START - MINUTE,
                "window_start": START,
                "recorded_at": START,
            }
        )
        for m, kind in enumerate(("assigned", *kinds)):
            rows.append(
                {
                    "alert_id": state,
                    "at": START + (m + 1) * MINUTE,
                    "type": kind,
                    "value": "ann" if kind == "assigned" else "other",
                }
            )
        if verdicts[n]:
            rows.append({"alert_id": state, "at": START + 9 * MINUTE, "type": "verdict", "value": verdicts[n]})
        rows.append({"alert_id": state, "at": START + 10 * MINUTE, "type": "severity_changed", "value": "critical"})
    for state, incident in (("closed", "inc-1"), ("new", "inc-1"), ("merged", "inc-2"), ("on_hold", "inc-3")):
        rows.append({"alert_id": state, "at": START + 5 * MINUTE, "type": "promoted", "value": incident})
    finding = {
        "finding_id": "f",
        "alert_id": "closed",
        "detection_id": "r",
        "entity": "ann",
        "time": START,
        "evidence": '{"mail": 3}',
        "score": 4.5,
    }
    return History.of(pl.DataFrame(alerts), pl.DataFrame(rows), findings=pl.DataFrame([finding]))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_state_verdict_and_observable_validates_against_the_published_schema(version: str) -> None:
    records = [json.loads(json.dumps(r)) for r in to_ocsf(rich(), version=version)]
    assert [r["class_uid"] for r in records] == [2004] * 7 + [2005] * 3
    for record in records:
        assert problems(record, version) == []
    broken = records[0] | {"status_id": 77}
    assert problems(broken, version), "the schema does look"


def test_the_words_are_those_of_the_framework() -> None:
    records = {r["metadata"]["uid"]: r for r in to_ocsf(rich())}
    assert {
        k: (r["status_id"], r["status_detail"], r["verdict_id"], r["activity_id"])
        for k, r in records.items()
        if r["class_uid"] == 2004
    } == {
        "closed": (4, "closed", 2, 3),
        "suppressed": (99, "suppressed", 5, 2),
        "on_hold": (2, "on_hold", 1, 2),
        "in_progress": (2, "in_progress", 7, 2),
        "merged": (4, "merged", 6, 3),
        "reopened": (2, "reopened", 10, 2),
        "new": (1, "new", 0, 2),
    }
    closed = records["closed"]
    assert (closed["severity"], closed["type_uid"], closed["finding_info"]["analytic"]["uid"]) == (
        "Critical",
        200403,
        "r",
    )
    assert closed["finding_info"]["created_time"] == int(START.timestamp() * 1000)
    assert {"src_endpoint": {"ip": "192.0.2.7"}} in closed["evidences"]
    assert closed["evidences"][-1]["data"]["evidence"] == {"mail": 3}
    first = records["inc-1"]
    assert [i["uid"] for i in first["finding_info_list"]] == ["closed", "new"]
    assert (first["status"], first["verdict"], first["assignee"]["name"]) == ("In Progress", "True Positive", "ann")
    assert (records["inc-2"]["status"], records["inc-3"]["status"]) == ("Closed", "On Hold")
    assert not any(word in r for r in records.values() for word in ("comment", "ticket")), "deprecated"
    with pytest.raises(LifecycleError, match=r"1\.9\.0"):
        next(to_ocsf(rich(), version="1.9.0"))


def assert_same(found: History, wanted: History) -> None:
    assert found.alerts.equals(wanted.alerts)
    # Within one time the order of different alerts' activities says nothing.
    assert found.activities.sort("alert_id", "at", maintain_order=True).equals(
        wanted.activities.sort("alert_id", "at", maintain_order=True)
    )
    assert found.observables.equals(wanted.observables)


def test_a_rich_history_comes_back_as_it_was() -> None:
    assert_same(from_ocsf(json.loads(json.dumps(r)) for r in to_ocsf(rich())), rich())


@settings(deadline=None, max_examples=50)
@given(logs(), st.sampled_from(["", "x", None]))
def test_any_history_that_is_written_and_read_back_is_the_same_and_validates(log: tuple, vendor: str | None) -> None:
    history = history_of(*log)
    if vendor is not None:
        history = History(history.alerts.with_columns(vendor=pl.lit(vendor)), history.activities)
    records = [json.loads(json.dumps(r)) for r in to_ocsf(history)]
    assert [p for r in records for p in problems(r, VERSIONS[-1])] == []
    back = from_ocsf(records)
    assert back.alerts.equals(history.alerts)
    order = ["alert_id", "key"]
    assert back.activities.sort(order).equals(
        history.activities.filter(pl.col("alert_id").is_in(history.alerts["alert_id"].implode())).sort(order)
    )


# ---- findings of other makers


def finding(minutes: int, activity: int, **more: object) -> dict:
    at = int((START + minutes * MINUTE).timestamp() * 1000)
    info = {
        "uid": "f-1",
        "title": "t",
        "created_time": int(START.timestamp() * 1000),
        "analytic": {"uid": "rule-7", "type_id": 1},
    }
    return {"class_uid": 2004, "activity_id": activity, "time": at, "severity_id": 3, "finding_info": info,
            "metadata": {"version": "1.6.0", "product": {"name": "EDR", "vendor_name": "Maker"}}} | more  # fmt: skip


def test_several_records_of_one_finding_are_its_life() -> None:
    records = [
        finding(60, 3, status_id=4, verdict_id=1, assignee={"name": "ann"}, severity_id=4),
        finding(0, 1, status_id=1, observables=[{"name": "evidences[].src_endpoint.ip", "type_id": 2, "value": "192.0.2.7"}]),
        finding(10, 2, status_id=2, assignee={"name": "ann"}), finding(90, 2, status_id=2, assignee={"name": "ann"}, severity_id=4),
    ]  # fmt: skip
    history = from_ocsf(records)
    assert history.alerts.select("external_id", "severity", "rule_id", "vendor", "history").rows() == [
        ("f-1", "medium", "rule-7", "Maker", "full")
    ]
    assert history.activities.select("type", "value").rows() == [
        ("assigned", "ann"),
        ("work_started", None),
        ("severity_changed", "high"),
        ("closed", None),
        ("verdict", "false_positive"),
        ("reopened", None),
    ]
    assert history.observables.select("kind", "role", "value").rows() == [("ip", "source", "192.0.2.7")]
    assert from_ocsf(records[:1]).alerts["history"].item() == "summary"
    assert from_ocsf(records[1:2]).alerts["history"].item() == "full"


def test_status_three_of_a_finding_was_looked_at_and_of_an_incident_waits() -> None:
    suppressed = from_ocsf([finding(5, 2, status_id=3)])
    assert suppressed.current["state"].item() == "closed"
    incident = finding(5, 2, status_id=3) | {"class_uid": 2005, "finding_info_list": [{"uid": "f-1"}, {"uid": "f-2"}]}
    incident["metadata"] = incident["metadata"] | {"uid": "inc-9"}
    history = from_ocsf([finding(0, 1, status_id=1), incident])
    assert history.alerts["external_id"].to_list() == ["f-1", "f-2"]
    assert history.activities.filter(type="promoted")["value"].to_list() == ["inc-9", "inc-9"]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ([], "not a JSON object"),
        ({"class_uid": 3002}, "class_uid is 3002"),
        (finding(0, 1) | {"time": "now"}, "time is 'now'"),
        (finding(0, 1) | {"time": 10**30}, "not milliseconds"),
        (finding(0, 1) | {"finding_info": {}}, "finding_info.uid is missing"),
        (finding(0, 1) | {"class_uid": 2005}, "finding_info_list is missing"),
    ],
)
def test_a_record_that_is_no_finding_is_named_with_its_reason(record: object, says: str) -> None:
    with pytest.raises(LifecycleError, match="record 2: ") as error:
        from_ocsf([finding(0, 1), record])
    assert says in str(error.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(
        [
            "time",
            "severity_id",
            "status_id",
            "activity_id",
            "verdict_id",
            "assignee",
            "finding_info",
            "observables",
            "evidences",
            "metadata",
            "unmapped",
            "message",
            "class_uid",
        ]
    ),
    values,
)
def test_no_value_anywhere_in_a_record_does_more_than_refuse_it(name: str, value: object) -> None:
    for record in (
        finding(0, 1),
        next(to_ocsf(rich())),
        {**next(to_ocsf(rich())), "unmapped": {"alert": value, "activities": [value]}},
    ):
        with contextlib.suppress(LifecycleError):
            from_ocsf([record | {name: value}])


def test_a_file_of_findings_is_recognised_and_its_bad_lines_are_set_aside(tmp_path: Path) -> None:
    lines = [
        json.dumps(r)
        for r in (
            finding(0, 1, status_id=1),
            finding(60, 3, status_id=4),
            finding(60, 3, status_id=4),
            {"class_uid": 1},
        )
    ]
    file = tmp_path / "findings.jsonl"
    file.write_text("\n".join([*lines, "{broken", json.dumps(finding(0, 1, time=1))]) + "\n")
    read = read_history(file, as_of="2026-02-01")
    assert read.mapping.name == "ocsf"
    assert read.dropped == {"duplicate-row": 1, "unreadable-row": 3}
    assert read.rejected["line"].to_list() == [4, 5, 6]
    assert [r.split(":")[0] for r in read.rejected["reason"]] == ["class_uid is 1", "not JSON", "absurd time"]
    assert read.counts == {"read": 6, "alerts": 1, "activities": 1, "tests": 0, "dropped": 4, "rejected": 3}
    assert read.history.current["state"].item() == "closed"

    own = tmp_path / "own.jsonl"
    own.write_text("".join(json.dumps(r) + "\n" for r in to_ocsf(rich())))
    assert_same(read_history(own).history, rich())
