"""A larger arrival log and a spec of every kind, from one seed: what small cases cannot reach.

Leaves: a `Case` of thousands of events over many users and weeks, with late, repeated, altered and future events in
three partitions, and around thirty specs. Layer: tests.
"""

from __future__ import annotations

import random
from dataclasses import replace

import polars as pl

from tests.oracle import Spec
from tests.oracle_time import DAY_US, HOUR_US, End, Idle, Record, from_us
from tests.strategies import EVERY, IS_MAIL, SKEW_US, Case, aggregates, scored, special_measures
from tocsin import fits, measures

ZONE = "America/Denver"
START_US = 1_771_000_000_000_000  # 2026-02-13; the clock goes forward on 8 March
DAYS = 45
RARE, HIGH, LOW = 1e6, 4.0, 1.5  # scores that few events have; a hundred thousand findings would prove nothing more


def soak_case(seed: int, events: int) -> Case:
    """The same case for the same seed, on any machine."""
    rng = random.Random(seed)
    gaps = ((START_US + 20 * DAY_US, START_US + 20 * DAY_US + 30 * HOUR_US),)
    return Case(_log(rng, events, gaps), soak_specs(), 2 * HOUR_US, 3 * DAY_US, gaps, ZONE)


def _log(rng: random.Random, events: int, gaps: tuple[tuple[int, int], ...]) -> list[Record]:
    users = [f"user{rng.randrange(10**6)}" for _ in range(events // 60)]
    sent: list[tuple[int, Record]] = []
    for i in range(events):
        us = START_US + int(DAYS * DAY_US * rng.random())
        if rng.random() < 0.1:
            us -= us % HOUR_US  # ties
        if any(a <= us < b for a, b in gaps):
            continue
        delay = rng.choice((0, 0, rng.randrange(HOUR_US), 0 if rng.random() < 0.9 else rng.randrange(5 * DAY_US)))
        user = rng.choice(users)
        row = {
            "event_id": f"{rng.getrandbits(64):016x}",
            "timestamp": from_us(us),
            "received_at": from_us(us + delay - (0 if rng.random() < 0.99 else SKEW_US + 1)),
            "partition": rng.choice("pqr"),
            "source": "s",
            "kind": rng.choice(("mail", "mail", "login")),
            "user_id": None if rng.random() < 0.01 else user,
            "src_ip": f"10.0.{len(user)}.{rng.randrange(12)}",
            "nr_recipients": None if rng.random() < 0.02 else int(rng.expovariate(0.3)),
            "size": rng.lognormvariate(8, 2) if rng.random() < 0.95 else None,
            "bounced": rng.random() < 0.1,
        }
        sent.append((us + delay, row))
        if rng.random() < 0.02:
            altered = {"kind": "alert"} if rng.random() < 0.3 else {}
            sent.append((us + delay + rng.randrange(6 * DAY_US), row | altered))
        if i % 5_000 == 0:
            sent.append((us, Idle("r")))
    return [record for _, record in sorted(sent, key=lambda pair: pair[0])] + [End()]


def soak_specs() -> list[Spec]:
    """Every measure over every span, and every fit over several measures."""
    users = [Spec("x", EVERY, "user_id", m) for m in special_measures(ZONE)[::3]]
    spans = ({"sliding": "6h"}, {"ever": True, "forget_after": "2d"})
    users += [Spec("x", IS_MAIL, "user_id", m) for span in spans for m in aggregates(**span)[::3]]
    own = fits.own_history(mean=True, sd=True, median=True, mad=True, quantiles=(0.9,), windows=14, at_least=3)
    weekday = fits.own_history(mean=True, windows=4, at_least=2, same_weekday=True)
    crowd = fits.population(mean=True, sd=True, median=True, mad=True, quantiles=(0.99,), at_least=20)
    daily = aggregates(per="1d", zone=ZONE)
    users += [Spec("x", IS_MAIL, "user_id", m, own) for m in (daily[i] for i in (0, 2, 5, 6, 8))]
    users += [Spec("x", IS_MAIL, "user_id", m, crowd) for m in (daily[i] for i in (1, 4, 5, 7, 9))]
    users += [Spec("x", IS_MAIL, "user_id", m, crowd) for m in aggregates(per="1w")[:1]]
    users += [Spec("x", EVERY, "user_id", measures.Count(per="1d", zone=ZONE), weekday)]
    users += [Spec("x", IS_MAIL, "user_id", measures.Count(per="1h", zone=ZONE), own)]
    users += [
        Spec("x", EVERY, "user_id", measures.Sum("size", scale=1, per="1d"), fits.population(median=True, of=own))
    ]
    users += [Spec("x", EVERY, "user_id", None, fits.limit("size", quantile=0.999, windows=7, at_least=100, zone=ZONE))]
    few = pl.col("nr_recipients") > 5  # the reference scores these one at a time
    taught = fits.own_history(median=True, mad=True, windows=9, at_least=2, exclude_alerted=True)
    users += [Spec("x", few, "src_ip", measures.Count(per="1d", zone=ZONE), taught)]
    made = [scored(Spec(f"s{i}", s.on, s.entity, s.measure, s.against)) for i, s in enumerate(users)]
    return [replace(s, threshold=RARE if s.against is None else LOW if s.against == taught else HIGH) for s in made]
