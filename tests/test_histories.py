"""Files of alerts become histories: what the fast reading says is what reading row by row says, and nothing is lost unsaid."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import history_oracle as oracle
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.errors import MappingError, SourceError
from tocsin.metrics import MetricError, of
from tocsin.sources.histories import (
    BUILT_IN,
    load_history_mapping,
    parse_history_mapping,
    propose_history_mapping,
    read_history,
    shipped_histories,
)

pytest_plugins = ["cli_fixtures"]
START = datetime(2026, 10, 5, 9, tzinfo=UTC)
AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
unhurried = settings(deadline=None, max_examples=60)
TIMES = (oracle.T4, oracle.SEEN, oracle.T5A, oracle.T5B, oracle.PROMOTED, oracle.ORG, oracle.T60, oracle.T6)


def stamp(minutes: float | None) -> str:
    if minutes is None:
        return ""
    return (START + timedelta(minutes=minutes)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def expel_row(alert_id: str = "a", **cells: str) -> dict[str, str]:
    row = dict.fromkeys(oracle.EXPEL_COLUMNS, "")
    return row | {oracle.ID: alert_id, "Severity": "HIGH", oracle.STATUS: "NEW", oracle.CREATED: stamp(0)} | cells


def expel(*rows: dict[str, str], **options):
    return read_history(pl.DataFrame(list(rows)), "expel-metrics", as_of=AS_OF, **options)


def told(history, external_id: str) -> list[tuple]:
    ids = history.alerts.filter(external_id=external_id)["alert_id"]
    rows = history.activities.filter(pl.col("alert_id").is_in(ids.implode()))
    return rows.select("at", "type", "value", "actor_kind").rows()


# ---- the Workbench's metrics export

minutes = st.one_of(st.none(), st.integers(-3, 60))


@st.composite
def expel_rows(draw: st.DrawFn) -> list[dict[str, str]]:
    rows = []
    for n in range(draw(st.integers(1, 4))):
        times = {name: stamp(draw(minutes)) for name in TIMES}
        words = {
            oracle.NAME: draw(st.sampled_from(["", "analyst-01", "triage bot"])),
            oracle.WHO: draw(st.sampled_from(["", "user-01"])),
            oracle.CASE: draw(st.sampled_from(["", "case-1"])),
            oracle.TYPE: draw(st.sampled_from(["", "Investigation", "Incident", "INCIDENT"])),
            oracle.REASON: draw(st.sampled_from(["", "BENIGN", "TESTING", "ELSE"])),
            oracle.STATUS: "CLOSED" if times[oracle.T60] or times[oracle.T6] else "NEW",
        }
        rows.append(expel_row(f"a{n}", **times, **words))
    return rows


@unhurried
@given(expel_rows())
def test_the_activities_of_an_export_are_those_of_reading_it_row_by_row(rows: list[dict[str, str]]) -> None:
    read = expel(*rows)
    for row in rows:
        assert told(read.history, row[oracle.ID]) == oracle.expel_activities(row)
    early = sum(at < START for row in rows for at, *_ in oracle.expel_activities(row))
    assert read.dropped.get("clock-skew", 0) == early, "negative durations are counted and kept"


@unhurried
@given(expel_rows())
def test_reading_the_same_file_twice_says_the_same_with_the_same_keys(rows: list[dict[str, str]]) -> None:
    first, again = expel(*rows), expel(*reversed(rows))
    for frame, key in (("alerts", "alert_id"), ("activities", "key")):
        assert getattr(first.history, frame).sort(key).equals(getattr(again.history, frame).sort(key))
    assert first.history.activities["at"].is_sorted()
    assert first.history.activities["key"].is_unique().all()


GOLDEN = (
    f'\ufeffseverity,{oracle.ID.upper()},ALERT STATUS,"{oracle.CREATED}",{oracle.T4},{oracle.NAME},{oracle.T60},{oracle.T6},'
    "Close Reason,Extra,Expel Alert Name\n"
    "HIGH,a-1,CLOSED,2026-10-05T09:00:00.000Z,2026-10-05T09:05:00.000Z,analyst-01,2026-10-05T09:30:00.000Z,"
    '2026-10-05T11:00:00.000Z,TRUE_POSITIVE,x,"Shell, encoded"\n'
    'TESTING,a-2,CLOSED,2026-10-05T10:00:00+02:00,,,2026-10-05T09:00:01Z,2026-10-05T09:00:01Z,TESTING,y,"two\nlines"\n'
    "LOW,a-3,NEW,2026-10-06T00:00:00Z,,,,,,z,\"=cmd|'/c calc'!A1\"\n"
)


def test_a_small_export_gives_these_alerts_whatever_the_order_and_case_of_its_columns(tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    file.write_text(GOLDEN, encoding="utf-8")
    read = read_history(file, as_of=AS_OF)
    assert read.mapping.name == "expel-metrics"
    assert read.history.current.select(
        "external_id", "severity", "state", "verdict", "assignee", "reopened", "is_test", "title", "history"
    ).rows() == [
        ("a-1", "high", "closed", "true_positive", "analyst-01", 1, False, "Shell, encoded", "summary"),
        ("a-2", "unknown", "closed", "test", None, 0, True, "two\nlines", "summary"),
        ("a-3", "low", "new", "unjudged", None, 0, False, "=cmd|'/c calc'!A1", "summary"),
    ]
    assert read.history.alerts["created_at"][1] == datetime(2026, 10, 5, 8, tzinfo=UTC)
    assert [(t, v, k) for _, t, v, k in told(read.history, "a-1")] == [
        ("assigned", "analyst-01", "human"), ("closed", "TRUE_POSITIVE", "human"), ("reopened", None, "human"),
        ("closed", "TRUE_POSITIVE", "human"), ("verdict", "true_positive", "human"),
    ]  # fmt: skip
    assert [k for _, _, _, k in told(read.history, "a-2")] == ["automation", "automation"], "nobody had it"
    assert read.dropped == {"severity-testing": 1, "close-reason-testing": 1}
    assert read.counts == {"read": 3, "alerts": 3, "activities": 7, "tests": 1, "dropped": 0, "rejected": 0}
    assert read.ignored == ("Extra",)


@pytest.mark.parametrize(
    ("rows", "alerts", "why"),
    [
        ([], 0, None),
        ([expel_row(**{oracle.CREATED: "2026-10-05T09:00:00"})], 0, "time without a zone"),
        ([expel_row(**{oracle.CREATED: "1796461200"})], 0, "time is a number without a unit"),
        ([expel_row(**{oracle.STATUS: "CLOSED", oracle.T60: stamp(5)})], 1, None),
        ([expel_row(**{oracle.STATUS: "IN_PROGRESS"})], 1, None),
    ],
    ids=["nothing", "naive times", "numbers for times", "closed by a machine", "in progress, no time says since when"],
)
def test_the_small_inputs_on_which_the_notebook_crashes_give_results(rows: list, alerts: int, why: str | None) -> None:
    columns = [c for c in oracle.EXPEL_COLUMNS if c != oracle.SEEN]  # the column that the notebook looks for in vain
    frame = pl.DataFrame([{c: row[c] for c in columns} for row in rows], schema=dict.fromkeys(columns, pl.String))
    read = read_history(frame, as_of=AS_OF)
    assert (read.history.alerts.height, read.history.current.height) == (alerts, alerts)
    assert read.rejected["reason"].to_list() == ([why] if why else [])
    if why:
        assert read.dropped == {"bad-creation-time": 1}
        assert read.dropped_rows.select("rule", "line", oracle.ID).rows() == [("bad-creation-time", 1, "a")]


def test_times_without_a_zone_are_read_in_the_zone_that_is_named() -> None:
    naive = expel_row(**{oracle.CREATED: "2026-10-05 09:00:00"})
    read = expel(naive, zone="America/Denver")
    assert read.history.alerts["created_at"].item() == datetime(2026, 10, 5, 15, tzinfo=UTC)
    assert any("America/Denver" in caveat for caveat in read.caveats)
    with pytest.raises(MappingError, match="Did you mean"):
        expel(naive, zone="America/Denvr")


def test_an_alert_that_is_closed_nobody_knows_when_is_closed_and_counted_and_said_again_by_a_later_export() -> None:
    row = expel_row(**{oracle.STATUS: "CLOSED"})
    early, late = expel(row), read_history(pl.DataFrame([row]), as_of=AS_OF + timedelta(days=3))
    assert early.history.current["state"].item() == "closed"
    assert told(early.history, "a") == [(AS_OF, "closed", None, "import")]
    assert early.dropped == {"closed-time-unknown": 1}
    assert early.history.activities["key"].to_list() == late.history.activities["key"].to_list()
    begun = expel(expel_row(**{oracle.STATUS: "IN_PROGRESS", oracle.T4: stamp(7)})).history
    assert begun.current.select("state", "state_since").rows() == [("in_progress", START + timedelta(minutes=7))]


def test_each_cleaning_rule_counts_what_it_caught_and_can_be_switched() -> None:
    rows = [
        expel_row("tuning", Severity="TUNING"), expel_row("phish", **{oracle.REASON: "phishing_simulation"}), expel_row(""),
        expel_row("same"), expel_row("same"), expel_row("other"), expel_row("other", Severity="LOW"),
        expel_row("old", **{oracle.CREATED: "1999-12-31T23:59:59Z"}), expel_row("future", **{oracle.CREATED: "2026-11-01T00:00:01Z"}),
        expel_row("bad", **{oracle.T4: "later", oracle.T60: "2031-01-01T00:00:00Z"}), expel_row("skew", **{oracle.T4: stamp(-1)}),
    ]  # fmt: skip
    read = expel(*rows)
    assert read.dropped == {
        "missing-id": 1, "absurd-creation-time": 2, "duplicate-row": 1, "conflicting-id": 1, "bad-value": 2, "clock-skew": 1,
        "severity-tuning": 1, "close-reason-phishing-simulation": 1,
    }  # fmt: skip
    assert read.history.alerts["external_id"].to_list() == ["tuning", "phish", "same", "other", "bad", "skew"]
    assert read.history.alerts.filter("is_test")["external_id"].to_list() == ["tuning", "phish"]
    assert read.dropped_rows.select("rule", "line").sort("line").rows() == [
        ("missing-id", 3), ("duplicate-row", 5), ("conflicting-id", 7), ("absurd-creation-time", 8), ("absurd-creation-time", 9),
    ]  # fmt: skip
    assert read.rejected.select("line", "column", "kept").rows() == [(10, oracle.T4, True), (10, oracle.T60, True)]
    assert told(read.history, "bad") == [], "neither what cannot be read nor what is to come has happened"
    assert read.counts["read"] == read.counts["alerts"] + read.counts["dropped"] == len(rows)

    dropped = expel(*rows, cleaning={"severity-tuning": "drop", "close-reason-phishing-simulation": "keep"})
    assert dropped.dropped["severity-tuning"] == 1
    assert "tuning" not in dropped.history.alerts["external_id"].to_list()
    assert not dropped.history.alerts["is_test"].any()
    few = expel(*rows, cleaning=["severity-tuning"])
    assert {"old", "future"} <= set(few.history.alerts["external_id"])
    assert few.history.alerts.filter("is_test")["external_id"].to_list() == ["tuning"]
    with pytest.raises(SourceError, match='Did you mean "severity-tuning"'):
        expel(*rows, cleaning=["severity-tunning"])
    with pytest.raises(SourceError, match="always does the same"):
        expel(*rows, cleaning={"clock-skew": "drop"})
    assert all(rule.meaning for m in shipped_histories().values() for rule in (*m.cleaning, *BUILT_IN.values()))


def test_the_page_tells_of_every_cleaning_rule_and_mapping() -> None:
    page = (Path(__file__).parent.parent / "docs" / "histories.md").read_text(encoding="utf-8")
    rules = [name for m in shipped_histories().values() for name in (*BUILT_IN, *(rule.name for rule in m.cleaning))]
    assert [name for name in (*rules, *shipped_histories()) if f"`{name}`" not in page] == []
    assert all(f"| `{rule.name}` | {rule.action} |" in page for rule in BUILT_IN.values())


def test_an_export_whose_span_is_known_says_that_its_feed_delivered() -> None:
    read = expel(expel_row(), since="2026-10-01", until="2026-12-01")
    row = read.history.journal.row(0, named=True)
    assert (row["kind"], row["name"], row["at"], row["until"]) == (
        "covered",
        "expel",
        datetime(2026, 10, 1, tzinfo=UTC),
        AS_OF,
    )
    assert expel(expel_row()).history.journal.height == 0, "without a span nothing is said of days without alerts"


def test_a_metric_that_needs_each_activity_refuses_a_summary_with_the_reason() -> None:
    history = expel(expel_row()).history
    assert of(history).response(clock="first-close").n == 1
    with pytest.raises(
        MetricError, match="sentinel-triage needs every activity; this history holds only first and last"
    ):
        of(history).response(clock="sentinel-triage")


# ---- an audit log


def uci_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.needs("shared-data")
def test_the_helpdesk_log_reads_as_walking_through_it_row_by_row(shared_data: Path, tmp_path: Path) -> None:
    file = tmp_path / "log.csv.gz"
    shutil.copy(shared_data / "uci-incident-log-half.csv.gz", file)
    read = read_history(file)
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        expected = oracle.uci_history(list(csv.DictReader(lines)))
    history = read.history
    assert read.dropped["duplicate-row"] == 847
    assert history.alerts["history"].unique().to_list() == ["full"]
    found = {
        row["external_id"]: row
        for row in history.current.select("alert_id", "external_id", "created_at", "severity", "state").to_dicts()
    }
    assert {k: (v["created"], v["severity"], v["state"]) for k, v in expected.items()} == {
        k: (v["created_at"], v["severity"], v["state"]) for k, v in found.items()
    }
    by_alert: dict[str, list[tuple]] = {}
    for alert, *activity in history.activities.select("alert_id", "at", "type", "value").iter_rows():
        by_alert.setdefault(alert, []).append(tuple(activity))
    for number, row in found.items():
        assert by_alert.get(row["alert_id"], []) == expected[number]["activities"], number


UCI = ("number", "incident_state", "reassignment_count", "opened_at", "sys_updated_by", "sys_updated_at", "priority",
       "assignment_group", "assigned_to", "closed_code")  # fmt: skip


@st.composite
def uci_logs(draw: st.DrawFn) -> list[dict[str, str]]:
    states = st.sampled_from([*oracle.UCI_STATES, "-100"])
    rows = []
    for _ in range(draw(st.integers(1, 12))):
        rows.append(
            dict(zip(UCI, (draw(st.sampled_from("AB")), draw(states), "0", "2016-03-01T08:00:00", draw(st.sampled_from("12")),
                           f"2016-03-01T08:{draw(st.integers(0, 3)):02}:00", draw(st.sampled_from("1234")), draw(st.sampled_from("?7")),
                           draw(st.sampled_from("?56")), draw(st.sampled_from("?3"))), strict=True))
        )  # fmt: skip
    return rows


@unhurried
@given(uci_logs())
def test_any_log_of_updates_reads_as_walking_through_it_row_by_row(rows: list[dict[str, str]]) -> None:
    history = read_history(pl.DataFrame(rows), "uci-incident-log").history
    expected = oracle.uci_history(rows)
    assert set(history.alerts["external_id"]) == set(expected)
    for number, alert in expected.items():
        assert [a[:3] for a in told(history, number)] == alert["activities"]
        assert history.current.filter(external_id=number)["severity"].item() == alert["severity"]


def test_within_one_minute_the_same_can_happen_twice() -> None:
    row = dict.fromkeys(UCI, "1") | {
        "incident_state": "New",
        "opened_at": "2016-03-01T08:00:00",
        "sys_updated_at": "2016-03-01T08:01:00",
    }
    rows = [row | {"assigned_to": to} for to in ("5", "6", "5", "7", "5")]
    rows = [r | {"closed_code": str(n)} for n, r in enumerate(rows)]  # no row is the same as another
    history = read_history(pl.DataFrame(rows), "uci-incident-log").history
    assert history.activities["value"].to_list() == [f"person {n}" for n in "56575"]
    assert history.activities["key"].n_unique() == 5


# ---- other makers


def test_rows_of_sentinel_become_the_life_of_an_incident() -> None:
    base = {
        "IncidentNumber": 7,
        "IncidentName": "g-7",
        "CreatedTime": "2026-10-05T09:00:00Z",
        "Severity": "High",
        "Title": "t",
        "Classification": "",
        "ProviderName": "Azure Sentinel",
        "Owner": '{"assignedTo":null}',
        "ModifiedBy": "x",
    }
    rows = [
        base | {"Status": "New", "LastModifiedTime": "2026-10-05T09:00:00Z"},
        base
        | {
            "Status": "Active",
            "LastModifiedTime": "2026-10-05T09:10:00Z",
            "Owner": '{"assignedTo":"ann"}',
            "ModifiedBy": "ann",
        },
        base
        | {
            "Status": "Closed",
            "LastModifiedTime": "2026-10-05T10:00:00Z",
            "Owner": '{"assignedTo":"ann"}',
            "Classification": "BenignPositive",
            "ModifiedBy": "Automation rule 4",
        },
    ]
    history = read_history(pl.DataFrame(rows)).history
    alert_id = history.alerts["external_id"].item()
    assert [(t, v, k) for _, t, v, k in told(history, alert_id)] == [
        ("work_started", None, "human"), ("assigned", "ann", "human"), ("closed", "BenignPositive", "automation"),
        ("verdict", "benign_true_positive", "automation"),
    ]  # fmt: skip
    assert alert_id == "g-7"


def test_documents_of_kibana_are_read_with_and_without_their_wrapping_and_from_one_json_document(
    tmp_path: Path,
) -> None:
    source = {
        "@timestamp": "2026-10-05T09:00:00Z",
        "kibana.alert.uuid": "k1",
        "kibana.alert.workflow_status": "closed",
        "kibana.alert.severity": "high",
        "kibana.alert.workflow_status_updated_at": "2026-10-05T09:30:00Z",
        "kibana.alert.workflow_reason": "false_positive",
        "kibana.alert.rule.name": "r",
        "host": {"name": ["pc1", "pc2"], "os": {"name": "Debian 13"}},
        "source": {"ip": "192.0.2.7"},
    }
    bare, wrapped, document = tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "c.json"
    bare.write_text(json.dumps(source) + "\n")
    wrapped.write_text(json.dumps({"_id": "x", "_source": source}) + "\n")
    document.write_text(json.dumps({"hits": {"hits": [{"_id": "x", "_source": source}]}}, indent=1))
    for file in (bare, wrapped, document):
        history = read_history(file).history
        assert history.current.select("external_id", "state", "verdict").rows() == [("k1", "closed", "false_positive")]
        assert history.observables.select("kind", "role", "value").rows() == [
            ("host", None, "pc1"),
            ("host", None, "pc2"),
            ("os", None, "Debian 13"),
            ("ip", "source", "192.0.2.7"),
        ]


def test_alerts_of_thehive_have_their_times_in_milliseconds() -> None:
    at = int(START.timestamp() * 1000)
    rows = [
        {
            "_id": "~1",
            "_createdAt": at,
            "stage": "Closed",
            "status": "FalsePositive",
            "severity": 3,
            "sourceRef": "r",
            "closedDate": at + 60_000,
        }
    ]
    current = read_history(pl.DataFrame(rows)).history.current
    assert current.select("created_at", "severity", "state", "verdict").rows() == [
        (START, "high", "closed", "false_positive")
    ]


# ---- mappings


def test_every_shipped_mapping_is_written_and_read_back_equal() -> None:
    for mapping in shipped_histories().values():
        assert parse_history_mapping(mapping.to_toml()) == mapping


HEAD = '[history]\nname = "m"\n[alert]\nexternal_id = "id"\ncreated_at = "t"\n'


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("[history", "not valid TOML"),
        ("[history]\ntitle = 'x'", "needs a name"),
        ('[histroy]\nname = "m"', 'Did you mean "history"'),
        ('[history]\nname = "m"\n[alert]\nexternal_id = "id"', "created_at is needed"),
        (HEAD + 'sevrity = "s"', 'Did you mean "severity"'),
        (HEAD + '[[activities]]\ntype = "closd"\nat = "c"', 'Did you mean "closed"'),
        (HEAD + '[[activities]]\ntype = "closed"', "say when it happened"),
        (HEAD + '[[activities]]\ntype = "closed"\nat = "c"\nwhere = { field = "x" }', "a condition is a field"),
        (HEAD + '[[activities]]\ntype = "closed"\nat = "c"\nactor_kind = "robot"', "robot"),
        (HEAD + 'status = { from = "s", values = { X = "clsed" } }', 'Did you mean "closed"'),
        (HEAD + 'title = { frm = "x" }', 'Did you mean "from"'),
        (HEAD + 'title = { from = "x", pattern = "(?=x)y" }', "regular expression"),
        (HEAD + '[[changes]]\nfrom = "a"\ntype = "assigned"\nwhen = "changed"', 'Did you mean "changes"'),
        (HEAD + '[[cleaning]]\nname = "x"\nfield = "f"\namong = ["a"]\nthen = "dropp"', 'Did you mean "drop"'),
        (HEAD + '[[cleaning]]\nname = "clock-skew"\nfield = "f"\namong = ["a"]', "built-in"),
        (HEAD + '[update]\nat = "u"', "belong together"),
        (HEAD.replace('"m"', '"m"\nshape = "updats"'), 'Did you mean "updates"'),
        (HEAD.replace('"m"', '"m"\nzone = "Europe/Pari"'), 'Did you mean "Europe/Paris"'),
    ],
)  # fmt: skip
def test_a_wrong_mapping_says_where_and_what_was_meant(toml: str, says: str) -> None:
    with pytest.raises(MappingError) as error:
        parse_history_mapping(toml, where="mine.toml")
    assert says in str(error.value)
    assert str(error.value).startswith("mine.toml")


def test_a_mapping_that_does_not_fit_the_file_says_which_field_is_missing() -> None:
    rows = pl.DataFrame({"Expel Alert Id": ["a"], "Inserted At (T3)": ["x"]})
    with pytest.raises(MappingError, match="created_at from the field 'Insert At"):
        read_history(rows, "expel-metrics")
    with pytest.raises(SourceError, match="map init --alerts"):
        read_history(rows)
    with pytest.raises(MappingError, match='Did you mean "expel-metrics"'):
        load_history_mapping("expel-metric")


def test_a_proposed_mapping_reads_the_file_it_was_proposed_for(tocsin, tmp_path: Path) -> None:
    file = tmp_path / "Desk export.csv"
    file.write_text(
        "TicketID,OpenedAt,ResolvedAt,State,Priority,Owner,Host Name\n"
        "1,2026-10-05 09:00:00,2026-10-05 09:30:00,Resolved,P1,ann,pc1\n2,2026-10-05 10:00:00,,Wibble,P3,,pc2\n"
    )
    proposal = propose_history_mapping(file)
    again = read_history(file, parse_history_mapping(proposal.toml))
    assert again.history.current.select("external_id", "severity", "state").rows() == [
        ("1", "critical", "closed"),
        ("2", "medium", "new"),
    ]
    assert again.mapping == proposal.mapping
    assert any("UTC is assumed" in note for note in proposal.notes)
    assert any("'Wibble'" in note for note in proposal.notes)

    out = tmp_path / "desk.toml"
    done = tocsin("map", "init", "--alerts", file, "--out", out)
    assert done.code == 0
    assert parse_history_mapping(out.read_text()) == proposal.mapping
    assert "2 of 2 rows" in done.out


def test_a_desk_export_of_a_spreadsheet_is_proposed_whole(tocsin, tmp_path: Path) -> None:
    file = tmp_path / "desk.csv"
    file.write_text(
        "\ufeffKey;Date opened;Date closed;Sev;Assigned analyst;Detection name;Source host;Disposition;Room\n"
        "T-1;10/05/2026 9:00 AM;10/05/2026 1:30 PM;P1;ann;Odd logon;pc1;False Positive;7\n"
        "T-2;10/25/2026 12:00 AM;;P3;;Odd logon;pc2;;7\n",
        encoding="utf-8",
    )
    out = tmp_path / "desk.toml"
    assert tocsin("map", "init", "--alerts", file, "--out", out).code == 0
    assert 'separator = ";"' in out.read_text()
    assert "# Columns not taken: Room." in out.read_text()
    current = read_history(file, out).history.current
    assert current.select("external_id", "created_at", "severity", "assignee", "title", "state", "verdict").rows() == [
        ("T-1", datetime(2026, 10, 5, 9, tzinfo=UTC), "critical", "ann", "Odd logon", "closed", "false_positive"),
        ("T-2", datetime(2026, 10, 25, tzinfo=UTC), "medium", None, "Odd logon", "new", "unjudged"),
    ]
    assert current["state_since"][0] == datetime(2026, 10, 5, 13, 30, tzinfo=UTC)
    assert json.loads(current["observables"][0]) == [{"kind": "host", "role": None, "value": "pc1"}]


@pytest.mark.parametrize(
    ("dates", "read_as", "said"),
    [
        (("25/10/2026 09:00", "01/11/2026 10:00"), datetime(2026, 10, 25, 9, tzinfo=UTC), None),
        (("5.10.2026 09:00:01", "6.10.2026 10:00:01"), datetime(2026, 10, 5, 9, 0, 1, tzinfo=UTC), "day before month is assumed"),
        (("05/10/26 9:00PM", "06/10/26 9:00PM"), datetime(2026, 5, 10, 21, tzinfo=UTC), "month before day is assumed"),
    ],
)  # fmt: skip
def test_the_order_of_day_and_month_is_told_by_the_dates_or_assumed_aloud(dates, read_as, said) -> None:
    proposal = propose_history_mapping(pl.DataFrame({"ID": ["1", "2"], "Opened": dates}), name="desk")
    assert proposal.imported.history.alerts["created_at"][0] == read_as
    assert [said in note for note in proposal.notes if "Dates such as" in note] == ([True] if said else [])


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_exported_alerts_come_back_as_they_stood(tocsin, tmp_path: Path, ending: str) -> None:
    file, log, out, other = (tmp_path / name for name in ("g.csv", "g.db", f"out.{ending}", "other.db"))
    file.write_text(
        "alert_id,created_at,first_action_at,closed_at,severity,status,title,verdict,assignee\n"
        "a,2026-01-01T00:00:00Z,2026-01-01T01:00:00Z,2026-01-01T02:00:00Z,high,Closed,t,false_positive,ann\n"
        "b,2026-01-01T03:00:00Z,2026-01-01T05:00:00Z,,low,On Hold,u,,bob\n"
        "c,2026-01-02T03:00:00Z,,,low,New,u,,\n"
    )
    for arguments in (("import", file, "--log", log), ("export", out, "--log", log), ("import", out, "--log", other)):
        assert tocsin("alerts", *arguments).code == 0
    before, after = (read_history(file).history.current, read_history(out).history.current)
    kept = ["created_at", "severity_now", "title", "state", "state_since", "verdict", "assignee", "is_test"]
    assert after.select(kept).equals(before.select(kept))
    assert after["external_id"].to_list() == before["alert_id"].to_list()
    assert after["history"].unique().to_list() == ["summary"]


def test_where_no_creation_time_is_found_there_is_a_line_to_complete(tocsin, tmp_path: Path) -> None:
    file = tmp_path / "desk.csv"
    file.write_text("Ticket\tWhen\tState\n1\tsoon\tOpen\n2\tlater\tOpen\n")
    done = tocsin("map", "init", "--alerts", file)
    assert done.code == 1
    assert '# created_at = "..."  # one of: When' in done.out
    assert "no field was found for created_at" in done.err
    assert 'separator = "\\u0009"' in done.out


def test_an_import_says_what_it_did_not_use_and_what_it_could_not_read(tocsin, tmp_path: Path) -> None:
    file, log, rejects = tmp_path / "g.csv", tmp_path / "g.db", tmp_path / "rejects.csv"
    file.write_text(
        "alert_id,created_at,first_action_at,closed_at,severity,status,title,verdict,assignee,room\n"
        "a,2026-01-01T00:00:00Z,2026-01-01T01:00:00Z,2026-01-01T02:00:00Z,high,Closed,t,false_positive,ann,7\n"
        "b,2026-01-01 00:00:00,,,low,Open,t,,bob,7\nc,\x1b[31msoon,,,low,Open,t,,bob,7\n"
    )
    done = tocsin("alerts", "import", file, "--log", log, "--rejects", rejects)
    assert done.code == 0
    assert "columns not used: room\n" in done.out
    assert 'g.csv line 3, created_at: "2026-01-01 00:00:00": time without a zone' in done.out
    assert "--zone" in done.out
    assert "\x1b" not in done.out
    assert pl.read_csv(rejects)["line"].to_list() == [3, 4]
    again = json.loads(tocsin("alerts", "import", file, "--log", log, "--json").out)
    assert again["ignored"] == ["room"]
    assert [row["column"] for row in again["rejected"]] == ["created_at"] * 2
    read = read_history(file)
    assert [(at.hour, kind, value, who) for at, kind, value, who in told(read.history, "a")][:2] == [
        (1, "assigned", "ann", "import"),
        (1, "work_started", None, "human"),
    ]


def test_what_holds_no_alerts_is_refused_in_one_line_and_no_log_is_made(tocsin, tmp_path: Path) -> None:
    log = tmp_path / "new.db"
    for name, text, says in (
        ("log.csv", "SQLite format 3\0", "--log"),
        ("empty.csv", "", "is empty"),
        ("header.csv", "alert_id,created_at,closed_at\n", "nothing below its header"),
    ):
        (tmp_path / name).write_text(text)
        done = tocsin("alerts", "import", tmp_path / name, "--log", log)
        assert done.code == 3
        assert says in done.err
        assert done.err.count("\n") == 1
        assert not log.exists()


def test_a_log_of_updates_is_recognised_as_one_when_a_mapping_is_proposed() -> None:
    rows = [
        {
            "case": n // 3,
            "modified_time": stamp(n),
            "created": stamp(0),
            "status": ("Open", "In Progress", "Closed")[n % 3],
        }
        for n in range(9)
    ]
    proposal = propose_history_mapping(pl.DataFrame(rows).rename({"case": "case_id"}), name="log")
    assert proposal.mapping.shape == "updates"
    assert proposal.imported.history.current["state"].to_list() == ["closed"] * 3
