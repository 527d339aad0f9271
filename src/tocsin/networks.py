"""Networks: who runs the addresses, by autonomous system, and what to call the network of any address.

Enters: a table of address ranges with AS numbers (CSV, Parquet, frame), parsed addresses. Leaves: a ``Table`` of
ranges with the columns of ``NETWORK_VALUES``; the /24 or /48 of an address as text. Layer: ground floor (above geo).
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from tocsin.errors import TableError, did_you_mean
from tocsin.geo import range_bounds, read_range_csv
from tocsin.tables import RANGE_KEY, Table

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from tocsin.addresses import ParsedAddresses

    NetworkSource = str | os.PathLike[str] | pl.DataFrame | Table

__all__ = ["NETWORK_VALUES", "prefixes", "read_networks"]

NETWORK_VALUES = ("asn", "organisation")
"""The value columns of a table of networks: the AS number and whose it is (free text; null where not known)."""

_V4_TAG = 0xFFFF
_MOST_ASN = (1 << 32) - 1


def read_networks(source: NetworkSource) -> Table:
    """Read a table of networks: ``lo_addr, hi_addr`` (text or whole numbers, ends inclusive), ``asn``, ``organisation``.

    Files: ``.csv``, ``.csv.gz``, ``.csv.zst``, ``.parquet``. An AS number may be written ``64500`` or ``AS64500``.
    Raises :class:`TableError` for missing columns, unreadable addresses or numbers, overlapping or inverted ranges.

    >>> import polars as pl
    >>> frame = pl.DataFrame({"lo_addr": ["192.0.2.0"], "hi_addr": ["192.0.2.255"], "asn": ["AS64500"]})
    >>> read_networks(frame).frame.select("asn", "organisation").rows()
    [(64500, None)]
    """
    if isinstance(source, Table):
        table = source
    else:
        frame, name = (source, "networks") if isinstance(source, pl.DataFrame) else _read_file(Path(source))
        table = _table(frame, name)
    if not table.is_range or not set(NETWORK_VALUES) <= set(table.values):
        msg = f'Table "{table.name}" is no table of networks: it needs address ranges and {", ".join(NETWORK_VALUES)}.'
        raise TableError(msg)
    _ = table.ranges  # overlapping ranges are reported here, not at the first look-up
    return table


def _read_file(path: Path) -> tuple[pl.DataFrame, str]:
    if not path.is_file():
        msg = f"{path}: there is no such file of networks."
        raise TableError(msg)
    suffixes = "".join(path.suffixes).lower()
    if suffixes.endswith(".parquet"):
        return pl.read_parquet(path), path.name
    if suffixes.endswith((".csv", ".csv.gz", ".csv.zst")):
        return read_range_csv(path), path.name
    msg = f"{path}: a table of networks is .csv, .csv.gz, .csv.zst or .parquet."
    raise TableError(msg)


def _table(frame: pl.DataFrame, name: str) -> Table:
    if "asn" not in frame.columns:
        msg = f'{name}: no column "asn"; a table of networks needs lo_addr, hi_addr and asn.'
        raise TableError(msg + did_you_mean("asn", frame.columns))
    text = frame["asn"].cast(pl.String).str.strip_chars().str.replace(r"^(?i)AS", "")
    text = text.set(text == "", None)
    asn = text.cast(pl.Int64, strict=False)
    wrong = text.is_not_null() & ~asn.is_between(0, _MOST_ASN).fill_null(value=False)
    if wrong.any():
        row = int(wrong.arg_true()[0])
        msg = f'{name}: row {row}, column "asn": {frame["asn"][row]!r} is no AS number (0 to {_MOST_ASN}).'
        raise TableError(msg)
    owner = frame["organisation"].cast(pl.String) if "organisation" in frame.columns else None
    values = pl.DataFrame(
        {"asn": asn, "organisation": pl.Series([None] * frame.height, dtype=pl.String) if owner is None else owner}
    )
    ordered = pl.DataFrame(range_bounds(frame, name)).hstack(values).sort(RANGE_KEY)
    return Table(name, ordered, RANGE_KEY, NETWORK_VALUES)


def prefixes(parsed: ParsedAddresses) -> pl.Series:
    """Return the /24 (IPv4) or /48 (IPv6) that holds each address, as text; null where there is no address.

    >>> from tocsin.addresses import parse_addresses
    >>> prefixes(parse_addresses(pl.Series(["198.51.100.7", "2001:db8:1:2::3", "?"]))).to_list()
    ['198.51.100.0/24', '2001:db8:1::/48', None]
    """
    # Each network is written once, and its text spread over its addresses.
    v4 = (parsed.hi == 0) & (parsed.lo >> np.uint64(32) == _V4_TAG)
    # One number for each network: its leading bits, with the family in the lowest bit.
    bits = np.where(
        v4,
        (parsed.lo >> np.uint64(8) << np.uint64(1)) & np.uint64(0x1FFFFFF),
        (parsed.hi >> np.uint64(16) << np.uint64(1)) | np.uint64(1),
    )
    numbers, rows = np.unique(bits, return_inverse=True)
    odd = (numbers & np.uint64(1)).astype(np.bool_)
    v6_names = [f"{ipaddress.IPv6Address((number >> 1) << 80)}/48" for number in numbers[odd].tolist()]
    names = pl.concat([_v4_prefixes(numbers[~odd] >> np.uint64(1)), pl.Series(v6_names, dtype=pl.String)])
    place = np.empty(numbers.size, np.uint32)
    place[np.concatenate([np.flatnonzero(~odd), np.flatnonzero(odd)])] = np.arange(numbers.size)
    found = names.gather(pl.Series(place[rows]))
    return found if parsed.valid.all() else found.set(pl.Series(~parsed.valid), None)


def _v4_prefixes(leading: NDArray[np.uint64]) -> pl.Series:
    octets = {name: (leading >> np.uint64(shift)) & np.uint64(255) for name, shift in (("a", 16), ("b", 8), ("c", 0))}
    return pl.DataFrame(octets).select(pl.format("{}.{}.{}.0/24", "a", "b", "c")).to_series()
