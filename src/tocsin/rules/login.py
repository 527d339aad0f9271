"""Detections over where and when accounts are used.

Enters: nothing. Leaves: ``DETECTIONS``. Layer: rules.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tocsin.detection import Detection, Example, col, prev, score
from tocsin.measures import Previous

if TYPE_CHECKING:
    import polars as pl

EARTH_RADIUS_KM = 6371.009
UNCERTAINTY_KM = 100
"""City-level tables place an address wrongly by tens of kilometres; each end of a journey is given half of this."""
FASTEST_KMH = 1000


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


def _at(minute: int, lat: float, lon: float) -> dict[str, object]:
    """Return one login of an example."""
    at = datetime(2026, 3, 2, 9, minute, tzinfo=UTC)
    return {
        "timestamp": at,
        "kind": "login",
        "user_id": "ann",
        "src_ip": "198.51.100.7",
        "src_latitude": lat,
        "src_longitude": lon,
    }


TRAVEL_SPEED = Detection(
    id="login.travel-speed",
    title="Consecutive events further apart than anybody travels",
    severity="high",
    on=col("src_latitude").is_not_null() & col("src_longitude").is_not_null(),
    entity="user_id",
    measure=Previous("timestamp", "src_latitude", "src_longitude", "src_ip"),
    score=(_DISTANCE_KM - UNCERTAINTY_KM).clip(0, None) / _HOURS,
    when=score > FASTEST_KMH,
    evidence=("kind", "src_ip", "src_city", "src_country", "src_latitude", "src_longitude"),
    tags=("attack.t1078.004",),
    description=(
        "The speed in km/h between the places of an account's consecutive events, 100 km of uncertainty taken off the distance, "
        "is above 1,000 km/h. Two events at the same moment are taken to be one second apart."
    ),
    false_positives=(
        "Proxies, mobile networks and cloud mail clients whose address is far from the person. "
        "Give their ranges a place of their own or allow-list them."
    ),
    examples=(
        Example(
            fires=True, events=[_at(0, 40.7, -74.0), _at(30, 51.5, -0.1)], note="New York to London in half an hour"
        ),
        Example(fires=False, events=[_at(0, 40.7, -74.0), _at(30, 40.9, -74.2)], note="within the uncertainty"),
        Example(fires=False, events=[_at(0, 0.0, 179.9), _at(30, 0.0, -179.9)], note="across the date line"),
    ),
)

DETECTIONS = (TRAVEL_SPEED,)
