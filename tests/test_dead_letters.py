"""Dead letters: kept once, bounded, mended and sent again; and nothing an attacker wrote acts on whoever reads them."""

from __future__ import annotations

import csv
import io
import json
import stat
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from command_line import HOSTILE, assert_inert

from tocsin.errors import SourceError, StateError
from tocsin.runners.live import deadletters
from tocsin.runners.live.deadletters import DROPPED, RESENT, WAITING, DeadLetters
from tocsin.runners.live.folder import StateFolder
from tocsin.sources.live.pieces import Letter
from tocsin.sources.live.spool import Spool
from tocsin.sources.live.spooled import SpoolSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytest_plugins = ["cli_fixtures"]
T0 = datetime(2025, 1, 1, tzinfo=UTC)
GOOD = b'{"timestamp":"2025-01-01T00:00:00Z","user_id":"ann"}'


class Clock:
    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        return self.now


class Sent:
    """A spool that remembers what it was given, and may be full."""

    def __init__(self, *, full_at: int = 1 << 30) -> None:
        self.calls: list[tuple[list[bytes], datetime, str, str | None]] = []
        self.full_at = full_at

    def append(
        self, records: Sequence[bytes], received_at: datetime, *, partition: str = "", source: str | None = None
    ) -> int:
        if len(self.calls) >= self.full_at:
            raise SourceError("the spool is full")
        self.calls.append((list(records), received_at, partition, source))
        return len(self.calls)


def letter(number: int = 1, record: bytes = b"{bad", **more: Any) -> Letter:
    facts = {"source": "mail", "partition": "a.jsonl", "whole": True, "column": "", "reason": "not JSON"} | more
    return Letter(key=f"mail:{number}", record=record, **facts)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def db(tmp_path: Path, clock: Clock) -> Iterator[DeadLetters]:
    opened = DeadLetters(tmp_path / "dead.db", keep_days=30, clock=clock)
    yield opened
    opened.close()


def keys(db: DeadLetters, **asked: Any) -> list[str]:
    return [x.key for x in db.letters(**asked)]


def test_a_letter_is_kept_once_byte_for_byte_and_for_the_owner_alone(db: DeadLetters, tmp_path: Path) -> None:
    hostile = letter(2, bytes(range(256)), whole=False, column="src_ip\x1b", reason="\ud800 odd")
    db.add([letter(1), hostile])
    db.add([letter(1, b"other", reason="other"), hostile])
    assert keys(db) == ["mail:2", "mail:1"]
    kept = db.get("mail:2")
    assert (kept.record, kept.whole, kept.column, kept.noted_at, kept.state) == (
        bytes(range(256)), False, "src_ip\x1b", T0, WAITING,
    )  # fmt: skip
    assert db.get("mail:1").reason == "not JSON"
    assert db.open_count() == 2
    assert {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.glob("dead.db*")} == {0o600}


def test_the_oldest_go_first_by_number_bytes_and_age_and_are_counted(tmp_path: Path, clock: Clock) -> None:
    db = DeadLetters(tmp_path / "d.db", keep_days=2, clock=clock, max_letters=5, max_bytes=1_000)
    db.add([letter(n) for n in range(8)])
    assert keys(db) == [f"mail:{n}" for n in (7, 6, 5, 4, 3)]
    assert db.counts() == {"bytes": 20, "late": 0, "late_gone": 0, "letters": 5, "letters_gone": 3, "waiting": 5}
    db.add([letter(100, b"x" * 990)])
    assert db.counts()["bytes"] <= 1_000
    assert db.counts()["letters_gone"] >= 8
    clock.now += timedelta(days=3)
    db.add([letter(200)])
    assert keys(db) == ["mail:200"]
    db.close()


def test_letters_are_found_by_source_state_and_reason(db: DeadLetters) -> None:
    db.add([letter(1), letter(2, reason="missing time", source="web"), letter(3, reason="missing time")])
    assert keys(db, source="web") == ["mail:2"]
    assert keys(db, reason="missing") == ["mail:3", "mail:2"]
    assert keys(db, reason="missing", source="mail", limit=1) == ["mail:3"]
    assert db.reasons() == [("mail", "missing time", 1), ("mail", "not JSON", 1), ("web", "missing time", 1)]
    assert db.drop(["mail:1", "mail:1", "none"]) == 1
    assert keys(db, state=DROPPED) == ["mail:1"]
    assert db.open_count() == 2
    assert len(keys(db, state=None)) == 3


def test_a_key_may_be_cut_where_that_is_clear(db: DeadLetters) -> None:
    db.add([letter(1), letter(12), letter(34)])
    assert db.get("mail:3").key == "mail:34"
    assert db.get("mail:1").key == "mail:1"
    for wrong, words in (("mail:", "more than one"), ("web", "no letter")):
        with pytest.raises(StateError, match=words):
            db.get(wrong)


def test_letters_are_sent_again_in_the_partition_they_are_of(db: DeadLetters, clock: Clock) -> None:
    wrong_address = GOOD[:-1] + b',"src_ip":"x"}'
    db.add([letter(1, GOOD), letter(2), letter(3, wrong_address, partition="b"), letter(4, GOOD[:9], whole=False)])
    sent = Sent()
    refused = db.resend([db.get(f"mail:{n}") for n in (1, 2, 3, 4)], sent)
    assert sent.calls == [([GOOD], T0, "a.jsonl", "mail"), ([wrong_address], T0, "b", "mail")]
    assert [x.key for x in refused] == ["mail:2", "mail:4"]
    assert [x.trouble.split()[0] for x in refused] == ["not", "only"]
    assert sorted(keys(db, state=RESENT)) == ["mail:1", "mail:3"]
    clock.now += timedelta(hours=1)
    assert db.resend([db.get("mail:2")], sent, record=b'{\n  "timestamp": "2025-01-01T00:00:00Z"\r\n}\n') == []
    assert sent.calls[-1][0] == [b'{   "timestamp": "2025-01-01T00:00:00Z"  }']
    assert json.loads(sent.calls[-1][0][0])
    with pytest.raises(StateError, match="not a JSON object"):
        db.resend([db.get("mail:4")], sent, record=b"[1]")
    assert db.open_count() == 1


def test_what_the_spool_did_not_take_still_waits(db: DeadLetters) -> None:
    db.add([letter(1, GOOD), letter(2, GOOD, partition="b")])
    with pytest.raises(SourceError, match="full"):
        db.resend(list(db.letters()), Sent(full_at=1))
    assert db.open_count() == 1


def test_late_events_are_listed_once_with_how_late_they_were(db: DeadLetters) -> None:
    late = pl.DataFrame(
        {"event_id": ["a", "b"], "partition": ["mail/x", "web/y"], "timestamp": [T0, T0], "received_at": [T0 + timedelta(hours=2)] * 2},
        schema_overrides={"timestamp": pl.Datetime("us", "UTC"), "received_at": pl.Datetime("us", "UTC")},
    )  # fmt: skip
    db.add_late(late)
    db.add_late(late)
    db.add_late(late.head(1).drop("received_at").with_columns(source=pl.lit("other")))
    assert db.late().select("event_id", "source", "late_by_seconds").rows() == [
        ("a", "other", None), ("b", "web", 7200.0), ("a", "mail", 7200.0),
    ]  # fmt: skip
    assert db.late(limit=1)["noted_at"].to_list() == [T0]
    assert db.counts()["late"] == 3


def test_threads_and_processes_may_write_together(tmp_path: Path, clock: Clock) -> None:
    opened = [DeadLetters(tmp_path / "d.db", keep_days=30, clock=clock) for _ in range(2)]

    def write(db: DeadLetters, first: int) -> None:
        for n in range(first, first + 40):
            db.add([letter(n), letter(n + 1)])

    threads = [threading.Thread(target=write, args=(opened[n % 2], n * 25)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened[0].open_count() == len(keys(opened[1])) == 116
    for db in opened:
        db.close()


def test_a_file_that_is_none_is_named(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(StateError, match="no dead letters"):
        DeadLetters(tmp_path / "none.db", keep_days=1, clock=clock, create=False)
    (tmp_path / "bad.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StateError, match=r"bad\.db"):
        DeadLetters(tmp_path / "bad.db", keep_days=1, clock=clock)
    with pytest.raises(StateError, match="cannot be kept"):
        DeadLetters(tmp_path / "no" / "folder.db", keep_days=1, clock=clock)
    DeadLetters(tmp_path / "new.db", keep_days=1, clock=clock).close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deadletters, "_FORMAT", 2)
        with pytest.raises(StateError, match="format 1"):
            DeadLetters(tmp_path / "new.db", keep_days=1, clock=clock)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    folder = StateFolder(tmp_path / "state").lock()
    db = DeadLetters(folder.dead_letters, keep_days=30, clock=Clock())
    db.add(
        [
            letter(1, GOOD),
            letter(2),
            letter(3, GOOD, reason="not a time", column="timestamp"),
            letter(4, b"\xff{", source="web"),
        ]
    )
    db.close()
    yield folder.path
    folder.unlock()


def sent_to(state: Path) -> list[tuple[str, str, bytes]]:
    source = SpoolSource("resent", Spool(state / "spool" / "resent"))
    source.open({})
    return [(p.span.source, p.span.partition, line) for p in source.poll(100, 1 << 20) for line in p.data.splitlines()]


def test_letters_are_listed_and_shown_with_what_to_do(tocsin, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = tocsin("dead-letters", "list", "--state", state)
    assert (listed.code, listed.err) == (0, "")
    assert "4 waiting of 4 letters" in listed.out
    assert listed.out.index("mail:4") < listed.out.index("mail:1")
    monkeypatch.setenv("TOCSIN_STATE", str(state))
    found = tocsin("dead-letters", "list", "--reason", "not a time", "--json").json
    assert [x["key"] for x in found["letters"]] == ["mail:3"]
    assert {"source": "mail", "reason": "not JSON", "letters": 2} in found["reasons"]
    shown = tocsin("dead-letters", "show", "mail:4").out
    assert "with --record FILE (not UTF-8 at byte 1)" in shown
    assert "\\xff{" in shown
    assert tocsin("dead-letters", "show", "mail:4", "--json").json["letter"]["record_base64"] == "/3s="
    assert tocsin("dead-letters", "list", "--late").code == 0


def test_letters_are_sent_again_from_the_command_line(tocsin, state: Path, tmp_path: Path) -> None:
    some = tocsin("dead-letters", "resend", "--all", "--source", "mail", "--state", state, "--json")
    assert (some.code, some.json["sent"], [x["key"] for x in some.json["refused"]]) == (1, 2, ["mail:2"])
    mended = tmp_path / "mended.json"
    mended.write_bytes(b'{\n"timestamp": "2025-01-01T00:00:00Z"}')
    one = tocsin("dead-letters", "resend", "mail:2", "--record", mended, "--state", state)
    assert (one.code, one.out) == (0, "1 sent again\n")
    assert sent_to(state)[-1][2] == b'{ "timestamp": "2025-01-01T00:00:00Z"}'
    assert [line for _, _, line in sent_to(state)[:2]] == [GOOD, GOOD]
    twice = tocsin("dead-letters", "resend", "mail:1", "--state", state)
    assert (twice.code, len(sent_to(state))) == (1, 3)
    assert "--again" in twice.out
    assert tocsin("dead-letters", "resend", "mail:1", "--again", "--state", state).out == "1 sent again\n"
    assert len(sent_to(state)) == 4
    assert tocsin("dead-letters", "drop", "--all", "--state", state).out == "1 dropped\n"
    listed = tocsin("dead-letters", "list", "--status", "any", "--state", state, "--json").json["letters"]
    states = {x["key"]: x["state"] for x in listed}
    assert states == {"mail:1": "resent", "mail:2": "resent", "mail:3": "resent", "mail:4": "dropped"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["list"], 2, "--state FOLDER"),
        (["list", "--state", "STATE", "--status", "waitin"], 2, 'Did you mean "waiting"'),
        (["list", "--state", "STATE", "--limit", "0"], 2, "at least one"),
        (["resend", "--state", "STATE"], 2, "--all"),
        (["resend", "mail:1", "--all", "--state", "STATE"], 2, "--all"),
        (["resend", "mail:1", "mail:2", "--record", "f", "--state", "STATE"], 2, "the one letter"),
        (["resend", "mail:1", "--record", "STATE/none", "--state", "STATE"], 3, "none"),
        (["show", "mail:9", "--state", "STATE"], 3, "no letter"),
        (["drop", "mail:", "--state", "STATE"], 3, "more than one"),
        (["list", "--state", "STATE/none"], 3, "no dead letters"),
        (["export", "x.txt", "--state", "STATE"], 2, ".jsonl"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said_in_one_line(tocsin, state: Path, words: list[str], code: int, said: str) -> None:
    done = tocsin("dead-letters", *(w.replace("STATE", str(state)) for w in words), width=400)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_what_attackers_wrote_acts_neither_on_the_terminal_nor_in_a_sheet(
    tocsin, state: Path, tmp_path: Path, suffix: str
) -> None:
    db = DeadLetters(state / "dead-letters.db", keep_days=30, clock=Clock())
    hostile = [letter(n, t.encode(), reason=t, column=t, partition=t) for n, t in enumerate(HOSTILE, 50)]
    db.add([*hostile, letter(99, b"=1+1\xff")])
    db.close()
    for words in (["list"], ["show", "mail:50"], ["show", "mail:51"], ["show", "mail:99"], ["resend", "--all"]):
        assert_inert(tocsin("dead-letters", *words, "--state", state))
    file = tmp_path / f"out{suffix}"
    done = tocsin("dead-letters", "export", file, "--state", state, "--status", "any")
    assert "letters in" in done.out
    if suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(file.read_text(), newline="")))
        assert not [v for row in rows for v in row.values() if v[:1] in set("=+-@\t\r")]
    else:
        frame = pl.read_ndjson(file) if suffix == ".jsonl" else pl.read_parquet(file)
        assert set(HOSTILE) <= set(frame["record"])
        rows = frame.to_dicts()
    assert len(rows) == 5 + len(HOSTILE)
