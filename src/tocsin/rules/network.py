"""Detections over addresses and reference lists.

Enters: nothing. Leaves: ``DETECTIONS``. Layer: rules.
"""

from __future__ import annotations

import polars as pl

from tocsin.detection import Detection, Example, col, score

LISTED_ADDRESS = Detection(
    id="network.listed-address",
    title="Event from or to an address on a threat list",
    severity="high",
    on=col("src_listed").is_not_null() | col("dst_listed").is_not_null(),
    entity="user_id",
    score=pl.sum_horizontal(col("src_listed").cast(pl.Int64), col("dst_listed").cast(pl.Int64)),
    when=score >= 1,
    evidence=("kind", "src_ip", "src_threat", "dst_ip", "dst_threat"),
    tags=("attack.t1078",),
    description=(
        "The source or the destination address of any event stands on a threat list at the time of the event. "
        "The score is how many of the two do."
    ),
    false_positives=(
        "Shared hosting, exit nodes and stale entries. Give lists with first-seen and expiry dates, and allow-list own addresses."
    ),
    examples=(
        Example(
            fires=True,
            events=[
                {"kind": "login", "user_id": "ann", "src_ip": "203.0.113.9", "src_listed": True, "dst_listed": False}
            ],
        ),
        Example(
            fires=True,
            events=[
                {"kind": "mail", "user_id": "ann", "dst_ip": "203.0.113.9", "src_listed": False, "dst_listed": True}
            ],
        ),
        Example(
            fires=False,
            events=[
                {"kind": "mail", "user_id": "ann", "src_ip": "198.51.100.7", "src_listed": False, "dst_listed": False}
            ],
        ),
    ),
)

DETECTIONS = (LISTED_ADDRESS,)
