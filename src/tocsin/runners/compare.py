"""Compare two backtests: what a change to the rules gains and loses.

Enters: the backtest of the old rules and that of the new ones over the same events. Leaves: findings gained and
lost, and alerts a day of each. Layer: runners.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from tocsin.engine.replay import Backtest

_KEY = ["detection_id", "entity_kind", "entity", "about"]


@dataclass(frozen=True)
class Comparison:
    """``by_detection``: a row per detection of either side. ``gained`` and ``lost``: findings of one side only."""

    by_detection: pl.DataFrame
    gained: pl.DataFrame
    lost: pl.DataFrame


def compare(old: Backtest, new: Backtest) -> Comparison:
    """Match findings by detection, entity and window (or event): a rule that changed its version keeps its findings."""
    before, after = _keyed(old.findings), _keyed(new.findings)
    gained = after.join(before, on=_KEY, how="anti")
    lost = before.join(after, on=_KEY, how="anti")
    return Comparison(_table(old, new, gained, lost), gained.drop("about"), lost.drop("about"))


def _keyed(findings: pl.DataFrame) -> pl.DataFrame:
    window = pl.col("window_start").dt.to_string("iso")
    return findings.with_columns(about=pl.coalesce(window, "event_id"))


def _table(old: Backtest, new: Backtest, gained: pl.DataFrame, lost: pl.DataFrame) -> pl.DataFrame:
    sides = [b.by_detection().select("detection", "fired", "alerts_a_day") for b in (old, new)]
    both = sides[0].join(
        sides[1], on="detection", how="full", coalesce=True, suffix="_new", maintain_order="right_left"
    )
    changes = [
        f.group_by("detection_id").len().rename({"detection_id": "detection", "len": n})
        for f, n in ((gained, "gained"), (lost, "lost"))
    ]
    for change in changes:
        both = both.join(change, on="detection", how="left")
    return both.select(
        "detection",
        pl.col("fired").alias("fired_old"),
        "fired_new",
        pl.col("gained", "lost").fill_null(0).cast(pl.Int64),
        pl.col("alerts_a_day").alias("alerts_a_day_old"),
        "alerts_a_day_new",
    )
