"""The simulator's truth is true: each story is found again by plain Polars over the events alone."""

from __future__ import annotations

import bisect
import functools
import ipaddress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tocsin.errors import SourceError
from tocsin.sources.simulate import INNOCENT_KINDS, STORY_KINDS, Simulation, simulate, simulate_to
from tocsin.sources.simulate.days import SCHEMA
from tocsin.sources.simulate.run import ROWS_PER_GROUP, _regroup

SIZES = [(80, 14, 1), (300, 30, 2), (700, 21, 3), (400, 45, 20260601)]


@functools.cache
def made(users: int, days: int, seed: int) -> Simulation:
    return simulate(users, days, seed)


@pytest.fixture(scope="module", params=SIZES, ids=lambda p: f"{p[0]}users-{p[1]}days-seed{p[2]}")
def sim(request: pytest.FixtureRequest) -> Simulation:
    return made(*request.param)


def users_of(sim: Simulation, kind: str) -> set[str]:
    return {
        user
        for story in sim.truth["stories"] + sim.truth["innocents"]
        if story["kind"] == kind
        for user in story["users"]
    }


def stories_of(sim: Simulation, kind: str) -> list[dict]:
    return [story for story in sim.truth["stories"] + sim.truth["innocents"] if story["kind"] == kind]


HAS_EXE = pl.col("attachments").list.eval(pl.element().str.to_lowercase().str.ends_with(".exe")).list.any()
DAY = pl.col("timestamp").dt.date().alias("day")


def listed_addresses(sim: Simulation, events: pl.DataFrame) -> set[str]:
    """The addresses seen in events that the threat list covers, by Python's own ipaddress."""
    networks = []
    for indicator in sim.threats["indicator"]:
        try:
            networks.append(ipaddress.ip_network(indicator))
        except ValueError:
            continue  # domains and mail addresses
    seen = set(events["src_ip"].unique()) | set(events["dst_ip"].unique())
    singles = {net.network_address for net in networks if net.num_addresses == 1}
    wide = [net for net in networks if net.num_addresses > 1]
    return {
        text
        for text in seen
        if (ip := ipaddress.ip_address(text)) in singles or any(ip in net for net in wide if net.version == ip.version)
    }


def places(sim: Simulation) -> pl.DataFrame:
    """src_ip -> latitude, longitude, city_name, country_iso_code, by a bisection of the written ranges."""
    ranges = sorted((int(r["lo_addr"]), int(r["hi_addr"]), r) for r in sim.geo.iter_rows(named=True))
    lows = [low for low, _, _ in ranges]
    rows = []
    for text in sim.events["src_ip"].unique().sort():
        number = int(ipaddress.ip_address(text))
        low, high, row = ranges[bisect.bisect_right(lows, number) - 1]
        assert low <= number <= high, f"{text} lies nowhere"
        rows.append({"src_ip": text, **{k: row[k] for k in ("latitude", "longitude", "city_name", "country_iso_code")}})
    return pl.DataFrame(rows)


def speeds_kmh(sim: Simulation) -> pl.DataFrame:
    """user_id, fastest move between consecutive events in km/h, number of cities."""
    here = [pl.col("latitude").radians().alias("lat"), pl.col("longitude").radians().alias("lon")]
    moves = sim.events.join(places(sim), on="src_ip").sort("user_id", "timestamp").with_columns(*here)
    moves = moves.with_columns(pl.col("lat", "lon", "timestamp").shift(1).over("user_id").name.prefix("previous_"))
    haversine = ((pl.col("lat") - pl.col("previous_lat")) / 2).sin() ** 2 + pl.col("lat").cos() * pl.col(
        "previous_lat"
    ).cos() * ((pl.col("lon") - pl.col("previous_lon")) / 2).sin() ** 2
    km = 2 * 6371.0088 * haversine.sqrt().arcsin()
    hours = (pl.col("timestamp") - pl.col("previous_timestamp")).dt.total_microseconds() / 3.6e9
    speed = pl.when(km > 1).then(km / hours).otherwise(0.0)
    return moves.group_by("user_id").agg(fastest=speed.max(), cities=pl.col("city_name").n_unique())


def mails_a_day(sim: Simulation) -> pl.DataFrame:
    """user_id, day, mails; days without mail are zero."""
    mails = sim.events.filter(pl.col("kind") == "mail").group_by("user_id", DAY).len("mails")
    days = sim.events.select(DAY).unique()
    every = sim.events.select("user_id").unique().join(days, how="cross")
    return (
        every.join(mails, on=["user_id", "day"], how="left")
        .with_columns(pl.col("mails").fill_null(0))
        .sort("user_id", "day")
    )


# -- the stories ----------------------------------------------------------------------------------------------


def test_exactly_the_exe_sprayers_mailed_a_program_to_more_than_ten(sim: Simulation) -> None:
    spray = sim.events.filter((pl.col("nr_recipients") > 10) & HAS_EXE)
    assert set(spray["user_id"]) == users_of(sim, "exe_spray")
    assert set(spray["event_id"]) == {e for story in stories_of(sim, "exe_spray") for e in story["event_ids"]}


def test_exactly_the_threat_logins_touched_a_listed_address(sim: Simulation) -> None:
    listed = listed_addresses(sim, sim.events)
    touched = sim.events.filter(pl.col("src_ip").is_in(listed) | pl.col("dst_ip").is_in(listed))
    assert set(touched["user_id"]) == users_of(sim, "threat_login")
    assert set(touched["event_id"]) == {e for story in stories_of(sim, "threat_login") for e in story["event_ids"]}


def test_exactly_the_bursts_are_days_of_five_times_the_own_mean_after_ten_days(sim: Simulation) -> None:
    counts = mails_a_day(sim).with_columns(
        before=pl.col("mails").cum_sum().over("user_id") - pl.col("mails"),
        history=pl.int_range(pl.len()).over("user_id"),
    )
    bursts = counts.filter((pl.col("history") >= 10) & (pl.col("mails") > 5 * pl.col("before") / pl.col("history")))
    found = {(user, day.isoformat()) for user, day in bursts.select("user_id", "day").iter_rows()}
    assert found == {(u, d) for story in stories_of(sim, "volume_burst") for u in story["users"] for d in story["days"]}


def test_exactly_outliers_and_newsletters_send_above_the_population_and_do_so_steadily(sim: Simulation) -> None:
    bursts = users_of(sim, "volume_burst")
    rates = (
        mails_a_day(sim)
        .filter(~pl.col("user_id").is_in(bursts))
        .group_by("user_id")
        .agg(mean=pl.col("mails").mean(), most=pl.col("mails").max())
    )
    far = rates.filter(pl.col("mean") > rates["mean"].mean() + 3 * rates["mean"].std())
    assert set(far["user_id"]) == users_of(sim, "population_outlier") | users_of(sim, "newsletter")
    assert far.filter(pl.col("most") > 2 * pl.col("mean")).is_empty(), "an outlier must be no burst against itself"


def test_exactly_the_takeovers_move_faster_than_any_aircraft(sim: Simulation) -> None:
    moves = speeds_kmh(sim)
    assert set(moves.filter(pl.col("fastest") > 1000)["user_id"]) == users_of(sim, "takeover_travel")
    assert set(moves.filter(pl.col("cities") > 1)["user_id"]) == users_of(sim, "takeover_travel") | users_of(
        sim, "traveller"
    )


def test_exactly_the_growing_users_attach_several_times_more_than_before(sim: Simulation) -> None:
    days = sim.truth["days"]
    start = datetime.fromisoformat(sim.truth["start"])
    early = pl.col("timestamp") < start + timedelta(days=days // 3)
    late = pl.col("timestamp") >= start + timedelta(days=max(days * 2 // 3, days // 3 + 1))
    files = pl.col("nr_attachments")
    change = (
        sim.events.filter(pl.col("kind") == "mail")
        .group_by("user_id")
        .agg(before=files.filter(early).mean(), after=files.filter(late).mean())
        .filter(pl.col("after") > pl.col("before") + 2)
    )
    assert set(change["user_id"]) == users_of(sim, "attachment_growth")


# -- the innocent ---------------------------------------------------------------------------------------------


def test_programs_to_few_and_other_files_to_many_are_what_they_claim(sim: Simulation) -> None:
    few = sim.events.filter(HAS_EXE & (pl.col("nr_recipients") <= 10))
    assert set(few["user_id"]) == users_of(sim, "exe_few_recipients")
    assert few.filter(pl.col("nr_recipients") == 10).height, "the boundary itself must occur"
    ids = [e for story in stories_of(sim, "many_recipients_no_exe") for e in story["event_ids"]]
    many = sim.events.filter(pl.col("event_id").is_in(ids))
    assert many.filter(HAS_EXE | (pl.col("nr_recipients") <= 10)).is_empty()
    assert many["attachments"].explode().str.contains("exe").any(), "some only look like programs"


def test_the_neighbours_of_listed_addresses_are_neighbours_and_not_listed(sim: Simulation) -> None:
    ids = [e for story in stories_of(sim, "beside_listed") for e in story["event_ids"]]
    for text in sim.events.filter(pl.col("event_id").is_in(ids))["src_ip"]:
        below = str(ipaddress.ip_address(text) - 1)
        probe = pl.DataFrame({"src_ip": [text, below], "dst_ip": [text, below]})
        assert listed_addresses(sim, probe) == {below}


def test_a_shared_address_has_several_users_of_one_city(sim: Simulation) -> None:
    for story in stories_of(sim, "shared_egress"):
        events = sim.events.filter(pl.col("event_id").is_in(story["event_ids"]))
        assert events["src_ip"].n_unique() == 1
        assert set(events["user_id"]) == set(story["users"])
        assert len(story["users"]) >= 3


def test_travellers_are_seen_elsewhere_at_the_speed_of_an_aircraft(sim: Simulation) -> None:
    moves = speeds_kmh(sim).filter(pl.col("user_id").is_in(users_of(sim, "traveller")))
    assert moves.height
    assert moves.filter(~pl.col("fastest").is_between(250, 800) | (pl.col("cities") != 2)).is_empty()


def test_without_stories_nothing_is_planted_and_nothing_is_found() -> None:
    sim = simulate(users=200, days=14, seed=5, stories=False)
    assert sim.truth["stories"] == sim.truth["innocents"] == []
    assert sim.events.filter(HAS_EXE).is_empty()
    assert not listed_addresses(sim, sim.events)
    assert speeds_kmh(sim)["fastest"].max() == 0


# -- the truth as a document ----------------------------------------------------------------------------------


def test_each_kind_is_planted_and_nobody_plays_two_parts(sim: Simulation) -> None:
    parts = [user for story in sim.truth["stories"] + sim.truth["innocents"] for user in story["users"]]
    assert len(parts) == len(set(parts))
    assert {story["kind"] for story in sim.truth["stories"]} == set(STORY_KINDS)
    assert {story["kind"] for story in sim.truth["innocents"]} == set(INNOCENT_KINDS)


def test_every_labelled_event_exists_once_is_of_its_user_and_day(sim: Simulation) -> None:
    rows = [
        (story["kind"], event, story["users"], story["days"])
        for story in sim.truth["stories"] + sim.truth["innocents"]
        for event in story["event_ids"]
    ]
    labels = pl.DataFrame(rows, schema=["story_kind", "event_id", "users", "days"], orient="row")
    assert labels["event_id"].is_unique().all()
    joined = labels.join(sim.events, on="event_id", how="inner")
    assert joined.height == labels.height
    day = pl.col("timestamp").dt.date().cast(pl.String)
    assert joined.filter(~pl.col("user_id").is_in(pl.col("users")) | ~day.is_in(pl.col("days"))).is_empty()
    assert all(story["event_ids"] for story in sim.truth["stories"] + sim.truth["innocents"])


def test_too_small_a_world_leaves_stories_out_instead_of_failing() -> None:
    assert simulate(users=1, days=1, seed=0).events["user_id"].n_unique() <= 1
    assert not stories_of(simulate(users=60, days=10, seed=0), "volume_burst"), "no ten days of history"


# -- the events -----------------------------------------------------------------------------------------------


def test_events_have_the_documented_columns_in_time_order(sim: Simulation) -> None:
    events = sim.events
    assert dict(events.schema) == SCHEMA
    assert events["timestamp"].is_sorted()
    assert events["event_id"].is_unique().all()
    assert events.select(pl.exclude("nr_recipients").null_count()).sum_horizontal().item() == 0


def test_logins_have_no_recipients_and_no_files_and_mails_have_at_least_one(sim: Simulation) -> None:
    logins, mails = sim.events.filter(pl.col("kind") == "login"), sim.events.filter(pl.col("kind") == "mail")
    assert logins.height + mails.height == sim.events.height
    assert logins["nr_recipients"].is_null().all()
    assert logins["nr_attachments"].sum() == 0
    assert mails["nr_recipients"].min() >= 1
    assert (sim.events["attachments"].list.len() == sim.events["nr_attachments"]).all()


def test_every_day_of_the_span_is_whole(sim: Simulation) -> None:
    """A day at the edges has as many events as one in the middle: no time zone is cut off."""
    counts = sim.events.group_by(DAY).len().sort("day")
    assert counts.height == sim.truth["days"]
    assert counts["len"].min() > 0.6 * counts["len"].median()


def test_users_keep_the_hours_of_their_own_city(sim: Simulation) -> None:
    people = sim.population.filter(pl.col("work_start_hour") + pl.col("work_hours") < 24)
    odd = users_of(sim, "population_outlier") | users_of(sim, "newsletter") | users_of(sim, "volume_burst")
    for (zone,), group in people.group_by("zone"):
        local = sim.events.join(group, on="user_id").with_columns(pl.col("timestamp").dt.convert_time_zone(zone))
        clock = pl.col("timestamp")
        hour = clock.dt.hour() + clock.dt.minute() / 60
        inside = hour.is_between(pl.col("work_start_hour") - 0.1, pl.col("work_start_hour") + pl.col("work_hours"))
        share = (
            local.filter(~pl.col("user_id").is_in(odd)).group_by("user_id").agg(inside.mean().alias("share"), pl.len())
        )
        assert share.filter(pl.col("len") > 100, pl.col("share") < 0.8).is_empty(), zone


def test_challenge_b1_the_parameter_of_the_recipients_can_be_recovered() -> None:
    sim = made(700, 21, 3)
    newsletters = users_of(sim, "newsletter")
    means = (
        sim.events.filter((pl.col("kind") == "mail") & ~pl.col("user_id").is_in(newsletters))
        .group_by("user_id")
        .agg(pl.col("nr_recipients").mean().alias("mean"))
    )
    assert means["mean"].mean() == pytest.approx(sim.truth["mean_recipients_poisson"], abs=0.35)
    assert means["mean"].var() == pytest.approx(sim.truth["mean_recipients_poisson"], rel=0.25), (
        "Poisson: variance = mean"
    )


# -- the same seed, the same bytes ----------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(("users", "days", "seed"), [(80, 14, 1), (900, 30, 4)])
def test_two_runs_and_the_streamed_writer_give_the_same_bytes(tmp_path: Path, users: int, days: int, seed: int) -> None:
    first = simulate(users, days, seed).write(tmp_path / "first", jsonl=True)
    simulate(users, days, seed).write(tmp_path / "second", jsonl=True)
    count = simulate_to(tmp_path / "streamed", users, days, seed, jsonl=True)
    assert contents(first) == contents(tmp_path / "second") == contents(tmp_path / "streamed")
    assert count == pl.scan_parquet(first / "events.parquet").select(pl.len()).collect().item()
    assert len(contents(first)) == 6


def test_written_events_read_back_as_they_were(tmp_path: Path) -> None:
    sim = made(80, 14, 1)
    folder = sim.write(tmp_path, truth=False)
    assert pl.read_parquet(folder / "events.parquet").equals(sim.events)
    assert not (folder / "truth.json").exists()
    assert not (folder / "population.parquet").exists()


def test_another_seed_gives_other_users_and_events() -> None:
    one, other = simulate(50, 3, 1), simulate(50, 3, 2)
    assert not set(one.events["event_id"]) & set(other.events["event_id"])
    assert not set(one.events["user_id"]) & set(other.events["user_id"])


def test_row_groups_do_not_depend_on_how_the_rows_came() -> None:
    frame = pl.DataFrame({"x": range(2 * ROWS_PER_GROUP + 10)})
    sizes = [(ROWS_PER_GROUP), (ROWS_PER_GROUP), 10]
    for step in (70_001, ROWS_PER_GROUP, frame.height):
        groups = list(_regroup(frame.iter_slices(step)))
        assert [group.height for group in groups] == sizes
        assert pl.concat(groups).equals(frame)


def test_days_are_simulated_on_the_calendar_asked_for() -> None:
    sim = simulate(users=30, days=3, seed=1, start=datetime(2027, 3, 27, tzinfo=UTC))  # over a change of clocks
    assert sim.events["timestamp"].dt.date().unique().sort().to_list() == [date(2027, 3, d) for d in (27, 28, 29)]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"users": 0}, "users"),
        ({"days": 0}, "days"),
        ({"seed": -1}, "seed"),
        ({"start": datetime(2026, 6, 1, 5, tzinfo=UTC)}, "midnight"),
        ({"start": datetime(2026, 6, 1)}, "midnight"),
    ],
)
def test_arguments_that_make_no_sense_are_named(arguments: dict, word: str) -> None:
    with pytest.raises(SourceError, match=word):
        simulate(**{"users": 5, "days": 2, "seed": 1} | arguments)
