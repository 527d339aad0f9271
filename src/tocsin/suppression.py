"""Which allow-list entry, if any, covers a finding.

Enters: findings and the allow-list. Leaves: the series ``suppressed_by``. Layer: reference, the inside of
:mod:`tocsin.references`.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from tocsin.addresses import parse_addresses
from tocsin.errors import TableError, did_you_mean
from tocsin.matching import Matcher
from tocsin.tables import rows_or_null

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tocsin.lists import Indicators

__all__ = ["suppressed_by"]

_ADDRESSES = ("src_ip", "dst_ip")
_NEEDED = ("detection_id", "entity", "time")


def suppressed_by(findings: pl.DataFrame, allow: Indicators | None) -> pl.Series:
    """Return the id of the entry covering each finding, null where none does.

    Where several do, scopes are tried in order of their text, and in a scope the entity before the addresses.
    """
    for column in _NEEDED:
        if column not in findings.columns:
            msg = f'Findings need the column "{column}".{did_you_mean(column, findings.columns)}'
            raise TableError(msg)
    chosen = np.full(findings.height, -1, np.int64)
    if allow is None or findings.height == 0:
        return pl.repeat(None, findings.height, dtype=pl.String(), eager=True).alias("suppressed_by")
    times = findings["time"].cast(pl.Datetime("us", "UTC")).to_physical().to_numpy()
    numbered = allow.entries.with_row_index("entry")
    for scope in numbered["scope"].unique().sort():
        rows = np.flatnonzero(_in_scope(findings["detection_id"], scope) & (chosen < 0))
        if len(rows):
            part = numbered.filter(pl.col("scope") == scope)
            matcher = Matcher.build(replace(allow, entries=part.drop("entry")))
            found = _first_match(matcher, findings[rows], times[rows])
            chosen[rows] = np.where(found >= 0, part["entry"].to_numpy().astype(np.int64)[found], -1)
    return allow.entries["id"].gather(rows_or_null(chosen)).alias("suppressed_by")


def _in_scope(detections: pl.Series, scope: str) -> NDArray[np.bool_]:
    pattern = re.compile(fnmatch.translate(scope))
    covered = [name for name in detections.unique() if name is not None and pattern.match(name)]
    return detections.is_in(covered).fill_null(value=False).to_numpy()


def _first_match(matcher: Matcher, findings: pl.DataFrame, times: NDArray[np.int64]) -> NDArray[np.int32]:
    entity = findings["entity"].cast(pl.String)
    found = matcher.names(entity, times)
    for text in (entity, *_observed(findings)):
        by_address = matcher.addresses(parse_addresses(text), times)
        found = np.where(found >= 0, found, by_address)
    return found


def _observed(findings: pl.DataFrame) -> list[pl.Series]:
    """Return the findings' addresses: own columns, or fields of the evidence (a struct, or JSON text)."""
    evidence = findings.schema.get("evidence")
    series = []
    for name in _ADDRESSES:
        if name in findings.columns:
            series.append(findings[name])
        elif isinstance(evidence, pl.Struct) and any(field.name == name for field in evidence.fields):
            series.append(findings["evidence"].struct.field(name))
        elif evidence == pl.String:
            series.append(findings["evidence"].str.json_path_match(f"$.{name}"))
    return series
