"""A folder of dropped files: each is read once, whole, in bounded pieces, and again byte for byte; the oracle is `read`."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import tocsin as tc
from tests.test_live_decode import LINES, POISON
from tocsin.sources.live import LostError, folder
from tocsin.sources.live.decode import Decoder
from tocsin.sources.live.folder import DropFolder

if TYPE_CHECKING:
    from pathlib import Path

    from tocsin.sources.live.pieces import Piece

NOW = datetime(2025, 3, 1, tzinfo=UTC)
T0 = NOW.timestamp() - 1_000
LONG_AGO = datetime(9998, 1, 1, tzinfo=UTC)


def jsonl(lines: list[bytes]) -> bytes:
    return b"\n".join(lines) + b"\n"


def csv(rows: int, start: int = 0) -> bytes:
    subjects = ("x", '"a, ""b"""', '"two\nlines"')
    lines = [f"2025-01-01T00:{n % 60:02}:00Z,u{n},{subjects[n % 3]}" for n in range(start, start + rows)]
    return ("timestamp,user_id,subject\n" + "\n".join(lines) + "\n").encode()


def table(rows: int) -> pl.DataFrame:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    return pl.DataFrame(
        {"timestamp": [start + timedelta(seconds=n) for n in range(rows)], "n": range(rows)}, schema_overrides={"n": pl.Int32}
    )  # fmt: skip


def drop(path: Path, data: bytes, at: float = 0) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (T0 + at, T0 + at))
    return path


class Clock:
    def __init__(self) -> None:
        self.now = NOW.timestamp()

    def __call__(self) -> float:
        return self.now


def followed(path: Path, **more: Any) -> DropFolder:
    source = DropFolder("drop", path, **({"clock": Clock(), "scan_seconds": 0} | more))
    source.open(more.pop("positions", {}))
    return source


def drain(source: DropFolder, rows: int = 1_000_000, size: int = 1 << 30) -> list[Piece]:
    pieces: list[Piece] = []
    while found := source.poll(rows, size):
        pieces += found
    return pieces


def records(piece: Piece) -> list[Any]:
    """What a piece holds, however it is cut."""
    rows = [(n, *row) for p in piece.parsed or () for n, row in zip(p.lines, p.frame.iter_rows(), strict=True)]
    bad = [b for p in piece.parsed or () for b in p.bad_lines]
    return [piece.prefix, piece.first_line, piece.data, piece.format, piece.rows, rows, bad, piece.faults]


def together(pieces: list[Piece]) -> dict[str, list[Any]]:
    """What pieces hold by file, wherever they were cut."""
    found: dict[str, list[Any]] = {}
    for prefix, first, data, form, rows, table, bad, faults in map(records, pieces):
        so_far = found.setdefault(prefix, [first if form == "jsonl" else 0, b"", form, 0, [], [], ()])
        for at, more in enumerate((data, form, rows, table, bad, faults), 1):
            so_far[at] = form if at == 2 else so_far[at] + more
    return found


def expect_as_read(pieces: list[Piece], path: Path, **reading: Any) -> None:
    decoder = Decoder.learn("drop", pieces, mapping=reading.get("mapping"), wanted=())
    found = [decoder.decode(p, NOW) for p in pieces]
    events = tc.read(path, order="arrival", now=LONG_AGO, name="drop", **reading)
    want = pl.concat([pl.DataFrame(schema=events.columns), *events.batches()], how="diagonal")
    got = pl.concat([d.frame for d in found]).select(want.columns)
    assert_frame_equal(got.sort("event_id"), want.sort("event_id"))
    counts = events.counts
    sums = {name: sum(getattr(d, name) for d in found) for name in ("read", "accepted", "rejected", "cells", "skipped")}
    assert sums == {name: getattr(counts, name) for name in sums}
    assert sum(p.rows for p in pieces) == counts.read - counts.skipped if pieces[0].format != "lines" else True


FILES = {
    "a.jsonl": jsonl(LINES + POISON[:9]),
    "b.jsonl.gz": gzip.compress(jsonl(LINES)),
    "c.jsonl.zst": bytes(pa.Codec("zstd").compress(jsonl(LINES), asbytes=True)),
    "blank.jsonl": b"\n\n  \n" + LINES[0] + b"\n\n" + LINES[3] + b"\r\n\n",
    "bom.jsonl": b"\xef\xbb\xbf" + LINES[0],
    "torn.jsonl.gz": gzip.compress(jsonl(LINES * 50))[:-40],
    "torn.jsonl": jsonl(LINES) + LINES[0][:20],
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("rows", [1, 7, 10_000])
def test_the_only_file_gives_the_events_ids_and_rejects_that_read_gives(name: str, rows: int, tmp_path: Path) -> None:
    drop(tmp_path / name, FILES[name])
    pieces = drain(followed(tmp_path, follow=False), rows)
    assert all(p.rows <= rows for p in pieces)
    expect_as_read(pieces, tmp_path)


@pytest.mark.parametrize("rows", [1, 7, 10_000])
def test_csv_parquet_and_log_lines_are_read_as_files_are(rows: int, tmp_path: Path) -> None:
    drop(tmp_path / "csv" / "a.csv", csv(20) + b'2025-01-01T00:00:00Z,"open\nnext,1,2\n')
    drop(tmp_path / "csv" / "b.csv", csv(5, 20))
    expect_as_read(drain(followed(tmp_path / "csv", follow=False), rows), tmp_path / "csv")
    (tmp_path / "parquet").mkdir()
    table(40).write_parquet(tmp_path / "parquet" / "a.parquet", row_group_size=16)
    expect_as_read(drain(followed(tmp_path / "parquet", follow=False), rows), tmp_path / "parquet")
    mapping = tc.sources.mapping.parse_mapping(
        '[source]\nformat="lines"\n[[patterns]]\nregex="^(?P<timestamp>\\\\S+) user=(?P<user_id>\\\\S+)"\n'
    )
    lines = [b"2025-01-01T00:00:00Z user=a", b"noise", b"", b"2025-01-01T00:00:01Z user=b", b"\xff", b"soon user=c"] * 3
    drop(tmp_path / "lines" / "a.log", jsonl(lines))
    pieces = drain(followed(tmp_path / "lines", follow=False, mapping=mapping), rows)
    expect_as_read(pieces, tmp_path / "lines", mapping=mapping)
    letters = [x for p in pieces for x in Decoder.learn("drop", pieces, mapping=mapping).decode(p, NOW).letters]
    assert [x.record for x in letters] == [b"noise", b"\xff", b"soon user=c"] * 3


def test_several_files_come_in_order_of_their_times_and_names_with_the_ids_of_read(tmp_path: Path) -> None:
    for name, at in (("c.jsonl", 1), ("a.jsonl", 2), ("sub/b.jsonl", 2), ("d.jsonl", 0)):
        drop(tmp_path / name, jsonl(LINES), at)
    for name in (".hidden.jsonl", "x.jsonl.part", "y.jsonl.tmp", ".sub/z.jsonl", "README.md", "empty.jsonl"):
        drop(tmp_path / name, jsonl(LINES) if name != "empty.jsonl" else b"")
    pieces = drain(followed(tmp_path, follow=False), 3)
    order = list(dict.fromkeys(p.prefix for p in pieces))
    assert order == ["drop/d.jsonl", "drop/c.jsonl", "drop/a.jsonl", "drop/sub/b.jsonl"]
    shutil.rmtree(tmp_path / ".sub")
    for name in ("empty.jsonl", "x.jsonl.part", "y.jsonl.tmp"):
        (tmp_path / name).unlink()
    expect_as_read(pieces, tmp_path)


@pytest.mark.parametrize("rows", [1, 5])
def test_spans_can_be_taken_again_before_and_after_opening_in_any_order(rows: int, tmp_path: Path) -> None:
    for number, (name, data) in enumerate(FILES.items()):
        drop(tmp_path / name, data, number)
    drop(tmp_path / "t.csv", csv(30) + b'"', 50)
    drop(tmp_path / "torn.csv.gz", gzip.compress(csv(33))[:-9], 51)
    table(25).write_parquet(tmp_path / "t.parquet")
    source = followed(tmp_path, settle_seconds=0)
    pieces = drain(source, rows)
    assert len(pieces) > len(FILES) * 2
    spans = [json.loads(json.dumps([p.span.start, p.span.stop])) for p in pieces]
    assert [a for a, _ in spans[1:]] == [b for _, b in spans[:-1]]
    fresh = DropFolder("drop", tmp_path, clock=Clock())
    for piece in (*pieces, *reversed(pieces)):
        assert records(fresh.take(piece.span)) == records(piece)


@settings(max_examples=25, deadline=None)
@given(cut=st.data())
def test_a_restart_goes_on_after_any_position(cut: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("drop")
    drop(path / "a.jsonl", jsonl(LINES))
    drop(path / "b.csv", csv(9), 1)
    drop(path / "c.jsonl.gz", FILES["torn.jsonl.gz"], 2)
    whole = drain(followed(path), 4)
    after = cut.draw(st.integers(0, len(whole)))
    rest = DropFolder("drop", path, clock=Clock(), scan_seconds=0)
    rest.open({} if not after else {folder.PARTITION: json.loads(json.dumps(whole[after - 1].span.stop))})
    assert together(drain(rest, 4)) == together(whole[after:])


def test_a_file_is_read_once_and_one_that_replaces_it_is_another(tmp_path: Path) -> None:
    drop(tmp_path / "a.jsonl", jsonl(LINES[:2]))
    source = followed(tmp_path)
    first = drain(source)
    os.utime(tmp_path / "a.jsonl", (T0 + 5, T0 + 5))
    assert drain(source) == []
    drop(tmp_path / "a.jsonl", jsonl(LINES[2:3]), 6)
    [second] = drain(source)
    (tmp_path / "a.jsonl").unlink()
    assert drain(source) == []
    again = DropFolder("drop", tmp_path, clock=Clock(), scan_seconds=0)
    again.open({folder.PARTITION: second.span.stop})
    drop(tmp_path / "a.jsonl", jsonl(LINES[3:4]), 7)
    [third] = drain(again)
    assert first[0].prefix == "drop/a.jsonl"
    assert len({first[0].prefix, second.prefix, third.prefix}) == 3
    assert second.prefix.startswith("drop/a.jsonl@")
    drop(tmp_path / "a.jsonl", jsonl(LINES[:2]), 8)
    assert drain(again) == []
    with pytest.raises(LostError, match="another file"):
        again.take(third.span)
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(LostError, match="gone"):
        again.take(third.span)


def test_a_file_that_arrives_with_an_older_time_is_read_too(tmp_path: Path) -> None:
    drop(tmp_path / "b.jsonl", jsonl(LINES[:1]), 5)
    source = followed(tmp_path)
    [piece] = drain(source)
    drop(tmp_path / "a.jsonl", jsonl(LINES[:1]), 1)
    again = DropFolder("drop", tmp_path, clock=Clock())
    again.open({folder.PARTITION: piece.span.stop})
    assert [p.prefix for p in drain(again)] == [p.prefix for p in drain(source)] == ["drop/a.jsonl"]


def test_a_file_is_left_alone_until_it_has_not_changed_for_the_settling_time(tmp_path: Path) -> None:
    clock = Clock()
    path = drop(tmp_path / "a.jsonl", jsonl(LINES[:1]))
    os.utime(path, (clock.now - 1, clock.now - 1))
    future = drop(tmp_path / "b.jsonl", jsonl(LINES[:1]))
    os.utime(future, (clock.now + 1e6, clock.now + 1e6))
    source = followed(tmp_path, clock=clock, settle_seconds=2)
    assert drain(source) == []
    assert source.behind() == {folder.PARTITION: path.stat().st_size + future.stat().st_size}
    clock.now += 1
    assert [p.prefix for p in drain(source)] == ["drop/a.jsonl"]
    clock.now += 1
    assert [p.prefix for p in drain(source)] == ["drop/b.jsonl"]
    assert source.behind() == {folder.PARTITION: 0}
    assert not source.ended


@pytest.mark.parametrize("cut", range(23, 700, 23))
def test_a_file_cut_anywhere_gives_what_is_whole_and_says_where_it_broke(cut: int, tmp_path: Path) -> None:
    packed = gzip.compress(
        jsonl([b'{"timestamp":"2025-01-01T00:00:%02dZ","n":%d}' % (n % 60, n * 7919 % 1000) for n in range(100)])
    )
    drop(tmp_path / "a.jsonl.gz", packed[:cut])
    pieces = drain(followed(tmp_path, follow=False), 10)
    if cut < len(packed):
        *_, (number, _, reason) = [f for p in pieces for f in p.faults]
        assert number >= 1
        assert reason
    text = b"".join(p.data for p in pieces)
    assert all(json.loads(line)["n"] >= 0 for line in text.splitlines())


def test_what_is_no_file_of_events_is_one_letter_and_the_others_go_on(tmp_path: Path) -> None:
    table(5).write_parquet(tmp_path / "b.parquet")
    drop(tmp_path / "a.parquet", b"PAR1" + b"\0" * 50, 0)
    drop(tmp_path / "a.log", b"free text\n", 1)
    drop(tmp_path / "a.xlsx", b"PK\x03\x04", 2)
    pieces = drain(followed(tmp_path, settle_seconds=0))
    reasons = {p.span.stop["file"]: [f[2] for f in p.faults] for p in pieces}
    assert "not a readable parquet file" in reasons["a.parquet"][0]
    assert reasons["a.log"] == reasons["a.xlsx"] != []
    assert reasons["b.parquet"] == []
    letters = Decoder.learn("drop", pieces[-1:]).decode(pieces[0], NOW).letters
    assert [x.key for x in letters] == ["drop/a.parquet:1"]


def test_a_file_that_changes_or_goes_while_it_is_read_is_told(tmp_path: Path) -> None:
    drop(tmp_path / "a.jsonl", jsonl(LINES))
    source = followed(tmp_path)
    source.poll(2, 1 << 20)
    drop(tmp_path / "a.jsonl", jsonl(LINES[:3]), 9)
    told, anew = source.poll(100, 1 << 20)
    assert [(n, "changed" in why) for n, _, why in told.faults] == [(3, True)]
    assert anew.prefix.startswith("drop/a.jsonl@")
    drop(tmp_path / "b.jsonl", jsonl(LINES))
    source.poll(2, 1 << 20)
    (tmp_path / "b.jsonl").unlink()
    [told] = source.poll(100, 1 << 20)
    assert "taken away" in told.faults[0][2]


def test_a_position_stays_small_in_a_folder_that_grows_and_nothing_is_read_twice_or_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "_REMEMBERED", 20)
    monkeypatch.setattr(folder, "_TICK_NS", 0)
    source = followed(tmp_path)
    seen, longest = [], 0
    for number in range(120):
        drop(tmp_path / f"f{number * 7 % 120:03}.jsonl", jsonl(LINES[:1]), number if number % 10 else -number)
        pieces = drain(source)
        seen += [p.prefix for p in pieces]
        longest = max(longest, *(len(json.dumps(p.span.stop)) for p in pieces))
        if number % 17 == 0:
            source = DropFolder("drop", tmp_path, clock=Clock(), scan_seconds=0)
            source.open({folder.PARTITION: pieces[-1].span.stop})
    assert len(seen) == len(set(seen)) == 120
    assert longest < 22 * 16 + 300


def test_pieces_of_a_large_table_are_bounded_and_one_large_record_comes_alone(tmp_path: Path) -> None:
    table(250_000).write_parquet(tmp_path / "t.parquet", row_group_size=50_000)
    source = followed(tmp_path, settle_seconds=0)
    pieces = drain(source, 40_000)
    assert sum(p.rows for p in pieces) == 250_000
    assert max(p.rows for p in pieces) == 40_000
    assert records(DropFolder("drop", tmp_path, clock=Clock()).take(pieces[3].span)) == records(pieces[3])
    large = b'{"timestamp":"2025-01-01T00:00:00Z","a":"' + b"x" * 3_000_000 + b'"}'
    drop(tmp_path / "z.jsonl", jsonl([LINES[0], large, LINES[0]]), 1)
    sizes = [len(p.data) for p in drain(source, 100, 10_000)]
    assert sizes == [len(LINES[0]) + 1, len(large) + 1, len(LINES[0]) + 1]


def test_a_file_whose_name_says_no_format_is_left_and_named_once(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(b'{"event_id": "1"}\n')
    (tmp_path / "events.json\u202el").write_bytes(b"{}\n")
    (tmp_path / "half.jsonl.part").write_bytes(b"{}\n")
    source = DropFolder("drop", tmp_path, clock=Clock(), scan_seconds=0, follow=False)
    source.open({})
    assert [p.rows for p in source.poll(10, 1 << 20)] == [1]
    (told,) = source.told()
    assert told.startswith(r"'events.json\u202el' is not read")
    source.behind()
    assert source.told() == []


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(tc.errors.SourceError, match="no such folder"):
        DropFolder("drop", tmp_path / "none", clock=Clock())
