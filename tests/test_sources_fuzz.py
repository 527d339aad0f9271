"""Claims about hostile files: reading never crashes and never loses a good row, whatever stands around it."""

from __future__ import annotations

import gzip
import json
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tocsin.sources import read

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 6, 1, tzinfo=UTC)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True, params=["whole chunks", "line by line"], scope="module")
def reading(request: pytest.FixtureRequest) -> Any:
    """Every claim holds for the fast reading (made to run on the smallest chunks too) and for the slow one."""
    from tocsin.sources import jsonl_fast

    before = jsonl_fast.SMALL_BYTES
    jsonl_fast.SMALL_BYTES = 8 if request.param == "whole chunks" else 1 << 40
    yield
    jsonl_fast.SMALL_BYTES = before


def good(n: int) -> bytes:
    return json.dumps(
        {"event_id": f"good{n}", "timestamp": f"2026-01-01T00:00:{n % 60:02}Z", "user_id": "u", "nr_recipients": n}
    ).encode()


CORPUS = {
    "binary junk": bytes(range(11, 256)) * 3,
    "NUL bytes": b'{"event_id":"\0"}',
    "bare NUL": b"\0\0\0",
    "lone surrogate": b'{"event_id":"x","timestamp":"2026-01-01T00:00:00Z","user_id":"\\ud800"}',
    "half a surrogate pair": b'{"timestamp":"2026-01-01T00:00:00Z","a":"\\udc00\\ud800"}',
    "bad UTF-8": b'{"timestamp":"2026-01-01T00:00:00Z","user_id":"\xff\xfe"}',
    "overlong UTF-8": b'{"timestamp":"2026-01-01T00:00:00Z","user_id":"\xc0\xaf"}',
    "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "deep in a good row": b'{"timestamp":"2026-01-01T00:00:00Z","x":' + b"[" * 3000 + b"]" * 3000 + b"}",
    "huge integer": b'{"timestamp":"2026-01-01T00:00:00Z","nr_recipients":' + b"9" * 30 + b"}",
    "integer of 10,000 digits": b'{"timestamp":"2026-01-01T00:00:00Z","nr_recipients":' + b"9" * 10_000 + b"}",
    "NaN": b'{"timestamp":"2026-01-01T00:00:00Z","nr_recipients":NaN}',
    "Infinity": b'{"timestamp":"2026-01-01T00:00:00Z","nr_recipients":-Infinity}',
    "1e999": b'{"timestamp":"2026-01-01T00:00:00Z","nr_recipients":1e999}',
    "fraction": b'{"timestamp":"2026-01-01T00:00:00Z","nr_recipients":1.5}',
    "true for a number": b'{"timestamp":"2026-01-01T00:00:00Z","nr_recipients":true}',
    "key twice": b'{"timestamp":"2026-01-01T00:00:00Z","user_id":"a","user_id":"b"}',
    "key twice, flattened": b'{"timestamp":"2026-01-01T00:00:00Z","a.b":1,"a":{"b":2}}',
    "two objects": b'{"timestamp":"2026-01-01T00:00:00Z"}{"timestamp":"2026-01-01T00:00:00Z"}',
    "array": b'["2026-01-01T00:00:00Z"]',
    "number": b"7",
    "open string": b'{"timestamp":"2026-01-01T00:00:00Z","user_id":"abc',
    "trailing comma": b'{"timestamp":"2026-01-01T00:00:00Z",}',
    "time as number": b'{"timestamp":1767225600}',
    "time as object": b'{"timestamp":{"a":1}}',
    "time as list": b'{"timestamp":[1]}',
    "year 99999": b'{"timestamp":"99999-01-01T00:00:00Z"}',
    "attachments as text": b'{"timestamp":"2026-01-01T00:00:00Z","attachments":"a.exe"}',
    "attachments nested": b'{"timestamp":"2026-01-01T00:00:00Z","attachments":[["a"]]}',
    "form feed": b"\x0c",
    "vertical tab": b"\x0b\x0b",
}  # fmt: skip


def good_ids(path: Path, **options: Any) -> list[str]:
    events = read(path, now=NOW, **options)
    counts = events.counts
    assert counts.read == counts.accepted + counts.rejected + counts.skipped
    events.rejected.write_ndjson()
    found = [i for batch in events.batches() for i in batch["event_id"]]
    return [i for i in found if i.startswith("good")]


@pytest.mark.parametrize("name", CORPUS)
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_hostile_line_is_rejected_alone(tmp_path: Path, name: str, place: str) -> None:
    rows = [good(n) for n in range(6)]
    rows.insert({"first": 0, "middle": 3, "last": 6}[place], CORPUS[name])
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n".join(rows))
    assert good_ids(path, format="jsonl") == [f"good{n}" for n in range(6)]
    events = read(path, now=NOW, format="jsonl")
    expected = 0 if CORPUS[name].strip() == b"" else 1
    assert events.counts.rejected == expected, events.rejected
    if expected:
        assert events.rejected["line"].unique().to_list() == [{"first": 1, "middle": 4, "last": 7}[place]]
        assert (events.rejected["reason"].str.len_chars() > 3).all()


def test_a_line_of_ten_megabytes_and_one_of_twenty_cost_only_themselves(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    ten = b'{"timestamp":"2026-01-01T00:00:00Z","subject":"' + b"x" * 10_000_000 + b'"}'
    twenty = b"y" * 20_000_000
    path.write_bytes(b"\n".join([good(0), ten, good(1), twenty, good(2), b"z" * 20_000_000]))
    assert good_ids(path, chunk_bytes=1 << 20) == ["good0", "good1", "good2"]
    rejected = read(path, now=NOW, chunk_bytes=1 << 20).rejected
    assert rejected["line"].to_list() == [2, 4, 6]
    assert rejected["value"].str.len_chars().max() <= 200


@QUICK
@given(
    st.lists(
        st.one_of(st.integers(0, 59).map(good), st.binary(max_size=60).map(lambda b: b.replace(b"\n", b" "))),
        max_size=20,
    ),
    st.integers(1, 400),
)
def test_good_rows_survive_any_junk_in_any_chunking(tmp_path: Path, rows: list[bytes], chunk_bytes: int) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n".join([good(0), *rows]))
    expected = ["good0", *(json.loads(r)["event_id"] for r in rows if r.startswith(b'{"event_id": "good'))]
    assert sorted(good_ids(path, chunk_bytes=chunk_bytes)) == sorted(expected)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("event_id", "timestamp", "user_id", "src_ip", "nr_recipients", "attachments", "other", "n")


@QUICK
@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=6), max_size=12))
def test_mixed_types_never_crash_and_every_line_is_accounted_for(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n".join([good(0), *(json.dumps(r).encode("utf-8", "surrogatepass") for r in records)]))
    assert "good0" in good_ids(path)
    events = read(path, now=NOW)
    assert events.counts.read == len(records) + 1
    events.describe().to_frame()


@pytest.mark.parametrize("packing", ["", ".gz"])
def test_a_file_cut_at_any_byte_gives_every_whole_line_before_the_cut(tmp_path: Path, packing: str) -> None:
    random.seed(1)
    rows = [good(n)[:-1] + b', "noise": "%d"}' % random.getrandbits(60) for n in range(5)]
    text = b"".join(r + b"\n" for r in rows)
    data = gzip.compress(text, compresslevel=1) if packing else text
    path = tmp_path / f"log.jsonl{packing}"
    import zlib

    path.write_bytes(data)
    assert good_ids(path) == [f"good{n}" for n in range(5)]
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        seen = zlib.decompressobj(31).decompress(data[:cut]) if packing else data[:cut]
        whole = sum(seen[: len(b"\n".join(rows[: n + 1]))] == b"\n".join(rows[: n + 1]) for n in range(5))
        if whole == 0:
            continue  # without one readable row there is no time column to find, which is an error of its own
        events = read(path, now=NOW)
        assert [i for b in events.batches() for i in b["event_id"]] == [f"good{n}" for n in range(whole)], cut
        if packing:
            assert events.counts.rejected == 1, cut
            assert "cut short" in events.rejected["reason"].item()


def test_damage_inside_an_archive_costs_what_comes_after_it_and_is_told(tmp_path: Path) -> None:
    text = b"".join(good(n) + b"\n" for n in range(20_000))
    data = bytearray(gzip.compress(text, compresslevel=1))
    for n in range(len(data) // 2, len(data) // 2 + 50):
        data[n] ^= 0xA5
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(bytes(data))
    events = read(path, now=NOW)
    found = good_ids(path)
    assert len(found) > 1_000
    assert any("gzip stream" in r for r in events.reject_reasons)


@QUICK
@given(
    st.lists(
        st.sampled_from([b"a,b", b'"', b'x"y,z', b'"a,b', b'"a\nb",c', b"\xff,", b",,,", b"", b"\0,\0", b'"a""b",c']),
        max_size=8,
    ),
    st.integers(1, 120),
)
def test_good_csv_rows_survive_broken_quotes_and_fields(tmp_path: Path, junk: list[bytes], chunk_bytes: int) -> None:
    rows = [b"good%d,2026-01-01T00:00:%02dZ" % (n, n) for n in range(len(junk) + 1)]
    body = [line for pair in zip(rows, [*junk, b""], strict=True) for line in pair]
    path = tmp_path / "log.csv"
    path.write_bytes(b"\n".join([b"event_id,timestamp", *body]))
    assert good_ids(path, chunk_bytes=chunk_bytes) == [f"good{n}" for n in range(len(rows))]


def test_a_quoted_newline_is_part_of_a_field_wherever_the_chunks_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(
        b"event_id,timestamp,subject\r\n"
        + b"".join(b'good%d,2026-01-01T00:00:00Z,"line\n%d, ""q"""\r\n' % (n, n) for n in range(50))
    )
    for chunk_bytes in (1, 7, 64, 1 << 20):
        frame = read(path, now=NOW, chunk_bytes=chunk_bytes).frame().collect()
        assert frame["subject"].to_list() == [f'line\n{n}, "q"' for n in range(50)]


rows_strategy = st.lists(
    st.fixed_dictionaries(
        {
            "timestamp": st.integers(0, 10_000).map(
                lambda s: (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=s)).isoformat()
            ),
            "user_id": st.sampled_from(["a", "b", "Ünï", 'q"uote', "com,ma"]),
            "src_ip": st.sampled_from(["1.2.3.4", "::1", "2001:DB8::1", "bad", None]),
            "nr_recipients": st.integers(-5, 50) | st.none(),
            "level": st.integers(0, 3),
        }
    ),
    min_size=1,
    max_size=30,
)


@QUICK
@given(rows_strategy, st.integers(1, 2000), st.randoms(use_true_random=False))
def test_chunk_size_format_order_and_spilling_do_not_change_the_rows(
    tmp_path: Path, rows: list[dict[str, Any]], chunk: int, rng: random.Random
) -> None:
    rows = [{"event_id": f"good{n}", **r} for n, r in enumerate(rows)]
    frame = pl.DataFrame(rows, schema_overrides={"src_ip": pl.String, "nr_recipients": pl.Int64})
    shuffled = rng.sample(rows, len(rows))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(r) + "\n" for r in shuffled))
    frame.write_csv(tmp_path / "c.csv")
    frame.sort("timestamp").write_parquet(tmp_path / "d.parquet", row_group_size=7)
    frame.write_parquet(tmp_path / "e.parquet")

    def result(source: Any, **options: Any) -> pl.DataFrame:
        events = read(source, now=NOW, name="x", **options)
        out = pl.concat([pl.DataFrame(schema=events.columns), *events.batches(size=7)])
        assert out["timestamp"].is_sorted()
        return out.sort("event_id")

    expected = result(frame)
    for name in ("a.jsonl", "b.jsonl", "c.csv", "d.parquet", "e.parquet"):
        for options in ({}, {"chunk_bytes": chunk}, {"chunk_bytes": chunk, "memory_bytes": 200}):
            if rows and frame["nr_recipients"].null_count() == len(frame) and "csv" in name:
                continue
            assert result(tmp_path / name, **options).equals(expected), (name, options)
