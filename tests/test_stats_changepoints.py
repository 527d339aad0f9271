"""Change points by default: exact against slow oracles, calibrated, honest about what was not there."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tocsin as tc
from benchmarks import statistics, statistics_data
from tests.changepoint_fixtures import DEFICIT, NAN, WEEK, wander, year
from tocsin.stats import changepoints as cp
from tocsin.stats import tails
from tocsin.stats.changepoints import noise, search
from tocsin.stats.changepoints.repeats import period_of

# --- the search, against an optimal partition of all places -----------------------------------------------------------


def slow_cost(y: np.ndarray, e: np.ndarray, drift: float) -> float:
    """Minus twice the log-likelihood of one regime; with a drift allowed (finite), Gaussian."""
    if drift < 0:  # counts
        return -2 * y.sum() * math.log(y.sum() / e.sum()) if y.sum() > 0 else 0.0
    flat = -(y.sum() ** 2) / len(y)
    if len(y) < search.SHORTEST_DRIFT:
        return flat
    residual = y - np.polyval(np.polyfit(np.arange(len(y)), y, 1), np.arange(len(y)))
    return min(flat, (residual**2).sum() - (y**2).sum() + drift)


def slow_partition(y: np.ndarray, e: np.ndarray, m: int, penalty: float, drift: float) -> tuple[list[int], float]:
    n = len(y)
    best, came = [-penalty] + [math.inf] * n, [0] * (n + 1)
    for end in range(m, n + 1):
        for start in range(end - m + 1):
            now = best[start] + penalty + slow_cost(y[start:end], e[start:end], drift)
            if now < best[end] - 1e-9:
                best[end], came[end] = now, start
    cuts, at = [], n
    while came[at]:
        at = came[at]
        cuts.append(at)
    return cuts[::-1], best[n]


def price(y: np.ndarray, e: np.ndarray, cuts: list[int], penalty: float, drift: float) -> float:
    edges = [0, *cuts, len(y)]
    return sum(slow_cost(y[a:b], e[a:b], drift) for a, b in pairwise(edges)) + penalty * len(cuts)


@pytest.mark.parametrize("kind", [search.POISSON, search.GAUSSIAN])
def test_the_search_finds_what_an_optimal_partition_of_all_places_finds(kind: int) -> None:
    same, missed = 0, []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(30, 90))
        cuts = np.sort(rng.integers(3, n - 3, rng.integers(0, 4)))
        level = rng.choice([4.0, 20.0]) * np.exp(rng.normal(0, 0.6, cuts.size + 1))
        mean = level[np.searchsorted(cuts, np.arange(n), "right")]
        e = rng.uniform(0.5, 1.5, n) if kind == search.POISSON else np.ones(n)
        y = rng.poisson(mean * e).astype(float) if kind == search.POISSON else mean / 4 + rng.normal(0, 1, n)
        penalty = 2.5 * math.log(n)
        drift = -1.0 if kind == search.POISSON else search.DRIFTS * penalty
        expected, best = slow_partition(y, e, 3, penalty, drift)
        s = search.sums_of(y, e)
        found = search.segment(s, kind, 3, 1.0, penalty, 0.0, np.zeros((0, 2))).tolist()
        same += found == expected
        missed.append(price(y, e, found, penalty, drift) - best)
    assert same >= 22
    assert min(missed) > -1e-6  # nothing beats the optimum: the oracle and the search mean the same cost
    assert max(missed) < penalty


@given(st.integers(0, 10**6), st.integers(4, 60))
@settings(max_examples=30, deadline=None)
def test_the_optimal_partition_over_candidates_is_that_of_the_slow_one_over_the_same(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.normal(np.repeat(rng.normal(0, 3, n), 5)[:n], 1)
    s, e = search.sums_of(y, np.ones(n)), np.ones(n)
    cuts = search.partition(s, search.GAUSSIAN, np.arange(1, n), 1, 6.0, 1e9)
    assert price(y, e, cuts.tolist(), 6.0, 1e9) == pytest.approx(slow_partition(y, e, 1, 6.0, 1e9)[1], abs=1e-6)


# --- counts -----------------------------------------------------------------------------------------------------------


def test_a_change_is_reported_with_its_first_day_size_and_interval_and_spikes_apart() -> None:
    found = cp.counts(year(1, (200, 2.0), spikes=3), start="2026-01-05")
    assert len(found) == 1
    assert abs(int(found.index[0]) - 200) <= 2
    assert found.date[0] == np.datetime64("2026-01-05") + int(found.index[0])
    assert found.first[0] <= 200 <= found.last[0]
    assert found.effect[0] == pytest.approx(2.0, rel=0.12)
    assert found.p[0] < 1e-6
    assert found.confidence[0] > 0.99
    assert found.p_any < 0.001
    assert found.outliers.size >= 3
    assert found.rates[1] / found.rates[0] == pytest.approx(found.effect[0])
    assert found.factors == pytest.approx(WEEK, rel=0.12)


def test_steady_years_have_next_to_no_change_whatever_their_noise_spikes_or_level() -> None:
    rng = np.random.default_rng(0)
    quiet = rng.poisson(0.3, (100, 365)).astype(float)
    outages = np.array([year(seed) for seed in range(100)])
    outages[np.arange(100), rng.integers(20, 340, 100)] = 0
    spiky = np.array([year(seed, spikes=4) for seed in range(100)])
    for steady in (quiet, outages, spiky):
        assert cp.batch(steady, keep=1).index.size <= 4


def test_simulated_years_keep_the_promises_on_hits_and_delays() -> None:
    at = np.random.default_rng(9).integers(60, 305, 150)
    for factor, share in ((1.5, 0.9), (2.0, 0.98)):
        found = cp.batch(np.array([year(s, (int(a), factor)) for s, a in enumerate(at)]), keep=1)
        hit = np.unique(found.series[np.abs(found.index - at[found.series]) <= 7])
        assert hit.size >= share * at.size
        inside = (found.first <= at[found.series]) & (at[found.series] <= found.last)
        assert inside.mean() > 0.85
    delays = [cp.nightly(year(s, (int(a), 2.0)), int(a)) for s, a in enumerate(at[:15])]
    assert np.median([61 if d is None else d for d in delays]) <= 3


def test_no_data_is_not_zero_and_changes_no_regime() -> None:
    y = year(3, (200, 2.0))
    gaps = y.copy()
    gaps[50:60] = NAN
    found = cp.counts(gaps)
    assert np.abs(found.index - 200).max() <= 2
    assert len(found) == 1
    assert any("missing" in w for w in found.warnings)
    zeros = y.copy()
    zeros[50:60] = 0
    assert len(cp.counts(zeros)) == 3


def test_an_outage_of_the_first_days_is_an_accident_like_any_other() -> None:
    for seed in range(20):
        y = year(seed)
        y[seed % 2 : seed % 2 + 2] = 0
        assert len(cp.counts(y)) == 0


def test_means_are_those_of_all_days_of_a_regime() -> None:
    y = year(4, (100, 3.0), spikes=2)
    found = cp.counts(y)
    cut = int(found.index[0])
    np.testing.assert_allclose(found.means, [y[:cut].mean(), y[cut:].mean()])


def test_a_minimum_effect_hides_small_changes_and_a_minimum_segment_short_ones() -> None:
    y = year(5, (120, 1.5), (240, 3.0))
    assert len(cp.counts(y)) == 2
    assert len(cp.counts(y, min_effect=1.0)) == 1
    episode = year(6, (150, 3.0), (160, 1 / 3))
    assert len(cp.counts(episode)) == 2
    assert len(cp.counts(episode, min_segment=30)) == 0


def test_hours_of_the_week_are_a_season_too() -> None:
    rng = np.random.default_rng(7)
    shape = 1 + 0.8 * np.sin(np.arange(168) * 2 * np.pi / 24)
    y = rng.poisson(5 * np.tile(shape, 12) * np.where(np.arange(168 * 12) < 1_000, 1, 1.6))
    found = cp.counts(y, season=168, start="2026-01-05", step="h")
    assert len(found) == 1
    assert abs(int(found.index[0]) - 1_000) <= 24


def test_what_cannot_be_had_is_said_in_a_warning_not_in_a_number() -> None:
    short = cp.counts([3, 1, 2, 5])
    assert any("too short" in w for w in short.warnings)
    assert any("seasonality" in w for w in short.warnings)
    nothing = cp.counts([NAN, NAN, NAN])
    assert nothing.warnings == ("no data",)
    assert len(cp.counts([])) == len(cp.level([])) == 0
    rng = np.random.default_rng(1)
    wandering = np.zeros(300)
    for t in range(1, 300):
        wandering[t] = 0.7 * wandering[t - 1] + rng.normal()
    assert any("autocorrelation" in w for w in cp.level(wandering).warnings)
    assert len(cp.counts(np.zeros(100))) == 0


# --- many series ------------------------------------------------------------------------------------------------------


def test_the_same_input_gives_the_same_bytes_alone_or_in_a_batch_on_any_number_of_threads() -> None:
    rows = np.array([year(seed, (150 + seed, 1.8)) for seed in range(12)])
    one, two = cp.batch(rows, keep=1, threads=1), cp.batch(rows, keep=1, threads=3)
    assert one.p.tobytes() == two.p.tobytes()
    for row in range(12):
        alone = cp.counts(rows[row])
        mine = one.series == row
        np.testing.assert_array_equal(one.index[mine], alone.index)
        np.testing.assert_array_equal(one.first[mine], alone.first)
        np.testing.assert_allclose(one.p[mine], alone.p)
        np.testing.assert_allclose(one.effect[mine], alone.effect)
    order = np.random.default_rng(1).permutation(12)
    shuffled = cp.batch(rows[order], keep=1)
    assert sorted(zip(order[shuffled.series], shuffled.index, strict=True)) == sorted(
        zip(one.series, one.index, strict=True)
    )


def test_the_screen_keeps_series_that_change_and_drops_most_that_do_not() -> None:
    changed = np.array([year(seed, (120 + seed, 1.6)) for seed in range(60)])
    steady = np.array([year(1_000 + seed) for seed in range(60)])
    assert (cp.screen(changed) <= 0.2).mean() > 0.95
    assert (cp.screen(steady) <= 0.2).mean() < 0.4
    assert cp.batch(steady).screened.sum() == (cp.screen(steady) <= 0.2).sum()
    assert cp.screen([[0] * 30, [NAN] * 30]).tolist() == [1.0, 1.0]


# --- levels of other kinds --------------------------------------------------------------------------------------------


def test_a_staircase_without_noise_has_every_step_however_small() -> None:
    level = [3.0, 3.1, 2.9, 50.0, 49.99, 50.0, -7.0, -7.3]
    y = np.repeat(level, [4, 30, 3, 50, 20, 9, 5, 12])
    assert cp.level(y).index.tolist() == [4, 34, 37, 87, 107, 116, 121]
    y = np.concatenate([y[:60], [NAN], y[60:]])  # no data in between
    assert cp.level(y).index.tolist() == [4, 34, 37, 88, 108, 117, 122]
    assert len(cp.level(np.full(90, 0.1))) == 0


def test_a_lone_step_in_a_few_values_does_not_pass_for_autocorrelation() -> None:
    found = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        at = int(rng.integers(5, 11))
        index = cp.level(rng.normal(size=15) + 8 * (np.arange(15) >= at)).index.tolist()
        found += index == [at]
    assert found >= 58


def test_what_a_level_repeats_with_the_calendar_is_taken_off_and_listed() -> None:
    rng = np.random.default_rng(21)
    months = 4 * np.sin(2 * np.pi * np.arange(12) / 12)
    y = np.tile(months, 15) + np.where(np.arange(180) >= 100, 2.0, 0.0) + 0.7 * rng.normal(size=180)
    found = cp.level(y)
    assert found.index.tolist() == pytest.approx([100], abs=2)
    assert found.factors == pytest.approx(months, abs=0.6)
    assert found.factors.mean() == pytest.approx(0, abs=1e-9)
    assert cp.level(y, season=12).index.tolist() == found.index.tolist()
    assert len(cp.level(y, season=1)) == 0  # left in, months hide the change
    assert any("seasonality" in w for w in cp.level(y[:30], season=12).warnings)


@pytest.mark.parametrize("shape", ["noise", "step", "line", "walk", "zeros", "nothing"])
def test_no_season_is_seen_where_there_is_none(shape: str) -> None:
    seen = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = {
            "noise": rng.normal(size=200), "step": rng.normal(size=200) + 9 * (np.arange(200) >= 77),
            "line": np.arange(200.0), "walk": np.cumsum(rng.normal(size=200)), "zeros": np.zeros(200),
            "nothing": np.full(200, NAN),
        }[shape]  # fmt: skip
        seen += period_of(x) != 1
    assert seen <= 1


def test_noise_that_grew_is_no_change_of_level() -> None:
    later, false = np.arange(300) >= 150, 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        found = cp.level(rng.normal(size=300) * np.where(later, 3, 1))
        false += len(found)
        assert found.outliers.size <= 9
    assert false <= 6


def test_a_drift_of_a_level_is_no_staircase() -> None:
    rng = np.random.default_rng(16)
    assert len(cp.level(np.linspace(0, 30, 300) + rng.normal(0, 1, 300))) == 0
    assert len(cp.binseg(np.linspace(0, 30, 300) + rng.normal(0, 1, 300))) >= 2


def test_a_level_that_wanders_is_said_to_make_p_any_too_small() -> None:
    for seed in range(40):
        found = cp.counts(statistics_data.soc_year(seed, days=100, noise="wander0.8"))
        assert found.p_any >= 0.05 or any("p_any" in w for w in found.warnings)


# --- around it --------------------------------------------------------------------------------------------------------


def test_a_frame_has_one_row_a_regime() -> None:
    frame = cp.counts(year(15, (100, 2.0)), start="2026-01-05").to_frame()
    assert frame.height == 2
    assert frame["effect"][0] is None
    assert frame["since"].dtype == pl.Date
    assert str(frame["until"][1]) == "2027-01-04"
    assert cp.level(DEFICIT).to_frame().height >= 1


def test_a_quiet_day_is_zero_a_gap_is_missing_and_a_partial_day_is_dropped_and_named() -> None:
    found = cp.count_windows([1, 25, 26, 55], [0, 10, 20, 30, 40, 50, 60], since=5, until=55, gaps=[(30, 31)])
    assert found.begins.tolist() == [10, 20, 30, 40]
    np.testing.assert_array_equal(found.counts, [0, 2, NAN, 0])
    assert found.dropped == ((0, "partial"), (50, "partial"))
    with pytest.raises(tc.StatisticsError, match="ascend"):
        cp.count_windows([1], [0, 0], since=0, until=1)


def test_noise_from_differences_hardly_sees_a_change_of_level() -> None:
    rng = np.random.default_rng(17)
    x = wander(rng, 4_000, 0.5)
    x[2_000:] += 3
    variance, rho, inflation = noise.from_differences(x)
    assert (variance, rho, inflation) == (
        pytest.approx(1.0, abs=0.15), pytest.approx(0.5, abs=0.08), pytest.approx(3.0, abs=0.7),
    )  # fmt: skip
    variance, rho, _ = noise.from_residuals(x - np.where(np.arange(4_000) < 2_000, 0, 3), 2, 1)
    assert (variance, rho) == (pytest.approx(1.0, abs=0.1), pytest.approx(0.5, abs=0.05))


def test_the_tails_are_those_of_simulated_bridges() -> None:
    rng = np.random.default_rng(18)
    steps = rng.normal(size=(4_000, 1_000))
    bridge = np.cumsum(steps - steps.mean(axis=1, keepdims=True), axis=1) / math.sqrt(1_000)
    spans = bridge.max(axis=1) - bridge.min(axis=1)
    assert tails.kuiper(np.quantile(spans, 0.95) + 1.1652 / math.sqrt(1_000)) == pytest.approx(0.05, abs=0.01)
    t = np.arange(1, 1_000) / 1_000
    inside = (t >= 0.05) & (t <= 0.95)
    largest = (np.abs(bridge[:, :-1]) / np.sqrt(t * (1 - t)))[:, inside].max(axis=1)
    assert 0.05 <= tails.standardised_bridge(np.quantile(largest, 0.95), 0.05) <= 0.09  # looks at 900 points only
    assert np.isnan(tails.kuiper(NAN))


def test_the_figures_of_the_docs_can_be_taken_again_on_few_series() -> None:
    assert set(statistics.false_changes(2)) == set(statistics_data.NULLS)
    assert statistics.hits(2)["x3"]["hit_percent"] == 100
    limit = statistics.information_limit(20)["x2, NB k=3"]
    assert 60 <= limit["counts_percent"] <= 100
    assert 80 <= limit["oracle_percent"] <= 100
    table = statistics.levels(1)
    assert set(table) == {*statistics_data.LEVELS, "mean of all"}
    assert statistics.f1([50], [52]) == 1.0
    assert statistics.f1([50], []) == pytest.approx(2 / 3)
    assert statistics.cover([50], [], 100) == 0.5
