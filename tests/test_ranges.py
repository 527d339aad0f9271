"""Claims about range look-ups, checked against a linear scan."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.addresses import ParsedAddresses
from tocsin.errors import TableError
from tocsin.ranges import RangeIndex, flatten

unhurried = settings(deadline=None)  # the first example may wait for compilation
MAPPED = 0xFFFF << 32
LAST_V4, LAST = MAPPED | 0xFFFFFFFF, 2**128 - 1
# Corners where searches go wrong: the ends of both lines, of a 64-bit word, of a /16, and around the IPv4 block.
CORNERS = [
    0,
    1,
    2**64 - 1,
    2**64,
    MAPPED - 1,
    MAPPED,
    MAPPED + 0xFFFF,
    MAPPED + 0x10000,
    LAST_V4,
    LAST_V4 + 1,
    LAST - 1,
    LAST,
]
POINT = st.one_of(
    st.sampled_from(CORNERS),
    st.integers(0, 60).map(lambda n: MAPPED + 0xFFF0 + n),
    st.integers(0, 60).map(lambda n: 2**64 - 30 + n),
    st.integers(MAPPED, LAST_V4),
    st.integers(0, LAST),
)


def is_v4(number: int) -> bool:
    return number >> 32 == 0xFFFF


def column(numbers: list[int]) -> ParsedAddresses:
    hi = np.array([number >> 64 for number in numbers], np.uint64)
    lo = np.array([number & (2**64 - 1) for number in numbers], np.uint64)
    return ParsedAddresses(np.ones(len(numbers), np.bool_), hi, lo)


def family_range(ends: tuple[int, int]) -> tuple[int, int]:
    first, last = min(ends), max(ends)
    return (first, last) if is_v4(first) == is_v4(last) else (last, last)


RANGE = st.tuples(POINT, POINT).map(family_range)


@st.composite
def disjoint(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Ranges that do not overlap and do not cross the IPv4 block, in any order."""
    points = sorted(draw(st.sets(POINT, min_size=2, max_size=24)))
    pairs = [family_range(pair) for pair in zip(points[::2], points[1::2], strict=False)]
    kept = [(a, b) for a, b in pairs if is_v4(a) or b < MAPPED or a > LAST_V4]
    return draw(st.permutations(kept))


def neighbours(ranges: list[tuple[int, int]]) -> list[int]:
    near = {end + step for pair in ranges for end in pair for step in (-1, 0, 1)}
    return sorted(number for number in near | set(CORNERS) if 0 <= number <= LAST)


@unhurried
@given(disjoint(), st.lists(POINT, max_size=10))
def test_an_address_is_found_in_the_range_a_linear_scan_finds(ranges: list[tuple[int, int]], more: list[int]) -> None:
    index = RangeIndex.build(column([a for a, _ in ranges]), column([b for _, b in ranges]))
    asked = neighbours(ranges) + more
    expected = [next((row for row, (a, b) in enumerate(ranges) if a <= x <= b), -1) for x in asked]
    assert index.find(column(asked)).tolist() == expected


def test_a_large_table_with_fine_buckets_answers_like_searchsorted() -> None:
    rng = np.random.default_rng(5)
    starts = np.unique(rng.integers(0, 2**32, 200_000, dtype=np.uint64)) | np.uint64(MAPPED)
    ends = np.append(starts[1:] - np.uint64(1), np.uint64(LAST_V4))
    zero, good = np.zeros(len(starts), np.uint64), np.ones(len(starts), np.bool_)
    index = RangeIndex.build(ParsedAddresses(good, zero, starts), ParsedAddresses(good, zero, ends))
    asked = rng.integers(0, 2**32, 100_000, dtype=np.uint64) | np.uint64(MAPPED)
    found = index.find(ParsedAddresses(np.ones(len(asked), np.bool_), np.zeros(len(asked), np.uint64), asked))
    assert (found == np.searchsorted(starts, asked, side="right") - 1).all()


def test_an_address_that_is_not_valid_is_found_nowhere() -> None:
    index = RangeIndex.build(column([0]), column([LAST]))
    asked = column([5])
    assert index.find(ParsedAddresses(~asked.valid, asked.hi, asked.lo)).tolist() == [-1]


def test_an_empty_table_finds_nothing() -> None:
    assert RangeIndex.build(column([]), column([])).find(column(CORNERS)).tolist() == [-1] * len(CORNERS)


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ([(5, 9), (9, 12)], "overlapping ranges: row 0 (::5 to ::9) and row 1 (::9 to ::c)"),
        (
            [(MAPPED + 9, MAPPED + 9), (MAPPED, MAPPED + 255)],
            "row 1 (0.0.0.0 to 0.0.0.255) and row 0 (0.0.0.9 to 0.0.0.9)",
        ),
        ([(1, 2), (9, 5)], "inverted ranges (first address after last, or of two families): row 1 (::9 to ::5)"),
        ([(MAPPED, LAST)], "of two families"),
    ],
)
def test_overlapping_and_inverted_ranges_are_reported_with_their_rows(ranges, words) -> None:
    with pytest.raises(TableError) as caught:
        RangeIndex.build(column([a for a, _ in ranges]), column([b for _, b in ranges]), name="geo.csv")
    assert words in str(caught.value)
    assert str(caught.value).startswith("geo.csv: ")


def test_only_the_first_few_of_many_bad_ranges_are_listed() -> None:
    many = column([7] * 100)
    with pytest.raises(TableError, match=r"99 overlapping ranges.* and 94 more"):
        RangeIndex.build(many, many)


@unhurried
@given(st.lists(st.tuples(RANGE, st.booleans()), min_size=1, max_size=12))
def test_nested_ranges_yield_the_most_specific_entry_first_until_one_holds_for_all_time(rows) -> None:
    ranges = [ends for ends, _ in rows]
    final = np.array([always for _, always in rows])
    segments = flatten(column([a for a, _ in ranges]), column([b for _, b in ranges]), final=final, name="list")
    asked = neighbours(ranges)
    for number, segment in zip(asked, segments.index.find(column(asked)).tolist(), strict=True):
        covering = sorted(
            (b - a, row) for row, (a, b) in enumerate(ranges) if a <= number <= b and is_v4(a) == is_v4(number)
        )
        expected = []
        for _, row in covering:
            expected.append(row)
            if final[row]:
                break
        found = (
            [] if segment < 0 else segments.entries[segments.offsets[segment] : segments.offsets[segment + 1]].tolist()
        )
        assert found == expected


def test_a_block_of_all_ipv6_does_not_answer_for_ipv4() -> None:
    everything = flatten(column([0]), column([LAST]), final=np.array([True]), name="list")
    assert everything.index.find(column([5, MAPPED + 5, LAST])).tolist() == [0, -1, 0]


def test_an_inverted_range_cannot_be_flattened() -> None:
    with pytest.raises(TableError, match="inverted"):
        flatten(column([5]), column([4]), final=np.array([True]), name="list")
