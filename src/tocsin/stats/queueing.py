"""How many analysts: Erlang's formulas for a queue with several servers.

Enters: arrivals an hour, mean handling time, number of servers. Leaves: chances and waiting times. Layer: ground floor
(stats).

A steady state with exponential handling times is assumed. By the hour through a day it is too kind: the backlog of a busy
hour spills into the next, and lognormal handling times wait longer. Plan with it, then simulate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tocsin.errors import StatisticsError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MOST_SERVERS = 1_000_000


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue with ``servers`` under ``load`` erlangs (the number of servers busy on average, if there were enough).

    ``p_wait`` is the share that has to wait, ``wait_minutes`` the mean wait of all, ``in_time`` the share served within the
    target, ``utilisation`` the share of time a server is busy. A load not below the servers never settles: waits are
    infinite.
    """

    servers: int
    load: float
    p_wait: float
    wait_minutes: float
    in_time: float
    utilisation: float


def erlang_b(servers: int, load: float) -> float:
    """Return the share of arrivals that find all servers busy, if those go away: Erlang's loss formula.

    By the recursion 1/B(n) = 1 + n / (load B(n - 1)), exact for any number of servers. Source: Erlang 1917; Jagerman,
    Bell System Technical Journal 53 (1974).

    Raises:
        StatisticsError: A negative or infinite load or number of servers.

    >>> round(erlang_b(10, 4.461), 4)  # tables: ten lines carry 4.461 erlangs at 1 % loss
    0.01
    """
    _check(servers, load)
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    return blocked


def erlang_c(servers: int, load: float) -> float:
    """Return the share of arrivals that have to wait; 1 where the load is not below the servers.

    Source: Erlang 1917; Cooper, "Introduction to Queueing Theory" (1981), equation (4.8) of chapter 3.

    Raises:
        StatisticsError: As ``erlang_b``.

    >>> round(erlang_c(2, 1.0), 4)  # one third, by hand
    0.3333
    """
    blocked = erlang_b(servers, load)
    if load >= servers:
        return 1.0
    return servers * blocked / (servers - load * (1 - blocked))


def queue(servers: int, arrivals_per_hour: float, handling_minutes: float, *, target_minutes: float = 0.0) -> Queue:
    """Return how a number of servers copes: the M/M/c queue, first come first served, nobody gives up.

    Of load a = arrivals x handling on c servers, a share C(c, a) waits (``erlang_c``), on average C handling / (c - a), and
    longer than t with chance C exp(-(c - a) t / handling). Source: Gross, Shortle, Thompson and Harris, "Fundamentals of
    Queueing Theory" (2008), section 2.3.

    Raises:
        StatisticsError: Negative or infinite numbers, no handling time.

    >>> found = queue(14, arrivals_per_hour=200, handling_minutes=3, target_minutes=20 / 60)
    >>> round(found.load, 1), round(found.p_wait, 3), round(found.in_time, 3), round(found.wait_minutes * 60, 1)
    (10.0, 0.174, 0.888, 7.8)
    """
    if not (0 < handling_minutes < math.inf and 0 <= target_minutes < math.inf):
        raise StatisticsError("Handling takes more than no time, and the target is not negative.")
    load = arrivals_per_hour * handling_minutes / 60
    waits = erlang_c(servers, load)
    if load >= servers:
        return Queue(servers, load, 1.0, math.inf, 0.0, 1.0)
    spare = servers - load
    late = waits * math.exp(-spare * target_minutes / handling_minutes)
    return Queue(servers, load, waits, waits * handling_minutes / spare, 1 - late, load / servers)


def servers_needed(
    arrivals_per_hour: float, handling_minutes: float, *, target_minutes: float, in_time: float = 0.9
) -> Queue:
    """Return the queue with the fewest servers that serve the share ``in_time`` within ``target_minutes``.

    Raises:
        StatisticsError: As ``queue``; a share outside 0 to 1; more than a million servers.

    >>> servers_needed(200, 3, target_minutes=20 / 60, in_time=0.8).servers
    14
    """
    if not 0 < in_time < 1:
        raise StatisticsError(f"in_time is a share between 0 and 1, such as 0.9; not {in_time}.")
    servers = math.floor(arrivals_per_hour * handling_minutes / 60) + 1
    while servers <= MOST_SERVERS:
        found = queue(servers, arrivals_per_hour, handling_minutes, target_minutes=target_minutes)
        if found.in_time >= in_time:
            return found
        servers += 1
    raise StatisticsError(f"More than {MOST_SERVERS:,} servers would be needed.")


def servers_needed_each(
    arrivals_per_hour: ArrayLike, handling_minutes: float, *, target_minutes: float, in_time: float = 0.9
) -> NDArray[np.int64]:
    """Return the fewest servers of `servers_needed` for each of many rates (same shape), by one recursion for all.

    Raises:
        StatisticsError: As ``servers_needed``.

    >>> servers_needed_each([0, 20, 200], 3, target_minutes=20 / 60, in_time=0.8).tolist()
    [1, 3, 14]
    """
    rate = np.asarray(arrivals_per_hour, np.float64)
    if not ((rate >= 0) & np.isfinite(rate)).all():
        raise StatisticsError("Arrivals an hour are not negative and finite; one of these is not.")
    servers_needed(0.0, handling_minutes, target_minutes=target_minutes, in_time=in_time)  # refuses what makes no sense
    loads, place = np.unique(rate * handling_minutes / 60, return_inverse=True)
    needed = np.zeros(loads.size, np.int64)
    blocked, servers = np.ones(loads.size), 0
    while not needed.all():
        servers += 1
        if servers > MOST_SERVERS:
            raise StatisticsError(f"More than {MOST_SERVERS:,} servers would be needed.")
        blocked = loads * blocked / (servers + loads * blocked)
        spare = servers - loads
        with np.errstate(over="ignore"):  # below the load nothing settles: `late` is 1 or more
            waits = servers * blocked / (servers - loads * (1 - blocked))
            late = waits * np.exp(-spare * target_minutes / handling_minutes)
        needed[(needed == 0) & (1 - late >= in_time)] = servers
    return needed[place].reshape(rate.shape)


def _check(servers: int, load: float) -> None:
    if not (0 <= load < math.inf and servers >= 0):
        raise StatisticsError(f"Servers and load are not negative and finite; these are {servers} and {load}.")
