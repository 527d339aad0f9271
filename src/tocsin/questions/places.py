"""Questions about places: who was outside a country, who travels fastest, where events come from.

Enters: events, and reference data with a geo table. Leaves: an `Answer`. Layer: questions.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import polars as pl

from tocsin.answers import Answer
from tocsin.detection import col, prev, score
from tocsin.errors import TableError
from tocsin.questions.columns import need_column
from tocsin.questions.watch import BATCH_ROWS, Watch
from tocsin.rules.travel import SHARED_BY, TRAVEL_SPEED, UNCERTAINTY_KM, plane_distance_km
from tocsin.views import MOST_POINTS, Chart

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from tocsin.detection import Detection
    from tocsin.references import References
    from tocsin.sources import Events

DRAWN_JOURNEYS = 10
MOST_PLACES = 2_000


def _need_geo(refs: References | None, *, places: bool) -> References:
    if refs is None or not refs.geo:
        raise TableError("This question needs a geo table: reference(geo=...), on the command line --geo FILE.")
    if places and not any(t.frame["latitude"].count() for t in refs.geo if "latitude" in t.frame.columns):
        raise TableError(
            "This question needs places, and the geo table has countries only: give one with latitude and longitude."
        )
    return refs


def _located(events: Events, refs: References, side: str, by: str, wanted: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Yield batches of entity, time and the looked-up columns of one side, without that side's name in front."""
    for column in (f"{side}_ip", by):
        need_column(events, column)
    names = [f"{side}_{name}" for name in wanted]
    for batch in events.batches([by, f"{side}_ip"], BATCH_ROWS):
        yield refs.attach(batch, names).select(
            pl.col(by).cast(pl.String).alias("entity"), "timestamp", *(pl.col(f"{side}_{w}").alias(w) for w in wanted)
        )


def outside(
    events: Events,
    refs: References | None,
    countries: Sequence[str] = ("US",),
    *,
    by: str = "user_id",
    side: str = "src",
) -> Answer:
    """Find who had an event outside some countries, and who never did (challenge 2's "people outside the US").

    An address that the geo table does not know is neither inside nor outside. Entities without any located event are
    listed apart, not among those who never were outside.

    Raises:
        TableError: No geo table.
        SourceError: The events have no such column.
    """
    known = _need_geo(refs, places=False)
    inside = [c.upper() for c in countries]
    out = pl.col("country").is_not_null() & ~pl.col("country").is_in(inside)
    parts: list[pl.DataFrame] = []
    nobody = 0
    for batch in _located(events, known, side, by, ["country"]):
        nobody += batch["entity"].null_count()
        parts = [_merge_places([*parts, _count_places(batch.filter(pl.col("entity").is_not_null()), out)])]
    whole = parts[0] if parts else _count_places(pl.DataFrame(schema=_LOCATED), out)
    table = whole.filter(pl.col("outside") > 0).sort(["outside", "entity"], descending=[True, False])
    never = whole.filter(pl.col("outside") == 0, pl.col("located") > 0).sort("entity")
    unknown = whole.filter(pl.col("located") == 0).sort("entity")
    names = ", ".join(inside)
    title = f"Who was outside {names}?"
    definition = (
        f"Of {whole.height:,} {by}, {table.height:,} had at least one event whose {side}_ip lies outside {names}, {never.height:,} had "
        f"none, and of {unknown.height:,} no address is in the geo table. Countries are those of the geo table at the event's time; "
        f"{nobody:,} events without {by} are left out."
    )
    more = {
        f"Never outside {names}": never.select("entity", "events", "located"),
        "Without any located event": unknown.select("entity", "events"),
    }
    facts = {
        "entities": whole.height,
        "outside": table.height,
        "never_outside": never.height,
        "unknown": unknown.height,
    }
    if not table.height:
        return Answer(title, definition, table, more=more, facts=facts, empty=f"Nobody was seen outside {names}.")
    shown = table.select(label="entity", count="outside").head(30)
    notes = (f"The chart shows the {shown.height} with most such events.",) if table.height > shown.height else ()
    chart = Chart("bars", f"Events outside {names}", shown, x="events outside")
    return Answer(title, definition, table, notes, more=more, chart=chart, facts=facts)


_LOCATED: dict[str, Any] = {"entity": pl.String, "timestamp": pl.Datetime("us", "UTC"), "country": pl.String}


def _count_places(batch: pl.DataFrame, out: pl.Expr) -> pl.DataFrame:
    when = pl.col("timestamp").filter(out)
    return batch.group_by("entity").agg(
        events=pl.len().cast(pl.Int64), located=pl.col("country").count().cast(pl.Int64), outside=out.sum().cast(pl.Int64),
        countries=pl.col("country").filter(out).unique().sort(), first_outside=when.min(), last_outside=when.max(),
    )  # fmt: skip


def _merge_places(parts: list[pl.DataFrame]) -> pl.DataFrame:
    if len(parts) == 1:
        return parts[0]
    countries = pl.col("countries").explode(keep_nulls=False, empty_as_null=False)
    return pl.concat(parts).group_by("entity").agg(
        pl.col("events", "located", "outside").sum(), countries.unique().sort(), pl.col("first_outside").min(), pl.col("last_outside").max()
    )  # fmt: skip


def fastest_travellers(
    events: Events,
    refs: References | None,
    *,
    never_outside: Sequence[str] = ("US",),
    n: int = 10,
    by: str = "user_id",
    uncertainty_km: float = UNCERTAINTY_KM,
    since: datetime | None = None,
) -> Answer:
    """Rank entities by their fastest journey between consecutive events (challenge 4).

    Only entities count that have located events and none outside ``never_outside`` (empty: everybody). Speeds are the
    scores of the shipped rule ``login.travel-speed``: the distance by the formula "spherical Earth projected to a plane",
    less ``uncertainty_km``, over the time between the two events (at least a second); failed logins, and events
    from an address that four users or more share, take no part. The rule learns which addresses are shared as it goes; a question
    knows the whole log, so here an address counts as shared from its first event on. 0 gives the plain rate of travel
    that the challenge asks for; but geo tables place neighbours tens of kilometres apart, so short hops then win.

    Raises:
        TableError: No geo table with places.
    """
    known = _need_geo(refs, places=True)
    if n < 1 or uncertainty_km < 0:
        raise TableError("fastest_travellers: n is at least 1 and uncertainty_km at least 0.")
    stayed, rule = _stayed(events, known, never_outside, by), _travel_rule(uncertainty_km, by, _shared(events, by))
    where = pl.col(by).is_not_null()
    if stayed is not None:
        where &= pl.col(by).cast(pl.String).is_in(stayed["entity"].implode())
    best = pl.DataFrame()
    for piece in Watch(rule, events, known, where):
        if piece.width:
            rows = piece.filter(pl.col("@score").is_not_null()).with_columns(pl.col(by).cast(pl.String))
            rows = rows if since is None else rows.filter(pl.col("timestamp") >= since)
            best = pl.concat([best, rows], how="diagonal") if best.width else rows
            best = best.sort(["@score", "timestamp", "event_id"], descending=[True, False, False]).unique(
                by, keep="first", maintain_order=True
            )
    return _travel_answer(best, rule.entity, never_outside, n, uncertainty_km, stayed)


def _stayed(events: Events, refs: References, countries: Sequence[str], by: str) -> pl.DataFrame | None:
    """Return the entities that were never outside, or None where everybody counts."""
    if not countries:
        return None
    (never, *_) = outside(events, refs, countries, by=by).more.values()
    return never.select("entity")


def _shared(events: Events, by: str) -> pl.Series:
    """Return the addresses that so many entities have used, in the whole log, that they are gateways."""
    users = (
        events.filter(pl.col("src_ip").is_not_null()).group_by("src_ip").agg(users=pl.col(by).drop_nulls().n_unique())
    )
    return users.filter(pl.col("users") >= SHARED_BY).select("src_ip").collect(engine="streaming")["src_ip"]


def _travel_rule(uncertainty_km: float, by: str, shared: pl.Series) -> Detection:
    distance = plane_distance_km(prev.src_latitude, prev.src_longitude, col("src_latitude"), col("src_longitude"))
    hours = (col("timestamp") - prev.timestamp).dt.total_microseconds().clip(1_000_000, None) / 3_600_000_000
    rate = (distance - uncertainty_km).clip(0, None) / hours
    on = TRAVEL_SPEED.on & ~col("src_ip").is_in(shared.sort().implode())
    return dataclasses.replace(
        TRAVEL_SPEED, id="ask.travel-speed", on=on, entity=by, score=rate, when=score > 0, examples=()
    )


def _travel_answer(
    best: pl.DataFrame, by: str, countries: Sequence[str], n: int, uncertainty_km: float, stayed: pl.DataFrame | None
) -> Answer:
    who = f"never seen outside {', '.join(countries)}" if countries else "all"
    title = "Who travels fastest" + (f" without ever being outside {', '.join(countries)}?" if countries else "?")
    definition = (
        f"Entities ({by}): {who}"
        + ("" if stayed is None else f" ({stayed.height:,} of them)")
        + ". km_h is the highest speed between two "
        'consecutive located events of one entity: the distance by the formula "spherical Earth projected to a plane", less '
        f"{uncertainty_km:g} km for the inaccuracy of geo tables, over the hours between them (at least a second). "
        "Failed logins, and events from an address that four or more share, take no part. km is the whole distance."
    )
    if not best.width or not best.height:
        return Answer(
            title,
            definition,
            pl.DataFrame(schema={"entity": pl.String, "km_h": pl.Float64}),
            empty="Nobody has two located events.",
        )
    ends = [pl.col(c) for c in ("@prev.src_latitude", "@prev.src_longitude", "src_latitude", "src_longitude")]
    city = pl.col("src_city") if "src_city" in best.columns else pl.lit(None, pl.String)
    moved = best.filter(pl.col("@score") > 0)
    rows = moved.head(n).select(
        entity=by, km_h="@score", km=plane_distance_km(*ends),
        hours=(pl.col("timestamp") - pl.col("@prev.timestamp")).dt.total_microseconds() / 3_600_000_000,
        from_time="@prev.timestamp", to_time="timestamp", from_ip=pl.col("@prev.src_ip"), to_ip=pl.col("src_ip"), to_city=city,
        from_latitude=ends[0], from_longitude=ends[1], to_latitude=ends[2], to_longitude=ends[3], event_id="event_id",
    )  # fmt: skip
    drawn = rows.head(DRAWN_JOURNEYS).with_columns(
        label=pl.format("{}: {} km/h", "entity", pl.col("km_h").round(0).cast(pl.Int64))
    )
    chart = Chart(
        "travel", title, drawn.select("label", "from_latitude", "from_longitude", "to_latitude", "to_longitude")
    )
    facts = {"entities": best.height, "moved": moved.height}
    if not rows.height:
        return Answer(
            title,
            definition,
            rows,
            facts=facts,
            empty=f"None of {best.height:,} entities ever moved further than {uncertainty_km:g} km.",
        )
    notes = (
        f"{best.height - moved.height:,} entities never moved further than {uncertainty_km:g} km; their speed is 0.",
    )
    return Answer(title, definition, rows, notes, chart=chart, facts=facts)


def world_map(
    events: Events, refs: References | None, *, by: str = "user_id", side: str = "src", on: pl.Expr | None = None
) -> Answer:
    """Count events by the place of their address, for a map.

    One row a place of the geo table: its coordinates, city and country, events and entities.

    Raises:
        TableError: No geo table with places.
    """
    known = _need_geo(refs, places=True)
    wanted = ["latitude", "longitude", "city", "country"]
    parts: list[pl.DataFrame] = []
    users: list[pl.DataFrame] = []
    total = 0
    for column in (f"{side}_ip", by):
        need_column(events, column)
    reads = [by, f"{side}_ip", *(on.meta.root_names() if on is not None else [])]
    for batch in events.batches(reads, BATCH_ROWS):
        chosen = batch if on is None else batch.filter(on)
        total += chosen.height
        looked = known.attach(chosen, [f"{side}_{w}" for w in wanted]).select(
            pl.col(by).cast(pl.String).alias("entity"), *(pl.col(f"{side}_{w}").alias(w) for w in wanted)
        )
        looked = looked.drop_nulls(["latitude", "longitude"])
        parts = [
            pl.concat([*parts, looked.group_by(wanted).agg(events=pl.len().cast(pl.Int64))]).group_by(wanted).sum()
        ]
        users = [pl.concat([*users, looked.select("entity", *wanted).drop_nulls("entity").unique()]).unique()]
    title = f"Where do the events come from ({side}_ip)?"
    if not parts or not parts[0].height:
        empty = pl.DataFrame(schema={"latitude": pl.Float64, "longitude": pl.Float64, "events": pl.Int64})
        return Answer(
            title,
            f"{total:,} events; none has a place.",
            empty,
            empty="No address of these events has a place in the geo table.",
        )
    people = users[0].group_by(wanted).agg(entities=pl.len().cast(pl.Int64))
    table = parts[0].join(people, on=wanted, how="left", nulls_equal=True).with_columns(pl.col("entities").fill_null(0))
    table = table.sort(["events", "latitude", "longitude"], descending=[True, False, False])
    placed = int(table["events"].sum())
    definition = (
        f"{placed:,} of {total:,} events have an address with a place in the geo table; the other {total - placed:,} are left out. "
        f"{table.height:,} places; the area of a disc goes with its events. A place is where the geo table puts a range of addresses, "
        "which may be far from the person."
    )
    most = min(MOST_PLACES, MOST_POINTS)
    drawn = table.head(most).with_columns(
        label=pl.format("{} ({})", pl.col("city").fill_null("?"), pl.col("country").fill_null("?"))
    )
    notes = (f"The map shows the {most:,} places with most events.",) if table.height > most else ()
    chart = Chart("map", title, drawn.select("latitude", "longitude", count="events", label="label"))
    return Answer(
        title, definition, table, notes, chart=chart, facts={"events": total, "placed": placed, "places": table.height}
    )
