"""The simulated events have the documented columns and distributions, and the same seed gives the same bytes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from simulation_oracle import (
    DAY,
    FAILED,
    IS_MAIL,
    SIZES,
    ends_with,
    everything,
    listed,
    made,
    speeds_kmh,
    truth_of,
    without_parts,
)

from tocsin.errors import SourceError
from tocsin.sources.simulate import INNOCENT_KINDS, STORY_KINDS, Simulation, Truth, kinds_of, simulate, simulate_to
from tocsin.sources.simulate.days import SCHEMA
from tocsin.sources.simulate.files import ROWS_PER_GROUP, regroup


@pytest.fixture(scope="module", params=SIZES, ids=lambda p: f"{p[0]}users-{p[1]}days-seed{p[2]}")
def sim(request: pytest.FixtureRequest) -> Simulation:
    return made(*request.param)


# -- the truth as a document ----------------------------------------------------------------------------------


def test_each_kind_is_planted_and_nobody_plays_two_parts(sim: Simulation) -> None:
    parts = [user for story in sim.truth["stories"] + sim.truth["innocents"] for user in story["users"]]
    assert len(parts) == len(set(parts))
    assert {story["kind"] for story in sim.truth["stories"]} == set(STORY_KINDS)
    assert {story["kind"] for story in sim.truth["innocents"]} == set(INNOCENT_KINDS) - {"vpn_egress"}


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
    assert not truth_of(simulate(users=60, days=10, seed=0)).labels("volume_burst"), "no ten days of history"


# -- the events -----------------------------------------------------------------------------------------------


def test_events_have_the_documented_columns_in_time_order(sim: Simulation) -> None:
    events = sim.events
    assert dict(events.schema) == SCHEMA
    assert events["timestamp"].is_sorted()
    assert events["event_id"].is_unique().all()
    assert events.select(pl.exclude("nr_recipients", "size_bytes").null_count()).sum_horizontal().item() == 0


def test_logins_have_no_recipients_and_no_files_and_mails_have_at_least_one(sim: Simulation) -> None:
    logins, mails = sim.events.filter(pl.col("kind") == "login"), sim.events.filter(pl.col("kind") == "mail")
    assert logins.height + mails.height == sim.events.height
    assert logins["nr_recipients"].is_null().all()
    assert logins["size_bytes"].is_null().all()
    assert logins["nr_attachments"].sum() == 0
    assert mails["nr_recipients"].min() >= 1
    assert mails["size_bytes"].min() > 0
    assert (mails["outcome"] == "success").all()
    assert set(logins["outcome"]) == {"success", "failure"}
    assert (sim.events["attachments"].list.len() == sim.events["nr_attachments"]).all()


def test_every_day_of_the_span_is_whole(sim: Simulation) -> None:
    """A day at the edges has as many events as one in the middle: no time zone is cut off."""
    counts = sim.events.group_by(DAY).len().sort("day")
    assert counts.height == sim.truth["days"]
    assert counts["len"].min() > 0.6 * counts["len"].median()


def test_users_keep_the_hours_of_their_own_city(sim: Simulation) -> None:
    people = sim.population.filter(pl.col("work_start_hour") + pl.col("work_hours") < 24)
    for (zone,), group in people.group_by("zone"):
        local = (
            without_parts(sim).join(group, on="user_id").with_columns(pl.col("timestamp").dt.convert_time_zone(zone))
        )
        clock = pl.col("timestamp")
        hour = clock.dt.hour() + clock.dt.minute() / 60
        inside = hour.is_between(pl.col("work_start_hour") - 0.1, pl.col("work_start_hour") + pl.col("work_hours"))
        share = local.group_by("user_id").agg(inside.mean().alias("share"), pl.len())
        assert share.filter(pl.col("len") > 100, pl.col("share") < 0.8).is_empty(), zone


def test_events_of_a_day_come_in_sessions_and_are_not_independent() -> None:
    """The variance of a user's daily mean hour is far above that of as many independent events."""
    sim = made(700, 21, 3)
    hour = pl.col("timestamp").dt.hour() + pl.col("timestamp").dt.minute() / 60
    in_one_zone = sim.population.filter(zone="America/New_York")["user_id"].implode()
    local = without_parts(sim).with_columns(pl.col("timestamp").dt.convert_time_zone("America/New_York"))
    local = local.filter(pl.col("user_id").is_in(in_one_zone), hour.is_between(6, 22))
    days = local.group_by("user_id", DAY).agg(mean=hour.mean(), n=pl.len()).filter(pl.col("n") >= 5)
    spread = local.group_by("user_id").agg(sd=hour.std())
    users = days.group_by("user_id").agg(seen=pl.col("mean").var(), n=pl.len(), each=(1 / pl.col("n")).mean())
    effect = users.filter(pl.col("n") >= 8).join(spread, on="user_id")
    assert effect.select((pl.col("seen") / (pl.col("sd") ** 2 * pl.col("each"))).median()).item() > 2.5


def test_challenge_b1_the_parameter_of_the_recipients_can_be_recovered() -> None:
    sim = made(700, 21, 3)
    drawn = sim.population["mean_recipients"]
    assert drawn.min() >= sim.truth["recipients"]["least"] == 1
    means = without_parts(sim, sim.events.filter(IS_MAIL)).group_by("user_id").agg(mean=pl.col("nr_recipients").mean())
    parameter = sim.truth["recipients"]["parameter"]
    assert sim.truth["challenges"]["B1"] == parameter
    assert drawn.mean() == pytest.approx(parameter, abs=0.35)
    assert means["mean"].mean() == pytest.approx(parameter, abs=0.4)
    assert means["mean"].var() == pytest.approx(parameter, rel=0.25), "Poisson: variance = mean"


def test_a_mails_recipients_are_one_and_a_poisson_number_around_the_users_own_mean() -> None:
    sim = made(700, 21, 3)
    mails = without_parts(sim, sim.events.filter(IS_MAIL)).join(sim.population, on="user_id")
    for mean in (3, 6, 9):
        some = mails.filter(pl.col("mean_recipients") == mean)["nr_recipients"]
        assert some.len() > 3000
        assert some.mean() == pytest.approx(mean, rel=0.02)
        assert some.var() == pytest.approx(mean - 1, rel=0.06)
        assert (some == 1).mean() == pytest.approx(np.exp(1 - mean), abs=0.02), "the share of a Poisson's zero"


def test_rates_of_mails_files_and_failures_are_the_users_own() -> None:
    sim = made(400, 45, 20260601)
    people = without_parts(sim, sim.population)
    usual = people["mails_per_day"] * (5 + 2 * people["weekend"]) / 7
    assert (people["mails"] / 45 / usual).median() == pytest.approx(1, abs=0.02)
    files = (people["attachments_per_day_before"] + people["attachments_per_day_after"]) / 2
    assert (files.sum() / (usual * people["attachments_per_mail"]).sum()) == pytest.approx(1, abs=0.04)
    assert people["failed_logins"].sum() / people["logins"].sum() == pytest.approx(0.04, abs=0.006)
    often = people.filter(pl.col("p_failure") > 0.08)
    assert often["failed_logins"].sum() / often["logins"].sum() > 0.07, "some people fail more often than others"


def test_daily_counts_of_files_are_overdispersed() -> None:
    sim = made(400, 45, 20260601)
    days = without_parts(sim).group_by("user_id", DAY).agg(files=pl.col("nr_attachments").sum())
    users = days.group_by("user_id").agg(ratio=pl.col("files").var() / pl.col("files").mean())
    assert users["ratio"].median() > 1.15


def test_the_population_counts_what_its_users_did(sim: Simulation) -> None:
    logins = ~IS_MAIL
    counted = sim.events.group_by("user_id").agg(
        mails=IS_MAIL.sum(), logins=logins.sum(), failed_logins=(logins & FAILED).sum()
    )
    both = sim.population.join(counted, on="user_id", suffix="_counted")
    for name in ("mails", "logins", "failed_logins"):
        assert (both[name] == both[f"{name}_counted"]).all()


# -- nothing happens, and everybody drifts --------------------------------------------------------------------


def test_without_stories_nothing_is_planted_and_nothing_is_found() -> None:
    sim = simulate(users=200, days=14, seed=5, stories=())
    assert sim.truth["stories"] == sim.truth["innocents"] == []
    assert sim.events.filter(ends_with("exe", ".scr") & (pl.col("nr_recipients") > 10)).is_empty()
    assert not listed(sim, set(sim.events["src_ip"]) | set(sim.events["dst_ip"]))
    assert speeds_kmh(sim)["fastest"].max() == 0
    assert sim.events.group_by("user_id").agg(pl.col("device_id").n_unique())["device_id"].max() <= 2
    failures = sim.events.filter(FAILED).group_by("user_id", DAY).len()
    assert failures["len"].max() <= 4


def test_whoever_has_no_part_lives_the_same_life_whatever_is_planted() -> None:
    """Stories change nothing of the innocent, so one population serves for calibration and for detection."""
    planted = everything(200, 20, 9)
    quiet = simulate(200, 20, 9, stories=())
    assert without_parts(planted).equals(without_parts(planted, quiet.events))
    assert without_parts(planted).height > 0.2 * quiet.events.height


def test_a_story_is_the_same_whether_others_are_planted_or_not() -> None:
    alone, together = simulate(200, 20, 9, stories=["hours_shift", "traveller"]), everything(200, 20, 9)
    for kind in ("hours_shift", "traveller"):
        assert truth_of(alone).labels(kind) == truth_of(together).labels(kind)
    assert truth_of(alone).labels() == truth_of(together).labels("hours_shift", "traveller")


def test_drift_changes_everybodys_files_from_the_middle_on_and_nothing_else() -> None:
    still, moved = simulate(300, 40, 3, stories=()), simulate(300, 40, 3, stories=(), drift=0.25)
    files = ["attachments", "nr_attachments", "size_bytes"]
    assert still.events.drop(files).equals(moved.events.drop(files))
    factors = np.log(moved.population["attachments_drift"].to_numpy())
    assert factors.std() == pytest.approx(0.25, rel=0.15)
    assert factors.mean() == pytest.approx(0, abs=0.05)
    people = moved.population.filter(pl.col("attachments_per_day_before") > 1)
    ratio = people["attachments_per_day_after"] / people["attachments_per_day_before"]
    assert np.corrcoef(ratio.log(), people["attachments_drift"].log())[0, 1] > 0.6
    assert (still.population["attachments_drift"] == 1).all()


# -- the truth as objects -------------------------------------------------------------------------------------


def test_the_truth_is_read_back_from_its_file_and_from_its_folder(tmp_path: Path) -> None:
    sim = made(80, 14, 1)
    sim.write(tmp_path)
    truth = Truth.read(tmp_path)
    assert truth == Truth.read(tmp_path / "truth.json") == Truth.of(sim.truth)
    assert truth.users() == frozenset(user for label in truth.stories for user in label.users)
    assert truth.users("exe_spray") < truth.users()
    assert not truth.users() & truth.innocents()
    assert len(truth.event_ids("threat_login")) == sum(len(x.event_ids) for x in truth.labels("threat_login"))
    assert truth.event_ids() > truth.event_ids("threat_login")
    days = truth.user_days(truth.labels("takeover_travel"))
    assert set(days["user_id"]) == truth.users("takeover_travel")
    assert truth.user_days()["kind"].n_unique() == len(STORY_KINDS)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 2}'])
def test_another_document_is_no_truth(tmp_path: Path, text: str) -> None:
    (tmp_path / "truth.json").write_text(text)
    with pytest.raises(SourceError, match="truth"):
        Truth.read(tmp_path)
    with pytest.raises(SourceError, match="nowhere"):
        Truth.read(tmp_path / "nowhere")


def test_from_two_hundred_users_on_each_kind_is_planted_three_times() -> None:
    truth = truth_of(everything(200, 20, 9))
    counts = {kind: len(truth.labels(kind)) for kind in STORY_KINDS + INNOCENT_KINDS}
    assert set(counts.values()) == {3}, counts


def test_kinds_are_read_from_text_and_unknown_ones_are_named_with_the_nearest() -> None:
    assert kinds_of("none") == ()
    assert set(kinds_of("all")) == set(STORY_KINDS + INNOCENT_KINDS)
    assert kinds_of("exe_spray,newsletter") == ("exe_spray", "newsletter")
    with pytest.raises(SourceError, match='Did you mean "exe_spray"'):
        kinds_of("exe_spry")
    with pytest.raises(SourceError, match="bursts"):
        simulate(5, 2, 1, stories=["bursts"])


# -- the same seed, the same bytes ----------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(("users", "days", "seed"), [(80, 14, 1), (900, 30, 4)])
def test_two_runs_and_the_streamed_writer_give_the_same_bytes(tmp_path: Path, users: int, days: int, seed: int) -> None:
    first = simulate(users, days, seed).write(tmp_path / "first", jsonl=True)
    simulate(users, days, seed).write(tmp_path / "second", jsonl=True)
    written = simulate_to(tmp_path / "streamed", users, days, seed, jsonl=True)
    assert contents(first) == contents(tmp_path / "second") == contents(tmp_path / "streamed")
    assert written.events == pl.scan_parquet(first / "events.parquet").select(pl.len()).collect().item()
    assert set(contents(first)) == set(written.files)
    assert len(contents(first)) == 7


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
        groups = list(regroup(frame.iter_slices(step)))
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
        ({"drift": -0.1}, "drift"),
        ({"drift": float("nan")}, "drift"),
        ({"start": datetime(2026, 6, 1, 5, tzinfo=UTC)}, "midnight"),
        ({"start": datetime(2026, 6, 1)}, "midnight"),
    ],
)
def test_arguments_that_make_no_sense_are_named(arguments: dict, word: str) -> None:
    with pytest.raises(SourceError, match=word):
        simulate(**{"users": 5, "days": 2, "seed": 1} | arguments)
