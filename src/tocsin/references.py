"""References: what is known about an address, a user or a host beside the events themselves.

Enters: a geo table (or versions of one), threat lists, asset lists, an allow-list; then batches of events.
Leaves: the same batches with columns attached, as of each event's time; findings marked as suppressed.
Layer: reference (above tables, geo, lists, addresses; below measures and fits).

`attach` runs in compiled code without the GIL, so it may run in a thread that prepares the next batch.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tocsin.addresses import ParsedAddresses, parse_addresses
from tocsin.distinct import distinct_text
from tocsin.errors import TableError, did_you_mean
from tocsin.geo import read_geo
from tocsin.lists import Indicators, read_allow, read_assets, read_threats, rejected_of
from tocsin.matching import NO_TIMES, Matcher, micros
from tocsin.networks import prefixes, read_networks
from tocsin.suppression import suppressed_by
from tocsin.tables import Table, rows_or_null, version_rows

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from tocsin.lists import ListSource
    from tocsin.networks import NetworkSource

    GeoSource = str | os.PathLike[str] | pl.DataFrame | Table

__all__ = ["References", "reference"]

_SIDES = {"src": "src_ip", "dst": "dst_ip"}
_GEO = {
    "country": ("country_iso_code", pl.String()),
    "latitude": ("latitude", pl.Float64()),
    "longitude": ("longitude", pl.Float64()),
    "city": ("city_name", pl.String()),
}
_NETWORK: dict[str, pl.DataType] = {"asn": pl.Int64(), "network": pl.String(), "prefix": pl.String()}
_LISTED: dict[str, pl.DataType] = {"listed": pl.Boolean(), "threat": pl.String()}
_UNKNOWN_REASON = "listed"


@dataclass(frozen=True)
class _Addresses:
    """The addresses of a column, each distinct one parsed once; ``codes`` says which of them each row has (None: its own)."""

    parsed: ParsedAddresses
    codes: NDArray[np.uint32] | None

    @classmethod
    def of(cls, frame: pl.DataFrame, column: str) -> _Addresses:
        text = (
            frame[column] if column in frame.columns else pl.repeat(None, frame.height, dtype=pl.String(), eager=True)
        )
        distinct = distinct_text(text)
        if distinct is None:
            return cls(parse_addresses(text), None)
        return cls(parse_addresses(text.gather(pl.Series(distinct.rows))), distinct.codes)

    def by_row(self) -> ParsedAddresses:
        """Return the address of each row: for what depends on the row's time."""
        parsed, codes = self.parsed, self.codes
        return parsed if codes is None else ParsedAddresses(parsed.valid[codes], parsed.hi[codes], parsed.lo[codes])

    def spread(self, found: dict[str, pl.Series]) -> dict[str, pl.Series]:
        """Return for each row what was found for its address."""
        if self.codes is None:
            return found
        codes = pl.Series(self.codes)
        return {name: values.gather(codes) for name, values in found.items()}

    def matched(
        self, matcher: Matcher, frame: pl.DataFrame, columns: Callable[[NDArray[Any]], dict[str, pl.Series]]
    ) -> dict[str, pl.Series]:
        """Return the columns made from the list entries that hold the addresses at their rows' times."""
        if matcher.dated:
            return columns(matcher.addresses(self.by_row(), micros(frame, matcher)))
        return self.spread(columns(matcher.addresses(self.parsed, NO_TIMES)))


@dataclass(frozen=True, eq=False)
class References:
    """Everything events can be looked up in. Made by :func:`reference`; never changed.

    ``geo`` holds the versions of one geo table; the others are None when none was given.
    """

    geo: tuple[Table, ...] = ()
    networks: Table | None = None
    threats: Indicators | None = None
    assets: Indicators | None = None
    allow: Indicators | None = None

    @property
    def columns(self) -> dict[str, pl.DataType]:
        """The columns :meth:`attach` can add, with their types."""
        found: dict[str, pl.DataType] = {}
        for side in _SIDES:
            found |= {f"{side}_{name}": dtype for name, (_, dtype) in _GEO.items()}
            found |= {f"{side}_{name}": dtype for name, dtype in (_NETWORK | _LISTED).items()}
            found[f"{side}_asset"] = pl.String()
        return found | {f"user_{name}": dtype for name, dtype in _LISTED.items()} | {"user_asset": pl.String()}

    @property
    def carried(self) -> frozenset[str]:
        """The columns there is something to say about; every address has a prefix, which needs no table."""
        given = (
            {"network", "prefix"}
            | (set(_GEO) if self.geo else set())
            | ({"asn"} if self.networks is not None else set())
        )
        given |= set(_LISTED) if self.threats is not None else set()
        given |= {"asset"} if self.assets is not None else set()
        return frozenset(name for name in self.columns if name.partition("_")[2] in given)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the contents of all tables and lists; where they came from does not matter."""
        lists = {one.name: one.digest for one in (self.threats, self.assets, self.allow) if one is not None}
        about = {"geo": [table.digest for table in self.geo], **lists}
        if self.networks is not None:
            about["networks"] = self.networks.digest
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    @property
    def rejected(self) -> pl.DataFrame:
        """The list lines that could not be used: list, file, line, column, value, reason."""
        return rejected_of((self.threats, self.assets, self.allow))

    @property
    def attributions(self) -> tuple[str, ...]:
        """What the licences of the tables in use ask to be shown wherever results are."""
        found = [table.notes.get("attribution") for table in self.geo]
        return tuple(dict.fromkeys(text for text in found if text))

    def attach(self, frame: pl.DataFrame, columns: Iterable[str]) -> pl.DataFrame:
        """Add the asked columns, looked up as of each row's ``timestamp``; a column of that name is replaced.

        An absent, null or unreadable address has null geo and is not listed. Without a threat list ``*_listed``
        is null. An unknown column raises :class:`TableError`.

        >>> import polars as pl
        >>> refs = reference(threats=pl.DataFrame({"indicator": ["10.0.0.0/8"], "reason": ["test"]}))
        >>> refs.attach(pl.DataFrame({"src_ip": ["10.1.1.1", None]}), ["src_listed", "src_threat"]).rows()
        [('10.1.1.1', True, 'test'), (None, False, None)]
        """
        wanted = list(dict.fromkeys(columns))
        for name in wanted:
            if name not in self.columns:
                hint = did_you_mean(name, self.columns)
                msg = f'No reference column "{name}".{hint} Known: {", ".join(self.columns)}.'
                raise TableError(msg)
        added: dict[str, pl.Series] = {}
        for side, column in _SIDES.items():
            names = [name.removeprefix(f"{side}_") for name in wanted if name.startswith(f"{side}_")]
            if names:
                added |= {f"{side}_{name}": found for name, found in self._side(frame, column, names).items()}
        if any(name.startswith("user_") for name in wanted):
            added |= self._user(frame, wanted)
        return frame.with_columns(added[name].alias(name) for name in wanted)

    def suppress(self, findings: pl.DataFrame) -> pl.DataFrame:
        """Add ``suppressed_by``: the id of the allow-list entry that covers the finding, null where none does.

        An entry covers a finding when its indicator holds the finding's entity, ``src_ip`` or ``dst_ip`` (a column,
        or a field of ``evidence``), its scope matches the detection id, and the finding's time lies before its
        expiry. Nothing is dropped.
        """
        if self.allow is None and "suppressed_by" in findings.columns:
            return findings  # as the engine writes them: covered by nothing
        return findings.with_columns(suppressed_by(findings, self.allow))

    def _side(self, frame: pl.DataFrame, column: str, names: Sequence[str]) -> dict[str, pl.Series]:
        seen = _Addresses.of(frame, column)
        added: dict[str, pl.Series] = {}
        if any(name in _GEO for name in names):
            added |= self._geo(frame, seen, [name for name in names if name in _GEO])
        if any(name in _NETWORK for name in names):
            added |= seen.spread(self._network(seen.parsed))
        if any(name in _LISTED for name in names):
            added |= seen.matched(self._threats, frame, lambda rows: _listed(self.threats, rows))
        if "asset" in names:
            added |= seen.matched(self._assets, frame, lambda rows: {"asset": _text(self.assets, "asset", rows)})
        return added

    def _geo(self, frame: pl.DataFrame, seen: _Addresses, names: Sequence[str]) -> dict[str, pl.Series]:
        if not self.geo:
            return {name: pl.repeat(None, frame.height, dtype=_GEO[name][1], eager=True) for name in names}
        if len(self.geo) == 1 and self.geo[0].valid_from is None:
            rows = rows_or_null(self.geo[0].ranges.find(seen.parsed))
            return seen.spread({name: self.geo[0].frame[_GEO[name][0]].gather(rows) for name in names})
        return self._geo_versions(version_rows(self.geo, _times(frame)), seen.by_row(), names)

    def _network(self, parsed: ParsedAddresses) -> dict[str, pl.Series]:
        """Return the AS number, the /24 or /48, and the network by name: the AS where the table knows it, else that prefix."""
        prefix = prefixes(parsed)
        if self.networks is None:
            nothing = pl.repeat(None, len(parsed), dtype=pl.Int64(), eager=True)
            return {"asn": nothing, "network": prefix, "prefix": prefix}
        asn = self.networks.frame["asn"].gather(rows_or_null(self.networks.ranges.find(parsed)))
        named = pl.DataFrame({"asn": asn, "prefix": prefix}).select(pl.coalesce(pl.format("AS{}", "asn"), "prefix"))
        return {"asn": asn, "network": named.to_series(), "prefix": prefix}

    def _geo_versions(
        self, version: NDArray[np.int64], parsed: ParsedAddresses, names: Sequence[str]
    ) -> dict[str, pl.Series]:
        """Look each row up in the version valid at its time; row numbers count through all versions."""
        rows = np.full(len(parsed), -1, np.int64)
        base = 0
        for number, table in enumerate(self.geo):
            mine = np.flatnonzero(version == number)
            found = table.ranges.find(ParsedAddresses(parsed.valid[mine], parsed.hi[mine], parsed.lo[mine]))
            rows[mine] = np.where(found >= 0, found.astype(np.int64) + base, -1)
            base += table.frame.height
        places = rows_or_null(rows)
        return {name: pl.concat([t.frame[_GEO[name][0]] for t in self.geo]).gather(places) for name in names}

    def _user(self, frame: pl.DataFrame, wanted: Sequence[str]) -> dict[str, pl.Series]:
        users = frame["user_id"] if "user_id" in frame.columns else pl.Series([None], dtype=pl.String)
        if "user_id" not in frame.columns:
            users = users.new_from_index(0, frame.height)
        added: dict[str, pl.Series] = {}
        if "user_listed" in wanted or "user_threat" in wanted:
            found = _listed(self.threats, self._threats.names(users, micros(frame, self._threats)))
            added |= {f"user_{name}": values for name, values in found.items()}
        if "user_asset" in wanted:
            found_rows = self._assets.names(users, micros(frame, self._assets))
            added["user_asset"] = _text(self.assets, "asset", found_rows)
        return added

    @cached_property
    def _threats(self) -> Matcher:
        return Matcher.build(self.threats)

    @cached_property
    def _assets(self) -> Matcher:
        return Matcher.build(self.assets)


def reference(
    geo: GeoSource | Sequence[GeoSource] | None = None,
    threats: ListSource | Sequence[ListSource] | None = None,
    assets: ListSource | Sequence[ListSource] | None = None,
    allow: ListSource | Sequence[ListSource] | None = None,
    networks: NetworkSource | None = None,
) -> References:
    """Gather reference data for look-ups.

    ``geo``: ``"country"`` (the table that ships), a file, a frame, a `Table`, or several versions of one with
    their own ``valid_from``. ``networks``: address ranges with AS numbers, a file, a frame or a `Table`.
    ``threats``, ``assets``, ``allow``: a file, a frame or several.

    >>> reference(geo="country").attributions
    ('IP Geolocation by DB-IP (https://db-ip.com)',)
    """
    sources: Sequence[GeoSource] = () if geo is None else geo if isinstance(geo, (list, tuple)) else (geo,)
    tables = sorted((read_geo(source) for source in sources), key=_version_order)
    starts = [_version_order(table) for table in tables]
    if len(set(starts)) < len(starts):
        msg = "Two geo tables are valid from the same time; give each version its own: read_geo(path, valid_from=...)."
        raise TableError(msg)
    return References(
        tuple(tables),
        None if networks is None else read_networks(networks),
        None if threats is None else read_threats(threats),
        None if assets is None else read_assets(assets),
        None if allow is None else read_allow(allow),
    )


def _version_order(table: Table) -> float:
    return float("-inf") if table.valid_from is None else table.valid_from.timestamp()


def _times(frame: pl.DataFrame) -> pl.Series:
    if "timestamp" not in frame.columns:
        msg = 'These look-ups depend on time, but the frame has no column "timestamp".'
        raise TableError(msg + did_you_mean("timestamp", frame.columns))
    return frame["timestamp"]


def _listed(threats: Indicators | None, rows: NDArray[Any]) -> dict[str, pl.Series]:
    if threats is None:
        return {name: pl.repeat(None, len(rows), dtype=dtype, eager=True) for name, dtype in _LISTED.items()}
    reasons = threats.entries.select(pl.coalesce("reason", "source", pl.lit(_UNKNOWN_REASON)))["reason"]
    return {"listed": pl.Series(rows >= 0), "threat": reasons.gather(rows_or_null(rows))}


def _text(entries: Indicators | None, column: str, rows: NDArray[Any]) -> pl.Series:
    if entries is None:
        return pl.repeat(None, len(rows), dtype=pl.String(), eager=True)
    return entries.entries[column].gather(rows_or_null(rows))
