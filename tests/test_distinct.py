"""Numbering the texts of a column: a number stands for one text, whatever its length, nulls and buffers."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.addresses import canonical, parse_addresses
from tocsin.distinct import distinct_text

TEXTS = st.lists(st.one_of(st.none(), st.text(max_size=3), st.text(max_size=60)), min_size=1, max_size=12)


def _repeated(values: list[str | None]) -> pl.Series:
    return pl.Series(values, dtype=pl.String).gather(np.random.default_rng(1).integers(0, len(values), 2_000))


@settings(deadline=None)  # the first example compiles
@given(TEXTS)
def test_each_row_gets_back_its_own_text(values: list[str | None]) -> None:
    series = _repeated(values)
    found = distinct_text(series)
    assert found is not None
    each = series.gather(pl.Series(found.rows))
    assert each.gather(pl.Series(found.codes)).equals(series, null_equal=True)
    assert len(each) == each.n_unique()  # so few texts fit the table: none is numbered twice


@pytest.mark.parametrize("size", [0, 1, 7, 8, 11, 12, 13, 15, 16, 17, 23, 24, 25, 40])
def test_texts_that_differ_in_one_byte_have_different_numbers(size: int) -> None:
    base = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH"[:size]
    texts = [base, base + "\0", *(base[:i] + "#" + base[i + 1 :] for i in range(size))]
    found = distinct_text(_repeated(texts))
    assert found is not None
    assert len(found.rows) == len(texts)


def test_more_texts_than_the_table_holds_are_still_told_apart() -> None:
    rng = np.random.default_rng(2)
    series = pl.Series(rng.integers(0, 400_000, 1_000_000)).cast(pl.String)
    series = pl.concat([series.head(1_000)] * 20 + [series])  # repeats at the beginning, so that it seems worth it
    found = distinct_text(series)
    assert found is not None
    assert series.gather(pl.Series(found.rows)).gather(pl.Series(found.codes)).equals(series)


def test_a_slice_of_a_column_in_several_chunks_is_numbered_as_it_stands() -> None:
    series = pl.concat([_repeated(["a", None, "a text too long to be kept inline"]), _repeated(["b", "a"])])
    part = series.slice(1_500, 1_400)
    found = distinct_text(part)
    assert found is not None
    assert part.gather(pl.Series(found.rows)).gather(pl.Series(found.codes)).equals(part, null_equal=True)


def test_texts_that_do_not_repeat_are_left_alone() -> None:
    assert distinct_text(pl.Series(range(50_000)).cast(pl.String)) is None
    assert distinct_text(pl.Series(["a", "a"])) is None
    assert distinct_text(pl.Series([1] * 5_000)) is None


def test_addresses_read_once_each_are_those_read_row_by_row() -> None:
    values = [
        "1.2.3.4",
        "::ffff:1.2.3.4",
        "2001:DB8::0",
        "2001:0db8:0000:0000:0000:0000:0000:0001",
        "1.2.3",
        "",
        None,
        "255.255.255.255",
    ]
    series = _repeated(values)
    each = pl.concat([canonical(series.slice(at, 500)) for at in range(0, len(series), 500)])
    assert canonical(series).equals(each, null_equal=True)
    assert canonical(series.drop_nulls().filter(series.drop_nulls() == "1.2.3.4")).to_list()[0] == "1.2.3.4"
    clean = _repeated(["1.2.3.4", None, "::1"])
    assert canonical(clean) is clean
    assert parse_addresses(clean).valid.sum() == clean.is_not_null().sum()
