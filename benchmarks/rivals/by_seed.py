"""The workshop notebook's own way: loops, `apply` and an interval index, on a sample; what one event costs.

Enters: the made data and sample sizes. Leaves: microseconds an event for each analysis (its arithmetic for A4 and A7
differs from the others on purpose: it is the notebook's). Layer: none (outside the package).
"""

from __future__ import annotations

import functools
import ipaddress
import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmarks import analyses as an

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.data import Data

SAMPLE_EVENTS = 500_000
SAMPLE_USERS = 200
SAMPLE_ADDRESSES = 1_000


def microseconds_an_event(data: Data) -> dict[str, dict[str, float]]:
    """Time each of the notebook's cells on as many events as it can bear."""
    events = pd.read_parquet(data.events).iloc[:SAMPLE_EVENTS]
    geo = pd.read_parquet(data.geo)
    listed = pd.read_csv(data.threats, header=None, names=["ip"], comment="#")
    some = events.iloc[:SAMPLE_ADDRESSES]
    few_users = events[events["user_id"].isin(events["user_id"].unique()[:SAMPLE_USERS])]
    look_up = _geo_lookup(geo)
    return {
        "A1": _timed(len(events), lambda: _a1(events)),
        "A2 (geography)": _timed(some["src_ip"].nunique(), lambda: some["src_ip"].apply(look_up)),
        "A3": _timed(len(some), lambda: _a3(some, listed)),
        "A4": _timed(len(few_users), lambda: _a4(few_users)),
        "A6": _timed(len(events), lambda: _a6(events)),
        "A7": _timed(len(few_users), lambda: _a7(few_users)),
    }


def _timed(events: int, work: Callable[[], object]) -> dict[str, float]:
    started = time.perf_counter()
    work()
    return {"events": events, "us_per_event": (time.perf_counter() - started) / events * 1e6}


def _geo_lookup(geo: pd.DataFrame) -> Callable[[str], pd.Series]:
    index = pd.IntervalIndex.from_arrays(geo["lo_addr"], geo["hi_addr"], closed="both")
    geo = geo.set_index(index)

    @functools.lru_cache
    def lookup_ip_geo(ip: str) -> pd.Series:
        return geo.loc[int(ipaddress.ip_address(ip))][["latitude", "longitude", "country_iso_code", "city_name"]]

    return lookup_ip_geo


def _a1(events: pd.DataFrame) -> object:
    exe = events["attachments"].apply(
        lambda names: names is not None and any(n.lower().endswith(".exe") for n in names)
    )
    return events[(events["nr_recipients"] > an.MAX_RECIPIENTS) & exe]["user_id"].unique()


def _a3(events: pd.DataFrame, listed: pd.DataFrame) -> object:
    def is_listed(ip: str) -> bool:
        return bool((listed["ip"] == ip).any())

    return events[events["src_ip"].apply(is_listed) | events["dst_ip"].apply(is_listed)]


def _a4(events: pd.DataFrame) -> list[str]:
    found = []
    for user_id in list(events["user_id"].unique()):
        user = events.loc[events["user_id"] == user_id]
        counts = user.groupby(user["timestamp"].dt.round("D"))["user_id"].count()
        if any(counts > an.OWN_FACTOR * counts.expanding(an.OWN_AT_LEAST).mean()):
            found.append(user_id)
    return found


def _a6(events: pd.DataFrame) -> object:
    counts = events.groupby(["user_id", events["timestamp"].dt.round("D")])["event_id"].count()
    return counts[counts > counts.mean() + an.POPULATION_SD * counts.std()]


def _a7(events: pd.DataFrame) -> list[float]:
    """Row by row, with the places already joined (their cost is A2)."""
    rng = np.random.default_rng(1)
    placed = events.assign(lat=rng.uniform(-1, 1, len(events)), lon=rng.uniform(-3, 3, len(events)))
    fastest = []
    for _, user in placed.groupby("user_id"):
        before, speeds = None, [0.0]
        for _, row in user.sort_values("timestamp").iterrows():
            if before is not None:
                across = np.cos((row["lat"] + before["lat"]) / 2) * (row["lon"] - before["lon"])
                km = an.EARTH_RADIUS_KM * np.sqrt((row["lat"] - before["lat"]) ** 2 + across**2)
                hours = max((row["timestamp"] - before["timestamp"]).total_seconds(), 1) / 3600
                speeds.append(km / hours)
            before = row
        fastest.append(max(speeds))
    return fastest
