"""Findings: one firing of one detection, written so that anybody can check it.

Enters: the events at which one detection fired, with their scores. Leaves: a frame of new findings and the raised
peaks of open windows; ids and order depend on nothing but the events. Layer: engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa

from tocsin.expressions import digest, evaluate
from tocsin.hashing import hash_column
from tocsin.kernels.streams import first_of_window
from tocsin.kernels.windows import NEVER
from tocsin.measures import Spanned
from tocsin.running.state import Saved, grow
from tocsin.tables import Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tocsin.detection import Detection

UTC_TIME = pl.Datetime("us", "UTC")
SCHEMA: dict[str, Any] = {
    "finding_id": pl.String, "detection_id": pl.String, "version": pl.String, "severity": pl.String, "tier": pl.Int8, "title": pl.String,
    "entity_kind": pl.String, "entity": pl.String, "time": UTC_TIME, "window_start": UTC_TIME, "window_end": UTC_TIME, "score": pl.Float64,
    "threshold": pl.Float64, "value": pl.Float64, "peak_score": pl.Float64, "evidence": pl.String, "table_digest": pl.String,
    "event_id": pl.String, "source": pl.String, "src_ip": pl.String, "dst_ip": pl.String, "suppressed_by": pl.String,
}  # fmt: skip
PEAKS = {"finding_id": pl.String, "peak_score": pl.Float64}
RULE_ERROR = "tocsin.rule-error"
"""The detection id of the finding that a rule which raises leaves behind."""
_PUBLIC_KEY = bytes(16)


def empty() -> pl.DataFrame:
    """Return a frame of no findings."""
    return pl.DataFrame(schema=SCHEMA)


class Firing(Saved):
    """Which window of each entity has fired, and its peak so far; and each entity's most extreme score ever."""

    kept = ("fired", "peak", "best", "best_t")
    by_slot = kept

    def __init__(self) -> None:
        """Start with nothing fired."""
        self.fired, self.peak = np.full(0, NEVER), np.zeros(0)
        self.best, self.best_t = np.full(0, np.nan), np.zeros(0, np.int64)

    def grow(self, n: int) -> None:
        """Make room for ``n`` entities."""
        self.n_slots = n
        self.fired, self.peak = grow(self.fired, n, NEVER), grow(self.peak, n, 0.0)
        self.best, self.best_t = grow(self.best, n, np.nan), grow(self.best_t, n, 0)

    def open_windows(
        self, slot: NDArray[np.int64], window: NDArray[np.int64], score: NDArray[np.float64], sign: float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return which fired events are the first of their entity and window, and which later ones raise its peak."""
        first, raised = np.zeros(slot.size, np.bool_), np.zeros(slot.size, np.bool_)
        first_of_window(slot, window, score, sign, self.fired, self.peak, first, raised)
        return np.flatnonzero(first), np.flatnonzero(raised)


def sign(detection: Detection) -> float:
    """Return 1 where high scores are the extreme ones, -1 for a rule that fires below its threshold."""
    return -1.0 if detection.when.operator.startswith("<") else 1.0


def peaks(detection: Detection, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the new peak of each window in which later events scored higher than the finding that opened it."""
    last = rows.group_by("@slot", "@window", maintain_order=True).last()
    return last.select_seq(_finding_id(detection, last), peak_score="@score")


def _finding_id(detection: Detection, rows: pl.DataFrame) -> pl.Series:
    """Name a finding by rule, version and window and entity, or by the event; text an attacker chose comes last."""
    entity = pl.col(detection.entity).cast(pl.String)
    source = pl.col("source").fill_null("") if "source" in rows.columns else pl.lit("")
    parts = (
        [pl.col("@window").cast(pl.String), pl.lit(detection.entity), entity]
        if detection.windowed
        else [source, pl.col("event_id")]
    )
    text = rows.select_seq(
        pl.concat_str([pl.lit(detection.id), pl.lit(detection.version), *parts], separator="\x1f").alias("x")
    )["x"]
    return hex_digest(text).alias("finding_id")


def hex_digest(text: pl.Series) -> pl.Series:
    """Return 32 hex digits for each text."""
    data = hash_column(text, _PUBLIC_KEY).tobytes().hex().encode()
    ends = np.arange(0, len(data) + 1, 32)
    return pl.Series(pa.LargeStringArray.from_buffers(len(text), pa.py_buffer(ends), pa.py_buffer(data)))


def _window_times(detection: Detection, rows: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    if not detection.windowed or not isinstance(detection.measure, Spanned):
        nothing = pl.repeat(None, rows.height, dtype=UTC_TIME, eager=True)
        return nothing, nothing
    calendar = detection.measure.calendar
    windows, back = np.unique(rows["@window"].to_numpy(), return_inverse=True)
    begins = np.array([calendar.begin(int(w)) for w in windows], np.int64)
    ends = np.array([calendar.begin(int(w) + 1) for w in windows], np.int64)
    return tuple(
        pl.Series(x[back] if x.size else x, dtype=pl.Int64).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        for x in (begins, ends)
    )  # type: ignore[return-value]


def write(detection: Detection, rows: pl.DataFrame, refs_digest: str) -> pl.DataFrame:
    """Return the findings of fired events; ``rows`` has the ``@`` columns of the rule, slot, window and score."""
    if rows.is_empty():
        return empty()
    start, end = _window_times(detection, rows)
    made = [c for c in rows.columns if c == "@value" or c.startswith(("@ref.", "@prev.", "@ctx.", "@known", "@total"))]
    shown = [*(c for c in dict.fromkeys(detection.evidence) if c in rows.columns), *made]
    evidence = (
        pl.struct([pl.col(c).alias(c.lstrip("@")) for c in shown]).struct.json_encode() if shown else pl.lit("{}")
    )
    optional = {
        c: pl.col(c).cast(pl.String) if c in rows.columns else pl.lit(None, pl.String)
        for c in ("source", "src_ip", "dst_ip")
    }
    value = pl.col("@value").cast(pl.Float64) if "@value" in rows.columns else pl.lit(None, pl.Float64)
    number = detection.when.number
    threshold = (
        evaluate(rows, detection.when.threshold).cast(pl.Float64) if number is None else pl.lit(number, pl.Float64)
    )
    frame = rows.select_seq(
        _finding_id(detection, rows), detection_id=pl.lit(detection.id), version=pl.lit(detection.version),
        severity=pl.lit(detection.severity), tier=pl.lit(detection.tier, pl.Int8),
        title=pl.lit(detection.title), entity_kind=pl.lit(detection.entity),
        entity=pl.col(detection.entity).cast(pl.String), time=pl.col("timestamp"), window_start=start, window_end=end,
        score=pl.col("@score"), threshold=threshold, value=value, peak_score=pl.col("@score"),
        evidence=evidence, table_digest=_table_digest(detection, rows, refs_digest), event_id=pl.col("event_id"),
        suppressed_by=pl.lit(None, pl.String), **optional,
    )  # fmt: skip
    return pl.DataFrame([frame[name] for name in SCHEMA])


def write_error(detection: Detection, event: pl.DataFrame, message: str) -> pl.DataFrame:
    """Return the one finding that says a rule raised: on which event first, and what.

    ``event`` is that event in one row. Its entity is the rule; it is written once for each version of the rule.
    """
    optional = {c: pl.col(c).cast(pl.String) for c in ("source", "src_ip", "dst_ip") if c in event.columns}
    text = pl.Series([f"{RULE_ERROR}\x1f{detection.id}\x1f{detection.version}"])
    found = event.select(
        hex_digest(text).alias("finding_id"), detection_id=pl.lit(RULE_ERROR), version=pl.lit(detection.version),
        severity=pl.lit("high"), tier=pl.lit(detection.tier, pl.Int8), title=pl.lit(f"The rule {detection.id} raised"),
        entity_kind=pl.lit("detection_id"), entity=pl.lit(detection.id), time=pl.col("timestamp"),
        evidence=pl.struct(error=pl.lit(message)).struct.json_encode(), table_digest=pl.lit(""), event_id=pl.col("event_id"),
        **optional,
    )  # fmt: skip
    return pl.concat([empty(), found], how="diagonal")


def _table_digest(detection: Detection, rows: pl.DataFrame, refs_digest: str) -> pl.Expr | pl.Series:
    """Return a hash of the table the event was compared with: for a fit, of its values as they held for this window."""
    against = detection.against
    if isinstance(against, Table):
        return pl.lit(against.digest)
    if detection.fits:
        keys = "".join(f"{name}{fit.key}" for name, fit in detection.fits.items())
        refs = [pl.col(c).cast(pl.String).fill_null("") for c in rows.columns if c.startswith("@ref.")]
        window = pl.col("@window").cast(pl.String).fill_null("") if "@window" in rows.columns else pl.lit("")
        text = rows.select_seq(pl.concat_str([pl.lit(keys), window, *refs], separator="\x1f").alias("x"))["x"]
        return hex_digest(text)
    return pl.lit(refs_digest if detection.tier == 2 else digest(detection.version), pl.String)
