"""The innocent traps: what looks like a story and is none.

Enters: a plan, a user or a crowd, a stream of random numbers. Leaves: the plan with one more trap laid out.
Layer: sources.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from tocsin.sources.simulate.cities import CITIES
from tocsin.sources.simulate.days import DAY_US, HOUR_US
from tocsin.sources.simulate.geography import OFFICES, PROVIDERS, beside_listed_address, distance_km, ipv4
from tocsin.sources.simulate.plan import MINUTE_US, SECOND_US, Plan, Swap, Trip
from tocsin.sources.simulate.population import ADDRESSES_PER_USER
from tocsin.sources.simulate.stories import EXE_NAMES, device_id, steady_sender

if TYPE_CHECKING:
    from collections.abc import Callable

    Key = tuple[int, int]

TRIP_SPEED_KMH = 750.0  # a jet's ground speed; the hours at airports come on top
AIRPORT_HOURS = 2.0
EGRESS_SHARE = 0.5  # of a user's events at work


def exe_few_recipients(made: Plan, rng: np.random.Generator, user: int, key: Key) -> None:
    """Mail an ``.exe`` to ten recipients, and to fewer: ten is not more than ten."""
    day = int(rng.integers(0, made.days))
    story = made.add("exe_few_recipients", key, [user], [day], "mails an .exe to ten recipients or fewer")
    at = made.moment(rng, day, 2)
    for k, recipients in enumerate((10, int(rng.integers(1, 10)))):
        name = EXE_NAMES[(key[1] + k) % len(EXE_NAMES)]
        made.event(story, at + k * HOUR_US, "mail", user, nr_recipients=recipients, attachments=(name,))


def many_recipients_no_exe(made: Plan, rng: np.random.Generator, user: int, key: Key) -> None:
    """Mail to many, with files that only look like programs."""
    day = int(rng.integers(0, made.days))
    note = "mails to many, with files that only look like programs"
    story = made.add("many_recipients_no_exe", key, [user], [day], note)
    at = made.moment(rng, day, 2)
    names = ("exe.pdf", "setup.exe.txt", "exe", "notes-exe", "tool.exe.zip", "slides-1.pdf")
    for k in range(3):
        recipients = int(rng.integers(30, 300))
        files = (names[(key[1] + k) % len(names)],)
        made.event(story, at + k * 30 * MINUTE_US, "mail", user, nr_recipients=recipients, attachments=files)


def beside_listed(made: Plan, rng: np.random.Generator, user: int, key: Key) -> None:
    """Log in from the address next to a listed one."""
    day = int(rng.integers(0, made.days))
    address = beside_listed_address(int(made.people.city[user]), key[1])
    note = "logs in from the address next to a listed one"
    story = made.add("beside_listed", key, [user], [day], note, address=address)
    made.event(story, made.moment(rng, day, 0), "login", user, src_ip=address)


def newsletter(made: Plan, rng: np.random.Generator, user: int, key: Key) -> None:
    """Send as much as an outlier of the population, and be one by profession."""
    steady_sender(made, rng, user, key, "newsletter", recipients=250)


def traveller(made: Plan, rng: np.random.Generator, user: int, key: Key) -> None:
    """Fly somewhere for a day or two and come back, at the speed of an aircraft; seen at both ends of the way out."""
    _fly(made, rng, user, key, "traveller", lambda c: distance_km(int(made.people.city[user]), c) > 1500)


def relocation(made: Plan, rng: np.random.Generator, user: int, key: Key) -> None:
    """Fly to another country and stay: a new country and network for good."""
    home = int(made.people.city[user])
    country = CITIES[home].country_iso_code
    far = lambda c: distance_km(home, c) > 1500 and CITIES[c].country_iso_code != country  # noqa: E731
    _fly(made, rng, user, key, "relocation", far)


def _fly(made: Plan, rng: np.random.Generator, user: int, key: Key, kind: str, there: Callable[[int], bool]) -> None:
    home = int(made.people.city[user])
    city = int(rng.choice([c for c in range(len(CITIES)) if there(c)]))
    flight_us = int((distance_km(home, city) / TRIP_SPEED_KMH + AIRPORT_HOURS) * HOUR_US)
    leave_us = made.start_us + int(rng.integers(1, made.days - 5)) * DAY_US + int(rng.uniform(1, 12) * HOUR_US)
    arrive_us = leave_us + flight_us
    back_us = made.end_us + 2 * DAY_US if kind == "relocation" else arrive_us + int(rng.uniform(24, 60) * HOUR_US)
    address = made.address_in(user, city, OFFICES, int(rng.integers(0, 4096)))
    story = made.add(
        kind,
        key,
        [user],
        made.span(leave_us, back_us + flight_us),
        f"flies to {CITIES[city].name}" + ("" if kind == "relocation" else " and back"),
        from_city=CITIES[home].name,
        from_country=CITIES[home].country_iso_code,
        to_city=CITIES[city].name,
        to_country=CITIES[city].country_iso_code,
        distance_km=distance_km(home, city),
        flight_hours=flight_us / HOUR_US,
        address=address,
    )
    made.event(story, leave_us - 20 * MINUTE_US, "login", user)  # seen at both ends of a flight: so its speed shows
    made.event(story, arrive_us + 20 * MINUTE_US, "login", user, src_ip=address)
    made.trips.append(Trip(user, leave_us, arrive_us, back_us, back_us + flight_us, address))
    made.tag(story, pl.col("src_ip") == address)


def new_phone(made: Plan, rng: np.random.Generator, user: int, key: Key) -> None:
    """Buy a new telephone: a device never seen, at the usual addresses, for good."""
    day = int(rng.integers(made.days // 3, made.days))
    from_us, new = made.moment(rng, day, 0), device_id(rng)
    note = "from here on uses a new telephone"
    story = made.add("new_phone", key, [user], range(day, made.days), note, device_id=new)
    made.event(story, from_us, "login", user, device_id=new)
    made.swaps.append(Swap(user, "device_id", made.people.devices[2 * user + 1], new, from_us))
    made.tag(story, pl.col("device_id") == new)


def new_network(made: Plan, rng: np.random.Generator, user: int, key: Key) -> None:
    """Change the provider at home: an address and a network (AS number) never seen, in the same city, for good."""
    day = int(rng.integers(made.days // 3, made.days))
    from_us, city, old = made.moment(rng, day, 0), int(made.people.city[user]), made.home_address(user)
    is_second = IPv4Address(old) >= IPv4Address(ipv4(city, PROVIDERS[1], 0))
    other = ipv4(city, PROVIDERS[0 if is_second else 1], int(rng.integers(0, 1 << 18)))
    note = "from here on has another provider at home"
    story = made.add("new_network", key, [user], range(day, made.days), note, address_before=old, address_after=other)
    made.event(story, from_us, "login", user, src_ip=other)
    made.swaps.append(Swap(user, "src_ip", old, other, from_us))
    made.tag(story, pl.col("src_ip") == other)


def forgotten_password(made: Plan, rng: np.random.Generator, user: int, key: Key) -> None:
    """Fail at the own account several times within minutes, at home on the own device, and then succeed."""
    day, failures = int(rng.integers(0, made.days)), int(rng.integers(4, 9))
    note = f"fails {failures} times and then remembers the password"
    story = made.add("forgotten_password", key, [user], [day], note, failures=failures)
    at = made.moment(rng, day, 1)
    for offset in np.sort(rng.integers(0, 5 * MINUTE_US, failures)).tolist():
        made.event(story, at + offset, "login", user, outcome="failure")
    made.event(story, at + 5 * MINUTE_US + 30 * SECOND_US, "login", user)


def shared_egress(made: Plan, rng: np.random.Generator, crowd: list[int], key: Key) -> None:
    """Put colleagues of one city behind one address of that city; they use it for half of their events at work."""
    city = int(made.people.city[crowd[0]])
    address = ipv4(city, OFFICES, int(rng.integers(0, 4096)))
    _behind(made, crowd, key, "shared_egress", address, f"{len(crowd)} users of one office behind {address}")


def vpn_egress(made: Plan, rng: np.random.Generator, crowd: list[int], key: Key) -> None:
    """Put users of one country behind a company's address in another of its cities, for half of their events at work.

    Between two events at home and at the address lie minutes and hundreds of kilometres: by speed alone nothing tells
    them from a stolen account.
    """
    cities = {int(made.people.city[user]) for user in crowd}
    country = CITIES[next(iter(cities))].country_iso_code
    exits = [c for c, city in enumerate(CITIES) if city.country_iso_code == country and c not in cities]
    # The exit that is farthest from its nearest user: nobody is close enough to hide in a table's uncertainty.
    city = max(exits, key=lambda c: min(distance_km(c, home) for home in cities))
    address = ipv4(city, OFFICES, int(rng.integers(0, 4096)))
    note = f"{len(crowd)} users behind {address} in {CITIES[city].name}, where none of them is"
    _behind(made, crowd, key, "vpn_egress", address, note, city=CITIES[city].name)
    for user in crowd:
        made.visited.setdefault(user, set()).add(city)


def _behind(made: Plan, crowd: list[int], key: Key, kind: str, address: str, note: str, **details: str) -> None:
    people = made.people
    addresses, p_office = list(people.addresses), people.p_office.copy()
    for user in crowd:
        addresses[ADDRESSES_PER_USER * user + 2] = address
        p_office[user] = EGRESS_SHARE
    made.people = replace(people, addresses=addresses, p_office=p_office)
    story = made.add(kind, key, crowd, range(made.days), note, address=address, **details)
    made.tag(story, pl.col("src_ip") == address)
