"""Claims about address text, checked against the standard library's own reader."""

from __future__ import annotations

import ipaddress

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tocsin.addresses import (
    ParsedAddresses,
    canonical,
    format_addresses,
    parse_addresses,
    parse_numbers,
    parse_ranges,
)

unhurried = settings(deadline=None)  # the first example may wait for compilation
MAPPED = 0xFFFF << 32
V4 = st.integers(0, 2**32 - 1)
V6 = st.one_of(
    st.integers(0, 2**128 - 1),
    st.lists(st.sampled_from([0, 0, 1, 0xFFFF, 0xDB8]), min_size=8, max_size=8).map(
        lambda groups: sum(group << (16 * at) for at, group in enumerate(groups))
    ),
)


def spellings(number: int) -> list[str]:
    """The ways people write one IPv6 address."""
    address = ipaddress.IPv6Address(number)
    tail = ipaddress.IPv4Address(number & 0xFFFFFFFF)
    head = ":".join(address.exploded.split(":")[:6])
    plain = [str(address), str(address).upper(), address.exploded, f"{head}:{tail}"]
    return [*plain, f"::{head.split(':', 5)[5]}:{tail}"]


NEARLY = st.one_of(
    st.text("0123456789abcdefABCDEFgG:.%/ \t\x00٣１", max_size=50),
    st.lists(st.sampled_from(["", "0", "1", "ffff", "0000", "00001", "g", "1.2.3.4", "db8"]), max_size=10).map(
        ":".join
    ),
    st.lists(st.sampled_from(["0", "1", "00", "01", "255", "256", "1234", "", " 1", "1 "]), max_size=6).map(".".join),
    V4.map(lambda n: str(ipaddress.IPv4Address(n))),
    V6.flatmap(lambda n: st.sampled_from(spellings(n))),
    st.text(max_size=60).filter(lambda text: not any(0xD800 <= ord(char) <= 0xDFFF for char in text)),
)


def by_the_book(text: str | None) -> int | None:
    """The value according to ipaddress; IPv4 v4-mapped, scope ids refused."""
    if text is None or "%" in text:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return int(address) | (MAPPED if address.version == 4 else 0)


def by_the_book_text(value: int) -> str:
    if value >> 32 == 0xFFFF:
        return str(ipaddress.IPv4Address(value & 0xFFFFFFFF))
    return str(ipaddress.IPv6Address(value))


def numbers(parsed: ParsedAddresses) -> list[int | None]:
    rows = zip(parsed.valid.tolist(), parsed.hi.tolist(), parsed.lo.tolist(), strict=True)
    return [(hi << 64 | lo) if valid else None for valid, hi, lo in rows]


@unhurried
@given(st.lists(st.one_of(st.none(), NEARLY), max_size=30))
@example(["01.2.3.4", "1.2.3.4 ", "1.2.3", "::", ":::", "1::2::3", "1:2:3:4:5:6:7::", "1:2:3:4:5:6:7::8", ""])
@example(["::ffff:1.2.3.4", "::FFFF:0102:0304", "::1.2.3.4", "1.2.3.4::", "::1.2.3.256", "::1.2.3.4.5", "fe80::1%0"])
@example(["0000:0000:0000:0000:0000:ffff:255.255.255.255", "00000::", "1:2:3:4:5:6:7:1.2.3.4", "1:2:3:4:5:6:1.2.3.4"])
def test_any_text_has_the_validity_and_value_the_standard_library_gives_it(texts: list[str | None]) -> None:
    parsed = parse_addresses(pl.Series(texts, dtype=pl.String))
    assert numbers(parsed) == [by_the_book(text) for text in texts]


@unhurried
@given(st.lists(st.one_of(st.none(), NEARLY), max_size=30))
def test_canonical_text_is_the_standard_librarys_with_v4_mapped_written_as_ipv4(texts: list[str | None]) -> None:
    values = [by_the_book(text) for text in texts]
    expected = [None if value is None else by_the_book_text(value) for value in values]
    assert canonical(pl.Series("ip", texts, dtype=pl.String)).to_list() == expected
    assert format_addresses(parse_addresses(pl.Series(texts, dtype=pl.String))).to_list() == expected


@unhurried
@given(st.lists(st.one_of(V4, V6, st.integers(2**128, 10**45)), max_size=20))
def test_a_number_below_2_to_the_32_is_ipv4_and_one_above_2_to_the_128_is_nothing(values: list[int]) -> None:
    parsed = parse_numbers(pl.Series([str(value) for value in values], dtype=pl.String))
    expected = [value | MAPPED if value < 2**32 else value if value < 2**128 else None for value in values]
    assert numbers(parsed) == expected


def test_integer_columns_and_badly_written_numbers() -> None:
    values = [1, None, 2**32 - 1, 2**32]
    for dtype in (pl.Int64, pl.UInt64, pl.Int128, pl.String):
        expected = [1 | MAPPED, None, (2**32 - 1) | MAPPED, 2**32]
        assert numbers(parse_numbers(pl.Series(values).cast(dtype))) == expected
    assert numbers(parse_numbers(pl.Series([-1, 5]))) == [None, 5 | MAPPED]
    assert numbers(parse_numbers(pl.Series([2**64 - 1], dtype=pl.UInt64))) == [2**64 - 1]
    assert not parse_numbers(pl.Series(["-1", "1.0", "1e3", "", "٣"])).valid.any()


def test_text_that_is_canonical_already_is_returned_as_it_is() -> None:
    series = pl.Series("ip", ["1.2.3.4", None, "2001:db8::1"])
    assert canonical(series) is series


def test_a_slice_of_a_column_reads_its_own_rows_only() -> None:
    series = pl.Series(["1.1.1.1", "x", "2.2.2.2", None, "::3"])
    assert numbers(parse_addresses(series[2:])) == [by_the_book("2.2.2.2"), None, 3]


def test_empty_all_null_and_chunked_columns_are_read() -> None:
    assert len(parse_addresses(pl.Series([], dtype=pl.String))) == 0
    assert not parse_addresses(pl.Series([None, None])).valid.any()
    chunked = pl.concat([pl.Series(["1.1.1.1"]), pl.Series(["::2"])], rechunk=False)
    assert numbers(parse_addresses(chunked)) == [by_the_book("1.1.1.1"), 2]


@unhurried
@given(V4, st.integers(0, 32))
def test_an_ipv4_block_spans_what_the_standard_library_says(number: int, bits: int) -> None:
    check_block(f"{ipaddress.IPv4Address(number)}/{bits}")


@unhurried
@given(V6, st.integers(0, 128))
def test_an_ipv6_block_spans_what_the_standard_library_says(number: int, bits: int) -> None:
    check_block(f"{ipaddress.IPv6Address(number)}/{bits}")


def check_block(text: str) -> None:
    network = ipaddress.ip_network(text, strict=False)
    tag = MAPPED if network.version == 4 else 0
    parsed = parse_ranges(pl.Series([text]))
    assert numbers(parsed.start) == [int(network.network_address) | tag]
    assert numbers(parsed.end) == [int(network.broadcast_address) | tag]


@pytest.mark.parametrize(
    "text",
    ["1.2.3.4/33", "::1/129", "1.2.3.4/", "/8", "1.2.3.4/-1", "1.2.3.4/a", "1.2.3.4-", "-1.2.3.4", "1.2.3.4-::1", "a-b",
     "1.2.3.0/255.255.255.0", "1.2.3.4/8/8", "1.1.1.1-1.1.1.2-1.1.1.3", "", "/", "-", "1.2.3.4/٣"],
)  # fmt: skip
def test_what_is_no_address_block_or_range_is_not_valid(text: str) -> None:
    assert not parse_ranges(pl.Series([text])).valid.any()


def test_a_range_may_have_spaces_and_its_ends_are_both_inside() -> None:
    parsed = parse_ranges(pl.Series([" 1.1.1.1 - 1.1.1.9 ", "::1-::9", "9.9.9.9", None]))
    assert parsed.valid.tolist() == [True, True, True, False]
    assert format_addresses(parsed.start).to_list() == ["1.1.1.1", "::1", "9.9.9.9", None]
    assert format_addresses(parsed.end).to_list() == ["1.1.1.9", "::9", "9.9.9.9", None]
