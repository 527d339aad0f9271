"""The four frames of the alert log, column by column.

Enters: frames of any source that have some of the columns. Leaves: frames with exactly these, in this order, and keys
that are the same whenever the same thing is said. Layer: lifecycle.
"""

from __future__ import annotations

import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pyarrow as pa

from tocsin.errors import did_you_mean
from tocsin.lifecycle.words import LifecycleError
from tocsin.siphash import siphash_128

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TIME: Final = pl.Datetime("us", "UTC")
_PUBLIC_KEY: Final = bytes(16)
FEW: Final = 64
"""Rows that are hashed without the compiled hash."""

ALERT: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "alert_id": pl.String,  # 32 hex digits: of rule, version, entity and window, or of source and external id
        "created_at": TIME,  # when it was raised
        "recorded_at": TIME,  # when this log learnt of it
        "rule_id": pl.String,
        "rule_version": pl.String,
        "rule_hash": pl.String,
        "tier": pl.Int8,
        "severity": pl.String,  # as it was raised; severity_changed comes later
        "title": pl.String,
        "entity_kind": pl.String,
        "entity": pl.String,
        "vendor": pl.String,
        "tenant": pl.String,
        "window_start": TIME,  # the tumbling window whose findings belong to it; null in imports
        "window_end": TIME,
        "first_activity_at": TIME,  # of the first finding, or as the source says
        "last_activity_at": TIME,  # as the source says; of own findings it is a view
        "score": pl.Float64,
        "threshold": pl.Float64,
        "table_digest": pl.String,
        "observables": pl.String,  # JSON list of {kind, role, value}
        "source": pl.String,  # live, backtest, or the name of an import
        "external_id": pl.String,
        "history": pl.String,  # full: each activity is known; summary: first and last times only
        "is_test": pl.Boolean,
    }
)
"""One row an alert, written once."""

ACTIVITY: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "key": pl.String,  # 32 hex digits; the same thing said twice has the same
        "alert_id": pl.String,
        "at": TIME,  # when it happened
        "recorded_at": TIME,  # when this log learnt of it
        "type": pl.String,
        "actor": pl.String,
        "actor_kind": pl.String,
        "value": pl.String,  # what `words.ACTIVITIES` says of the type
        "number": pl.Float64,
        "until": TIME,
        "payload": pl.String,  # JSON object: reason and whatever else
    }
)
"""One row an activity, in the order in which the log learnt of them."""

FINDING: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "finding_id": pl.String,
        "alert_id": pl.String,
        "recorded_at": TIME,
        "detection_id": pl.String,
        "version": pl.String,
        "severity": pl.String,
        "tier": pl.Int8,
        "title": pl.String,
        "entity_kind": pl.String,
        "entity": pl.String,
        "time": TIME,
        "window_start": TIME,
        "window_end": TIME,
        "score": pl.Float64,
        "threshold": pl.Float64,
        "value": pl.Float64,
        "peak_score": pl.Float64,  # as it stood when the finding was written; later ones are activities
        "evidence": pl.String,
        "table_digest": pl.String,
        "event_id": pl.String,
        "source": pl.String,
        "src_ip": pl.String,
        "dst_ip": pl.String,
        "suppressed_by": pl.String,
    }
)
"""The engine's findings, with their alert and when they were written down."""

JOURNAL: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "key": pl.String,
        "kind": pl.String,  # one of words.JOURNAL_KINDS
        "name": pl.String,
        "at": TIME,
        "until": TIME,
        "recorded_at": TIME,
        "value": pl.String,
        "number": pl.Float64,
    }
)
"""What was true around the alerts."""

_REQUIRED: Final = {
    "alert": ("alert_id", "created_at"),
    "activity": ("alert_id", "at", "type"),
    "finding": ("finding_id", "detection_id", "entity", "time"),
    "journal": ("kind", "at"),
}
SCHEMAS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {"alert": ALERT, "activity": ACTIVITY, "finding": FINDING, "journal": JOURNAL}
)
_DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "alert": {"severity": "unknown", "history": "full", "is_test": False, "observables": "[]", "source": "import"},
        "activity": {"actor_kind": "human"},
        "finding": {},
        "journal": {},
    }
)


def digest(parts: Sequence[pl.Expr], frame: pl.DataFrame) -> pl.Series:
    """Return 32 hex digits for each row, of the texts of its parts; null and "" are told apart.

    >>> digest([pl.col("a")], pl.DataFrame({"a": ["x", "x", None]})).n_unique()
    2
    """
    told = [pl.when(p.is_null()).then(pl.lit("\x00")).otherwise(p.cast(pl.String).fill_null("")) for p in parts]
    text = frame.select_seq(pl.concat_str(told, separator="\x1f").alias("text"))["text"]
    if len(text) <= FEW and "tocsin.hashing" not in sys.modules:
        return pl.Series([siphash_128(t.encode(), _PUBLIC_KEY).hex() for t in text], dtype=pl.String)
    from tocsin.hashing import hash_column  # loads a compiler, which few rows can do without

    hashes = pa.py_buffer(hash_column(text, _PUBLIC_KEY))
    words = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(text), [None, hashes])
    return pl.Series(pl.from_arrow(words)).cast(pl.Binary).bin.encode("hex")


def activity_key(frame: pl.DataFrame) -> pl.Series:
    """Return the key of each activity, of everything it says but when it was recorded; saying it again changes nothing."""
    said = [
        pl.col(c).dt.epoch("us") if ACTIVITY[c] == TIME else pl.col(c)
        for c in ACTIVITY
        if c not in ("key", "recorded_at")
    ]
    return digest(said, frame).alias("key")


def journal_key(frame: pl.DataFrame) -> pl.Series:
    """Return the key of each journal row, as `activity_key` does."""
    said = [
        pl.col(c).dt.epoch("us") if JOURNAL[c] == TIME else pl.col(c)
        for c in JOURNAL
        if c not in ("key", "recorded_at")
    ]
    return digest(said, frame).alias("key")


def fit_frame(frame: pl.DataFrame, table: str) -> pl.DataFrame:
    """Return a frame with exactly the columns of a table ("alert", "activity", "finding", "journal"), keys filled in.

    Missing columns become null, or what is usual (`severity` unknown, `actor_kind` human). Times come as aware UTC
    datetimes in microseconds.

    Raises:
        LifecycleError: A required column is missing, an unknown one is there, or a column has another type.

    >>> from datetime import UTC, datetime
    >>> when = datetime(2026, 1, 5, 9, tzinfo=UTC)
    >>> fit_frame(pl.DataFrame({"alert_id": ["a"], "at": [when], "type": ["viewed"]}), "activity")["actor_kind"][0]
    'human'
    """
    schema, defaults = SCHEMAS[table], _DEFAULTS[table]
    for name in _REQUIRED[table]:
        if name not in frame.columns:
            raise LifecycleError(f"{table} rows need the column {name!r}; these have {frame.columns}.")
    for name in frame.columns:
        if name not in schema:
            raise LifecycleError(f"{table} rows have no column {name!r}.{did_you_mean(name, schema)}")
    made = []
    for name, dtype in schema.items():
        if name not in frame.columns:
            made.append(pl.lit(defaults.get(name), dtype).alias(name))
            continue
        if isinstance(dtype, pl.Datetime) and not isinstance(frame.schema[name], pl.Datetime | pl.Null):
            raise LifecycleError(f"{table}.{name} is a time in UTC; this is {frame.schema[name]}.")
        column = pl.col(name).cast(dtype)
        made.append(column.fill_null(defaults[name]) if name in defaults else column)
    fitted = frame.select_seq(made)
    if table in ("activity", "journal") and fitted["key"].null_count():
        key = activity_key(fitted) if table == "activity" else journal_key(fitted)
        fitted = fitted.with_columns(pl.coalesce("key", key).alias("key"))
    return fitted


def empty_history() -> dict[str, pl.DataFrame]:
    """Return the four frames without rows."""
    return {name: pl.DataFrame(schema=dict(schema)) for name, schema in SCHEMAS.items()}
