"""Tuned pandas: vectorised, only the needed columns, Arrow strings, look-ups by distinct address.

Enters: the made data. Leaves: eight answers. Layer: none (outside the package).
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
        self.outside = ~geo["country_iso_code"].isin(an.HOME_COUNTRIES).to_numpy()
        self.latitude, self.longitude = (np.radians(geo[c].to_numpy()) for c in ("latitude", "longitude"))
        self.listed = pd.read_csv(data.threats, header=None, names=["ip"], comment="#")["ip"]

    def steps(self) -> dict[str, Callable[[], Answers]]:
        """The eight computations, one after another, each reading its own columns."""
        return {name: partial(_answer, name, getattr(self, name.lower())) for name in an.KEYS}

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

    def _places(self, events: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Look each distinct source address up: number of the address by event; row of the table and whether it holds."""
        code, addresses = pd.factorize(events["src_ip"])
        parts = addresses.to_series().astype("string[pyarrow]").str.split(".", expand=True).astype("int64").to_numpy()
        number = parts @ np.array([256**3, 256**2, 256, 1])
        at = np.searchsorted(self.lo, number, side="right") - 1
        return code, at, (at >= 0) & (number <= self.hi[at])

    def a2(self) -> pd.DataFrame:
        """From outside the home countries."""
        events = self._read("A2")
        code, at, known = self._places(events)
        daily = _daily(events[(known & self.outside[at])[code]])
        user, column = np.nonzero(daily.to_numpy())
        return _user_days(daily, user, column, daily.to_numpy())

    def a3(self) -> pd.DataFrame:
        """A listed address on either side."""
        events = self._read("A3")
        hit = events["src_ip"].isin(self.listed) | events["dst_ip"].isin(self.listed)
        return events.loc[hit, ["event_id"]].assign(score=1.0)

    def _mails(self, name: str) -> pd.DataFrame:
        events = self._read(name)
        return events[(events["kind"] == "mail").to_numpy(dtype=bool)]

    def a4(self) -> pd.DataFrame:
        """Three times the own mean, on the dense matrix of users by days."""
        daily = _daily(self._mails("A4"))
        n = daily.to_numpy()
        before, windows = _before(n, n > 0, an.OWN_WINDOWS)
        with np.errstate(divide="ignore", invalid="ignore"):
            score = n / (before / windows)
        user, column = np.nonzero((windows >= an.OWN_AT_LEAST) & (before > 0) & (n > 0) & (score > an.OWN_FACTOR))
        return _user_days(daily, user, column, score)

    def a5(self) -> pd.DataFrame:
        """More attachments than in the weeks before."""
        mails = self._mails("A5")
        daily = _daily(mails)
        seen = daily.to_numpy() > 0
        n = _daily(mails, mails["nr_attachments"].to_numpy(dtype=float)).to_numpy()
        recent, _ = _before(n, seen, an.RECENT_WINDOWS)
        earlier, windows = _before(n, seen, an.BEFORE_WINDOWS, an.RECENT_WINDOWS)
        score = recent / an.RECENT_WINDOWS - earlier / np.maximum(windows, 1)
        user, column = np.nonzero(seen & (windows >= an.BEFORE_AT_LEAST) & (score > an.MORE_ATTACHMENTS))
        return _user_days(daily, user, column, score)

    def a6(self) -> pd.DataFrame:
        """Above the population of the day before."""
        daily = _daily(self._mails("A6"))
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
        code, at, known = self._places(events)
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

    def a8(self) -> pd.DataFrame:
        """More at night than in the weeks before."""
        events = self._read("A8")
        of_day = _microseconds(events["timestamp"]) % an.US_PER_DAY
        daily = _daily(events)
        n = daily.to_numpy()
        night = _daily(events, ((of_day < an.NIGHT_ENDS_US) | (of_day >= an.NIGHT_BEGINS_US)).astype(float)).to_numpy()
        seen = n > 0
        share = night / np.maximum(n, 1)
        last, had = np.roll(share, 1, axis=1), np.roll(seen, 1, axis=1)
        had[:, 0] = False
        total, _ = _before(share, seen, an.SHIFT_WINDOWS, 1)
        windows, _ = _before(seen.astype(np.int64), seen, an.SHIFT_WINDOWS, 1)
        score = last - total / np.maximum(windows, 1)
        user, column = np.nonzero(seen & had & (windows >= an.SHIFT_AT_LEAST) & (score > an.MORE_AT_NIGHT))
        return _user_days(daily, user, column, score)


def _daily(events: pd.DataFrame, weights: np.ndarray | None = None) -> pd.DataFrame:
    """Count events, or add up their weights, in a dense matrix of users by days."""
    # One integer a user-day is grouped several times faster than two columns.
    code, users = pd.factorize(events["user_id"])
    day = _microseconds(events["timestamp"]) // an.US_PER_DAY
    first = int(day.min())
    span = int(day.max()) - first + 1
    n = np.bincount(code * span + (day - first), weights, len(users) * span).reshape(len(users), span)
    return pd.DataFrame(n, index=users, columns=np.arange(first, first + span))


def _before(values: np.ndarray, seen: np.ndarray, windows: int, skip: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Add up each day's `windows` days before, the last `skip` left out, from the first day seen; and count them."""
    total = np.concatenate([np.zeros((values.shape[0], 1), values.dtype), values.cumsum(axis=1)], axis=1)
    day = np.arange(values.shape[1])
    end = np.maximum(day - skip, 0)
    start = np.maximum(end - windows, seen.argmax(axis=1)[:, None])
    return total[:, end] - np.take_along_axis(total, np.minimum(start, end), axis=1), end - start


def _microseconds(timestamps: pd.Series) -> np.ndarray:
    return timestamps.astype("int64[pyarrow]").to_numpy(dtype=np.int64)


def _user_days(daily: pd.DataFrame, user: np.ndarray, column: np.ndarray, score: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"user_id": daily.index[user], "day": daily.columns[column], "score": score[user, column]})
