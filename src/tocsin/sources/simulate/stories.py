"""The planted stories and the innocent traps: who does what, and when.

Enters: a population and the run's span. Leaves: a ``Plan`` with every story laid out. Layer: sources.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from tocsin.sources.simulate.cities import CITIES
from tocsin.sources.simulate.days import DAY_US, HOUR_US, Growth
from tocsin.sources.simulate.geography import (
    HOMES,
    OFFICES,
    beside_listed_address,
    distance_km,
    ipv4,
    listed_address,
)
from tocsin.sources.simulate.plan import Plan, Steady, Trip
from tocsin.sources.simulate.population import ADDRESSES_PER_USER, Population, stream

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE_US = HOUR_US // 60
STORY_KINDS = (
    "exe_spray",
    "threat_login",
    "volume_burst",
    "population_outlier",
    "takeover_travel",
    "attachment_growth",
)
INNOCENT_KINDS = (
    "exe_few_recipients",
    "many_recipients_no_exe",
    "beside_listed",
    "shared_egress",
    "traveller",
    "newsletter",
)
BURST_HISTORY_DAYS = 10
TRIP_SPEED_KMH = 750.0  # a jet's ground speed; the hours at airports come on top
# The last extension decides. The third is the seed's everyday case; the last one shows as "photo_exe.jpg" on
# a screen that obeys the right-to-left override.
EXE_NAMES = ("invoice.pdf.exe", "SETUP.EXE", "update.exe", "Payment.Exe", "photo_\u202egpj.exe")


def plan(people: Population, seed: int, start_us: int, days: int, *, stories: bool = True) -> Plan:
    """Choose the users of all stories and traps, disjoint, and lay out what they do.

    Five users of each story and three of each trap per thousand users (at least one), in a fixed order, while
    users last: at most half of all users have a part. A story that needs more days than the run has is left out.
    """
    rng = stream(seed, 2)
    made = Plan(people, seed, start_us, days)
    if not stories:
        return made
    free = rng.permutation(len(people)).tolist()[: len(people) // 2]
    per_story, per_trap = min(20, max(1, len(people) // 200)), min(12, max(1, len(people) // 330))
    made.people = people = _share_egress(made, rng, free, per_trap)
    for kind in (*STORY_KINDS, *INNOCENT_KINDS):
        lay_out, days_needed = _LAYOUTS.get(kind, (None, 0))
        if lay_out is None or days < days_needed:
            continue
        for number in range(per_story if kind in STORY_KINDS else per_trap):
            if free:
                lay_out(made, rng, free.pop(), number)
    return made


def _exe_spray(made: Plan, rng: np.random.Generator, user: int, number: int) -> None:
    day = int(rng.integers(0, made.days))
    story = made.add("exe_spray", [user], [day], "mails an .exe to more than ten recipients")
    at = made.moment(rng, day, 2)
    for k in range(int(rng.integers(2, 6))):
        name = EXE_NAMES[(number + k) % len(EXE_NAMES)]
        files = (name,) if rng.random() < 0.6 else ("invoice-1.pdf", name)
        recipients = 11 if k == 0 else int(rng.integers(11, 61))  # the first one stands on the boundary
        made.event(story, at + k * 20 * MINUTE_US, "mail", user, nr_recipients=recipients, attachments=files)


def _threat_login(made: Plan, rng: np.random.Generator, user: int, number: int) -> None:
    day = int(rng.integers(0, made.days))
    side = "dst_ip" if number % 3 == 2 else "src_ip"
    story = made.add("threat_login", [user], [day], f"logs in with a listed {side}")
    at = made.moment(rng, day, 2)
    for k in range(int(rng.integers(1, 4))):
        address = listed_address(int(made.people.city[user]), number)
        made.event(story, at + k * 30 * MINUTE_US, "login", user, **{side: address, "device_id": _device(rng)})


def _volume_burst(made: Plan, rng: np.random.Generator, user: int, number: int) -> None:
    del number
    day = int(rng.integers(BURST_HISTORY_DAYS, made.days))
    n = int(np.ceil(made.people.mails_per_day[user] * rng.uniform(8, 15)))
    story = made.add("volume_burst", [user], [day], f"sends {n} mails more than usual within three hours")
    at = made.moment(rng, day, 3)
    for offset in np.sort(rng.integers(0, 3 * HOUR_US, n)).tolist():
        made.event(story, at + offset, "mail", user, nr_recipients=int(rng.integers(1, 4)))


def _outlier_rate(made: Plan) -> float:
    """Return a daily volume that stays far above mean + 3 sd even after the outliers have widened that sd."""
    rate = made.people.mails_per_day
    return float(rate.mean() + 12 * np.sqrt(rate.var() + rate.mean()))


def _population_outlier(made: Plan, rng: np.random.Generator, user: int, number: int) -> None:
    del number
    rate = _outlier_rate(made) * rng.uniform(0.9, 1.1)
    story = made.add("population_outlier", [user], range(made.days), f"sends {rate:.0f} mails more a day, every day")
    made.steady.append(Steady(story, user, rate, 3))
    made.tags.append((story, (pl.col("@user") == user) & (pl.col("kind") == "mail")))


def _newsletter(made: Plan, rng: np.random.Generator, user: int, number: int) -> None:
    del number
    rate = _outlier_rate(made) * rng.uniform(0.9, 1.1)
    story = made.add("newsletter", [user], range(made.days), f"a newsletter: {rate:.0f} mails a day, to many")
    made.steady.append(Steady(story, user, rate, 250))
    made.tags.append((story, (pl.col("@user") == user) & (pl.col("kind") == "mail")))


def _takeover_travel(made: Plan, rng: np.random.Generator, user: int, number: int) -> None:
    home = int(made.people.city[user])
    domestic = number % 2 == 0 and CITIES[home].country_iso_code == "US"
    far = [
        c
        for c, city in enumerate(CITIES)
        if distance_km(home, c) > (3000 if domestic else 5000) and (city.country_iso_code == "US") == domestic
    ]
    far = far or [c for c in range(len(CITIES)) if distance_km(home, c) > 3000]
    city = int(rng.choice(far))
    day = int(rng.integers(0, made.days))
    at = made.moment(rng, day, 2.5)
    # The way back shows too, perhaps on the next day: the user's own next login is far from the intruder's.
    days = [day] if day + 1 >= made.days else [day, day + 1]
    story = made.add("takeover_travel", [user], days, f"the next login comes from {CITIES[city].name}")
    made.event(story, at, "login", user)
    strange = {"src_ip": ipv4(city, HOMES, int(rng.integers(0, 1 << 19))), "device_id": _device(rng)}
    at += int(rng.uniform(10, 50) * MINUTE_US)
    made.event(story, at, "login", user, **strange)
    for k in range(int(rng.integers(2, 7))):
        made.event(story, at + (k + 1) * 5 * MINUTE_US, "mail", user, nr_recipients=int(rng.integers(1, 9)), **strange)


def _attachment_growth(made: Plan, rng: np.random.Generator, user: int, number: int) -> None:
    del number
    day = int(rng.integers(made.days // 3, max(made.days * 2 // 3, made.days // 3 + 1)))
    from_us, rate = made.start_us + day * DAY_US, float(rng.uniform(4, 6))
    story = made.add("attachment_growth", [user], range(day, made.days), f"from here on {rate:.1f} files a mail")
    made.growths.append(Growth(user, from_us, rate))
    since = pl.col("timestamp").to_physical() >= from_us
    made.tags.append((story, (pl.col("@user") == user) & (pl.col("kind") == "mail") & since))


def _exe_few_recipients(made: Plan, rng: np.random.Generator, user: int, number: int) -> None:
    day = int(rng.integers(0, made.days))
    story = made.add("exe_few_recipients", [user], [day], "mails an .exe to ten recipients or fewer")
    at = made.moment(rng, day, 2)
    for k, recipients in enumerate((10, int(rng.integers(1, 10)))):  # ten is not more than ten
        name = EXE_NAMES[(number + k) % len(EXE_NAMES)]
        made.event(story, at + k * HOUR_US, "mail", user, nr_recipients=recipients, attachments=(name,))


def _many_recipients_no_exe(made: Plan, rng: np.random.Generator, user: int, number: int) -> None:
    day = int(rng.integers(0, made.days))
    story = made.add("many_recipients_no_exe", [user], [day], "mails to many, with files that only look like programs")
    at = made.moment(rng, day, 2)
    names = ("exe.pdf", "setup.exe.txt", "exe", "notes-exe", "tool.exe.zip", "slides-1.pdf")
    for k in range(3):
        recipients = int(rng.integers(30, 300))
        files = (names[(number + k) % len(names)],)
        made.event(story, at + k * 30 * MINUTE_US, "mail", user, nr_recipients=recipients, attachments=files)


def _beside_listed(made: Plan, rng: np.random.Generator, user: int, number: int) -> None:
    day = int(rng.integers(0, made.days))
    story = made.add("beside_listed", [user], [day], "logs in from the address next to a listed one")
    address = beside_listed_address(int(made.people.city[user]), number)
    made.event(story, made.moment(rng, day, 0), "login", user, src_ip=address)


def _traveller(made: Plan, rng: np.random.Generator, user: int, number: int) -> None:
    del number
    home = int(made.people.city[user])
    city = int(rng.choice([c for c in range(len(CITIES)) if distance_km(home, c) > 1500]))
    flight_us = int((distance_km(home, city) / TRIP_SPEED_KMH + 2.0) * HOUR_US)
    day = int(rng.integers(1, made.days - 5))
    leave_us = made.start_us + day * DAY_US + int(rng.uniform(1, 12) * HOUR_US)
    back_us = leave_us + flight_us + int(rng.uniform(24, 60) * HOUR_US)
    home_us = back_us + flight_us
    days = range(day, min(made.days, (home_us - made.start_us) // DAY_US + 1))
    story = made.add("traveller", [user], days, f"flies to {CITIES[city].name} and back")
    address = ipv4(city, OFFICES, int(rng.integers(0, 4096)))
    made.event(story, leave_us - 20 * MINUTE_US, "login", user)  # seen at both ends of a flight: so its speed shows
    made.event(story, leave_us + flight_us + 20 * MINUTE_US, "login", user, src_ip=address)
    made.trips.append(Trip(story, user, leave_us, leave_us + flight_us, back_us, home_us, address))
    made.tags.append((story, (pl.col("@user") == user) & (pl.col("src_ip") == address)))


def _share_egress(made: Plan, rng: np.random.Generator, free: list[int], groups: int) -> Population:
    """Put colleagues of one city behind one address; they use it for half of their events."""
    people = made.people
    addresses, p_office = list(people.addresses), people.p_office.copy()
    for _ in range(groups):
        cities, counts = np.unique(people.city[free], return_counts=True)
        if not len(counts) or counts.max() < 3:
            break
        city = int(cities[counts.argmax()])
        crowd = [u for u in free if people.city[u] == city][: min(8, 1 + len(free) // 20 + 2)]
        free[:] = [u for u in free if u not in crowd]
        address = ipv4(city, OFFICES, int(rng.integers(0, 4096)))
        for user in crowd:
            addresses[ADDRESSES_PER_USER * user + 2] = address
            p_office[user] = 0.5
        note = f"{len(crowd)} users of one office behind {address}"
        story = made.add("shared_egress", crowd, range(made.days), note)
        made.tags.append((story, pl.col("@user").is_in(crowd) & (pl.col("src_ip") == address)))
    return replace(people, addresses=addresses, p_office=p_office)


def _device(rng: np.random.Generator) -> str:
    return f"dev-{int(rng.integers(0, 1 << 48)):012x}"


_LAYOUTS: dict[str, tuple[Callable[[Plan, np.random.Generator, int, int], None], int]] = {
    "exe_spray": (_exe_spray, 1),
    "threat_login": (_threat_login, 1),
    "volume_burst": (_volume_burst, BURST_HISTORY_DAYS + 1),
    "population_outlier": (_population_outlier, 1),
    "takeover_travel": (_takeover_travel, 1),
    "attachment_growth": (_attachment_growth, 6),
    "exe_few_recipients": (_exe_few_recipients, 1),
    "many_recipients_no_exe": (_many_recipients_no_exe, 1),
    "beside_listed": (_beside_listed, 1),
    "traveller": (_traveller, 8),
    "newsletter": (_newsletter, 1),
}
