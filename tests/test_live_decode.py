"""The decoder reads as `tocsin.read` does, however the records are cut, and loses no record."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import tocsin as tc
from tocsin.errors import MappingError, StateError
from tocsin.sources.clean import Parsed
from tocsin.sources.live import decode
from tocsin.sources.live.decode import Decoder
from tocsin.sources.live.pieces import Letter, Piece, Span
from tocsin.sources.mapping import Mapping, parse_mapping

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tocsin.sources.live.decode import Decoded

NOW = datetime(2025, 3, 1, tzinfo=UTC)
GOOD: list[dict[str, Any]] = [
    {"timestamp": "2025-01-01T00:00:00Z", "user_id": "ann", "src_ip": "10.0.0.1", "size": 5, "odd": "x"},
    {"timestamp": "2025-01-01T00:00:01+02:00", "user_id": "Bob", "src_ip": "::FFFF:1.2.3.4", "size": 6.5, "tags": ["a", "b"]},
    {"timestamp": "2024-12-31T23:00:00Z", "event_id": "own", "src_ip": " 1.1.1.1", "nested": {"a": {"b": 1}}, "size": None},
    {"timestamp": "2025-01-02T00:00:00.123456Z", "user_id": "", "attachments": [], "tags": ["é\u00fc", "\U0001f600"]},
]  # fmt: skip
LINES = [json.dumps(r).encode() for r in GOOD] + [json.dumps(r, ensure_ascii=False).encode() for r in GOOD]
TIME = b'{"timestamp":"2025-01-01T00:00:00Z",'
POISON = [
    b'{"timestamp":',
    b"\xff\xfe\x00",
    TIME + b'"user_id":"\xc3"}',
    TIME + b'"size":NaN}',
    TIME + b'"deep":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    TIME + b'"user_id":"a","user_id":"b"}',
    TIME + b'"user_id":"a\x00b"}',
    b"\x00",
    TIME + b'"size":' + b"9" * 5_000 + b"}",
    TIME + b'"user_id":"\\ud800"}',
    TIME + b'"subject":"' + b"x" * 1_000_000 + b'"}',
    TIME + b'"src_ip":"1.2.3.400"}',
    TIME + b'"user_id":["a"]}',
    TIME + b'"nr_recipients":"many"}',
    b'{"user_id":"no time"}',
    b'{"timestamp":"soon","src_ip":"nowhere"}',
    b'{"timestamp":"0001-01-01T00:00:00Z"}',
    b"[1,2]",
    b"\xef\xbb\xbf" + TIME + b'"user_id":"bom"}',
]
KEPT_IN_PART = [
    TIME + b'"size":"large"}',
    TIME + b'"odd":1,"size":1e400}',
    TIME + b'"size":123456789012345678901234567890}',
]
WANTED = ("src_ip", "device_id", "nr_recipients")


def piece(lines: Sequence[bytes], first: int = 1, *, end: bytes = b"\n", **more: Any) -> Piece:
    data = b"\n".join(lines) + (end if lines else b"")
    span = Span("mail", "a.jsonl", None, {"line": first + len(lines)})
    return Piece(span, data, prefix="mail", first_line=first, rows=len(lines), **more)


def decoder(lines: Sequence[bytes] = LINES, wanted: Sequence[str] = WANTED, **more: Any) -> Decoder:
    return Decoder.learn("mail", [piece(lines)], wanted=wanted, **more)


def expect_as_read(lines: Sequence[bytes], found: Sequence[Decoded], folder: Path, known: Decoder) -> None:
    """Compare with `tocsin.read` of all the lines in one file."""
    path = folder / "mail.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    events = tc.read(path, order="arrival", now=datetime(9998, 1, 1, tzinfo=UTC))
    rows = pl.concat([pl.DataFrame(schema=events.columns), *events.batches()])
    got = pl.concat([d.frame for d in found])
    shared = [c for c in events.columns if c in known.columns and c not in {"received_at", "partition"}]
    assert set(events.columns) - set(known.columns) <= {"nr_attachments"}
    assert_frame_equal(got.select(shared), rows.select(shared))
    for column in known.columns.keys() - events.columns.keys() - {"received_at", "partition"}:
        assert got[column].null_count() == len(got)
    counts = events.counts
    sums = [sum(getattr(d, name) for d in found) for name in ("read", "accepted", "rejected", "cells")]
    assert sums == [counts.read, counts.accepted, counts.rejected, counts.cells]
    gone = events.rejected.filter(~pl.col("kept"))
    assert [x.key for d in found for x in d.letters] == [f"mail:{n}" for n in gone["line"].unique().sort()]


@st.composite
def cut_files(draw: st.DrawFn) -> tuple[list[bytes], list[int]]:
    whole = st.sampled_from([*LINES, *POISON[:-1], *KEPT_IN_PART, b"", b"  ", LINES[0] + b"\r"])
    lines = LINES + draw(st.lists(whole, max_size=30))
    cuts = sorted(draw(st.sets(st.integers(1, len(lines)), max_size=6)))
    return lines, [0, *cuts, len(lines)]


@settings(max_examples=60, deadline=None)
@given(case=cut_files(), careful=st.booleans())
def test_any_cut_of_a_file_gives_the_events_ids_and_rejects_of_the_whole(
    case: tuple[list[bytes], list[int]], careful: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines, cuts = case
    known = decoder(lines)
    known._lines.small_bytes = 1 << 40 if careful else 0
    found = [known.decode(piece(lines[a:b], a + 1), NOW) for a, b in pairwise(cuts)]
    expect_as_read(lines, found, tmp_path_factory.mktemp("read"), known)
    assert all(dict(d.frame.schema) == known.columns for d in found)


@pytest.mark.parametrize("careful", [False, True])
def test_poison_ends_byte_for_byte_in_a_letter_and_the_others_go_on(careful: bool) -> None:
    known = decoder()
    known._lines.small_bytes = 1 << 40 if careful else 0
    lines = [line for bad in POISON for line in (bad, LINES[0])]
    found = known.decode(piece(lines, 100), NOW)
    letters = {x.key: x for x in found.letters}
    assert {k: x.record for k, x in letters.items()} == {f"mail:{100 + 2 * n}": line for n, line in enumerate(POISON)}
    assert all(x.whole and x.reason and x.source == "mail" and x.partition == "a.jsonl" for x in found.letters)
    assert found.accepted == len(POISON)
    assert letters["mail:130"] == Letter(
        "mail:130", "mail", "a.jsonl", POISON[15], whole=True, column="timestamp", reason="not a time; src_ip: not an IP address"
    )  # fmt: skip
    assert letters["mail:122"].column == "src_ip"


def test_a_record_too_large_to_keep_leaves_its_beginning() -> None:
    line = b'{"user_id":"' + b"x" * decode.MAX_LETTER_BYTES + b'"}'
    [letter] = decoder().decode(piece([line]), NOW).letters
    assert (letter.record, letter.whole) == (line[: decode.KEPT_BYTES], False)


def test_faults_of_a_piece_are_letters_of_which_none_claims_to_be_whole() -> None:
    found = decoder().decode(piece(LINES[:1], faults=((7, b"\x00\x01", "no value"),)), NOW)
    assert found.letters == [
        Letter("mail:7", "mail", "a.jsonl", b"\x00\x01", whole=False, column="", reason="no value")
    ]
    assert (found.read, found.accepted, found.rejected) == (2, 1, 1)


def test_numbers_of_records_are_their_ids_and_find_the_raw_record() -> None:
    given_piece = piece([LINES[0], b"bad", b"", LINES[3]], numbers=(40, 47, 48, 90))
    found = decoder().decode(given_piece, NOW)
    assert found.frame["event_id"].to_list() == ["mail:40", "mail:90"]
    assert found.rows_of.to_list() == [40, 90]
    assert [Decoder.record_of(given_piece, n) for n in (40, 47, 90)] == [LINES[0], b"bad", LINES[3]]
    assert [x.key for x in found.letters] == ["mail:47"]
    with pytest.raises(KeyError):
        Decoder.record_of(given_piece, 41)


def test_stamps_are_the_pieces_or_the_batchs_unless_the_record_says() -> None:
    lines = [LINES[0], TIME + b'"received_at":"2025-01-01T00:00:09Z","partition":"p7"}']
    frame = decoder().decode(piece(lines), NOW).frame
    assert frame["received_at"].to_list() == [NOW, datetime(2025, 1, 1, 0, 0, 9, tzinfo=UTC)]
    assert frame["partition"].to_list() == ["mail/a.jsonl", "mail/a.jsonl/p7"]
    spooled = datetime(2025, 2, 1, tzinfo=UTC)
    frame = decoder().decode(piece(lines, received_at=spooled), NOW, scope=True).frame
    assert frame["received_at"][0] == spooled
    assert frame["source"].to_list() == ["mail", "mail"]


def test_what_a_rule_asks_for_is_read_when_it_comes_and_other_new_fields_are_left_out() -> None:
    known = decoder(LINES[:1], wanted=("attachments", "nr_attachments", "device_id", "label", "timestamp"))
    later = [
        TIME + b'"device_id":"d1","new":[1,{"a":2}],"attachments":["a.exe","b"]}',
        TIME + b'"nr_attachments":4}',
        TIME + b'"attachments":"none"}',
    ]
    found = known.decode(piece(later), NOW)
    assert dict(found.frame.schema) == known.columns
    assert "new" not in known.columns
    assert found.frame["device_id"].to_list() == ["d1", None]
    assert found.frame["nr_attachments"].to_list() == [2, 4]
    assert [x.column for x in found.letters] == ["attachments"]


def test_fields_that_nobody_asks_for_are_passed_over_quickly_and_change_nothing() -> None:
    known = decoder(LINES[:1], wanted=("device_id",))
    lines = [*LINES, TIME + b'"device_id":"d","tags":{"x":1},"nested":[1],"size":2}', *POISON, *KEPT_IN_PART]
    first = known.decode(piece(lines), NOW)
    assert {"tags", "nested.a.b"} <= known._fields.kinds.keys()
    again = known.decode(piece(lines), NOW)
    assert_frame_equal(first.frame, again.frame)
    assert (first.letters, first.cells) == (again.letters, again.cells)
    for number in range(200):
        known.decode(piece([TIME + b'"f%d":1}' % number]), NOW)
    assert len(known._fields.kinds) < 100


def test_time_has_no_end_unless_the_mapping_gives_it_one() -> None:
    far = b'{"timestamp":"2190-01-01T00:00:00Z"}'
    assert decoder().decode(piece([far]), NOW).accepted == 1
    bounded = Mapping(latest=datetime(2026, 1, 1, tzinfo=UTC))
    assert decoder(mapping=bounded).decode(piece([far]), NOW).rejected == 1


def test_a_saved_decoder_decodes_as_the_one_that_was_saved() -> None:
    table = pl.DataFrame({"at": ["2025-01-01 00:00:00"], "n": pl.Series([5], dtype=pl.Int32), "d": [NOW]})
    rows = Piece(
        Span("t", "t.parquet", None, {"row": 1}), prefix="t", rows=1, format="parquet",
        parsed=(Parsed(table, pl.Series([1])),),
    )  # fmt: skip
    mapping = parse_mapping('[columns.timestamp]\nfrom = "at"')
    for known, some in (
        (decoder(), piece([*LINES, *POISON])),
        (Decoder.learn("t", [rows], mapping=mapping, zone="Europe/Paris", wanted=["src_ip"]), rows),
    ):
        again = Decoder.from_json(json.loads(json.dumps(known.to_json())))
        assert again.columns == known.columns
        first, second = known.decode(some, NOW), again.decode(some, NOW)
        assert_frame_equal(first.frame, second.frame)
        assert first.letters == second.letters
        assert again.to_json() == known.to_json()
    with pytest.raises(StateError, match="format 99"):
        Decoder.from_json(known.to_json() | {"format": 99})


def test_a_sample_that_says_too_little_is_refused_as_read_refuses_it() -> None:
    with pytest.raises(MappingError, match="zone"):
        decoder([b'{"timestamp":"2025-01-01 00:00:00"}'])
    assert decoder([b'{"timestamp":"2025-01-01 00:00:00"}'], zone="UTC").columns
    with pytest.raises(MappingError, match="no column timestamp"):
        decoder([b'{"time":"2025-01-01T00:00:00Z"}'])
    with pytest.raises(MappingError, match="none of the first records can be read"):
        decoder([b"bad"])


def test_the_mapping_is_recognised_by_the_fields_of_the_sample() -> None:
    line = (
        b'{"timestamp":"2002-01-01T00:00:00Z","relay_ip":"8.8.8.8","nr_recipients":3,"attachments":["a"],"label":"ham"}'
    )
    known = decoder([b"bad", line])
    assert known.mapping.name == "spamassassin-mail"
    frame = known.decode(piece([line]), NOW).frame
    assert frame.select("kind", "dst_ip", "nr_attachments").row(0) == ("mail", "8.8.8.8", 1)


def test_rows_that_the_source_parsed_are_found_again_as_json() -> None:
    frame = pl.DataFrame({"timestamp": ["2025-01-01T00:00:00Z", "never"], "user_id": ["a", None]})
    parsed = Parsed(frame, pl.Series([2, 3]), bad_lines=[(4, 'x"', "a quote is opened and never closed")])
    csv = Piece(Span("c", "c.csv", None, {}), prefix="c", rows=3, format="csv", parsed=(parsed,))
    found = Decoder.learn("c", [csv]).decode(csv, NOW)
    assert found.frame["event_id"].to_list() == ["c:2"]
    assert [(x.key, x.record, x.whole) for x in found.letters] == [
        ("c:3", b'{"timestamp": "never"}', True),
        ("c:4", b'x"', False),
    ]


def test_files_that_disagree_whether_a_field_is_a_list_are_all_read(tmp_path):
    record = {"timestamp": "2025-03-01T00:00:00Z", "kind": "mail", "user_id": "a"}
    (tmp_path / "a.jsonl").write_text(json.dumps(record | {"attachments": ["x.exe"], "note": ["p"]}) + "\n")
    (tmp_path / "b.csv").write_text("timestamp,kind,user_id,attachments,note\n2025-03-01T01:00:00Z,mail,b,y.exe,q\n")
    rows = tc.read(tmp_path).frame().collect().sort("timestamp")
    assert rows["attachments"].to_list() == [["x.exe"], ["y.exe"]]
    assert rows["note"].to_list() == ['["p"]', "q"]
