"""Tuned pandas: vectorised, only the needed columns, Arrow strings, look-ups by distinct address.

Enters: the made data. Leaves: five answers. Layer: none (outside the package).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import polars as pl

from benchmarks import analyses as an

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.analyses import Answers
    from benchmarks.data import Data


def _answer(name: str, way: Callable[[], pd.DataFrame]) -> Answers:
    return {name: pl.from_pandas(way().reset_index(drop=True))}


class Rival:
    """pandas 3 with categories for what repeats and NumPy underneath."""

    def prepare(self, data: Data) -> None:
        """Load geography and threat list."""
        self.path = data.events
        geo = pd.read_parquet(data.geo).sort_values("lo_addr")
        self.lo, self.hi = geo["lo_addr"].to_numpy(), geo["hi_addr"].to_numpy()
        self.latitude, self.longitude = (np.radians(geo[c].to_numpy()) for c in ("latitude", "longitude"))
        self.listed = pd.read_csv(data.threats, header=None, names=["ip"], comment="#")["ip"]

    def steps(self) -> dict[str, Callable[[], Answers]]:
        """The five computations, one after another, each reading its own columns."""
        ways = {"A1": self.a1, "A3": self.a3, "A4": self.a4, "A6": self.a6, "A7": self.a7}
        return {name: partial(_answer, name, way) for name, way in ways.items()}

    def _read(self, name: str, *more: str) -> pd.DataFrame:
        columns = [*an.COLUMNS[name], *more]
        return pd.read_parquet(self.path, columns=columns, dtype_backend="pyarrow")

    def a1(self) -> pd.DataFrame:
        """Many recipients and an .exe: the list column is only touched where there are many recipients."""
        events = self._read("A1")
        some = events[(events["kind"] == "mail") & (events["nr_recipients"] > an.MAX_RECIPIENTS)]
        names = some["attachments"].explode().dropna().astype("string[pyarrow]")
        with_exe = names[names.str.lower().str.endswith(".exe")].index.unique()
        return some.loc[with_exe, ["event_id", "nr_recipients"]].rename(columns={"nr_recipients": "score"})

    def a3(self) -> pd.DataFrame:
        """A listed address on either side."""
        events = self._read("A3")
        hit = events["src_ip"].isin(self.listed) | events["dst_ip"].isin(self.listed)
        return events.loc[hit, ["event_id"]].assign(score=1.0)

    def _daily(self, name: str) -> pd.DataFrame:
        events = self._read(name)
        events = events[(events["kind"] == "mail").to_numpy(dtype=bool)]
        # One integer a user-day is grouped several times faster than two columns.
        code, users = pd.factorize(events["user_id"])
        day = _microseconds(events["timestamp"]) // an.US_PER_DAY
        first = int(day.min())
        span = int(day.max()) - first + 1
        n = np.bincount(code * span + (day - first), minlength=len(users) * span).reshape(len(users), span)
        return pd.DataFrame(n, index=users, columns=np.arange(first, first + span))

    def a4(self) -> pd.DataFrame:
        """Three times the own mean, on the dense matrix of users by days."""
        daily = self._daily("A4")
        n = daily.to_numpy()
        total = np.concatenate([np.zeros((n.shape[0], 1), np.int64), n.cumsum(axis=1)], axis=1)
        day = np.arange(n.shape[1])
        first = (n > 0).argmax(axis=1)[:, None]
        start = np.maximum(day - an.OWN_WINDOWS, first)
        windows = day - start
        before = total[:, day] - np.take_along_axis(total, np.minimum(start, day), axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            score = n / (before / windows)
        user, column = np.nonzero((windows >= an.OWN_AT_LEAST) & (before > 0) & (n > 0) & (score > an.OWN_FACTOR))
        return _user_days(daily, user, column, score)

    def a6(self) -> pd.DataFrame:
        """Above the population of the day before."""
        daily = self._daily("A6")
        n = daily.to_numpy().astype(float)
        seen = pd.DataFrame(np.where(n > 0, n, np.nan))
        mean, sd = seen.mean().to_numpy(), seen.std().to_numpy()
        enough = (seen.count().to_numpy() >= an.POPULATION_AT_LEAST) & (sd > 0)
        score = np.full_like(n, np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            score[:, 1:] = np.where(enough[:-1], (n[:, 1:] - mean[:-1]) / sd[:-1], np.nan)
        user, column = np.nonzero((n > 0) & (score > an.POPULATION_SD))
        return _user_days(daily, user, column, score)

    def a7(self) -> pd.DataFrame:
        """Faster than an airliner."""
        events = self._read("A7").sort_values(["timestamp", "event_id"])
        code, addresses = pd.factorize(events["src_ip"])
        parts = addresses.to_series().astype("string[pyarrow]").str.split(".", expand=True).astype("int64").to_numpy()
        number = parts @ np.array([256**3, 256**2, 256, 1])
        at = np.searchsorted(self.lo, number, side="right") - 1
        known = (at >= 0) & (number <= self.hi[at])
        lat, lon = (np.where(known, x[at], np.nan)[code] for x in (self.latitude, self.longitude))
        user = pd.factorize(events["user_id"])[0]
        kept = np.flatnonzero(~np.isnan(lat))
        order = kept[np.argsort(user[kept], kind="stable")]
        lat, lon, user = lat[order], lon[order], user[order]
        t = _microseconds(events["timestamp"])[order]
        across = np.cos((lat[1:] + lat[:-1]) / 2) * np.diff(lon)
        km = an.EARTH_RADIUS_KM * np.sqrt(np.diff(lat) ** 2 + across**2)
        speed = km / (np.maximum(np.diff(t) / 1e6, 1.0) / 3600)
        hit = np.flatnonzero((user[1:] == user[:-1]) & (speed > an.SPEED_KMH))
        return pd.DataFrame({"event_id": events["event_id"].iloc[order[hit + 1]].to_numpy(), "score": speed[hit]})


def _microseconds(timestamps: pd.Series) -> np.ndarray:
    return timestamps.astype("int64[pyarrow]").to_numpy(dtype=np.int64)


def _user_days(daily: pd.DataFrame, user: np.ndarray, column: np.ndarray, score: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"user_id": daily.index[user], "day": daily.columns[column], "score": score[user, column]})
