"""A folder of raw answers of the Workbench becomes one history: export, list of alerts, evidence."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from workbench_example import IDS, INSIDE, NOW

from tocsin.errors import SourceError
from tocsin.sources.histories import read_history

pytest_plugins = ["workbench_fixtures"]
EXPORT = (
    "Expel Alert ID,Severity,Alert Status,Insert At (T3),Time First Closed (T60)\n"
    "a-1,HIGH,CLOSED,2026-10-01T10:00:00.000Z,2026-10-01T11:00:00.000Z\n"
    "a-2,LOW,NEW,2026-10-02T10:00:00.000Z,\n"
)
MANIFEST = {
    "format": 1,
    "source": "expel-workbench",
    "complete": True,
    "asked": {
        "url": "https://x",
        "since": "2026-10-01",
        "until": "2026-10-08",
        "zone": "UTC",
        "from": "2026-10-01T00:00:00Z",
        "to": "2026-10-08T00:00:00Z",
    },
    "files": {"export.csv": {"asked_at": "2026-10-09T00:00:00Z", "sha256": ""}},
}
SEEN_AT = datetime(2026, 10, 9, tzinfo=UTC)


def resource(alert_id: str, **attributes: object) -> dict:
    return {"type": "expel_alerts", "id": alert_id, "attributes": attributes, "relationships": {}}


def pack(path: Path, rows: list[dict], tail: bytes = b"") -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in rows) + tail))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST))
    (tmp_path / "export.csv").write_text(EXPORT)
    common = {
        "expel_severity": "MEDIUM",
        "expel_signature_id": "sig-1",
        "expel_version": "4",
        "activity_first_at": "2026-10-01T09:00:00Z",
    }
    pack(tmp_path / "alerts/000001.jsonl.gz", [
        resource("a-1", created_at="2026-10-01T10:00:00Z", close_reason="TRUE_POSITIVE", expel_name="Shell", status="CLOSED", **common),
        resource("a-3", created_at="2026-10-03T10:00:00Z", close_reason="BENIGN", expel_name="Only listed", status="CLOSED",
                 status_updated_at="2026-10-03T12:00:00Z", **common),
        resource("a-9", created_at="2026-11-03T10:00:00Z", status="OPEN", **common),
    ])  # fmt: skip
    evidence = [
        ("HOSTNAME", "pc1"),
        ("SRC_IP", "192.0.2.7"),
        ("SRC_IP", "192.0.2.7"),
        ("DST_USERNAME", "corp\\ann"),
        ("PROCESS_MD5", "00ff"),
        ("URL", None),
    ]
    pack(
        tmp_path / "details/000001.jsonl.gz",
        [
            {
                "id": "a-1",
                "evidence": [{"attributes": {"evidence_type": t, "evidence": v}} for t, v in evidence],
                "vendor_alerts": [
                    {
                        "attributes": {
                            "evidence_summary": [
                                {"device": {"os": {"name": "Debian 13", "family": "x"}}},
                                {"cos.name": "no"},
                            ]
                        }
                    },
                    {"attributes": {"evidence_summary": None}},
                    {"attributes": 7},
                ],
            },
            {"id": "a-2", "evidence": [], "vendor_alerts": []},
        ],
    )
    return tmp_path


def test_a_fetched_folder_is_one_history_seen_from_when_it_was_fetched(folder: Path) -> None:
    read = read_history(folder)
    history = read.history
    assert history.at == history.seen_at == SEEN_AT
    assert history.current.select("external_id", "state", "verdict", "title", "rule_id", "rule_version").rows() == [
        ("a-1", "closed", "true_positive", "Shell", "sig-1", "4"), ("a-2", "new", "unjudged", None, None, None),
        ("a-3", "closed", "benign_true_positive", "Only listed", "sig-1", "4"),
    ]  # fmt: skip
    assert history.alerts["severity"].to_list() == ["high", "low", "medium"], (
        "where both say something, the export counts"
    )
    assert history.current["state_since"][2] == datetime(2026, 10, 3, 12, tzinfo=UTC)
    assert history.observables.select("alert", "kind", "role", "value").rows() == [
        (0, "host", None, "pc1"),
        (0, "ip", "source", "192.0.2.7"),
        (0, "user", "destination", "corp\\ann"),
        (0, "process_md5", None, "00ff"),
        (0, "os", None, "Debian 13"),
    ]
    assert history.activities.filter(type="enriched").select("at", "recorded_at", "actor_kind").rows() == [
        (datetime(2026, 10, 1, 10, tzinfo=UTC), SEEN_AT, "import")
    ]
    assert history.journal.select("kind", "name", "at", "until").rows() == [
        ("covered", "expel", datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 10, 8, tzinfo=UTC))
    ]
    assert history.as_known_at(datetime(2026, 10, 5, tzinfo=UTC)).alerts.height == 0, "it was learnt on the 9th"


def test_the_export_alone_and_the_folder_name_the_same_alerts(folder: Path) -> None:
    alone = read_history(folder / "export.csv").history.alerts
    whole = read_history(folder).history.alerts
    assert alone["alert_id"].to_list() == whole["alert_id"].to_list()[:2]


def test_reading_a_folder_twice_says_the_same(folder: Path) -> None:
    first, again = read_history(folder).history, read_history(folder).history
    assert first.activities.equals(again.activities)
    assert first.alerts.equals(again.alerts)
    assert first.journal.equals(again.journal)


def test_what_is_damaged_in_a_folder_is_counted_and_the_rest_is_read(folder: Path) -> None:
    pack(folder / "alerts/000002.jsonl.gz", [], b"{half a li\n[1]\n")
    (folder / "details/000002.jsonl.gz").write_bytes(gzip.compress(b'{"id": "a-2"}\n' * 9_000)[:-20])
    read = read_history(folder)
    assert read.history.alerts.height == 3
    assert read.rejected.select("file", "line").rows()[:2] == [
        ("alerts/000002.jsonl.gz", 1),
        ("alerts/000002.jsonl.gz", 2),
    ]
    assert read.rejected.filter(pl.col("reason").str.contains("damaged or ends early"))["file"].to_list() == [
        "details/000002.jsonl.gz"
    ]
    assert read.dropped["unreadable-row"] == 3


def test_a_folder_without_its_export_says_what_to_do(folder: Path) -> None:
    (folder / "export.csv").unlink()
    with pytest.raises(SourceError, match="Run it again"):
        read_history(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(SourceError):
        read_history(folder)


def test_what_a_fetch_keeps_is_read_whole(fetch) -> None:
    read = read_history(fetch().folder)
    history = read.history
    assert sorted(history.alerts["external_id"]) == sorted(IDS)
    assert history.at == NOW
    states = {"NEW": "new", "IN_PROGRESS": "in_progress", "CLOSED": "closed"}
    expected = {
        a["id"]: (states[a["csv"]["Alert Status"]], a["attributes"]["expel_name"], bool(a["evidence"])) for a in INSIDE
    }
    seen = set(history.observables.filter(pl.col("kind") != "os")["alert"])
    found = history.current.select("alert", "external_id", "state", "title").rows()
    assert {i: (state, title, n in seen) for n, i, state, title in found} == expected
    assert history.journal["kind"].to_list() == ["covered"]
    assert history.alerts["is_test"].sum() == sum(
        a["csv"]["Severity"] in ("TESTING", "TUNING") or a["csv"]["Close Reason"] in ("TESTING", "PHISHING_SIMULATION")
        for a in INSIDE
    )
