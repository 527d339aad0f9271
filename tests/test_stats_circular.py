"""Hours that go round: who shifted them, judged by days."""

from __future__ import annotations

import numpy as np
import pytest

import tocsin as tc
from tocsin.stats import circular


def people(seed: int, users: int, shifted: int, shift_hours: float, days: int = 60) -> tuple[np.ndarray, ...]:
    """Users with an hour of their own who work in sessions; the first ones shift on a day of their own, -1: never."""
    rng = np.random.default_rng(seed)
    hour_of, day_of = rng.uniform(0, 24, users), rng.integers(days // 4, 3 * days // 4, users)
    day_of[shifted:] = -1
    user, day = np.divmod(np.arange(users * days), days)
    sessions = np.where(rng.random(user.size) < 0.8, 1 + rng.poisson(1.0, user.size), 0)
    user, day = np.repeat(user, sessions), np.repeat(day, sessions)
    moved = (day_of[user] >= 0) & (day >= day_of[user])
    start = rng.normal(hour_of[user] + shift_hours * moved, 2.0)
    events = 1 + rng.poisson(3.0, user.size)
    hour = np.repeat(start, events) + rng.uniform(0, 1, events.sum())
    return np.repeat(user, events), np.repeat(day, events), hour % 24, day_of


def slow_statistic(v: np.ndarray, w: np.ndarray, m: int) -> tuple[float, int]:
    """The share explained by the best split, from weighted means: between over total sum of squares, axis by axis."""
    best, at = 0.0, -1
    middle = (w[:, None] * v).sum(0) / w.sum()
    total = (w[:, None] * (v - middle) ** 2).sum(0)
    for k in range(m, len(v) - m + 1):
        between = np.zeros(2)
        for side in (slice(0, k), slice(k, None)):
            mean = (w[side, None] * v[side]).sum(0) / w[side].sum()
            between += w[side].sum() * (mean - middle) ** 2
        if (between / total).max() > best:
            best, at = float((between / total).max()), k
    return best, at


def test_the_scan_finds_the_split_of_the_slow_statistic() -> None:
    who, day, hour, _ = people(1, 20, 10, 4.0)
    found, days = circular.shifts(who, day, hour, seed=1), circular.by_day(who, day, hour)
    for user in range(20):
        mine = days.entity == user
        v, n = np.c_[days.east, days.north][mine], days.events[mine]
        w = n / (n + circular.HALF_WEIGHT_EVENTS)
        angle = np.arctan2(*(w @ v)[::-1])
        axes = v @ np.array([[-np.sin(angle), np.cos(angle)], [np.cos(angle), np.sin(angle)]])
        assert found.day[user] == days.day[mine][slow_statistic(axes, w, 5)[1]]
        assert found.days[user] == mine.sum()


def test_steady_people_are_called_shifted_as_often_as_the_level_says() -> None:
    who, day, hour, _ = people(2, 800, 0, 0.0)
    permuted, analytic = (circular.shifts(who, day, hour, seed=2, method=m) for m in ("permutation", "analytic"))
    assert np.mean(permuted.p < 0.05) == pytest.approx(0.05, abs=0.02)
    assert 0.01 <= np.mean(analytic.p < 0.05) <= 0.06
    assert np.corrcoef(permuted.p, analytic.p)[0, 1] > 0.95


def test_a_shift_by_four_hours_is_found_with_its_day_and_size_and_few_others_are() -> None:
    who, day, hour, truth = people(3, 1_000, 50, 4.0)
    found = circular.shifts(who, day, hour, seed=3)
    hit = found.q <= 0.05
    assert hit[:50].sum() >= 46
    assert hit[50:].sum() <= 6
    assert np.median(np.abs(found.day - truth)[:50]) <= 1
    assert np.mean((found.first_day <= truth)[:50] & (truth <= found.last_day)[:50]) >= 0.8
    assert np.mean((found.low <= 4.0)[:50] & (found.high >= 4.0)[:50]) >= 0.85


@pytest.mark.parametrize("shift_hours", [6.0, 12.0])
def test_large_shifts_are_found_too_even_round_the_clock(shift_hours: float) -> None:
    who, day, hour, _ = people(4, 300, 30, shift_hours)
    found = circular.shifts(who, day, hour, seed=4)
    assert (found.q <= 0.05)[:30].all()
    assert np.abs(found.shift_hours[:30]).mean() == pytest.approx(shift_hours, abs=1.0)


def test_turning_everybodys_clock_changes_nothing_but_the_hours() -> None:
    who, day, hour, _ = people(5, 50, 20, 4.0)
    one, other = (circular.shifts(who, day, h, seed=5) for h in (hour, (hour + 7.25) % 24))
    np.testing.assert_allclose(one.p, other.p)
    np.testing.assert_allclose(one.shift_hours, other.shift_hours, atol=1e-9)
    np.testing.assert_array_equal(one.day, other.day)


def test_people_may_be_numbered_anyhow() -> None:
    who, day, hour, _ = people(5, 60, 10, 4.0)
    names = np.random.default_rng(1).permutation(60)
    one, other = (circular.shifts(w, day, hour, seed=1, method="analytic") for w in (who, names[who]))
    np.testing.assert_allclose(other.p[names], one.p, rtol=1e-9)
    np.testing.assert_array_equal(other.day[names], one.day)


def test_the_order_of_events_changes_nothing_and_the_same_seed_gives_the_same_bits() -> None:
    who, day, hour, _ = people(6, 40, 10, 3.0)
    order = np.random.default_rng(0).permutation(who.size)
    one, again = (circular.shifts(who, day, hour, seed=6) for _ in range(2))
    shuffled = circular.shifts(who[order], day[order], hour[order], seed=6)
    assert one.p.tobytes() == again.p.tobytes()
    np.testing.assert_allclose(one.p, shuffled.p)


def test_too_few_days_are_not_tested_and_an_entity_without_events_keeps_its_place() -> None:
    who, day, hour = [0] * 9 + [2] * 12, [*range(9), *range(12)], [9.0] * 9 + [9.0] * 6 + [15.0] * 6
    found = circular.shifts(who, day, hour, seed=1, entities=4)
    assert np.isnan(found.p).tolist() == [True, True, False, True]
    assert found.day.tolist() == [-1, -1, 6, -1]
    assert found.days.tolist() == [9, 0, 12, 0]
    assert np.isnan(found.q).tolist() == [True, True, False, True]
    nobody = circular.shifts([], [], [], seed=1)
    assert nobody.p.size == 0


def test_wrong_input_is_refused_with_what_is_wrong() -> None:
    with pytest.raises(tc.StatisticsError, match="method"):
        circular.shifts([0], [0], [0.0], seed=1, method="kuiper")
    with pytest.raises(tc.StatisticsError, match="numbered from 0"):
        circular.shifts([-1], [0], [0.0], seed=1)
    with pytest.raises(tc.StatisticsError, match="not among"):
        circular.shifts([3], [0], [0.0], seed=1, entities=2)
