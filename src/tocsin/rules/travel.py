"""Detections over where accounts are used from.

Enters: nothing. Leaves: ``DETECTIONS``, ``outside_home`` for countries of one's own, and the distance they measure by.
Layer: rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.detection import Context, Detection, Example, col, ctx, prev, score, value
from tocsin.measures import Count, Distinct, Previous
from tocsin.rules.examples import Row, failed, login
from tocsin.rules.login import NOT_REFUSED

if TYPE_CHECKING:
    import polars as pl

EARTH_RADIUS_KM = 6371.009
UNCERTAINTY_KM = 100
"""City-level tables place an address wrongly by tens of kilometres; each end of a journey is given half of this."""
FASTEST_KMH = 1000
SHARED_BY = 4
"""An address that so many users have shared is a gateway, and where it stands says nothing about where they are."""


def plane_distance_km(lat_a: pl.Expr, lon_a: pl.Expr, lat_b: pl.Expr, lon_b: pl.Expr) -> pl.Expr:
    """Return the distance between two points in degrees, by the formula "spherical Earth projected to a plane".

    The difference of longitudes is wrapped to -180 .. 180 degrees, so the date line is no journey round the world.

    >>> import polars as pl
    >>> ends = pl.DataFrame({"a": [0.0], "b": [179.5], "c": [0.0], "d": [-179.5]})
    >>> round(ends.select(plane_distance_km(*(pl.col(c) for c in "abcd"))).item())
    111
    """
    lon = (lon_b - lon_a + 540) % 360 - 180
    middle = ((lat_a + lat_b) / 2).radians()
    return EARTH_RADIUS_KM * ((lat_b - lat_a).radians().pow(2) + (middle.cos() * lon.radians()).pow(2)).sqrt()


_DISTANCE_KM = plane_distance_km(prev.src_latitude, prev.src_longitude, col("src_latitude"), col("src_longitude"))
_HOURS = (col("timestamp") - prev.timestamp).dt.total_microseconds().clip(1_000_000, None) / 3_600_000_000
_PLACED = col("src_latitude").is_not_null() & col("src_longitude").is_not_null()
NEW_YORK, LONDON = (40.7, -74.0), (51.5, -0.1)


def _at(minute: float, place: tuple[float, float], **more: object) -> Row:
    """Return one login at a place in degrees."""
    return login(minute, src_latitude=place[0], src_longitude=place[1], src_country="US") | more


def _gateway(users: int) -> list[Row]:
    """Return a login of each of several other users through one address in London."""
    return [_at(i / 8, LONDON, user_id=f"user{i}", src_ip="203.0.113.1") for i in range(users)]


TRAVEL_SPEED = Detection(
    id="login.travel-speed",
    title="Consecutive events further apart than anybody travels",
    severity="high",
    on=_PLACED & NOT_REFUSED & ~(ctx.address_users >= SHARED_BY),
    optional=("outcome",),
    entity="user_id",
    measure=Previous("timestamp", "src_latitude", "src_longitude", "src_ip"),
    context={"address_users": Context(entity="src_ip", measure=Distinct("user_id", ever=True, forget_after="28d"))},
    score=(_DISTANCE_KM - UNCERTAINTY_KM).clip(0, None) / _HOURS,
    when=score > FASTEST_KMH,
    evidence=("kind", "src_ip", "src_city", "src_country", "src_latitude", "src_longitude"),
    tags=("attack.t1078.004",),
    description=(
        "The speed in km/h between the places of an account's consecutive events, 100 km of uncertainty taken off the distance, "
        "is above 1,000 km/h. Two events at the same moment are taken to be one second apart. Events from an address that at least four "
        "accounts have used (forgotten after 28 days without any) take no part: it is a gateway, learnt from the events themselves. "
        "Nor do failed logins: they show where somebody tried from."
    ),
    false_positives=(
        "Proxies that few people use, mobile networks and cloud mail clients whose address is far from the person. "
        "Give their ranges a place of their own or allow-list them."
    ),
    examples=(
        Example(True, [_at(0, NEW_YORK), _at(30, LONDON)], "New York to London in half an hour"),
        Example(True, [_at(0, NEW_YORK), _at(0, LONDON)], "at the same moment"),
        Example(False, [_at(0, NEW_YORK), _at(30, (40.9, -74.2))], "within the uncertainty"),
        Example(False, [_at(0, NEW_YORK), _at(0, (40.9, -74.2))], "within the uncertainty, at the same moment"),
        Example(False, [_at(0, NEW_YORK), _at(30, LONDON) | failed(30)], "somebody in London guesses a password"),
        Example(False, [_at(0, (0.0, 179.9)), _at(30, (0.0, -179.9))], "across the date line"),
        Example(False, [_at(0, (89.9, 0.0)), _at(30, (89.9, 180.0))], "across the pole's neighbourhood"),
        Example(
            False, [*_gateway(3), _at(2, NEW_YORK), _at(30, LONDON, src_ip="203.0.113.1")], "a gateway of four users"
        ),
        Example(
            True, [*_gateway(2), _at(2, NEW_YORK), _at(30, LONDON, src_ip="203.0.113.1")], "an address of three users"
        ),
    ),
)


def outside_home(*countries: str) -> Detection:
    """Return the rule for events outside a set of home countries (ISO 3166 two-letter codes): one finding a user and day.

    >>> outside_home("DE", "AT").title
    'Event outside DE, AT'
    """
    home = ", ".join(countries)
    return Detection(
        id="network.outside-home",
        title=f"Event outside {home}",
        severity="informational",
        on=col("src_country").is_not_null() & ~col("src_country").is_in(list(countries)),
        entity="user_id",
        measure=Count(per="1d"),
        score=value,
        when=score >= 1,
        evidence=("kind", "src_ip", "src_country", "src_city"),
        tags=("attack.t1078",),
        description=(
            f"An event's source address lies in a country other than {home}. The score is the number of such events of the account on this "
            'day. The countries are a matter of the organisation: `travel.outside_home("DE", "AT")` in a rule file sets them.'
        ),
        false_positives="Journeys, colleagues abroad. Context for other findings; see `tocsin ask outside`.",
        examples=(
            Example(True, [login(0, src_country="XX")]),
            Example(False, [login(0, src_country=countries[0])]),
            Example(False, [login(0, src_country=None)], "an address that no table knows"),
        ),
    )


OUTSIDE_HOME = outside_home("US")

MANY_COUNTRIES = Detection(
    id="login.many-countries",
    title="One account used from three countries in a day",
    severity="medium",
    on=col("src_country").is_not_null() & NOT_REFUSED & ~(ctx.address_users >= SHARED_BY),
    optional=("outcome",),
    entity="user_id",
    measure=Distinct("src_country", sliding="1d"),
    context=TRAVEL_SPEED.context,
    score=value,
    when=score >= 3,
    evidence=("kind", "src_ip", "src_country", "src_city"),
    tags=("attack.t1078.004",),
    description=(
        "Within the last 24 hours an account was used from at least three countries. Addresses that at least four accounts have used "
        "take no part."
    ),
    false_positives="Business journeys with changes of plane, and mobile networks near borders.",
    examples=(
        Example(True, [login(60 * i, src_country=c, src_ip=f"192.0.2.{i}") for i, c in enumerate(("US", "GB", "FR"))]),
        Example(False, [login(60 * i, src_country=c, src_ip=f"192.0.2.{i}") for i, c in enumerate(("US", "GB", "US"))]),
        Example(
            False, [login(900 * i, src_country=c, src_ip=f"192.0.2.{i}") for i, c in enumerate(("US", "GB", "FR"))]
        ),
    ),
)

DETECTIONS = (TRAVEL_SPEED, OUTSIDE_HOME, MANY_COUNTRIES)
