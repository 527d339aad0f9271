"""Slow, plain recomputations over simulated events that know nothing of the simulator's plan."""

from __future__ import annotations

import bisect
import functools
import ipaddress
from collections.abc import Iterable

import polars as pl

from tocsin.sources.simulate import STORY_KINDS, Simulation, Truth, simulate
from tocsin.sources.simulate.casting import KINDS

SIZES = [(80, 14, 1), (300, 30, 2), (700, 21, 3), (400, 45, 20260601)]
PLACE = ("latitude", "longitude", "city_name", "country_iso_code")
DAY = pl.col("timestamp").dt.date().alias("day")
IS_MAIL = pl.col("kind") == "mail"
FAILED = pl.col("outcome") == "failure"


WITHOUT_GATEWAYS = tuple(kind for kind in KINDS if kind != "vpn_egress")
"""Behind a gateway in another city everybody travels impossibly: who looks for intruders by speed leaves it out."""


@functools.cache
def made(users: int, days: int, seed: int, kinds: tuple[str, ...] = WITHOUT_GATEWAYS) -> Simulation:
    return simulate(users, days, seed, stories=kinds)


@functools.cache
def everything(users: int = 400, days: int = 45, seed: int = 11) -> Simulation:
    return made(users, days, seed, tuple(KINDS))


def truth_of(sim: Simulation) -> Truth:
    return Truth.of(sim.truth)


def users_of(sim: Simulation, *kinds: str) -> frozenset[str]:
    return truth_of(sim).users(*kinds)


def succeeded_guesses(sim: Simulation) -> set[str]:
    """Users at whose account a guesser got in: they too were seen where they are not."""
    truth = truth_of(sim)
    guessed = {label.users[0] for label in truth.labels("password_guessing") if label.details["succeeded"]}
    return guessed | {label.details["succeeded"] for label in truth.labels("password_spray")} - {None}


def ends_with(*extensions: str) -> pl.Expr:
    """Whether an attachment's last extension, in any case, is one of these."""
    lower = pl.element().str.to_lowercase()
    return pl.col("attachments").list.eval(pl.any_horizontal(lower.str.ends_with(e) for e in extensions)).list.any()


def listed(sim: Simulation, texts: Iterable[str]) -> set[str]:
    """Those of the addresses that the threat list covers, by Python's own ipaddress."""
    networks = []
    for indicator in sim.threats["indicator"]:
        try:
            networks.append(ipaddress.ip_network(indicator))
        except ValueError:
            continue  # domains and mail addresses
    singles = {net.network_address for net in networks if net.num_addresses == 1}
    wide = [net for net in networks if net.num_addresses > 1]
    return {
        text
        for text in texts
        if (ip := ipaddress.ip_address(text)) in singles or any(ip in net for net in wide if net.version == ip.version)
    }


def look_up(table: pl.DataFrame, texts: Iterable[str], columns: tuple[str, ...]) -> pl.DataFrame:
    """src_ip -> columns of a table of inclusive ranges, by bisection; every address must lie somewhere."""
    ranges = sorted((int(r["lo_addr"]), int(r["hi_addr"]), r) for r in table.iter_rows(named=True))
    lows = [low for low, _, _ in ranges]
    rows = []
    for text in texts:
        number = int(ipaddress.ip_address(text))
        low, high, row = ranges[bisect.bisect_right(lows, number) - 1]
        assert low <= number <= high, f"{text} lies nowhere"
        rows.append({"src_ip": text, **{name: row[name] for name in columns}})
    return pl.DataFrame(rows)


def places(sim: Simulation) -> pl.DataFrame:
    return look_up(sim.geo, sim.events["src_ip"].unique().sort(), PLACE)


def speeds_kmh(sim: Simulation, *, plane: bool = False) -> pl.DataFrame:
    """user_id, fastest move between consecutive events in km/h, number of cities; failed logins are no presence."""
    here = [pl.col("latitude").radians().alias("lat"), pl.col("longitude").radians().alias("lon")]
    moves = sim.events.filter(~FAILED).join(places(sim), on="src_ip").sort("user_id", "timestamp").with_columns(*here)
    moves = moves.with_columns(pl.col("lat", "lon", "timestamp").shift(1).over("user_id").name.prefix("previous_"))
    high, wide = pl.col("lat") - pl.col("previous_lat"), pl.col("lon") - pl.col("previous_lon")
    if plane:  # the workshop's "spherical Earth projected to a plane"
        middle = (pl.col("lat") + pl.col("previous_lat")) / 2
        across = (wide.degrees() + 540) % 360 - 180
        km = 6371.0088 * (high**2 + (middle.cos() * across.radians()) ** 2).sqrt()
    else:
        both = pl.col("lat").cos() * pl.col("previous_lat").cos()
        km = 2 * 6371.0088 * ((high / 2).sin() ** 2 + both * (wide / 2).sin() ** 2).sqrt().arcsin()
    hours = (pl.col("timestamp") - pl.col("previous_timestamp")).dt.total_microseconds() / 3.6e9
    speed = pl.when(km > 1).then(km / hours).otherwise(0.0)
    return moves.group_by("user_id").agg(fastest=speed.max(), cities=pl.col("city_name").n_unique())


def mails_a_day(sim: Simulation) -> pl.DataFrame:
    """user_id, day, mails; days without mail are zero."""
    mails = sim.events.filter(IS_MAIL).group_by("user_id", DAY).len("mails")
    days = sim.events.select(DAY).unique()
    every = sim.events.select("user_id").unique().join(days, how="cross")
    return (
        every.join(mails, on=["user_id", "day"], how="left")
        .with_columns(pl.col("mails").fill_null(0))
        .sort("user_id", "day")
    )


def without_parts(sim: Simulation, events: pl.DataFrame | None = None) -> pl.DataFrame:
    """The events of users who have no part in anything."""
    parts = truth_of(sim).users(*STORY_KINDS) | truth_of(sim).innocents()
    return (sim.events if events is None else events).filter(~pl.col("user_id").is_in(parts))
