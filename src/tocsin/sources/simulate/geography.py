"""The synthetic geography: which invented address lies in which city, and which addresses are listed.

Enters: the fixed list of cities. Leaves: the geo table in the workshop's columns, the table of networks with their
AS numbers, the threat list, and the arithmetic that turns (city, network, host) into an address. Layer: sources.

The addresses are nobody's: IPv4 from 240.0.0.0/4 (reserved, never assigned), IPv6 from 2001:db8::/32
(documentation). So a simulated finding can never point at a real person's machine.
"""

from __future__ import annotations

import ipaddress
from math import asin, cos, radians, sin, sqrt
from typing import NamedTuple

import polars as pl

from tocsin.sources.simulate.cities import CITIES

EARTH_RADIUS_KM = 6371.0088
_V4_BASE = 0xF0000000  # 240.0.0.0
_V6_BASE = 0x20010DB8 << 96  # 2001:db8::
_BLOCK = 1 << 20  # IPv4 addresses set aside for one city
_V6_BLOCK = 1 << 80  # a /48 for one city


class Network(NamedTuple):
    """A part of every city's address block: hosts ``first`` .. ``first + size - 1`` of the block."""

    first: int
    size: int


# Holes are left between the networks on purpose: an address in a hole has no place, and look-ups must say so.
HOMES = Network(0, 1 << 19)
MOBILES = Network(1 << 19, 1 << 18)
OFFICES = Network((1 << 19) + (1 << 18) + 4096, 4096)
HOSTING = Network((1 << 19) + (1 << 18) + 16384, 4096)
# Two providers share a city's homes: who changes the provider keeps the city and changes the AS number.
PROVIDERS = (Network(0, 1 << 18), Network(1 << 18, 1 << 18))
# Inside HOSTING: honest servers below 256, networks that guess passwords from 512 on (on no list), listed /28 networks
# from 1024 on, listed single addresses from 2048 on.
_GUESSING_NET, _LISTED_NET, _LISTED_ONE = 512, 1024, 2048
GUESSING_NETS_PER_CITY = 32
_LISTED_SINGLES_PER_CITY = 3


def ipv4(city: int, network: Network, host: int) -> str:
    """Return the text of one IPv4 address of a city.

    >>> ipv4(0, HOMES, 7), ipv4(1, HOSTING, 0)
    ('240.0.0.7', '240.28.64.0')
    """
    return str(ipaddress.IPv4Address(_V4_BASE + city * _BLOCK + network.first + host % network.size))


def ipv6(city: int, host: int) -> str:
    """Return the text of one IPv6 address of a city, compressed and in lower case.

    >>> ipv6(3, 0xABC)
    '2001:db8:3::abc'
    """
    return str(ipaddress.IPv6Address(_V6_BASE + city * _V6_BLOCK + host % _V6_BLOCK))


def server(city: int, number: int) -> str:
    """Return an honest server's address (mail relay, login host) in a city's hosting network.

    >>> server(0, 1)
    '240.12.64.1'
    """
    return ipv4(city, HOSTING, number % 256)


def listed_address(city: int, number: int) -> str:
    """Return an address of this city that the threat list covers, by itself or through a /28.

    >>> listed_address(0, 0), listed_address(0, 3)
    ('240.12.72.0', '240.12.68.0')
    """
    single, inside = divmod(number, _LISTED_SINGLES_PER_CITY + 1)
    if inside < _LISTED_SINGLES_PER_CITY:
        return ipv4(city, HOSTING, _LISTED_ONE + 2 * inside)
    return ipv4(city, HOSTING, _LISTED_NET + single % 16)


def guessing_network(city: int, number: int) -> tuple[str, list[str]]:
    """Return one of a city's /28 networks that stand on no list, as text, and its 16 addresses.

    >>> network, addresses = guessing_network(0, 1)
    >>> network, addresses[:2]
    ('240.12.66.16/28', ['240.12.66.16', '240.12.66.17'])
    """
    first = _GUESSING_NET + 16 * (number % GUESSING_NETS_PER_CITY)
    addresses = [ipv4(city, HOSTING, first + host) for host in range(16)]
    return f"{addresses[0]}/28", addresses


def beside_listed_address(city: int, number: int) -> str:
    """Return the address just above this city's listed /28 or just above a listed single: close, and innocent.

    >>> beside_listed_address(0, 0), beside_listed_address(0, 1)
    ('240.12.68.16', '240.12.72.1')
    """
    return ipv4(city, HOSTING, _LISTED_NET + 16 if number % 2 == 0 else _LISTED_ONE + 1)


def geo_frame() -> pl.DataFrame:
    """Return the geo table: ``lo_addr, hi_addr, latitude, longitude, country_iso_code, city_name``.

    Bounds are inclusive and written as the workshop's table has them, as whole numbers; they are text here,
    because an IPv6 address does not fit 64 bits. Sorted by address, no overlaps.
    """
    rows = []
    for i, city in enumerate(CITIES):
        place = (city.latitude, city.longitude, city.country_iso_code, city.name)
        for network in (HOMES, MOBILES, OFFICES, HOSTING):
            low = _V4_BASE + i * _BLOCK + network.first
            rows.append((low, low + network.size - 1, *place))
        rows.append((_V6_BASE + i * _V6_BLOCK, _V6_BASE + (i + 1) * _V6_BLOCK - 1, *place))
    rows.sort()
    names = ["lo_addr", "hi_addr", "latitude", "longitude", "country_iso_code", "city_name"]
    return pl.DataFrame([(str(row[0]), str(row[1]), *row[2:]) for row in rows], schema=names, orient="row")


_OPERATORS = (
    (PROVIDERS[0], "Home Line", "isp"),
    (PROVIDERS[1], "Cable", "isp"),
    (MOBILES, "Mobile", "mobile"),
    (OFFICES, "Business Net", "business"),
    (HOSTING, "Hosting", "hosting"),
)


def networks_frame() -> pl.DataFrame:
    """Return the table of networks: ``lo_addr, hi_addr, asn, organisation, network_kind``; bounds as in the geo table.

    Each country has one operator of each sort, present in all its cities; IPv6 belongs to the first. AS numbers are
    from the range for private use (4,200,000,000 and up, RFC 6996).

    >>> networks_frame().filter(asn=4200000001).height  # the second US provider: one range in each city
    34
    """
    countries = list(dict.fromkeys(city.country_iso_code for city in CITIES))
    rows = []
    for i, city in enumerate(CITIES):
        first_asn = 4_200_000_000 + 16 * countries.index(city.country_iso_code)
        for k, (network, name, sort) in enumerate(_OPERATORS):
            low = _V4_BASE + i * _BLOCK + network.first
            owner = (first_asn + k, f"{city.country_iso_code} {name}", sort)
            rows.append((low, low + network.size - 1, *owner))
            if k == 0:
                rows.append((_V6_BASE + i * _V6_BLOCK, _V6_BASE + (i + 1) * _V6_BLOCK - 1, *owner))
    rows.sort()
    names = ["lo_addr", "hi_addr", "asn", "organisation", "network_kind"]
    return pl.DataFrame([(str(row[0]), str(row[1]), *row[2:]) for row in rows], schema=names, orient="row")


def threats_frame() -> pl.DataFrame:
    """Return the threat list: ``indicator, reason, source``; addresses, networks, domains and one mail address."""
    rows = []
    for i, _ in enumerate(CITIES):
        rows += [(ipv4(i, HOSTING, _LISTED_ONE + 2 * k), "password guessing", "synthetic-singles") for k in range(3)]
        rows.append((ipv4(i, HOSTING, _LISTED_NET) + "/28", "rented by a known group", "synthetic-networks"))
    rows += [(f"2001:db8:ff{i:02x}::/48", "open proxy", "synthetic-networks") for i in range(8)]
    rows += [(f"bad-{i}.example", "phishing kit", "synthetic-domains") for i in range(8)]
    rows.append(("fraud@mail.example", "reported sender", "synthetic-domains"))
    return pl.DataFrame(rows, schema=["indicator", "reason", "source"], orient="row")


def distance_km(one: int, other: int) -> float:
    """Return the great-circle distance between two cities, in kilometres.

    >>> round(distance_km(0, [c.name for c in CITIES].index("Los Angeles")), -1)
    3940.0
    """
    a, b = CITIES[one], CITIES[other]
    lat_a, lat_b = radians(a.latitude), radians(b.latitude)
    half_lat, half_lon = (lat_b - lat_a) / 2, radians(b.longitude - a.longitude) / 2
    h = sin(half_lat) ** 2 + cos(lat_a) * cos(lat_b) * sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(h)))


def plane_km(one: int, other: int) -> float:
    """Return the workshop's distance of two cities, "spherical Earth projected to a plane", in kilometres.

    >>> round(plane_km(0, [c.name for c in CITIES].index("Los Angeles")), -1)
    3980.0
    """
    a, b = CITIES[one], CITIES[other]
    lon = radians((b.longitude - a.longitude + 540) % 360 - 180)
    middle = radians((a.latitude + b.latitude) / 2)
    return EARTH_RADIUS_KM * sqrt(radians(b.latitude - a.latitude) ** 2 + (cos(middle) * lon) ** 2)
