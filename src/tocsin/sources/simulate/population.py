"""The simulated users: one row of parameters each, drawn once from the seed.

Enters: a number of users and a seed. Leaves: a ``Population`` of NumPy arrays by user number, and ``stream``,
the only source of randomness of the simulator. Layer: sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import polars as pl

from tocsin.sources.simulate.cities import CITIES
from tocsin.sources.simulate.geography import HOMES, MOBILES, OFFICES, ipv4, ipv6, server

MEAN_RECIPIENTS = 6.0  # challenge B1: each user's mean number of recipients is drawn from Poisson(6)
LEAST_RECIPIENTS = 1
MAILS_PER_DAY = 9.0
LOGINS_PER_DAY = 3.0
ATTACHMENTS_PER_MAIL = 0.25
LOGIN_FAILURES = 0.04  # share of ordinary logins that fail
ADDRESSES_PER_USER = 3  # home, second (mobile or IPv6), office: all in the user's home city
SERVERS = 8
_SERVER_CITIES = ("New York", "Chicago", "Los Angeles", "Frankfurt")

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
Ints = np.ndarray[tuple[int], np.dtype[np.int64]]


class Purpose(IntEnum):
    """What a stream of random numbers is for. Numbers are never reused: they are part of what a seed means."""

    USERS = 0
    DAY = 1
    STORIES = 2
    ADDED = 3
    OUTCOMES = 4
    FILES = 5
    ALERTS = 6
    TRIAGE = 7


def stream(seed: int, purpose: Purpose, *key: int) -> np.random.Generator:
    """Return the generator of one purpose (and day, story, ...): streams never share or shift each other's draws."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, *key)))


@dataclass(frozen=True, slots=True)
class Population:
    """Every user's own parameters; all arrays are indexed by user number.

    Rates are per local day (``mails_per_day``, ``logins_per_day``), attachments per mail; ``weekend`` multiplies
    both rates on Saturday and Sunday; ``work_start_hour`` and ``work_hours`` are local hours; ``p_second`` and
    ``p_office`` are the shares of events from the user's second and office address; ``p_failure`` is that of logins
    that fail. From the middle of the run on ``attachments_drift`` multiplies ``attachments_per_mail``.
    """

    user_ids: list[str]
    city: Ints
    mean_recipients: Ints
    mails_per_day: Floats
    logins_per_day: Floats
    attachments_per_mail: Floats
    weekend: Floats
    work_start_hour: Floats
    work_hours: Floats
    p_second: Floats
    p_office: Floats
    p_failure: Floats
    attachments_drift: Floats
    addresses: list[str]  # user u owns ADDRESSES_PER_USER entries from ADDRESSES_PER_USER * u
    devices: list[str]  # user u owns two entries from 2 * u: a computer and a telephone
    servers: list[str]

    def __len__(self) -> int:
        return len(self.user_ids)

    def frame(self) -> pl.DataFrame:
        """Return the parameters as a frame, one row a user: the truth behind challenge B1 and the rates."""
        return pl.DataFrame(
            {
                "user_id": self.user_ids,
                "city_name": [CITIES[c].name for c in self.city],
                "country_iso_code": [CITIES[c].country_iso_code for c in self.city],
                "zone": [CITIES[c].zone for c in self.city],
                "mean_recipients": self.mean_recipients,
                "mails_per_day": self.mails_per_day,
                "logins_per_day": self.logins_per_day,
                "attachments_per_mail": self.attachments_per_mail,
                "attachments_drift": self.attachments_drift,
                "p_failure": self.p_failure,
                "weekend": self.weekend,
                "work_start_hour": self.work_start_hour,
                "work_hours": self.work_hours,
            }
        )


def _lognormal(rng: np.random.Generator, mean: float, sigma: float, size: int) -> Floats:
    """Draw a lognormal with this mean (not this median)."""
    return rng.lognormal(np.log(mean) - sigma * sigma / 2, sigma, size)


def draw(users: int, seed: int, drift: float = 0.0) -> Population:
    """Draw all users' parameters; ``drift`` is the standard deviation of the logarithm of ``attachments_drift``.

    >>> people = draw(users=3, seed=7)
    >>> len(people), people.user_ids == draw(users=3, seed=7).user_ids
    (3, True)
    """
    rng, later = stream(seed, Purpose.USERS), stream(seed, Purpose.OUTCOMES)
    weights = np.array([city.weight for city in CITIES])
    city = rng.choice(len(CITIES), size=users, p=weights / weights.sum())
    business = rng.random(users) < 0.5
    return Population(
        user_ids=[uuid_text(raw) for raw in rng.integers(0, 256, (users, 16), dtype=np.uint8)],
        city=city,
        # "Each user has an average number of recipients": at least one, else the user could not send at all.
        mean_recipients=np.maximum(rng.poisson(MEAN_RECIPIENTS, users), LEAST_RECIPIENTS).astype(np.int64),
        # Calmer than real life, on purpose: nobody ordinary sends so few mails that chance alone triples a day,
        # nor so many that the population's mean + 3 sd is an everyday matter. What a rule flags beyond the
        # planted stories is then small enough to read through.
        mails_per_day=np.clip(_lognormal(rng, MAILS_PER_DAY, 0.3, users), 6.5, 14.0),
        logins_per_day=np.clip(_lognormal(rng, LOGINS_PER_DAY, 0.5, users), 0.5, 10.0),
        attachments_per_mail=np.clip(_lognormal(rng, ATTACHMENTS_PER_MAIL, 0.6, users), 0.02, 1.0),
        # Half the users work in an office and rest at weekends, half are private and do not: so a Sunday's
        # population is still a population.
        weekend=np.where(business, rng.uniform(0.6, 0.8, users), rng.uniform(0.95, 1.1, users)),
        work_start_hour=np.clip(rng.normal(8.5, 1.2, users), 4.0, 13.0),
        work_hours=np.clip(rng.normal(10.0, 1.5, users), 6.0, 15.0),
        p_second=rng.uniform(0.05, 0.4, users),
        p_office=np.where(business, rng.uniform(0.2, 0.5, users), 0.0),
        p_failure=np.clip(_lognormal(later, LOGIN_FAILURES, 0.5, users), 0.005, 0.2),
        attachments_drift=np.exp(drift * later.standard_normal(users)),
        addresses=_addresses(rng, city),
        devices=[f"dev-{n:012x}" for n in rng.integers(0, 1 << 48, 2 * users)],
        servers=_servers(),
    )


def _addresses(rng: np.random.Generator, city: Ints) -> list[str]:
    hosts = rng.integers(0, 1 << 40, (len(city), ADDRESSES_PER_USER))
    has_ipv6 = rng.random(len(city)) < 0.15
    texts: list[str] = []
    for c, (home, second, office), v6 in zip(city.tolist(), hosts.tolist(), has_ipv6.tolist(), strict=True):
        texts.append(ipv4(c, HOMES, home))
        texts.append(ipv6(c, second) if v6 else ipv4(c, MOBILES, second))
        texts.append(ipv4(c, OFFICES, office))
    return texts


def _servers() -> list[str]:
    names = [city.name for city in CITIES]
    cities = [names.index(name) for name in _SERVER_CITIES]
    return [server(cities[i % len(cities)], 10 + i) for i in range(SERVERS)]


def uuid_text(raw: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> str:
    """Return sixteen bytes as the text of a UUID.

    >>> uuid_text(np.arange(16, dtype=np.uint8))
    '00010203-0405-0607-0809-0a0b0c0d0e0f'
    """
    h = raw.tobytes().hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
