"""The compiled reading of JSON lines and times gives what the careful reading gives, value by value and reject by reject."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tocsin.sources import jsonl_fast, read
from tocsin.sources.jsonl_fast import Fields, LineReader
from tocsin.sources.times import ZONED_FORMATS, parse_times

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NOW = datetime(2026, 6, 1, tzinfo=UTC)
UNHURRIED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def both(path: Path, lines: Iterable[bytes]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read a file by the compiled reading, and line by line; return the rows and rejects of the former."""
    path.write_bytes(b"\n".join(lines))
    results = []
    before = jsonl_fast.SMALL_BYTES
    try:
        for small in (0, 1 << 40):
            jsonl_fast.SMALL_BYTES = small
            events = read(path, now=NOW, order="arrival", format="jsonl")
            results.append((events.frame().collect(), events.rejected))
    finally:
        jsonl_fast.SMALL_BYTES = before
    (fast, fast_rejects), (slow, slow_rejects) = results
    assert fast.schema == slow.schema
    assert fast.equals(slow, null_equal=True), (fast, slow)
    assert fast_rejects.drop("value").equals(slow_rejects.drop("value")), (fast_rejects, slow_rejects)
    return fast, fast_rejects


def line(n: int, /, **fields: Any) -> dict[str, Any]:
    return {"event_id": f"e{n}", "timestamp": f"2026-01-01T00:00:{n % 60:02}.5Z", **fields}


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.integers(-3, 3),
    st.floats(allow_nan=False),
    st.text(max_size=30),
    st.text(st.characters(codec="utf-8"), max_size=4),
    st.sampled_from(["1.2.3.4", "::1", "5", "true", '"\\/\b\f\n\r\t', "é", "𝄞", "a" * 12, "b" * 13]),
)
values = st.one_of(scalars, st.lists(scalars, max_size=4), st.dictionaries(st.sampled_from("bcd"), scalars, max_size=2))
records = st.fixed_dictionaries(
    {},
    optional={
        "user_id": scalars, "src_ip": scalars, "nr_recipients": scalars, "attachments": values, "a": values, "a.b": scalars,
        "n": st.integers(), "x": st.floats(allow_nan=False), "flag": st.booleans(), "list": st.lists(st.integers(), max_size=3),
    },
)  # fmt: skip


@UNHURRIED
@given(rows=st.lists(records, max_size=12), ascii_only=st.booleans(), spaced=st.booleans())
def test_any_records_are_read_alike(
    tmp_path: Path, rows: list[dict[str, Any]], *, ascii_only: bool, spaced: bool
) -> None:
    separators = (" , ", " : ") if spaced else (",", ":")
    numbered = [line(n, **row) for n, row in enumerate(rows)]
    text = [json.dumps(r, ensure_ascii=ascii_only, separators=separators) for r in numbered]
    both(tmp_path / "log.jsonl", [t.encode("utf-8", "surrogatepass") for t in [*text, json.dumps(line(99))]])


EDITS = b'{}[]":,\\ \t\r0123456789.-+eEnulltruefals\x00\x1f\x7f\xc3\xff'


@UNHURRIED
@given(st.randoms(use_true_random=False))
def test_lines_with_bytes_changed_are_read_or_rejected_alike(tmp_path: Path, rng: random.Random) -> None:
    whole = json.dumps(
        line(1, user_id="ué\\x", nr_recipients=12, attachments=["a", None], a={"b": 1.5, "c": {"d": "t"}}, flag=True)
    ).encode()
    lines = [whole]
    for _ in range(30):
        changed = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(changed))
            changed[at : at + rng.randint(0, 1)] = bytes([rng.choice(EDITS)]) * rng.randint(0, 2)
        lines.append(bytes(changed).replace(b"\n", b" "))
    both(tmp_path / "log.jsonl", [*lines, whole])


def test_keys_that_stand_twice_are_seen_however_they_are_nested(tmp_path: Path) -> None:
    plain = b'{"timestamp":"2026-01-01T00:00:00Z","a":{"b":1,"c":2},"d":{"e":{"f":3}}}'
    twice = [
        b'{"timestamp":"2026-01-01T00:00:00Z","a":{"b":1},"a":{"c":2}}',
        b'{"timestamp":"2026-01-01T00:00:00Z","a":{"b":1,"b":2}}',
        b'{"timestamp":"2026-01-01T00:00:00Z","a.b":1,"a":{"b":2}}',
        b'{"timestamp":"2026-01-01T00:00:00Z","d":{"e":{"f":3},"e":{}}}',
        b'{"timestamp":"2026-01-01T00:00:00Z","d":{"e.f":3,"e":{"f":3}}}',
    ]
    rows, rejects = both(tmp_path / "log.jsonl", [plain, *twice, plain])
    assert rows.select("a.b", "a.c", "d.e.f").rows() == [(1, 2, 3)] * 2
    assert rejects["line"].to_list() == [2, 3, 4, 5, 6]


def test_plain_lines_take_the_compiled_way() -> None:
    kinds = {"t": "text", "n": "int", "x": "float", "ok": "bool", "l": "list", "i": "list_int", "o.p": "text"}
    reader = LineReader(Fields(kinds, kinds, frozenset()))
    record = {"t": 'tab\t"é𝄞"', "n": -7, "x": 1.5e-3, "ok": True, "l": ["a", None], "i": [1, 2], "o": {"p": "q"}}
    data = b"".join(json.dumps(record).encode() + b"\n" for _ in range(400)) + b"{broken, and long enough\n" + b"\n" * 3
    plain, others = reader.parse(data, 11)
    assert plain.lines.to_list() == list(range(11, 411))
    assert [n for n, _, _ in others.bad_lines] == [411]
    assert plain.frame.row(399) == (record["t"], -7, 0.0015, True, ["a", None], [1, 2], "q")
    again, _ = reader.parse(data.replace(b"-7", b"null"), 11)  # the memory is used again
    assert again.frame["n"].null_count() == 400
    assert plain.frame["n"].to_list() == [-7] * 400


TIMES = (
    "2026-03-01T10:00:00Z", "2026-03-01T10:00:00.123456Z", "2024-02-29T23:59:59+23:59", "1900-02-29T00:00:00Z",
    "2000-02-29T00:00:00.5-00:30", "0001-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z",
    "1969-12-31T23:59:59.999999Z", "2026-03-01T10:00:60Z", "2026-03-01T24:00:00Z", "2026-03-01T10:00:00.1234567Z",
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(TIMES), st.lists(st.tuples(st.integers(0, 40), st.sampled_from("0123456789T:-+.Z ")), max_size=2)
)
def test_times_are_what_strptime_makes_of_them(text: str, edits: list[tuple[int, str]]) -> None:
    for at, character in edits:
        text = text[:at] + character + text[at + 1 :]
    slow = pl.Series([text]).str.to_datetime(ZONED_FORMATS[0], time_unit="us", time_zone="UTC", strict=False)
    fast = parse_times(pl.Series([text]))
    if slow[0:1].is_not_null().item():
        assert fast.dt.epoch("us").equals(slow.dt.epoch("us"))


@pytest.mark.parametrize("year", [1, 4, 100, 1900, 1970, 2000, 2024, 2100, 9999])
def test_every_day_of_a_year_is_counted_right(year: int) -> None:
    days = pl.date_range(datetime(year, 1, 1), datetime(year, 12, 31), "1d", eager=True)
    text = days.dt.strftime("%Y-%m-%d").str.zfill(10) + "T00:00:00Z"
    assert parse_times(text).dt.date().equals(days)
