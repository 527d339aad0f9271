"""The simulator's truth is true: each story is found again, exactly, by slow code over the events alone."""

from __future__ import annotations

import ipaddress
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from simulation_oracle import (
    DAY,
    FAILED,
    IS_MAIL,
    PLACE,
    SIZES,
    ends_with,
    everything,
    listed,
    look_up,
    made,
    mails_a_day,
    places,
    speeds_kmh,
    succeeded_guesses,
    truth_of,
    users_of,
)

from tocsin.sources.simulate import Label, Simulation


@pytest.fixture(scope="module", params=SIZES, ids=lambda p: f"{p[0]}users-{p[1]}days-seed{p[2]}")
def sim(request: pytest.FixtureRequest) -> Simulation:
    return made(*request.param)


def events_of(sim: Simulation, label: Label) -> pl.DataFrame:
    return sim.events.filter(pl.col("event_id").is_in(label.event_ids))


HAS_EXE = ends_with(".exe")


# -- files and lists ------------------------------------------------------------------------------------------


def test_exactly_the_exe_sprayers_mailed_a_program_to_more_than_ten(sim: Simulation) -> None:
    truth = truth_of(sim)
    spray = sim.events.filter((pl.col("nr_recipients") > 10) & ends_with(".exe", ".scr"))
    assert set(spray["event_id"]) == truth.event_ids("exe_spray")
    with_exe = set(spray.filter(HAS_EXE)["user_id"])
    assert with_exe == truth.users("exe_spray") == set(truth.challenges["1"])


def test_a_sprays_programs_and_recipients_are_as_told() -> None:
    names: set[str] = set()
    for label in truth_of(everything()).labels("exe_spray"):
        mails = events_of(everything(), label)
        assert mails["nr_recipients"].to_list() == label.details["recipients"]
        assert mails["attachments"].list.last().to_list() == label.details["programs"]
        assert label.details["recipients"][0] == 11, "the first stands on the boundary"
        names |= set(label.details["programs"])
    assert {name.rsplit(".", 1)[-1].lower() for name in names} == {"exe", "scr"}
    assert any("/" in name for name in names), "one lies inside an archive"


def test_exactly_the_threat_logins_and_mails_touched_a_listed_address(sim: Simulation) -> None:
    truth = truth_of(sim)
    bad = listed(sim, set(sim.events["src_ip"]) | set(sim.events["dst_ip"]))
    touched = sim.events.filter(pl.col("src_ip").is_in(bad) | pl.col("dst_ip").is_in(bad))
    assert set(touched.filter(~IS_MAIL)["event_id"]) == truth.event_ids("threat_login")
    assert set(touched.filter(IS_MAIL)["event_id"]) == truth.event_ids("threat_mail")
    assert set(touched["user_id"]) == set(truth.challenges["2"])
    for label in truth.labels("threat_login", "threat_mail"):
        assert set(events_of(sim, label)[label.details["side"]]) == {label.details["address"]} <= bad


# -- volume ---------------------------------------------------------------------------------------------------


def test_exactly_the_bursts_are_days_of_five_times_the_own_mean_after_ten_days(sim: Simulation) -> None:
    counts = mails_a_day(sim).with_columns(
        before=pl.col("mails").cum_sum().over("user_id") - pl.col("mails"),
        history=pl.int_range(pl.len()).over("user_id"),
    )
    bursts = counts.filter((pl.col("history") >= 10) & (pl.col("mails") > 5 * pl.col("before") / pl.col("history")))
    found = set(bursts.select("user_id", "day").iter_rows())
    assert found == {(u, d) for x in truth_of(sim).labels("volume_burst") for u in x.users for d in x.days}
    for label in truth_of(sim).labels("volume_burst"):
        assert events_of(sim, label).height == label.details["mails"]
        assert label.last - label.first < timedelta(hours=3)


def test_exactly_outliers_and_newsletters_send_above_the_population_and_do_so_steadily(sim: Simulation) -> None:
    others = users_of(sim, "volume_burst", "slow_ramp")
    rates = (
        mails_a_day(sim)
        .filter(~pl.col("user_id").is_in(others))
        .group_by("user_id")
        .agg(mean=pl.col("mails").mean(), most=pl.col("mails").max())
    )
    far = rates.filter(pl.col("mean") > rates["mean"].mean() + 3 * rates["mean"].std())
    assert set(far["user_id"]) == users_of(sim, "population_outlier", "newsletter")
    assert far.filter(pl.col("most") > 2 * pl.col("mean")).is_empty(), "an outlier must be no burst against itself"


@pytest.mark.parametrize("size", SIZES[1:])
def test_a_slow_ramp_grows_as_told_and_never_triples_its_own_recent_mean(size: tuple[int, int, int]) -> None:
    sim = made(*size)
    for label in truth_of(sim).labels("slow_ramp"):
        mails = mails_a_day(sim).filter(user_id=label.users[0]).sort("day")["mails"].to_numpy()
        first, growth = size[1] // 6, label.details["growth_per_day"]
        weekend = sim.population.filter(user_id=label.users[0])["weekend"].item()
        factor = (1 + growth) ** np.maximum(0, np.arange(size[1]) - first)
        assert label.details["last_day_factor"] == pytest.approx(factor[-1])
        assert label.details["last_day_factor"] > 1.6
        expected = (factor - 1 + (5 + 2 * weekend) / 7) * label.details["usual_mails_per_day"]
        assert mails[-7:].sum() == pytest.approx(expected[-7:].sum(), rel=0.3)
        assert mails.sum() == pytest.approx(expected.sum(), rel=0.2)
        for day in range(7, size[1]):
            assert mails[day] <= max(19, 3 * mails[max(0, day - 28) : day].mean()), "the own baseline must miss it"


def test_a_slow_ramp_keeps_the_users_hours() -> None:
    """More mail is not other hours: what asks for shifted hours must not find a ramp."""
    sim, quiet = made(400, 45, 20260601), made(400, 45, 20260601, ())
    for label in truth_of(sim).labels("slow_ramp"):
        means = []
        for one in (sim, quiet):
            hour = one.events.filter(user_id=label.users[0])["timestamp"].cast(pl.Int64).to_numpy() / 3.6e9 % 24
            means.append(np.exp(2j * np.pi * hour / 24).mean())
        apart = np.angle(means[0] / means[1]) * 24 / (2 * np.pi)
        assert abs(apart) < 0.5
        assert abs(means[0]) == pytest.approx(abs(means[1]), abs=0.05)


def test_exactly_the_growing_users_attach_several_times_more_after_the_middle(sim: Simulation) -> None:
    truth, days = truth_of(sim), sim.truth["days"]
    split = datetime.fromisoformat(sim.truth["start"]) + timedelta(days=days // 2)
    assert truth.split == split
    late, files = pl.col("timestamp") >= split, pl.col("nr_attachments")
    change = (
        sim.events.group_by("user_id")
        .agg(before=files.filter(~late).sum() / (days // 2), after=files.filter(late).sum() / (days - days // 2))
        .with_columns(increase=pl.col("after") - pl.col("before"))
    )
    planted = truth.users("attachment_growth")
    assert set(change.filter(pl.col("increase") > 12)["user_id"]) == planted
    rows = {row["user_id"]: row for row in change.iter_rows(named=True)}
    for label in truth.labels("attachment_growth"):
        row = rows[label.users[0]]
        assert label.details["per_day_before"] == pytest.approx(row["before"])
        assert label.details["per_day_after"] == pytest.approx(row["after"])
        assert label.first >= split
    top = change.sort("increase", "user_id", descending=[True, False]).head(3)
    assert truth.challenges["3"]["users"] == top["user_id"].to_list()
    assert truth.challenges["3"]["increase_per_day"] == pytest.approx(top["increase"].to_list())
    joined = sim.population.join(change, on="user_id")
    for end in ("before", "after"):
        assert joined[f"attachments_per_day_{end}"].to_numpy() == pytest.approx(joined[end].to_numpy())


# -- places and times -----------------------------------------------------------------------------------------


def test_exactly_the_takeovers_move_faster_than_any_aircraft_and_as_fast_as_told(sim: Simulation) -> None:
    truth, moves = truth_of(sim), speeds_kmh(sim).filter(~pl.col("user_id").is_in(succeeded_guesses(sim)))
    assert set(moves.filter(pl.col("fastest") > 900)["user_id"]) == truth.users("takeover_travel")
    away = truth.users("takeover_travel", "traveller", "relocation")
    assert set(moves.filter(pl.col("cities") > 1)["user_id"]) == away
    fastest = dict(speeds_kmh(sim).select("user_id", "fastest").iter_rows())
    for label in truth.labels("takeover_travel"):
        assert fastest[label.users[0]] == pytest.approx(label.details["speed_kmh"], rel=1e-6)


def test_a_takeover_brings_a_new_device_a_burst_of_mail_and_often_a_new_country() -> None:
    sim = everything()
    countries = []
    for label in truth_of(sim).labels("takeover_travel"):
        theirs = sim.events.filter(user_id=label.users[0])
        strange = theirs.filter(device_id=label.details["device_id"])
        assert set(strange["src_ip"]) == {label.details["address"]}
        assert strange.filter(IS_MAIL).height == label.details["mails"]
        assert strange["event_id"].to_list() == list(label.event_ids[1:]), "and before it the owner's own login"
        place = look_up(sim.geo, [label.details["address"]], PLACE).row(0, named=True)
        assert place["city_name"] == label.details["to_city"]
        assert place["country_iso_code"] == label.details["to_country"]
        countries.append(label.details["from_country"] == label.details["to_country"])
    assert not all(countries)


def test_travellers_and_the_relocated_move_at_the_speed_of_an_aircraft(sim: Simulation) -> None:
    innocent = users_of(sim, "traveller", "relocation")
    moves = speeds_kmh(sim).filter(pl.col("user_id").is_in(innocent))
    assert moves.height == len(innocent)
    assert moves.filter(~pl.col("fastest").is_between(250, 800) | (pl.col("cities") != 2)).is_empty()
    for label in truth_of(sim).labels("relocation"):
        after = sim.events.filter(pl.col("user_id") == label.users[0], pl.col("timestamp") > label.first)
        after = after.filter(pl.col("timestamp") >= label.first + timedelta(hours=label.details["flight_hours"]))
        assert set(after["src_ip"]) == {label.details["address"]}, "they stay"
        assert label.details["from_country"] != label.details["to_country"]


def test_who_was_never_outside_the_us_is_so_by_the_geo_table_whether_failures_count_or_not(sim: Simulation) -> None:
    abroad = sim.events.join(places(sim), on="src_ip").filter(pl.col("country_iso_code") != "US")
    everybody, claimed = set(sim.events["user_id"]), truth_of(sim).never_outside_us
    assert everybody - set(abroad["user_id"]) == everybody - set(abroad.filter(~FAILED)["user_id"]) == claimed
    assert set(sim.population.filter(~pl.col("outside_us"))["user_id"]) & everybody == claimed


@pytest.mark.parametrize("size", SIZES)
def test_challenge_4_the_fastest_of_those_never_outside_the_us(size: tuple[int, int, int]) -> None:
    sim = made(*size)
    answer = truth_of(sim).challenges["4"]
    at_home = speeds_kmh(sim, plane=True).filter(pl.col("user_id").is_in(truth_of(sim).never_outside_us))
    row = at_home.sort("fastest", descending=True).row(0, named=True)
    if answer["user"] is None:
        assert row["fastest"] < 2000, "nobody moved, but for a guesser's success"
    else:
        assert (row["user_id"], row["fastest"]) == (answer["user"], pytest.approx(answer["speed_kmh"], rel=1e-6))


def test_users_whose_hours_shift_live_in_their_new_hours_from_the_told_date_on(sim: Simulation) -> None:
    truth = truth_of(sim)
    assert truth.users("hours_shift") == set(truth.challenges["B2"])
    for label in truth.labels("hours_shift"):
        zone, change = label.details["zone"], date.fromisoformat(label.details["from_local_date"])
        local = sim.events.filter(user_id=label.users[0]).with_columns(pl.col("timestamp").dt.convert_time_zone(zone))
        hour = pl.col("timestamp").dt.hour() + pl.col("timestamp").dt.minute() / 60
        late = pl.col("timestamp").dt.date() >= change
        assert set(local.filter(late)["event_id"]) == set(label.event_ids)
        for when, (begin, end) in ((~late, label.details["hours_before"]), (late, label.details["hours_after"])):
            width = (end - begin) % 24
            assert local.filter(when).select(((hour - begin) % 24 <= width).mean()).item() > 0.85
        assert 3 <= abs(label.details["shift_hours"]) <= 6
        assert (label.details["hours_before"][0] + label.details["shift_hours"]) % 24 == pytest.approx(
            label.details["hours_after"][0]
        )


def test_a_shift_moves_each_event_of_the_quiet_life_from_the_told_date_on_by_the_told_hours() -> None:
    shifted, quiet = made(300, 30, 2), made(300, 30, 2, ())
    for label in truth_of(shifted).labels("hours_shift"):
        zone, change = label.details["zone"], date.fromisoformat(label.details["from_local_date"])
        both = quiet.events.filter(user_id=label.users[0]).join(shifted.events, on="event_id", suffix="_now")
        late = pl.col("timestamp").dt.convert_time_zone(zone).dt.date() >= change
        moved = (pl.col("timestamp_now") - pl.col("timestamp")).dt.total_microseconds() / 3.6e9 % 24
        assert set(both.filter(~late).select(moved).to_series()) == {0.0}
        assert set(both.filter(late).select(moved).to_series()) == {label.details["shift_hours"] % 24}


# -- passwords ------------------------------------------------------------------------------------------------


def most_failures_within_half_an_hour(sim: Simulation) -> dict[str, int]:
    logins = sim.events.filter(FAILED).sort("timestamp")
    counts = logins.rolling("timestamp", period="30m", group_by="user_id").agg(pl.len())
    return dict(counts.group_by("user_id").agg(pl.col("len").max()).iter_rows())


def test_exactly_the_guessed_accounts_fail_dozens_of_times_within_half_an_hour(sim: Simulation) -> None:
    most = most_failures_within_half_an_hour(sim)
    assert {user for user, n in most.items() if n >= 20} == users_of(sim, "password_guessing")
    for label in truth_of(sim).labels("password_guessing"):
        theirs = sim.events.filter(user_id=label.users[0], src_ip=label.details["address"])
        assert most[label.users[0]] >= label.details["failures"] == theirs.filter(FAILED).height
        assert theirs.filter(~FAILED).height == label.details["succeeded"]


def test_exactly_the_sprayed_networks_fail_at_many_accounts_on_a_day() -> None:
    sim = everything()
    network = {t: str(ipaddress.ip_network(f"{t}/28", strict=False)) for t in sim.events["src_ip"].unique() if "." in t}
    failures = sim.events.filter(FAILED).with_columns(network=pl.col("src_ip").replace_strict(network, default=None))
    failures = failures.drop_nulls("network")
    wide = failures.group_by("network", DAY).agg(pl.col("user_id").n_unique(), pl.col("src_ip").n_unique())
    labels = truth_of(sim).labels("password_spray")
    assert {len(label.details["addresses"]) for label in labels} == {1, 4}
    assert set(wide.filter(pl.col("user_id") >= 8)["network"]) == {label.details["network"] for label in labels}
    for label in labels:
        tried = failures.filter(network=label.details["network"]).group_by("user_id").len()
        assert set(tried["user_id"]) == set(label.users)
        assert set(tried["len"]) == {label.details["failures_per_user"]}
        assert set(failures.filter(network=label.details["network"])["src_ip"]) == set(label.details["addresses"])
        got_in = events_of(sim, label).filter(~FAILED)["user_id"].to_list()
        assert got_in == [user for user in [label.details["succeeded"]] if user]
        assert most_failures_within_half_an_hour(sim)[label.users[0]] < 10, "no account sees a burst"
    sources = set(failures.filter(pl.col("network").is_in([x.details["network"] for x in labels]))["src_ip"])
    assert not listed(sim, sources)


def test_a_forgotten_password_is_a_few_failures_at_home_and_then_a_success(sim: Simulation) -> None:
    for label in truth_of(sim).labels("forgotten_password"):
        tries = events_of(sim, label)
        assert tries["outcome"].to_list() == ["failure"] * label.details["failures"] + ["success"]
        assert 4 <= label.details["failures"] <= 8
        own = sim.events.filter(pl.col("user_id") == label.users[0], ~pl.col("event_id").is_in(label.event_ids))
        assert tries["src_ip"].n_unique() == tries["device_id"].n_unique() == 1
        assert set(tries["src_ip"]) <= set(own["src_ip"])
        assert set(tries["device_id"]) <= set(own["device_id"])


# -- the innocent ---------------------------------------------------------------------------------------------


def test_programs_to_few_and_other_files_to_many_are_what_they_claim(sim: Simulation) -> None:
    truth = truth_of(sim)
    few = sim.events.filter(HAS_EXE & (pl.col("nr_recipients") <= 10))
    assert set(few["user_id"]) == truth.users("exe_few_recipients")
    assert few.filter(pl.col("nr_recipients") == 10).height, "the boundary itself must occur"
    many = sim.events.filter(pl.col("event_id").is_in(truth.event_ids("many_recipients_no_exe")))
    assert many.filter(ends_with(".exe", ".scr") | (pl.col("nr_recipients") <= 10)).is_empty()
    assert many["attachments"].explode().str.contains("exe").any(), "some only look like programs"


def test_the_neighbours_of_listed_addresses_are_neighbours_and_not_listed(sim: Simulation) -> None:
    for label in truth_of(sim).labels("beside_listed"):
        for text in events_of(sim, label)["src_ip"]:
            below = str(ipaddress.ip_address(text) - 1)
            assert listed(sim, [text, below]) == {below}


def test_a_shared_address_has_several_users_of_one_city(sim: Simulation) -> None:
    for label in truth_of(sim).labels("shared_egress"):
        events = events_of(sim, label)
        assert set(events["src_ip"]) == {label.details["address"]}
        assert set(events["user_id"]) == set(label.users)
        assert len(label.users) >= 3
        assert set(sim.events.filter(src_ip=label.details["address"])["user_id"]) == set(label.users)


def test_users_behind_a_vpn_travel_impossibly_and_are_innocent() -> None:
    sim = everything()
    fast = set(speeds_kmh(sim).filter(pl.col("fastest") > 1000)["user_id"])
    labels = truth_of(sim).labels("vpn_egress")
    assert labels
    for label in labels:
        assert len(label.users) >= 4
        assert set(label.users) <= fast & truth_of(sim).innocents()
        assert set(sim.events.filter(src_ip=label.details["address"])["user_id"]) == set(label.users)


def test_a_new_telephone_and_a_new_provider_are_first_seen_in_the_same_city_for_good(sim: Simulation) -> None:
    for label in truth_of(sim).labels("new_phone"):
        theirs = sim.events.filter(user_id=label.users[0])
        new = theirs.filter(device_id=label.details["device_id"])
        assert set(new["event_id"]) == set(label.event_ids)
        assert theirs.filter(pl.col("timestamp") < label.first)["device_id"].n_unique() == 2
        assert theirs.filter(pl.col("timestamp") >= label.first)["device_id"].n_unique() <= 2
    for label in truth_of(sim).labels("new_network"):
        pair = [label.details["address_before"], label.details["address_after"]]
        assert look_up(sim.geo, pair, PLACE)["city_name"].n_unique() == 1
        assert look_up(sim.networks, pair, ("asn",))["asn"].n_unique() == 2
        theirs = sim.events.filter(user_id=label.users[0])
        assert theirs.filter(pl.col("timestamp") >= label.first).filter(src_ip=pair[0]).is_empty()
        assert theirs.filter(pl.col("timestamp") < label.first).filter(src_ip=pair[1]).is_empty()


def test_every_address_of_an_event_belongs_to_a_network(sim: Simulation) -> None:
    found = look_up(sim.networks, sim.events["src_ip"].unique(), ("asn", "organisation", "network_kind"))
    assert found["asn"].is_between(4_200_000_000, 4_294_967_294).all(), "private use (RFC 6996)"
    assert set(found["network_kind"]) >= {"isp", "mobile", "business", "hosting"}
