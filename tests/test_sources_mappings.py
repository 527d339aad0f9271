"""Claims about mappings: shipped ones, proposed ones, wrong ones, and the log formats they bring to the standard columns."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest

from tocsin.errors import MappingError
from tocsin.sources import load_mapping, parse_mapping, propose_mapping, read
from tocsin.sources.mapping import shipped

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize("name", sorted(shipped()))
def test_a_shipped_mapping_survives_being_written_and_read_again(name: str) -> None:
    assert parse_mapping(shipped()[name].to_toml()) == shipped()[name]


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[source", "not valid TOML"),
        ('[source]\nzon = "UTC"', 'Did you mean "zone"'),
        ('[columns.src_ip]\nfrm = "ip"', 'Did you mean "from"'),
        ('[columns.x]\nkind = "integer"', "unknown kind"),
        ('[columns.timestamp]\non_invalid = "null"', "cannot be kept"),
        ('[columns.x]\npattern = "a(?=b)"', "cannot be used"),
        ('[source]\nformat = "lines"', "at least one"),
        ('[columns.src_ip]\nkind = "int"', "standard column"),
        ('[source]\nearliest = "yesterday"', "is not a time"),
    ],
)
def test_a_wrong_mapping_is_refused_with_its_place_and_a_hint(toml: str, message: str) -> None:
    with pytest.raises(MappingError, match=message):
        parse_mapping(toml)


def test_an_unknown_mapping_or_field_is_an_error_with_did_you_mean() -> None:
    with pytest.raises(MappingError, match='Did you mean "postfix"'):
        load_mapping("postfx")
    mapping = parse_mapping('[columns.src_ip]\nfrom = "client_ip"')
    with pytest.raises(MappingError, match='Did you mean "clientip"'):
        read(pl.DataFrame({"timestamp": ["2026-01-01T00:00Z"], "clientip": ["1.1.1.1"]}), mapping=mapping)


POSTFIX = """\
Feb  3 12:00:01 mx1 postfix/smtpd[123]: connect from unknown[1.2.3.4]
Feb  3 12:00:02 mx1 postfix/smtpd[123]: 4F1B2C: client=mail.example.com[1.2.3.4], sasl_method=LOGIN, sasl_username=bob@example.com
Feb  3 12:00:03 mx1 postfix/qmgr[77]: 4F1B2C: from=<bob@example.com>, size=1234, nrcpt=12 (queue active)
2026-02-03T12:00:04.5+01:00 mx1 postfix/smtp[78]: 4F1B2C: to=<x@y.z>, relay=mx.y.z[2001:DB8::1]:25, delay=1, dsn=2.0.0, status=sent (250 ok)
Feb  3 12:00:05 mx1 postfix/smtp[78]: 4F1B2C: to=<x@y.z>, relay=none, delay=1, dsn=4.4.1, status=deferred (connect)
"""


def test_postfix_lines_become_connect_mail_and_delivery_events(tmp_path: Path) -> None:
    path = tmp_path / "mail.log"
    path.write_text(POSTFIX)
    with pytest.raises(MappingError, match="year="):
        read(path, mapping="postfix")
    events = read(path, mapping="postfix", zone="Europe/Paris", year=2026, now=NOW)
    assert (events.counts.read, events.counts.accepted, events.counts.skipped) == (5, 4, 1)
    rows = (
        events.frame()
        .select("event_id", "kind", "user_id", "src_ip", "dst_ip", "nr_recipients", "outcome")
        .collect()
        .rows()
    )
    assert rows == [
        ("postfix:2", "connect", "bob@example.com", "1.2.3.4", None, None, None),
        ("postfix:3", "mail", "bob@example.com", None, None, 12, None),
        ("postfix:4", "delivery", None, None, "2001:db8::1", None, "success"),
        ("postfix:5", "delivery", None, None, None, None, "failure"),
    ]
    assert events.frame().collect()["timestamp"][0] == datetime(2026, 2, 3, 11, 0, 2, tzinfo=UTC)


def test_a_message_trace_and_a_sign_in_log_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(
        "origin_timestamp_utc,sender_address,recipient_status,message_subject,total_bytes,message_id,network_message_id,original_client_ip\n"
        '2026-01-01T00:00:00.0000000Z,Bob@X.com,a@y.z##Receive; b@y.z##Send,"Hi, ""you""",12,<m1>,n1,1.2.3.4\n'
    )
    trace = read(tmp_path / "trace.csv", now=NOW)
    assert trace.recognised
    row = trace.frame().collect().row(0, named=True)
    assert (row["event_id"], row["kind"], row["user_id"], row["nr_recipients"], row["subject"]) == (
        "n1",
        "mail",
        "bob@x.com",
        2,
        'Hi, "you"',
    )
    sign_in = {
        "id": "s1",
        "createdDateTime": "2026-01-01T00:00:00Z",
        "userPrincipalName": "Bob@X.com",
        "ipAddress": "1.2.3.4",
    }
    path = tmp_path / "s.jsonl"
    records = [sign_in | {"status": {"errorCode": 0}}, sign_in | {"status": {"errorCode": 50126}, "id": "s2"}]
    path.write_text("\n".join(map(json.dumps, records)))
    login = read(path, now=NOW)
    assert login.recognised
    assert login.frame().select("event_id", "kind", "outcome").collect().rows() == [
        ("s1", "login", "success"),
        ("s2", "login", "failure"),
    ]


def test_a_proposed_mapping_runs_as_it_stands(tmp_path: Path) -> None:
    rows = [
        "when,client,user name,rcpt_count,colour",
        "2026-01-01 00:00:00,1.2.3.4,bob,3,red",
        "2026-01-01 00:00:01,::1,eve,x,blue",
    ]
    path = tmp_path / "gate.csv"
    path.write_text("\n".join(rows))
    proposal = propose_mapping(path)
    assert proposal.mapping.zone == "UTC"
    assert any("UTC is assumed" in note for note in proposal.notes)
    mapping = parse_mapping(proposal.toml)
    assert mapping == proposal.mapping
    events = read(path, mapping=mapping, now=NOW)
    assert events.frame().collect().head(10).equals(proposal.preview)
    assert events.frame().collect()["src_ip"].to_list() == ["1.2.3.4", "::1"]


def test_one_bad_time_among_three_rows_does_not_hide_the_time_column() -> None:
    times = ["2026-01-01T00:00:00Z", "soon", "2026-01-01T00:00:02Z"]
    proposal = propose_mapping(pl.DataFrame({"when": times, "user": ["a", "b", "c"]}), name="log")
    assert (proposal.read, proposal.accepted) == (3, 2)
    assert "only 67% of them can be read as times" in proposal.toml
    wrong = propose_mapping(pl.DataFrame({"timestamp": ["1 o'clock", "later"], "user": ["a", "b"]}), name="log")
    assert wrong.accepted == 0
    assert wrong.notes[-1]
