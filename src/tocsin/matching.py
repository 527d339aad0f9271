"""Match addresses and names against a list, as of a time.

Enters: `Indicators`, then parsed addresses or a series of user ids, with times. Leaves: for each row the
entry of the list that applies, or -1. Layer: reference, the inside of :mod:`tocsin.references`.

The most specific entry that holds at the time wins: the smaller range; an e-mail address before its
domain; a domain before its parent domain (a listed domain covers what lies below it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numba import njit

from tocsin.addresses import ParsedAddresses
from tocsin.errors import TableError, did_you_mean
from tocsin.ranges import Segments, flatten
from tocsin.tables import RANGE_KEY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tocsin.lists import Indicators

    Entries = NDArray[np.int32]
    Micros = NDArray[np.int64]

__all__ = ["NO_TIMES", "Matcher", "micros"]

NO_TIMES: Final = np.zeros(0, np.int64)
"""The times of rows matched against a list that has no dates."""
_EARLIEST, _LATEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@njit(nogil=True, cache=True)
def _pick(groups: Any, members: Any, held: Any, times: Any, out: Any) -> None:  # pragma: no cover - compiled
    """Fill ``out`` with the first entry of each row's group that holds at the row's time."""
    offsets, entries = members
    since, until = held
    for row in range(len(groups)):
        group = groups[row]
        if group < 0 or out[row] >= 0:
            continue
        time = times[row] if len(times) else 0
        for at in range(offsets[group], offsets[group + 1]):
            entry = entries[at]
            if since[entry] <= time and (time < until[entry] or until[entry] == _LATEST):
                out[row] = entry
                break


@dataclass(frozen=True)
class Matcher:
    """A list ready to be searched; ``dated`` tells whether the answer depends on time at all."""

    segments: Segments | None
    keys: pl.DataFrame
    key_offsets: NDArray[np.int64]
    key_entries: Entries
    since: Micros
    until: Micros
    dated: bool
    domain_labels: tuple[int, ...]

    @classmethod
    def build(cls, indicators: Indicators | None) -> Matcher:
        """Index a list (None: a list that holds nothing)."""
        if indicators is None:
            nothing, none = np.zeros(1, np.int64), np.zeros(0, np.int32)
            keys = pl.DataFrame(schema={"key": pl.String, "group": pl.Int32})
            return cls(None, keys, nothing, none, nothing, nothing, dated=False, domain_labels=())
        entries = indicators.entries.with_row_index("row")
        since = entries["first_seen"].to_physical().fill_null(_EARLIEST).to_numpy()
        until = entries["expires"].to_physical().fill_null(_LATEST).to_numpy()
        named = entries.filter(pl.col("kind") != "address").sort("indicator", "row")
        groups = named.group_by("indicator", maintain_order=True).agg(pl.col("row").cast(pl.Int32))
        offsets = np.concatenate([[0], np.cumsum(groups["row"].list.len().to_numpy())]).astype(np.int64)
        keys = groups.select(pl.col("indicator").alias("key")).with_row_index("group").cast({"group": pl.Int32})
        domains = named.filter(pl.col("kind") == "domain")["indicator"]
        labels = sorted({int(n) + 1 for n in domains.str.count_matches(".", literal=True).unique()}, reverse=True)
        segments = _segments(entries, (since == _EARLIEST) & (until == _LATEST), indicators.name)
        members = named["row"].cast(pl.Int32).to_numpy()
        return cls(segments, keys, offsets, members, since, until, indicators.dated, tuple(labels))

    def addresses(self, parsed: ParsedAddresses, times: Micros) -> Entries:
        """Return the entry whose range holds each address at its time, -1 where there is none."""
        out = np.full(len(parsed), -1, np.int32)
        if self.segments is not None:
            found = self.segments.index.find(parsed)
            _pick(found, (self.segments.offsets, self.segments.entries), (self.since, self.until), times, out)
        return out

    def names(self, users: pl.Series, times: Micros) -> Entries:
        """Return the entry for each user id: itself, then its domain and that one's parents, -1 if none."""
        users = users.cast(pl.String)
        out = np.full(len(users), -1, np.int32)
        if self.keys.height == 0:
            return out
        distinct = pl.DataFrame({"user": users.unique()}).with_columns(
            lower=pl.col("user").str.to_lowercase(), labels=pl.col("user").str.to_lowercase().str.split("@").list.last()
        )
        email = pl.col("user").str.contains("@", literal=True)
        levels = [pl.col("user"), pl.when(email).then("lower")]
        for count in self.domain_labels:  # the longest names first
            tail = pl.col("labels").str.split(".").list.tail(count)
            levels.append(pl.when(email & (tail.list.len() == count)).then(tail.list.join(".")))
        groups = distinct.select("user")
        for at, level in enumerate(levels):
            wanted = distinct.select("user", key=level)
            found = wanted.join(self.keys, on="key", how="left").select("user", pl.col("group").alias(str(at)))
            groups = groups.join(found, on="user", how="left", nulls_equal=True)
        everyone = pl.DataFrame({"user": users})
        rows = everyone.join(groups, on="user", how="left", nulls_equal=True, maintain_order="left")
        for at in range(len(levels)):
            group = rows[str(at)].fill_null(-1).to_numpy()
            _pick(group, (self.key_offsets, self.key_entries), (self.since, self.until), times, out)
        return out


def micros(frame: pl.DataFrame, matcher: Matcher) -> Micros:
    """Return the rows' times as microseconds UTC; nothing at all when the list has no dates."""
    if not matcher.dated:
        return NO_TIMES
    if "timestamp" not in frame.columns:
        msg = 'The list has entries with dates, but the frame has no column "timestamp".'
        raise TableError(msg + did_you_mean("timestamp", frame.columns))
    return frame["timestamp"].cast(pl.Datetime("us", "UTC")).to_physical().fill_null(_EARLIEST).to_numpy()


def _segments(entries: pl.DataFrame, final: NDArray[np.bool_], name: str) -> Segments | None:
    chosen = entries.filter(pl.col("kind") == "address")
    if chosen.height == 0:
        return None
    rows = chosen["row"].to_numpy().astype(np.int64)
    s_hi, s_lo, e_hi, e_lo = (np.ascontiguousarray(chosen[key].to_numpy()) for key in RANGE_KEY)
    valid = np.ones(len(rows), np.bool_)
    found = flatten(
        ParsedAddresses(valid, s_hi, s_lo), ParsedAddresses(valid, e_hi, e_lo), final=final[rows], name=name
    )
    return Segments(found.index, found.offsets, rows[found.entries].astype(np.int32))
