"""The planted stories: who does what, and when.

Enters: a plan, a user, a stream of random numbers. Leaves: the plan with one more story laid out. Layer: sources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tocsin.sources.simulate.cities import CITIES
from tocsin.sources.simulate.days import DAY_US, HOUR_US
from tocsin.sources.simulate.geography import (
    HOMES,
    distance_km,
    guessing_network,
    listed_address,
    plane_km,
)
from tocsin.sources.simulate.plan import MINUTE_US, SECOND_US, Extra, Growth, Plan, Shift, Silence

if TYPE_CHECKING:
    from tocsin.sources.simulate.population import Population

    Key = tuple[int, int]

BURST_HISTORY_DAYS = 10
AFTERMATH_DAYS = 2  # the user's own next event, far from the intruder's, may come as late as this
RAMP_FACTOR, RAMP_GROWTH = 12.0, 0.04  # in the end twelve times the start, but never more than 4 % a day
SPRAY_ADDRESSES = 4
# The last extension decides. The third is the seed's everyday case; the fifth shows as "photo_exe.jpg" on a screen
# that obeys the right-to-left override; "archive/member" is a name inside an archive, as mail gateways write it.
EXE_NAMES = ("invoice.pdf.exe", "SETUP.EXE", "update.exe", "Payment.Exe", "photo_\u202egpj.exe", "photos.zip/view.exe")
OTHER_PROGRAMS = ("holiday.scr", "scan.pdf.scr", "photos.zip/HOLIDAY.SCR")


def exe_spray(made: Plan, rng: np.random.Generator, user: int, key: Key) -> None:
    """Mail programs to more than ten recipients, some of them screen savers; the first is an ``.exe`` to eleven."""
    day = int(rng.integers(0, made.days))
    count = int(rng.integers(2, 6))
    recipients = [11, *rng.integers(11, 61, count - 1).tolist()]  # the first one stands on the boundary
    every = EXE_NAMES + OTHER_PROGRAMS
    programs = [EXE_NAMES[key[1] % len(EXE_NAMES)]]
    programs += [every[(key[1] * 5 + k) % len(every)] for k in range(1, count)]
    note = "mails programs to more than ten recipients"
    story = made.add("exe_spray", key, [user], [day], note, programs=programs, recipients=recipients)
    at = made.moment(rng, day, 2)
    for k in range(count):
        files = (programs[k],) if rng.random() < 0.6 else ("invoice-1.pdf", programs[k])
        made.event(story, at + k * 20 * MINUTE_US, "mail", user, nr_recipients=recipients[k], attachments=files)


def threat_login(made: Plan, rng: np.random.Generator, user: int, key: Key) -> None:
    """Log in with a listed address; every third user's is the destination."""
    day = int(rng.integers(0, made.days))
    side = "dst_ip" if key[1] % 3 == 2 else "src_ip"
    address, device = listed_address(int(made.people.city[user]), key[1]), device_id(rng)
    note = f"logs in with a listed {side}"
    story = made.add("threat_login", key, [user], [day], note, side=side, address=address, device_id=device)
    at = made.moment(rng, day, 2)
    for k in range(int(rng.integers(1, 4))):
        made.event(story, at + k * 30 * MINUTE_US, "login", user, **{side: address, "device_id": device})


def threat_mail(made: Plan, rng: np.random.Generator, user: int, key: Key) -> None:
    """Mail to a listed destination anywhere."""
    day = int(rng.integers(0, made.days))
    address = listed_address(int(rng.integers(0, len(CITIES))), key[1])
    story = made.add("threat_mail", key, [user], [day], "mails to a listed destination", side="dst_ip", address=address)
    at = made.moment(rng, day, 2)
    for k in range(int(rng.integers(1, 5))):
        made.event(story, at + k * 25 * MINUTE_US, "mail", user, dst_ip=address, nr_recipients=int(rng.integers(1, 6)))


def volume_burst(made: Plan, rng: np.random.Generator, user: int, key: Key) -> None:
    """Send many times the usual day's mails within three hours, after some history."""
    day = int(rng.integers(BURST_HISTORY_DAYS, made.days))
    usual = float(made.people.mails_per_day[user])
    n = int(np.ceil(usual * rng.uniform(8, 15)))
    note = f"sends {n} mails more than usual within three hours"
    story = made.add("volume_burst", key, [user], [day], note, mails=n, usual_mails_per_day=usual)
    at = made.moment(rng, day, 3)
    for offset in np.sort(rng.integers(0, 3 * HOUR_US, n)).tolist():
        made.event(story, at + offset, "mail", user, nr_recipients=int(rng.integers(1, 4)))


def outlier_rate(people: Population) -> float:
    """Return a daily volume that stays far above mean + 3 sd even after the outliers have widened that sd."""
    rate = people.mails_per_day
    return float(rate.mean() + 12 * np.sqrt(rate.var() + rate.mean()))


def population_outlier(made: Plan, rng: np.random.Generator, user: int, key: Key) -> None:
    """Send far more than everybody else, on every day."""
    steady_sender(made, rng, user, key, "population_outlier", recipients=3)


def steady_sender(made: Plan, rng: np.random.Generator, user: int, key: Key, kind: str, *, recipients: int) -> None:
    """Send far more than everybody else, on every day, each mail to about ``recipients``."""
    rate = float(outlier_rate(made.people) * rng.uniform(0.9, 1.1))
    note = f"sends {rate:.0f} mails more a day, every day, each to about {recipients}"
    about = {"extra_mails_per_day": rate, "recipients_per_mail": recipients}
    story = made.add(kind, key, [user], range(made.days), note, **about)
    made.extras.append(Extra(story, user, [rate] * made.days, recipients, at_work=False))
    made.tag(story, pl.col("kind") == "mail")


def takeover_travel(made: Plan, rng: np.random.Generator, user: int, key: Key) -> None:
    """Log in at home, and within the hour from far away on a new device; then a burst of mail from there.

    The owner is silent from half an hour before to two hours after, so the way there is the fastest and exactly known.
    """
    home = int(made.people.city[user])
    # Every other US user's intruder sits in the US too, the first one's first: that is the workshop's challenge 4.
    before = sum(s.kind == "takeover_travel" and s.details["from_country"] == "US" for s in made.stories)
    domestic = CITIES[home].country_iso_code == "US" and before % 2 == 0
    city = int(rng.choice(_far_cities(home, domestic=domestic)))
    gap_us = int(rng.uniform(10, 50) * 60) * SECOND_US
    mails = int(np.ceil(made.people.mails_per_day[user] * rng.uniform(1.5, 3)))
    at = made.moment(rng, int(rng.integers(0, made.days)), 2.5)
    address, device = made.address_in(user, city, HOMES, int(rng.integers(0, 1 << 19))), device_id(rng)
    story = made.add(
        "takeover_travel",
        key,
        [user],
        made.span(at, at + AFTERMATH_DAYS * DAY_US),
        f"the next login comes from {CITIES[city].name}, with {mails} mails after it",
        from_city=CITIES[home].name,
        from_country=CITIES[home].country_iso_code,
        to_city=CITIES[city].name,
        to_country=CITIES[city].country_iso_code,
        distance_km=distance_km(home, city),
        gap_seconds=gap_us // SECOND_US,
        speed_kmh=distance_km(home, city) / (gap_us / HOUR_US),
        plane_speed_kmh=plane_km(home, city) / (gap_us / HOUR_US),
        address=address,
        device_id=device,
        mails=mails,
    )
    made.event(story, at, "login", user)
    strange: dict[str, Any] = {"src_ip": address, "device_id": device}
    arrived = at + gap_us
    made.event(story, arrived, "login", user, **strange)
    for k in range(mails):
        recipients = int(rng.integers(1, 9))
        made.event(story, arrived + (k + 1) * 90 * SECOND_US, "mail", user, nr_recipients=recipients, **strange)
    made.silences.append(Silence(user, at - HOUR_US // 2, arrived + mails * 90 * SECOND_US + 2 * HOUR_US))


def _far_cities(home: int, *, domestic: bool) -> list[int]:
    far = [
        c
        for c, city in enumerate(CITIES)
        if distance_km(home, c) > (3000 if domestic else 5000) and (city.country_iso_code == "US") == domestic
    ]
    return far or [c for c in range(len(CITIES)) if distance_km(home, c) > 3000]


def attachment_growth(made: Plan, rng: np.random.Generator, user: int, key: Key) -> None:
    """Attach several times as many files from the middle of the run on."""
    day = made.days // 2
    from_us, more = made.split_us, float(rng.uniform(4, 6))
    before = float(made.people.attachments_per_mail[user])
    note = f"from here on {more:.1f} files a mail more"
    about = {"files_per_mail_before": before, "files_per_mail_after": before + more}
    story = made.add("attachment_growth", key, [user], range(day, made.days), note, **about)
    made.growths.append(Growth(story, user, from_us, more))
    made.tag(story, (pl.col("kind") == "mail") & (pl.col("timestamp").to_physical() >= from_us))


def hours_shift(made: Plan, rng: np.random.Generator, user: int, key: Key) -> None:
    """Live several hours earlier or later from some date in the middle third on."""
    people = made.people
    day = int(rng.integers(made.days // 3, max(made.days * 2 // 3, made.days // 3 + 1)))
    hours = int(rng.integers(3, 7)) * (1 if rng.random() < 0.5 else -1)
    begin, length = float(people.work_start_hour[user]), float(people.work_hours[user])
    story = made.add(
        "hours_shift",
        key,
        [user],
        range(max(0, day - (made.offset_us(user) > 0)), made.days),  # in the east a date begins on the UTC day before
        f"from here on lives {abs(hours)} hours {'later' if hours > 0 else 'earlier'}",
        from_local_date=made.date(day),
        shift_hours=hours,
        zone=CITIES[int(people.city[user])].zone,
        hours_before=[begin, (begin + length) % 24],
        hours_after=[(begin + hours) % 24, (begin + hours + length) % 24],
    )
    made.shifts.append(Shift(user, day, hours))
    made.tag(story, from_local_day=day)


def slow_ramp(made: Plan, rng: np.random.Generator, user: int, key: Key) -> None:
    """Send a few per cent more each day: in the end many times the start, and hardly ever three times the recent mean."""
    people = made.people
    day = made.days // 6
    usual = float(people.mails_per_day[user])
    growth = min(RAMP_GROWTH, RAMP_FACTOR ** (1 / (made.days - day)) - 1) * rng.uniform(0.95, 1.0)
    more = [usual * ((1 + growth) ** max(0, d - day) - 1) for d in range(made.days)]
    note = f"from here on sends {100 * growth:.1f} % more each day"
    about = {"growth_per_day": float(growth), "usual_mails_per_day": usual, "last_day_factor": more[-1] / usual + 1}
    story = made.add("slow_ramp", key, [user], range(day, made.days), note, **about)
    made.extras.append(Extra(story, user, more, 3, at_work=True))


def password_guessing(made: Plan, rng: np.random.Generator, user: int, key: Key) -> None:
    """Fail at one account many times within minutes from one address; every other attempt ends with a success."""
    city = _attackers_city(made, rng, user)
    address = guessing_network(city, int(rng.integers(0, 32)))[1][int(rng.integers(0, 16))]
    device, failures, succeeded = device_id(rng), int(rng.integers(40, 160)), key[1] % 2 == 0
    at = made.moment(rng, int(rng.integers(0, made.days)), 1)
    story = made.add(
        "password_guessing",
        key,
        [user],
        made.span(at, at + AFTERMATH_DAYS * DAY_US),
        f"{failures} failed logins from {CITIES[city].name} within half an hour",
        address=address,
        city=CITIES[city].name,
        failures=failures,
        succeeded=succeeded,
    )
    for offset in np.sort(rng.integers(0, 30 * MINUTE_US, failures)).tolist():
        made.event(story, at + offset, "login", user, src_ip=address, device_id=device, outcome="failure")
    if succeeded:
        _get_in(made, story, user, city, at + 31 * MINUTE_US, address, device)


def password_spray(made: Plan, rng: np.random.Generator, targets: list[int], key: Key) -> None:
    """Try two or three passwords at each of many accounts from one US network, half an hour or more between rounds.

    Every third spray uses one address, the others four of the network. Of every other one account gives in, at the end.
    """
    us = [c for c, city in enumerate(CITIES) if city.country_iso_code == "US"]
    city = int(rng.choice(us))
    network, addresses = guessing_network(city, int(rng.integers(0, 32)))
    addresses = addresses[: 1 if key[1] % 3 == 1 else SPRAY_ADDRESSES]
    device, rounds = device_id(rng), int(rng.integers(2, 4))
    at = made.moment(rng, int(rng.integers(0, made.days)), 4)
    victim = targets[int(rng.integers(0, len(targets)))] if key[1] % 2 == 0 else None
    story = made.add(
        "password_spray",
        key,
        targets,
        made.span(at, at + AFTERMATH_DAYS * DAY_US),
        f"{rounds} failed logins at each of {len(targets)} accounts from one network in {CITIES[city].name}",
        network=network,
        addresses=addresses,
        city=CITIES[city].name,
        failures_per_user=rounds,
        succeeded=None if victim is None else made.people.user_ids[victim],
    )
    for number in range(rounds):
        for target in targets:
            time = at + number * HOUR_US + int(rng.integers(0, 30 * MINUTE_US))
            source = addresses[int(rng.integers(0, len(addresses)))]
            made.event(story, time, "login", target, src_ip=source, device_id=device, outcome="failure")
    if victim is not None:
        _get_in(made, story, victim, city, at + rounds * HOUR_US, addresses[0], device)


def _get_in(made: Plan, story: int, user: int, city: int, time_us: int, address: str, device: str) -> None:
    """Add a success; the owner is silent for six hours on both sides, so it is no record of travel."""
    made.visited.setdefault(user, set()).add(city)
    made.event(story, time_us, "login", user, src_ip=address, device_id=device)
    made.silences.append(Silence(user, time_us - 6 * HOUR_US, time_us + 6 * HOUR_US))


def _attackers_city(made: Plan, rng: np.random.Generator, user: int) -> int:
    """Return another city of the user's country: so nobody is abroad because of a stranger's failed login."""
    home = int(made.people.city[user])
    near = [c for c, city in enumerate(CITIES) if c != home and city.country_iso_code == CITIES[home].country_iso_code]
    return int(rng.choice(near)) if near else home


def device_id(rng: np.random.Generator) -> str:
    """Return a device nobody has used before."""
    return f"dev-{int(rng.integers(0, 1 << 48)):012x}"
