"""IP addresses, a column at a time: text in, 128-bit numbers, validity and canonical text out.

Enters: a Polars String series of IPv4 or IPv6 addresses (or CIDR blocks and ranges, in lists).
Leaves: NumPy arrays. An IPv4 address is held as its v4-mapped IPv6 number (``::ffff:a.b.c.d``), so the
two spellings of one address are one value and every address sorts on one 128-bit line (hi, lo).
Layer: ground floor (imports nothing of the house).

What is valid is what :mod:`ipaddress` calls valid, minus scope ids (``fe80::1%eth0``): a zone means
something on one host only, so it cannot be looked up anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa

from tocsin.address_kernels import INVALID, OTHER_SPELLING, format_column, parse_column, parse_number_column
from tocsin.distinct import distinct_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    U64 = NDArray[np.uint64]
    Bools = NDArray[np.bool_]

__all__ = [
    "ParsedAddresses",
    "ParsedRanges",
    "canonical",
    "format_addresses",
    "parse_addresses",
    "parse_numbers",
    "parse_ranges",
]

_U0 = np.uint64(0)
_U32 = np.uint64(32)
_ALL64 = np.uint64(0xFFFFFFFFFFFFFFFF)
_LOW32 = np.uint64(0xFFFFFFFF)
_MAPPED = np.uint64(0xFFFF00000000)
_MAPPED_TAG = np.uint64(0xFFFF)
_TEXT_BYTES = 40  # the longest canonical text has 39
_V4_BITS, _V6_BITS, _MAPPED_BITS = 32, 128, 96


@dataclass(frozen=True)
class ParsedAddresses:
    """A column of addresses as numbers.

    ``valid`` is false for null and for text that is no address; there ``hi`` and ``lo`` are zero.
    ``hi`` and ``lo`` are the upper and lower 64 bits; IPv4 is v4-mapped, so ``is_v4`` follows from them.

    >>> import polars as pl
    >>> parse_addresses(pl.Series(["1.2.3.4", "::ffff:1.2.3.4", "01.2.3.4", None])).valid.tolist()
    [True, True, False, False]
    """

    valid: Bools
    hi: U64
    lo: U64

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.valid)

    @property
    def is_v4(self) -> Bools:
        """True where the address is valid and is IPv4 (in either spelling)."""
        mapped = (self.hi == _U0) & ((self.lo >> _U32) == _MAPPED_TAG)
        return np.asarray(self.valid & mapped, dtype=np.bool_)


@dataclass(frozen=True)
class ParsedRanges:
    """A column of ranges: both ends inclusive, each end as (hi, lo) like :class:`ParsedAddresses`."""

    valid: Bools
    start: ParsedAddresses
    end: ParsedAddresses


def _text_buffers(series: pl.Series) -> tuple[NDArray[np.uint8], NDArray[np.int64], Bools]:
    """Return (bytes, offsets, present) of a String series; the bytes are a view where Arrow allows it."""
    array = series.to_arrow(compat_level=pl.CompatLevel.oldest())
    if pa.types.is_null(array.type):
        array = array.cast(pa.large_string())
    _, offsets_buffer, data_buffer = array.buffers()
    size = len(array)
    if size == 0:
        return np.zeros(1, np.uint8), np.zeros(1, np.int64), np.zeros(0, np.bool_)
    offsets = np.frombuffer(offsets_buffer, np.int64, count=size + 1, offset=array.offset * 8)
    has_data = data_buffer is not None and data_buffer.size > 0
    data = np.frombuffer(data_buffer, np.uint8) if has_data else np.zeros(1, np.uint8)
    present = series.is_not_null().to_numpy() if series.null_count() else np.ones(size, np.bool_)
    return data, offsets, present


def _parse(series: pl.Series) -> tuple[NDArray[np.uint8], U64, U64]:
    if series.dtype != pl.String:
        series = series.cast(pl.String)
    text = _text_buffers(series)
    status = np.zeros(len(series), np.uint8)
    hi, lo = np.zeros(len(series), np.uint64), np.zeros(len(series), np.uint64)
    parse_column(text, status, hi, lo)
    return status, hi, lo


def parse_addresses(series: pl.Series) -> ParsedAddresses:
    """Read a column of address text; never raises, null and unreadable text are not ``valid``.

    >>> import polars as pl
    >>> parsed = parse_addresses(pl.Series(["10.0.0.1", "::1", "fe80::1%eth0"]))
    >>> parsed.valid.tolist(), parsed.lo.tolist()[1]
    ([True, True, False], 1)
    """
    status, hi, lo = _parse(series)
    return ParsedAddresses(status != INVALID, hi, lo)


def parse_numbers(series: pl.Series) -> ParsedAddresses:
    """Read addresses written as whole numbers (integers or decimal text); below 2**32 means IPv4.

    >>> import polars as pl
    >>> format_addresses(parse_numbers(pl.Series([16909060]))).to_list()
    ['1.2.3.4']
    """
    if series.dtype.is_integer() and series.dtype not in (pl.Int128, pl.UInt128):
        return _integers(series)
    text = _text_buffers(series.cast(pl.String).str.strip_chars())
    valid = np.zeros(len(series), np.bool_)
    hi, lo = np.zeros(len(series), np.uint64), np.zeros(len(series), np.uint64)
    parse_number_column(text, valid, hi, lo)
    return ParsedAddresses(valid, hi, lo)


def _integers(series: pl.Series) -> ParsedAddresses:
    """Take 64-bit whole numbers as they are; negative ones are not valid."""
    valid = series.is_not_null() & (series >= 0).fill_null(value=False)
    lo = series.set(~valid, 0).fill_null(0).cast(pl.UInt64).to_numpy().copy()
    good = valid.to_numpy()
    lo[good & (lo <= _LOW32)] |= _MAPPED
    return ParsedAddresses(good, np.zeros(len(lo), np.uint64), lo)


def format_addresses(parsed: ParsedAddresses) -> pl.Series:
    """Write addresses as canonical text, null where not valid.

    >>> import polars as pl
    >>> format_addresses(parse_addresses(pl.Series(["2001:DB8:0:0::1", "x"]))).to_list()
    ['2001:db8::1', None]
    """
    size = len(parsed)
    out, offsets = np.zeros(size * _TEXT_BYTES + 1, np.uint8), np.zeros(size + 1, np.int64)
    format_column(parsed.hi, parsed.lo, out, offsets)
    array = pa.LargeStringArray.from_buffers(size, pa.py_buffer(offsets), pa.py_buffer(out))
    text = pl.Series("address", array)
    return text if parsed.valid.all() else text.set(pl.Series(~parsed.valid), None)


def canonical(series: pl.Series) -> pl.Series:
    """Return the column in canonical form: dotted IPv4, compressed lower-case IPv6, v4-mapped as IPv4.

    Null where the text is no address. Text that is canonical already is not copied.

    >>> import polars as pl
    >>> canonical(pl.Series("ip", ["::FFFF:1.2.3.4", "2001:DB8::0", "1.2.3"])).to_list()
    ['1.2.3.4', '2001:db8::', None]
    """
    if series.dtype != pl.String:
        series = series.cast(pl.String)
    distinct = distinct_text(series)
    if distinct is not None:
        each = series.gather(pl.Series(distinct.rows))
        fixed = _canonical(each)
        return series if fixed is each else fixed.gather(pl.Series(distinct.codes))
    return _canonical(series)


def _canonical(series: pl.Series) -> pl.Series:
    status, hi, lo = _parse(series)
    other = np.flatnonzero(status == OTHER_SPELLING)
    if len(other):
        text = format_addresses(ParsedAddresses(np.ones(len(other), np.bool_), hi[other], lo[other]))
        series = series.clone().scatter(other, text)
    wrong = pl.Series(status == INVALID)
    return series.set(wrong, None) if series.null_count() < wrong.sum() else series


def parse_ranges(series: pl.Series) -> ParsedRanges:
    """Read list entries that are one address, a CIDR block or a range ``first-last`` (spaces allowed).

    Host bits in a CIDR block are cleared (``1.2.3.4/24`` is ``1.2.3.0/24``). A range whose ends are of
    different families is not valid. Whether its ends are in order is for the caller to judge.

    >>> import polars as pl
    >>> parsed = parse_ranges(pl.Series(["10.1.2.3/8", "1.1.1.1 - 1.1.1.9", "a-b.example"]))
    >>> format_addresses(parsed.start).to_list(), format_addresses(parsed.end).to_list()
    (['10.0.0.0', '1.1.1.1', None], ['10.255.255.255', '1.1.1.9', None])
    """
    text = series.cast(pl.String).str.strip_chars()
    parts = (
        pl.DataFrame({"text": text})
        .select(
            pl.col("text").str.contains("/", literal=True).fill_null(value=False).alias("slash"),
            cidr=pl.col("text").str.splitn("/", 2),
            dash=pl.col("text").str.splitn("-", 2),
        )
        .with_columns(
            first=pl.when("slash").then(pl.col("cidr").struct[0]).otherwise(pl.col("dash").struct[0]),
            last=pl.col("dash").struct[1],
            bits=pl.col("cidr").struct[1],
        )
    )
    first = parse_addresses(parts["first"].str.strip_chars())
    last_text = parts["last"].str.strip_chars()
    last = parse_addresses(last_text)
    alone = last_text.is_null().to_numpy()
    slash = parts["slash"].to_numpy()
    end = _choose(alone, first, last)
    valid = first.valid & end.valid & (alone | (first.is_v4 == end.is_v4))
    block = _cidr(first, parts["first"], parts["bits"])
    valid = np.where(slash, block.valid, valid)
    start, end = _choose(slash, block.start, first), _choose(slash, block.end, end)
    return ParsedRanges(
        valid,
        ParsedAddresses(valid, start.hi, start.lo),
        ParsedAddresses(valid, end.hi, end.lo),
    )


def _choose(mask: Bools, one: ParsedAddresses, other: ParsedAddresses) -> ParsedAddresses:
    return ParsedAddresses(
        np.where(mask, one.valid, other.valid), np.where(mask, one.hi, other.hi), np.where(mask, one.lo, other.lo)
    )


def _cidr(base: ParsedAddresses, base_text: pl.Series, bits_text: pl.Series) -> ParsedRanges:
    dotted = ~base_text.str.contains(":", literal=True).fill_null(value=False).to_numpy()
    readable = bits_text.str.contains(r"^[0-9]{1,3}$").fill_null(value=False)
    given = bits_text.set(~readable, "0").fill_null("0").cast(pl.Int64).to_numpy()
    valid = base.valid & readable.to_numpy() & (given <= np.where(dotted, _V4_BITS, _V6_BITS))
    bits = np.clip(np.where(dotted, given + _MAPPED_BITS, given), 0, _V6_BITS)
    host_hi, host_lo = _low_bits(np.clip(64 - bits, 0, 64)), _low_bits(np.clip(128 - bits, 0, 64))
    start = ParsedAddresses(valid, base.hi & ~host_hi, base.lo & ~host_lo)
    end = ParsedAddresses(valid, base.hi | host_hi, base.lo | host_lo)
    return ParsedRanges(valid, start, end)


def _low_bits(count: NDArray[np.int64]) -> U64:
    """Return numbers with that many low bits set (0 to 64); a shift by 64 is undefined, hence two steps."""
    half = (count // 2).astype(np.uint64)
    rest = (count - count // 2).astype(np.uint64)
    return np.asarray(~((_ALL64 << half) << rest), dtype=np.uint64)
