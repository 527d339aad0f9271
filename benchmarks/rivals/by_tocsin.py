"""Tocsin: the eight analyses as detections, in one pass of `tocsin.backtest`, findings written to a file.

Enters: the made data. Leaves: eight answers. Layer: none (outside the package).
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import polars as pl

import tocsin as tc
from benchmarks import analyses as an

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
TIME_OF_DAY = pl.col("timestamp").dt.epoch("us") % an.US_PER_DAY
IS_NIGHT = (TIME_OF_DAY < an.NIGHT_ENDS_US) | (TIME_OF_DAY >= an.NIGHT_BEGINS_US)
IS_OUTSIDE = pl.col("src_country").is_not_null() & ~pl.col("src_country").is_in(an.HOME_COUNTRIES)
HAS_EXE = pl.col("attachments").list.eval(pl.element().str.to_lowercase().str.ends_with(".exe")).list.any()


def detections(names: Iterable[str] = tuple(an.KEYS)) -> list[tc.Detection]:
    """Return analyses as detections; their ids are the analyses' names."""
    mails_a_day = tc.Count(per="1d")
    every = (
        tc.Detection(
            id="bench.a1", title="Many recipients and an .exe", severity="low", on=IS_MAIL & HAS_EXE, entity="user_id",
            score=pl.col("nr_recipients").cast(pl.Float64), when=tc.score > an.MAX_RECIPIENTS,
        ),
        tc.Detection(
            id="bench.a2", title="Outside the home countries", severity="low", on=IS_OUTSIDE, entity="user_id",
            measure=tc.Count(per="1d"), score=tc.value, when=tc.score >= 1,
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
            id="bench.a5", title="More attachments than before", severity="low", on=IS_MAIL, entity="user_id",
            measure=tc.Sum("nr_attachments", per="1d"),
            against={
                "recent": tc.own_history(mean=True, windows=an.RECENT_WINDOWS, at_least=an.RECENT_WINDOWS),
                "before": tc.own_history(
                    mean=True, windows=an.BEFORE_WINDOWS, skip=an.RECENT_WINDOWS, at_least=an.BEFORE_AT_LEAST),
            },
            score=tc.ref.recent_mean - tc.ref.before_mean, when=tc.score > an.MORE_ATTACHMENTS,
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
        tc.Detection(
            id="bench.a8", title="A shift of hours", severity="low", on=pl.lit(value=True), entity="user_id",
            measure=tc.Ratio(num=IS_NIGHT, den=pl.lit(value=True), per="1d"),
            against={
                "last": tc.own_history(mean=True, windows=1, at_least=1),
                "own": tc.own_history(mean=True, windows=an.SHIFT_WINDOWS, skip=1, at_least=an.SHIFT_AT_LEAST),
            },
            score=tc.ref.last_mean - tc.ref.own_mean, when=tc.score > an.MORE_AT_NIGHT,
        ),
    )  # fmt: skip
    wanted = {f"bench.{name.lower()}" for name in names}
    return [detection for detection in every if detection.id in wanted]


def sixth() -> tc.Detection:
    """Return the rule that makes six with the five: more than eight events within ten minutes."""
    return tc.Detection(
        id="bench.burst", title="Many events in ten minutes", severity="low", on=pl.lit(value=True), entity="user_id",
        measure=tc.Count(sliding="10m"), score=tc.value, when=tc.score > 8,
    )  # fmt: skip


class Rival:
    """The public functions of the package with their defaults."""

    names: tuple[str, ...] = tuple(an.KEYS)

    def prepare(self, data: Data) -> None:
        """Load geography and threat list, as the others do."""
        self.refs = tc.reference(geo=data.geo, threats=data.threats)
        self.path = data.events

    def steps(self) -> dict[str, Callable[[], Answers]]:
        """One pass for all of them."""
        return {"one pass": self.one_pass}

    def one_pass(self) -> Answers:
        """Read, attach, step, write the findings; then take the answers from them."""
        findings = tc.backtest(detections(self.names), tc.read(self.path), self.refs).findings
        with TemporaryDirectory() as folder:
            findings.write_parquet(Path(folder) / "findings.parquet")
        return {name: self._answer(findings, name) for name in self.names}

    def _answer(self, findings: pl.DataFrame, name: str) -> pl.DataFrame:
        mine = findings.filter(pl.col("detection_id") == f"bench.{name.lower()}")
        if "day" in an.KEYS[name]:
            day = pl.col("window_start").dt.epoch("us") // an.US_PER_DAY
            return mine.select(user_id="entity", day=day, score="peak_score")
        return mine.select("event_id", "score")
