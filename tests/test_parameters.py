"""The parameters of a population: the challenges B1 and the ground of B2."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

import tocsin as tc

START = datetime(2026, 1, 5, tzinfo=UTC)


def recipients_of(users: int, rate: float, seed: int) -> tc.Events:
    """Users whose own means are drawn from Poisson(rate), each with an own number of mails."""
    rng = np.random.default_rng(seed)
    rows = []
    for user, mean in enumerate(rng.poisson(rate, users)):
        rows += [
            {"timestamp": START + timedelta(minutes=len(rows)), "user_id": f"u{user}", "nr_recipients": int(x)}
            for x in rng.poisson(mean, rng.integers(20, 80))
        ]
    return tc.read(pl.DataFrame(rows))


def test_the_poisson_interval_covers_the_parameter_and_the_dispersion_is_one() -> None:
    covered, dispersions = 0, []
    for seed in range(20):
        row = tc.poisson_parameter(recipients_of(150, 6.0, seed)).frame.row(0, named=True)
        covered += row["low"] <= 6.0 <= row["high"]
        dispersions.append(row["dispersion"])
    assert covered >= 17
    assert np.mean(dispersions) == pytest.approx(1, abs=0.1)


def test_the_poisson_parameter_weighs_every_user_the_same() -> None:
    rows = [
        {"timestamp": START + timedelta(minutes=i), "user_id": u, "nr_recipients": x}
        for i, (u, x) in enumerate([("busy", 9)] * 900 + [("calm", 1)] * 100)
    ]
    assert tc.poisson_parameter(tc.read(pl.DataFrame(rows))).frame["lambda"].item() == 5.0


def test_a_population_of_one_is_refused_with_what_is_missing() -> None:
    with pytest.raises(tc.RuleError, match="at least two"):
        tc.poisson_parameter(recipients_of(1, 6.0, 1))


def test_operating_hours_are_local_and_their_mean_goes_round_midnight() -> None:
    times = [START + timedelta(days=d, hours=h, minutes=30) for d in range(10) for h in (22, 23, 0, 1)]
    events = tc.read(pl.DataFrame({"timestamp": times, "user_id": ["ann"] * len(times)}))
    row = tc.operating_hours(events).frame.row(0, named=True)
    assert row["h23"] == 0.25
    assert min(row["mean_hour"], 24 - row["mean_hour"]) == pytest.approx(0, abs=1e-9)
    moved = tc.operating_hours(events, "Asia/Kathmandu").frame.row(0, named=True)  # 5 h 45 min ahead
    assert moved["h04"] == moved["h05"] == 0.25


def test_the_table_is_valid_from_the_midnight_after_the_history() -> None:
    table = tc.poisson_parameter(recipients_of(20, 6.0, 3))
    assert table.valid_from is not None
    assert table.valid_from.hour == 0
    assert table.tier == 4
