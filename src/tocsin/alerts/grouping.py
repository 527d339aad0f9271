"""Which alert a finding belongs to: its detection, its entity, and the tumbling window of its time.

Enters: findings. Leaves: the same with the id and window of their alert, and the alert rows that they raise. Nothing
here depends on when or in which order findings come. Layer: alerts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from tocsin.calendars import PERIODS, Calendar, duration_us
from tocsin.lifecycle.frames import digest, fit_frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tocsin.detection import Detection

_KINDS = {"user_id": "user", "src_ip": "ip", "dst_ip": "ip", "host": "host", "hostname": "host", "domain": "domain"}


@dataclass(frozen=True)
class Grouping:
    """Findings of one detection, version and entity inside one window are one alert.

    window: "1h", "1d", "1w" or "1mo" of the zone's calendar, or any other duration, counted from 1970 UTC. windows: those of
    detections that differ, by id. The window is part of an alert's id: changing it raises new alerts from then on.

    >>> from datetime import UTC, datetime
    >>> found = pl.DataFrame({"finding_id": ["f1", "f2", "f3"], "detection_id": "r", "entity": "ann",
    ...                       "time": [datetime(2026, 1, 5, h, tzinfo=UTC) for h in (1, 9, 23)]})
    >>> Grouping("1d", "America/Denver").of(fit_frame(found, "finding"))["alert_id"].n_unique()  # 1:00 UTC is the day before
    2
    """

    window: str = "1d"
    zone: str = "UTC"
    windows: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_rules(cls, detections: Iterable[Detection], zone: str = "UTC") -> Grouping:
        """Return the grouping in which each rule has the window it asks for."""
        return cls(zone=zone, windows={d.id: d.grouping for d in detections})

    def of(self, findings: pl.DataFrame) -> pl.DataFrame:
        """Return findings with ``alert_id``, ``alert_start`` and ``alert_end``."""
        times = findings["time"].dt.epoch("us").to_numpy()
        start, end = np.zeros(times.size, np.int64), np.zeros(times.size, np.int64)
        own = findings["detection_id"].replace_strict(dict(self.windows), default=self.window, return_dtype=pl.String)
        for window in own.unique().to_list():
            rows = (own == window).to_numpy()
            start[rows], end[rows] = self._bounds(window, times[rows])
        framed = findings.with_columns(pl.Series("alert_start", start), pl.Series("alert_end", end))
        named = [pl.col(c) for c in ("detection_id", "version", "entity_kind", "entity", "alert_start", "alert_end")]
        return framed.with_columns(
            digest(named, framed).alias("alert_id"),
            pl.col("alert_start", "alert_end").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
        )

    def _bounds(self, window: str, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if window not in PERIODS:
            length = duration_us(window)
            start = times // length * length
            return start, start + length
        calendar = Calendar(window, self.zone)
        numbers, back = np.unique(calendar.number(times), return_inverse=True)
        begins = np.array([(calendar.begin(int(n)), calendar.begin(int(n) + 1)) for n in numbers], np.int64).reshape(
            -1, 2
        )
        return begins[back, 0], begins[back, 1]


def raised_by(findings: pl.DataFrame) -> pl.DataFrame:
    """Return the alert row of each ``alert_id`` among grouped findings, as its first finding tells it.

    Findings that an allow-list entry covers raise none.
    """
    first = (
        findings.filter(pl.col("suppressed_by").is_null())
        .sort("time", "finding_id")
        .unique("alert_id", keep="first", maintain_order=True)
    )
    rows = first.select_seq(
        "alert_id", "created_at", "recorded_at", "tier", "severity", "title", "entity_kind", "entity", "score", "threshold", "table_digest",
        rule_id="detection_id", rule_version="version", window_start="alert_start", window_end="alert_end", first_activity_at="time",
        observables=_observables(first), source="source_of_alert",
    )  # fmt: skip
    return fit_frame(rows, "alert")


def _observables(findings: pl.DataFrame) -> pl.Series:
    """Return a JSON list for each finding: its entity and its addresses, each value once, in the part it plays."""
    told = [
        pl.struct(
            kind=pl.col("entity_kind").replace(_KINDS),
            role=pl.col("entity_kind").replace_strict(
                {"src_ip": "source", "dst_ip": "destination"}, default="entity", return_dtype=pl.String
            ),
            value="entity",
        ),
        *(
            pl.struct(kind=pl.lit("ip"), role=pl.lit(role), value=column)
            for column, role in (("src_ip", "source"), ("dst_ip", "destination"))
        ),
    ]
    each = (
        pl.concat_list(told)
        .list.filter(pl.element().struct.field("value").is_not_null())
        .list.unique(maintain_order=True)
    )
    return findings.select_seq(pl.struct(o=each).struct.json_encode().str.slice(5).str.head(-1).alias("observables"))[
        "observables"
    ]
