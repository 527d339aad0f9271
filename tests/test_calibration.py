"""Where nothing happened, the questions say so at the rate they promise.

Layer: tests. Populations of the simulator without stories; the statistics themselves are calibrated in benchmarks/statistics.py.
"""

from __future__ import annotations

import polars as pl
import pytest

import tocsin as tc

SEEDS = (1, 2, 3)
USERS, DAYS = 400, 40


@pytest.fixture(scope="module")
def quiet() -> list[tc.Events]:
    return [tc.read(tc.simulate(USERS, DAYS, seed, stories=()).events) for seed in SEEDS]


def everybody(answers: list[tc.ask.Answer]) -> pl.DataFrame:
    return pl.concat([answer.more["Everybody"] for answer in answers])


def test_attachments_of_a_quiet_population_change_significantly_as_rarely_as_promised(quiet: list[tc.Events]) -> None:
    found = everybody([tc.ask.largest_changes(events) for events in quiet])
    assert 0.03 <= (found["p"] < 0.05).mean() <= 0.07
    assert (found["verdict"] != "not significant").sum() <= 2, (
        "5 % of no discoveries is none; two in three populations is luck"
    )


def test_hours_of_a_quiet_population_shift_significantly_as_rarely_as_promised(quiet: list[tc.Events]) -> None:
    found = everybody([tc.ask.shifted_hours(events) for events in quiet])
    assert 0.03 <= (found["p"] < 0.05).mean() <= 0.07
    assert found["significant"].sum() <= 2


def test_where_everybody_drifts_only_who_drifts_more_is_unlike_the_rest() -> None:
    events = tc.read(tc.simulate(USERS, 2 * DAYS, 4, stories=(), drift=0.5).events)
    found = tc.ask.largest_changes(events).more["Everybody"]
    assert (found["q"] <= 0.05).sum() > USERS * 0.05, "the drift is there: day by day it is significant"
    assert (found["q_unlike"] <= 0.05).sum() <= USERS * 0.005


def test_rules_are_quiet_on_a_quiet_population(quiet: list[tc.Events]) -> None:
    sims = tc.simulate(2, 2, 1, stories=())
    refs = tc.reference(geo=sims.geo, threats=sims.threats, networks=sims.networks)
    strict = ("network.listed-address", "login.travel-speed", "login.failed-burst", "login.guessed-password", "login.password-spray",
              "login.password-spray-network", "mail.exe-many-recipients", "mail.disguised-program")  # fmt: skip
    table = tc.backtest(tc.rules.ALL, quiet[0], refs).by_detection().filter(pl.col("detection").is_in(strict))
    assert table.height == len(strict)
    assert table["fired"].to_list() == [0] * len(strict)
