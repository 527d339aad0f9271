"""Polars: hand-written lazy queries, one after another, streaming engine; references are frames in memory.

Enters: the made data. Leaves: eight answers. Layer: none (outside the package).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from benchmarks import analyses as an

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.analyses import Answers
    from benchmarks.data import Data


DAY = (pl.col("timestamp").dt.epoch("us") // an.US_PER_DAY).alias("day")
TIME_OF_DAY = pl.col("timestamp").dt.epoch("us") % an.US_PER_DAY
IS_NIGHT = (TIME_OF_DAY < an.NIGHT_ENDS_US) | (TIME_OF_DAY >= an.NIGHT_BEGINS_US)


def _address(column: str) -> pl.Expr:
    parts = pl.col(column).str.split_exact(".", 3)
    return pl.sum_horizontal(parts.struct.field(f"field_{i}").cast(pl.Int64) * 256 ** (3 - i) for i in range(4))


def _collect(name: str, query: pl.LazyFrame) -> Answers:
    return {name: query.collect(engine="streaming")}


class Rival:
    """Polars with its own defaults."""

    def prepare(self, data: Data) -> None:
        """Load geography and threat list."""
        self.events = pl.scan_parquet(data.events)
        places = {
            "lat": pl.col("latitude").radians(),
            "lon": pl.col("longitude").radians(),
            "country": "country_iso_code",
        }
        self.geo = pl.read_parquet(data.geo).select("lo_addr", "hi_addr", **places).sort("lo_addr").lazy()
        self.listed = pl.read_csv(data.threats, has_header=False, new_columns=["ip"], comment_prefix="#")["ip"]

    def steps(self) -> dict[str, Callable[[], Answers]]:
        """The eight queries, one after another."""
        return {name: partial(_collect, name, getattr(self, name.lower())()) for name in an.KEYS}

    def a1(self) -> pl.LazyFrame:
        """Many recipients and an .exe."""
        exe = pl.col("attachments").list.eval(pl.element().str.to_lowercase().str.ends_with(".exe")).list.any()
        many = (pl.col("kind") == "mail") & (pl.col("nr_recipients") > an.MAX_RECIPIENTS)
        return self.events.filter(many).filter(exe).select("event_id", score="nr_recipients")

    def _places(self, *columns: str) -> pl.LazyFrame:
        """Each distinct source address that the table knows, with these columns of its range."""
        return (
            self.events.select("src_ip")
            .unique()
            .with_columns(address=_address("src_ip"))
            .sort("address")
            .join_asof(self.geo, left_on="address", right_on="lo_addr")
            .filter(pl.col("address") <= pl.col("hi_addr"))
            .select("src_ip", *columns)
        )

    def a2(self) -> pl.LazyFrame:
        """From outside the home countries."""
        outside = self._places("country").filter(~pl.col("country").is_in(an.HOME_COUNTRIES))
        return (
            self.events.select("user_id", "src_ip", day=DAY)
            .join(outside, on="src_ip", how="semi")
            .group_by("user_id", "day")
            .agg(score=pl.len())
        )

    def a3(self) -> pl.LazyFrame:
        """A listed address on either side."""
        hit = pl.col("src_ip").is_in(self.listed.implode()) | pl.col("dst_ip").is_in(self.listed.implode())
        return self.events.filter(hit).select("event_id", score=pl.lit(1.0))

    def _daily(self) -> pl.LazyFrame:
        return self.events.filter(pl.col("kind") == "mail").group_by("user_id", DAY).agg(n=pl.len().cast(pl.Int64))

    def a4(self) -> pl.LazyFrame:
        """Three times the own mean."""
        daily = self._daily().sort("user_id", "day")
        before = daily.rolling("day", period=f"{an.OWN_WINDOWS}i", closed="left", group_by="user_id")
        windows = pl.min_horizontal(an.OWN_WINDOWS, pl.col("day") - pl.col("first"))
        score = pl.col("n") / (pl.col("before") / pl.col("windows"))
        return (
            daily.with_columns(first=pl.col("day").min().over("user_id"))
            .join(before.agg(before=pl.col("n").sum()), on=["user_id", "day"])
            .with_columns(windows=windows)
            .filter((pl.col("windows") >= an.OWN_AT_LEAST) & (pl.col("before") > 0) & (score > an.OWN_FACTOR))
            .select("user_id", "day", score=score)
        )

    def a5(self) -> pl.LazyFrame:
        """More attachments than in the weeks before: what lies before the recent days is a difference of whole sums."""
        mails = self.events.filter(pl.col("kind") == "mail")
        daily = mails.group_by("user_id", DAY).agg(n=pl.col("nr_attachments").sum()).sort("user_id", "day")

        def last(days: int) -> pl.Expr:
            return pl.col("n").rolling_sum_by("day", f"{days}i", min_samples=0, closed="left").over("user_id")

        earlier = (pl.col("all") - pl.col("recent")) / pl.min_horizontal(an.BEFORE_WINDOWS, "windows")
        return (
            daily.with_columns(
                recent=last(an.RECENT_WINDOWS),
                all=last(an.RECENT_WINDOWS + an.BEFORE_WINDOWS),
                windows=pl.col("day") - an.RECENT_WINDOWS - pl.col("day").min().over("user_id"),
            )
            .filter(pl.col("windows") >= an.BEFORE_AT_LEAST)
            .select("user_id", "day", score=pl.col("recent") / an.RECENT_WINDOWS - earlier)
            .filter(pl.col("score") > an.MORE_ATTACHMENTS)
        )

    def a6(self) -> pl.LazyFrame:
        """Above the population of the day before."""
        daily = self._daily()
        population = (
            daily.group_by(pl.col("day") + 1)
            .agg(mean=pl.col("n").mean(), sd=pl.col("n").std(), users=pl.len())
            .filter((pl.col("users") >= an.POPULATION_AT_LEAST) & (pl.col("sd") > 0))
        )
        score = (pl.col("n") - pl.col("mean")) / pl.col("sd")
        return (
            daily.join(population, on="day")
            .with_columns(score=score)
            .filter(pl.col("score") > an.POPULATION_SD)
            .select("user_id", "day", "score")
        )

    def a7(self) -> pl.LazyFrame:
        """Faster than an airliner."""
        t = pl.col("timestamp").dt.epoch("us")
        lat0, lon0, t0 = (x.shift(1).over("user_id") for x in (pl.col("lat"), pl.col("lon"), t))
        hours = pl.max_horizontal((t - t0) / 1e6, 1.0) / 3600
        across = ((pl.col("lat") + lat0) / 2).cos() * (pl.col("lon") - lon0)
        km = an.EARTH_RADIUS_KM * ((pl.col("lat") - lat0).pow(2) + across.pow(2)).sqrt()
        return (
            self.events.select("event_id", "timestamp", "user_id", "src_ip")
            .join(self._places("lat", "lon"), on="src_ip")
            .sort("timestamp", "event_id")
            .select("event_id", score=pl.when(t0.is_not_null()).then(km / hours))
            .filter(pl.col("score") > an.SPEED_KMH)
        )

    def a8(self) -> pl.LazyFrame:
        """More at night than in the weeks before: sums over the window and yesterday, less yesterday."""
        daily = self.events.group_by("user_id", DAY).agg(share=IS_NIGHT.mean()).sort("user_id", "day")
        day_before, last = (pl.col(name).shift(1).over("user_id") for name in ("day", "share"))

        def total(column: str) -> pl.Expr:
            span = f"{an.SHIFT_WINDOWS + 1}i"
            return pl.col(column).rolling_sum_by("day", span, min_samples=0, closed="left").over("user_id")

        return (
            daily.with_columns(one=1)
            .with_columns(day_before=day_before, last=last, total=total("share"), windows=total("one") - 1)
            .filter((pl.col("day_before") == pl.col("day") - 1) & (pl.col("windows") >= an.SHIFT_AT_LEAST))
            .select("user_id", "day", score=pl.col("last") - (pl.col("total") - pl.col("last")) / pl.col("windows"))
            .filter(pl.col("score") > an.MORE_AT_NIGHT)
        )
