"""Who plays which part: every kind's users, its share of the population, and the days it needs.

Enters: a population, the run's span, the kinds to plant. Leaves: a ``Plan`` with every story laid out. Layer: sources.

Every kind keeps its own users and its own streams whether the others are planted or not: leaving one out, or adding
one at the end of ``KINDS``, changes nothing of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tocsin.errors import SourceError, did_you_mean
from tocsin.sources.simulate import stories, traps
from tocsin.sources.simulate.cities import CITIES
from tocsin.sources.simulate.plan import Plan
from tocsin.sources.simulate.population import Population, Purpose, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


class Kind(NamedTuple):
    """A kind of story: how one is laid out, whether it is innocent, and the fewest days it needs."""

    lay_out: Callable[[Plan, np.random.Generator, int, tuple[int, int]], None]
    innocent: bool = False
    days: int = 1


class CrowdKind(NamedTuple):
    """The same of a kind that several users share; ``cast`` picks them and takes them out of the pool."""

    lay_out: Callable[[Plan, np.random.Generator, list[int], tuple[int, int]], None]
    cast: Callable[[Population, list[int], int], list[int]]
    innocent: bool = False
    days: int = 1


def _colleagues(people: Population, pool: list[int], stories_left: int) -> list[int]:
    """Take up to eight users of the city with the most; nobody if there are not three."""
    del stories_left
    return _take(pool, people.city, most=8)


def _countrymen(people: Population, pool: list[int], stories_left: int) -> list[int]:
    """Take users of the country with the most: one in sixty, four at least."""
    del stories_left
    names = sorted({city.country_iso_code for city in CITIES})
    country = np.array([names.index(city.country_iso_code) for city in CITIES])
    return _take(pool, country[people.city], most=min(40, max(4, len(people) // 60)))


def _take(pool: list[int], group: np.ndarray[tuple[int], np.dtype[np.int64]], most: int) -> list[int]:
    groups, counts = np.unique_counts(group[pool])
    if not len(counts) or counts.max() < 3:
        return []
    crowd = [user for user in pool if group[user] == groups[counts.argmax()]][:most]
    pool[:] = [user for user in pool if user not in set(crowd)]
    return crowd


def _targets(people: Population, pool: list[int], stories_left: int) -> list[int]:
    """Take sixteen to forty of anybody, beyond sixteen no more than half of the pool."""
    del people
    crowd = pool[: min(40, max(16, len(pool) // (2 * stories_left)))]
    del pool[: len(crowd)]
    return crowd


# A kind's place in this table numbers its streams: new kinds go at the end.
KINDS: dict[str, Kind | CrowdKind] = {
    "exe_spray": Kind(stories.exe_spray),
    "threat_login": Kind(stories.threat_login),
    "volume_burst": Kind(stories.volume_burst, days=stories.BURST_HISTORY_DAYS + 1),
    "population_outlier": Kind(stories.population_outlier),
    "takeover_travel": Kind(stories.takeover_travel),
    "attachment_growth": Kind(stories.attachment_growth, days=6),
    "exe_few_recipients": Kind(traps.exe_few_recipients, innocent=True),
    "many_recipients_no_exe": Kind(traps.many_recipients_no_exe, innocent=True),
    "beside_listed": Kind(traps.beside_listed, innocent=True),
    "traveller": Kind(traps.traveller, innocent=True, days=8),
    "newsletter": Kind(traps.newsletter, innocent=True),
    "threat_mail": Kind(stories.threat_mail),
    "hours_shift": Kind(stories.hours_shift, days=6),
    "slow_ramp": Kind(stories.slow_ramp, days=10),
    "password_guessing": Kind(stories.password_guessing),
    "relocation": Kind(traps.relocation, innocent=True, days=8),
    "new_phone": Kind(traps.new_phone, innocent=True, days=3),
    "new_network": Kind(traps.new_network, innocent=True, days=3),
    "forgotten_password": Kind(traps.forgotten_password, innocent=True),
    "shared_egress": CrowdKind(traps.shared_egress, _colleagues, innocent=True),
    "vpn_egress": CrowdKind(traps.vpn_egress, _countrymen, innocent=True),
    "password_spray": CrowdKind(stories.password_spray, _targets),
}
STORY_KINDS = tuple(kind for kind, one in KINDS.items() if not one.innocent)
INNOCENT_KINDS = tuple(kind for kind, one in KINDS.items() if one.innocent)
ALL_KINDS = tuple(KINDS)


def kinds_of(text: str) -> tuple[str, ...]:
    """Read ``all``, ``none`` or kinds separated by commas; raises ``SourceError`` for an unknown kind.

    >>> kinds_of("exe_spray, traveller"), kinds_of("none"), kinds_of("all") == tuple(KINDS)
    (('exe_spray', 'traveller'), (), True)
    """
    presets = {"all": ALL_KINDS, "none": ()}
    if text in presets:
        return presets[text]
    return check_kinds([part.strip() for part in text.split(",")])


def check_kinds(kinds: Collection[str]) -> tuple[str, ...]:
    """Return the kinds, or raise ``SourceError`` that names the first unknown one."""
    for kind in kinds:
        if kind not in KINDS:
            hint = did_you_mean(kind, [*KINDS, "all", "none"])
            msg = f'simulate: there is no kind of story "{kind}".{hint} Known: {", ".join(KINDS)}.'
            raise SourceError(msg)
    return tuple(kinds)


def plan(people: Population, seed: int, start_us: int, days: int, kinds: Collection[str] = ALL_KINDS) -> Plan:
    """Choose the users of all stories and traps, disjoint, and lay out what the asked kinds do.

    Of each kind of story there are five per thousand users, of each trap three; three of each from 200 users on, and
    one at least, while users last: half of the users are the pool of single parts, the other half that of crowds.
    A story that needs more days than the run has is left out.
    """
    rng = stream(seed, Purpose.STORIES)
    made = Plan(people, seed, start_us, days)
    everybody = rng.permutation(len(people)).tolist()
    single, crowds = everybody[: len(people) // 2], everybody[len(people) // 2 :]
    for code, (name, kind) in enumerate(KINDS.items()):
        count = _how_many(len(people), innocent=kind.innocent)
        for number in range(count):
            own, key = stream(seed, Purpose.STORIES, code, number), (code, number)
            planted = name in kinds and days >= kind.days
            if isinstance(kind, CrowdKind):
                crowd = kind.cast(people, crowds, count - number)
                if crowd and planted:
                    kind.lay_out(made, own, crowd, key)
            elif single:
                user = single.pop()
                if planted:
                    kind.lay_out(made, own, user, key)
    return made


def _how_many(users: int, *, innocent: bool) -> int:
    """Return how many of a kind to plant.

    >>> [_how_many(users, innocent=False) for users in (40, 120, 200, 1000, 10_000)]
    [1, 2, 3, 5, 20]
    >>> [_how_many(users, innocent=True) for users in (40, 120, 200, 1000, 10_000)]
    [1, 2, 3, 3, 12]
    """
    least = 1 + min(users, 200) // 100
    return min(12, max(least, users // 330)) if innocent else min(20, max(least, users // 200))
