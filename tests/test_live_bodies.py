"""Pushed bodies without a server: any document comes out record by record, and no bytes make trouble."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.faces.live import bodies
from tocsin.faces.live.bodies import RefusedError, check_headers, take, unpack
from tocsin.faces.live.tokens import names_this_machine

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip
OBJECTS = st.dictionaries(st.text(max_size=5), VALUES, max_size=4)


@given(st.lists(VALUES, max_size=8), st.sampled_from([None, 1, 4]), st.booleans())
def test_an_array_comes_out_element_by_element_however_it_is_laid_out(
    values: list, indent: int | None, plain: bool
) -> None:
    body = json.dumps(values, indent=indent, ensure_ascii=plain).encode("utf-8", "surrogatepass")
    try:
        taken = take(body, lines=False, most_event_bytes=1 << 20)
    except RefusedError:
        assert not plain  # half a surrogate pair has no UTF-8
        return
    assert [json.loads(record) for record in taken.records] == values
    assert not any(b"\n" in record or b"\r" in record for record in taken.records)
    objects = {place for place, value in enumerate(values, 1) if isinstance(value, dict)}
    assert not objects & {place for place, why in taken.review if why == "not a JSON object"}
    assert {place for place, _ in taken.review} >= set(range(1, len(values) + 1)) - objects


@given(OBJECTS, st.sampled_from([None, 2]))
def test_one_object_is_one_record(value: dict, indent: int | None) -> None:
    (record,) = take(json.dumps(value, indent=indent).encode(), lines=False, most_event_bytes=1 << 20).records
    assert json.loads(record) == value


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=8))
def test_every_line_that_is_not_blank_is_kept_as_it_stands(lines: list[bytes]) -> None:
    taken = take(b"\n".join(lines), lines=True, most_event_bytes=1 << 20)
    body = b"\n".join(lines).removeprefix(b"\xef\xbb\xbf").split(b"\n")
    assert taken.records == [kept for line in body if (kept := line.strip(b" \t\r"))]


@given(st.binary(max_size=200) | st.text(alphabet='[]{}",: \n0e-NaI\\u', max_size=60).map(str.encode), st.booleans())
def test_no_bytes_do_more_than_be_refused(body: bytes, lines: bool) -> None:
    try:
        taken = take(body, lines=lines, most_event_bytes=16)
    except RefusedError:
        assert not lines
        return
    if not lines:
        assert isinstance(json.loads(body.removeprefix(b"\xef\xbb\xbf")), dict | list)
    assert all(len(record) <= 16 for record in taken.records)


@given(st.binary(max_size=5000), st.integers(-3, 3), st.sampled_from(["gzip", "zstd"]))
def test_unpacking_gives_what_was_packed_up_to_the_limit_and_not_a_byte_beyond(
    data: bytes, room: int, encoding: str
) -> None:
    packed = gzip.compress(data) if encoding == "gzip" else pa.compress(data, "zstd", asbytes=True)
    most = max(0, len(data) + room)
    if len(data) <= most:
        assert unpack(packed, encoding, most) == data
    else:
        with pytest.raises(RefusedError) as refused:
            unpack(packed, encoding, most)
        assert refused.value.status == 413


@given(st.binary(max_size=300), st.integers(0, 400), st.sampled_from(["gzip", "zstd"]))
def test_a_packed_body_that_was_cut_is_refused(data: bytes, cut: int, encoding: str) -> None:
    packed = gzip.compress(data) if encoding == "gzip" else pa.compress(data, "zstd", asbytes=True)
    if cut >= len(packed):
        assert unpack(packed[:cut], encoding, 1000) == data
    else:
        with pytest.raises(RefusedError) as refused:
            unpack(packed[:cut], encoding, 1000)
        assert refused.value.status == 400


@pytest.mark.parametrize("lines", [True, False])
def test_a_body_of_very_many_tiny_records_is_refused_before_it_fills_memory(
    monkeypatch: pytest.MonkeyPatch, lines: bool
) -> None:
    monkeypatch.setattr(bodies, "MOST_RECORDS", 10)
    ten, eleven = ([b"1"] * n for n in (10, 11))
    make = b"\n".join if lines else (lambda parts: b"[" + b",".join(parts) + b"]")
    assert len(take(make(ten), lines=lines, most_event_bytes=9).records) == 10
    with pytest.raises(RefusedError) as refused:
        take(make(eleven), lines=lines, most_event_bytes=9)
    assert refused.value.status == 413


def test_of_many_bad_records_a_hundred_are_named_and_all_are_counted() -> None:
    answer = take(b"x\n" * 300 + b"y" * 99 + b"\n", lines=True, most_event_bytes=50).answer()
    assert (answer["accepted"], answer["accepted_for_review"], answer["rejected_count"]) == (300, 300, 1)
    assert (len(answer["review"]), len(answer["rejected"])) == (100, 1)


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_header_makes_trouble(kind: str, encoding: str) -> None:
    names_this_machine(kind)
    with pytest.raises(RefusedError) as refused:
        check_headers(f"x{kind}", encoding)
    assert refused.value.status == 415
