"""Hashing: the keyed hash is the published one, and the table loses no key.

Layer: tests. The hash is compared with the published vectors and with a reference in plain Python integers, which is
written from the paper and knows nothing of columns.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from numba import njit

from tocsin.hashing import EMPTY, content_digest, find, hash_column, hash_words, make_room, mix, new_table, put
from tocsin.siphash import siphash_128

KEY = bytes(range(16))
VECTORS = {
    0: "a3817f04ba25a8e66df67214c7550293",
    1: "da87c1d86b99af44347659119b22fc45",
    15: "5493e99933b0a8117e08ec0f97cfc3d9",
}


def hashed(values: list[str | None], key: bytes = KEY) -> list[bytes]:
    return [row.astype("<u8").tobytes() for row in hash_column(pl.Series(values, dtype=pl.String), key)]


@pytest.mark.parametrize(("length", "digest"), VECTORS.items())
def test_the_hash_and_its_reference_give_the_published_vectors(length: int, digest: str) -> None:
    message = bytes(range(length))
    assert siphash_128(message, KEY).hex() == digest
    assert hashed([message.decode()])[0].hex() == digest


def test_the_hash_equals_the_reference_at_every_length_and_in_every_script() -> None:
    texts = (
        ["x" * n for n in range(70)]
        + ["ä" * 130, "日本語", "a\x00b", "e\u0301", "\u202eexe.png"]
        + ["y" * 255, "y" * 256, "y" * 257]
    )
    assert hashed(texts) == [siphash_128(t.encode(), KEY) for t in texts]


def test_another_key_gives_other_hashes() -> None:
    assert hashed(["ann"]) != hashed(["ann"], bytes(16))


def test_a_slice_hashes_like_a_column_of_its_own() -> None:
    whole = pl.Series(["ann", None, "bob", "", "cy", "dee"] * 5)
    for column in (whole, pl.concat([whole[:7], whole[7:]], rechunk=False), whole.cast(pl.Categorical)):
        assert (hash_column(column[3:17], KEY) == hash_column(column, KEY)[3:17]).all()
    lists = pl.Series([["a"], None, [], ["b", "c"], [None], ["c", "b"]] * 3)
    assert (hash_column(lists[2:11], KEY) == hash_column(lists, KEY)[2:11]).all()


def test_text_hashes_alike_wherever_it_lies_in_memory() -> None:
    texts = ["x" * n for n in range(40)] * 2
    whole = pl.Series(texts)
    pieces = pl.concat([whole[:11], whole[11:]], rechunk=False)
    gathered = pl.Series([*texts, "unused" * 9]).gather(range(80))
    assert len({hash_column(c, KEY).tobytes() for c in (whole, pieces, gathered)}) == 1
    assert len({content_digest(c.rename("").to_frame()).tobytes() for c in (whole, pieces, gathered)}) == 1
    assert (np.column_stack(hash_words(pieces, KEY)) == hash_column(whole, KEY)).all()


def test_null_is_zero_and_empty_text_is_not() -> None:
    found = hash_column(pl.Series([None, ""]), KEY)
    assert (found[0] == 0).all()
    assert (found[1] != 0).all()


@pytest.mark.parametrize(
    "column",
    [
        pl.Series([1, None, 0], dtype=pl.Int64),
        pl.Series([1.5, None, 0.0]),
        pl.Series([True, None, False]),
        pl.Series([datetime(2026, 1, 1, tzinfo=UTC), None, datetime(1970, 1, 1, tzinfo=UTC)]),
        pl.Series([["a"], None, []], dtype=pl.List(pl.String)),
        pl.Series(["a", None, ""], dtype=pl.Categorical),
        pl.Series([1, None, 0], dtype=pl.UInt8),
    ],
    ids=lambda c: str(c.dtype),
)
def test_every_type_tells_its_values_and_its_null_apart(column: pl.Series) -> None:
    assert len({tuple(row) for row in hash_column(column, KEY).tolist()}) == 3


def test_lists_differ_by_order_by_grouping_and_by_length() -> None:
    lists = pl.Series([["a", "b"], ["b", "a"], ["ab"], ["a"], ["a", "a"], [], [""], ["a", "b", ""]])
    assert len({tuple(row) for row in hash_column(lists, KEY).tolist()}) == len(lists)


def test_whole_numbers_beyond_the_signed_range_are_told_apart() -> None:
    large = pl.Series([2**64 - 1, 2**63, 2**63 - 1, None], dtype=pl.UInt64)
    assert len({tuple(row) for row in hash_column(large, KEY).tolist()}) == 4


def test_an_empty_column_of_any_type_hashes_to_nothing() -> None:
    for dtype in (pl.String, pl.Int64, pl.List(pl.String), pl.Boolean):
        assert hash_column(pl.Series([], dtype=dtype), KEY).shape == (0, 2)


def test_the_digest_of_a_row_depends_on_which_column_a_value_stands_in() -> None:
    frame = pl.DataFrame({"a": ["x", "y", "x", None], "b": ["y", "x", "y", "x"]})
    found = content_digest(frame).tolist()
    assert found[0] == found[2]
    assert len(set(found)) == 3
    assert found[0] != content_digest(frame.select("b", "a"))[0]


def test_the_digest_of_a_row_does_not_depend_on_its_neighbours_and_tells_null_from_empty() -> None:
    frame = pl.DataFrame(
        {
            "text": ["a", "", None, "a", None],
            "number": [0, None, 0, None, 7],
            "flag": [None, True, False, False, True],
            "list": [["x"], None, [], ["x", None], ["x"]],
            "time": [None, datetime(2026, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC), None, None],
        }
    )
    for columns in (frame.columns, frame.columns[::-1], *([c] for c in frame.columns)):
        part = frame.select(columns)
        whole = content_digest(part).tolist()
        assert [content_digest(part[i : i + 1]).item() for i in range(5)] == whole
        assert len(set(whole)) == part.unique().height


@njit
def _enter(table, keys, payloads):
    new = 0
    for i in range(keys.shape[0]):
        place = find(table, keys[i, 0], keys[i, 1], keys[i, 2])
        new += table[place, 3] == EMPTY
        put(table, place, keys[i, 0], keys[i, 1], keys[i, 2], payloads[i])
    return new


@njit
def _payloads(table, keys):
    out = np.empty(keys.shape[0], np.uint64)
    for i in range(keys.shape[0]):
        out[i] = table[find(table, keys[i, 0], keys[i, 1], keys[i, 2]), 3]
    return out


def _keys(n: int) -> np.ndarray:
    keys = np.random.default_rng(3).integers(0, 1 << 63, (n, 3), dtype=np.uint64)
    keys[: n // 2, 0] = 12  # half of them want the same place
    keys[: n // 4, 1] = 34  # and a quarter differs in the third word only
    return keys


def test_a_table_that_grows_keeps_every_key_and_its_payload() -> None:
    keys, payloads = _keys(4000), np.arange(4000, dtype=np.uint64)
    table, used = new_table(), 0
    for start in range(0, 4000, 250):
        table, used = make_room(table, used, 250)
        used += _enter(table, keys[start : start + 250], payloads[start : start + 250])
        assert used <= 0.6 * table.shape[0]
    assert used == 4000
    assert (_payloads(table, keys) == payloads).all()
    assert (_payloads(table, keys + np.uint64(1)) == EMPTY).all()


def test_growing_forgets_what_is_older_than_asked_and_nothing_else() -> None:
    keys, payloads = _keys(600), np.arange(600, dtype=np.uint64)
    table, used = make_room(new_table(), 0, 600)
    used += _enter(table, keys, payloads)
    table, used = make_room(table, used, 900, oldest=400)
    assert used == 200
    found = _payloads(table, keys)
    assert (found[:400] == EMPTY).all()
    assert (found[400:] == payloads[400:]).all()


def test_a_table_with_room_is_left_as_it_is() -> None:
    table = new_table()
    assert make_room(table, 10, 100)[0] is table


def test_mixing_is_a_bijection_on_the_words_tried() -> None:
    assert len({int(mix(np.uint64(i))) for i in range(5000)}) == 5000
