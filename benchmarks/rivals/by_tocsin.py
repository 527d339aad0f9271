"""Tocsin: the five analyses as detections, in one pass of `tocsin.backtest`, findings written to a file.

Enters: the made data. Leaves: five answers. Layer: none (outside the package).
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import polars as pl

import tocsin as tc
from benchmarks import analyses as an

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.analyses import Answers
    from benchmarks.data import Data


def speed_kmh() -> pl.Expr:
    """Kilometres an hour since the entity's previous event, between the places of the source addresses."""
    lat, lon = pl.col("src_latitude").radians(), pl.col("src_longitude").radians()
    lat0, lon0 = pl.col("@prev.src_latitude").radians(), pl.col("@prev.src_longitude").radians()
    across = ((lat + lat0) / 2).cos() * (lon - lon0)
    km = an.EARTH_RADIUS_KM * ((lat - lat0).pow(2) + across.pow(2)).sqrt()
    seconds = (pl.col("timestamp") - pl.col("@prev.timestamp")).dt.total_microseconds() / 1e6
    return km / (pl.max_horizontal(seconds, 1.0) / 3600)


IS_MAIL = pl.col("kind") == "mail"
HAS_EXE = pl.col("attachments").list.eval(pl.element().str.to_lowercase().str.ends_with(".exe")).list.any()


def detections() -> list[tc.Detection]:
    """Return the five analyses as detections; their ids are the analyses' names."""
    mails_a_day = tc.Count(per="1d")
    return [
        tc.Detection(
            id="bench.a1", title="Many recipients and an .exe", severity="low", on=IS_MAIL & HAS_EXE, entity="user_id",
            score=pl.col("nr_recipients").cast(pl.Float64), when=tc.score > an.MAX_RECIPIENTS,
        ),
        tc.Detection(
            id="bench.a3", title="A listed address", severity="low", on=pl.lit(value=True), entity="user_id",
            score=(pl.col("src_listed") | pl.col("dst_listed")).fill_null(value=False).cast(pl.Float64),
            when=tc.score > 0,
        ),
        tc.Detection(
            id="bench.a4", title="Three times the own mean", severity="low", on=IS_MAIL, entity="user_id",
            measure=mails_a_day,
            against=tc.own_history(mean=True, windows=an.OWN_WINDOWS, at_least=an.OWN_AT_LEAST),
            score=tc.value / tc.ref.mean, when=tc.score > an.OWN_FACTOR,
        ),
        tc.Detection(
            id="bench.a6", title="Above the population", severity="low", on=IS_MAIL, entity="user_id",
            measure=mails_a_day, against=tc.population(mean=True, sd=True, at_least=an.POPULATION_AT_LEAST),
            score=(tc.value - tc.ref.mean) / tc.ref.sd, when=tc.score > an.POPULATION_SD,
        ),
        tc.Detection(
            id="bench.a7", title="Faster than an airliner", severity="low", on=pl.col("src_latitude").is_not_null(),
            entity="user_id", measure=tc.Previous("timestamp", "src_latitude", "src_longitude"),
            score=speed_kmh(), when=tc.score > an.SPEED_KMH,
        ),
    ]  # fmt: skip


def sixth() -> tc.Detection:
    """Return the rule that makes six with the five: more than eight events within ten minutes."""
    return tc.Detection(
        id="bench.burst", title="Many events in ten minutes", severity="low", on=pl.lit(value=True), entity="user_id",
        measure=tc.Count(sliding="10m"), score=tc.value, when=tc.score > 8,
    )  # fmt: skip


class Rival:
    """The public functions of the package with their defaults."""

    def prepare(self, data: Data) -> None:
        """Load geography and threat list, as the others do."""
        self.refs = tc.reference(geo=data.geo, threats=data.threats)
        self.path = data.events

    def steps(self) -> dict[str, Callable[[], Answers]]:
        """One pass for all five."""
        return {"one pass": self.one_pass}

    def one_pass(self) -> Answers:
        """Read, attach, step, write the findings; then take the answers from them."""
        findings = tc.backtest(detections(), tc.read(self.path), self.refs).findings
        with TemporaryDirectory() as folder:
            findings.write_parquet(Path(folder) / "findings.parquet")
        return {name: self._answer(findings, name) for name in an.KEYS}

    def _answer(self, findings: pl.DataFrame, name: str) -> pl.DataFrame:
        mine = findings.filter(pl.col("detection_id") == f"bench.{name.lower()}")
        if "day" in an.KEYS[name]:
            day = pl.col("window_start").dt.epoch("us") // an.US_PER_DAY
            return mine.select(user_id="entity", day=day, score="peak_score")
        return mine.select("event_id", "score")
