"""Every method for change points: unmoved by what should not matter, and what its definition says."""

from __future__ import annotations

import math
import random
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tocsin as tc
from tests.changepoint_fixtures import DEFICIT, NAN, wander, year
from tocsin.stats import changepoints as cp
from tocsin.stats.changepoints.binseg import binseg

# --- what should not matter -------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
@settings(max_examples=40, deadline=None)
def test_levels_may_be_shifted_and_scaled(seed: int, shift: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    y = rng.normal(np.repeat([0.0, 3.0, 1.0], 40), 1)
    one, other = cp.level(y), cp.level(shift + scale * y)
    np.testing.assert_array_equal(one.index, other.index)
    np.testing.assert_allclose(other.rates, shift + scale * one.rates, rtol=1e-6, atol=1e-6 * scale)
    np.testing.assert_allclose(other.effect, scale * one.effect, rtol=1e-5, atol=1e-6 * scale)
    for method in (cp.binseg, cp.cusum):
        np.testing.assert_array_equal(method(y).index, method(shift + scale * y).index)


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_a_series_turned_around_has_its_changes_turned_around(seed: int) -> None:
    y = np.random.default_rng(seed).normal(np.repeat([0.0, 5.0, 1.0], 40), 1)
    forward, backward = cp.level(y), cp.level(y[::-1])
    np.testing.assert_array_equal(forward.index, 120 - backward.index[::-1])
    forward, backward = cp.binseg(y), cp.binseg(y[::-1])
    np.testing.assert_array_equal(forward.index, 120 - backward.index[::-1])


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_counts_turned_around_have_their_changes_turned_around(seed: int) -> None:
    y = np.random.default_rng(seed).poisson(np.repeat([20.0, 60.0, 25.0], 56)).astype(float)
    forward, backward = cp.counts(y), cp.counts(y[::-1])
    np.testing.assert_array_equal(forward.index, 168 - backward.index[::-1])


STAIRS = st.lists(st.tuples(st.sampled_from([0.0, 3.0, 5.5, 40.0, 41.0, 700.0]), st.integers(6, 30)), max_size=8)


@given(STAIRS)
@settings(max_examples=60, deadline=None)
def test_steps_without_noise_given_twice_have_exactly_their_changes_at_twice_the_places(stairs) -> None:
    y = np.concatenate([np.full(length, value) for value, length in [(9.0, 6), *stairs]])
    steps = np.flatnonzero(np.diff(y)) + 1
    np.testing.assert_array_equal(cp.level(y, season=1).index, steps)
    np.testing.assert_array_equal(cp.level(np.repeat(y, 2), season=1).index, 2 * steps)


def test_steps_without_noise_whose_sizes_lie_far_apart_are_all_found() -> None:
    for y, steps in (
        (np.repeat([100.0, -7.0, 0.0, 0.001, 0.0, 3.0], [14, 21, 29, 5, 16, 42]), [14, 35, 64, 69, 85]),
        (np.repeat([0.001, 0.0, 5.5, 1.0, 100.0, 2.0], [6, 10, 18, 17, 10, 8]), [6, 16, 34, 51, 61]),
        (np.repeat([3.0, 5.5, 0.001, 1.0, -7.0, 3.0], [21, 22, 25, 9, 20, 4]), [21, 43, 68, 77, 97]),
    ):
        assert cp.level(y).index.tolist() == steps
        assert cp.level(np.repeat(y, 2)).index.tolist() == [2 * step for step in steps]


@given(st.lists(st.tuples(st.sampled_from([0.5, 2.0, 4.0]), st.integers(10, 30)), max_size=5), st.sampled_from([1, 7]))
@settings(max_examples=40, deadline=None)
def test_steps_of_counts_without_noise_given_twice_have_exactly_their_changes_at_twice_the_places(
    stairs, season
) -> None:
    rates = 320.0 * np.cumprod([1.0, *(factor for factor, _ in stairs)])
    y = np.repeat(rates, [20, *(length for _, length in stairs)])
    steps = np.flatnonzero(np.diff(y)) + 1
    np.testing.assert_array_equal(cp.counts(y, season=season).index, steps)
    np.testing.assert_array_equal(cp.counts(np.repeat(y, 2), season=season).index, 2 * steps)


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_noisy_values_given_twice_keep_large_changes_and_gain_none(seed: int) -> None:
    """Noise given twice resembles its neighbour, so that a small change found once may well be lost; none is made up."""
    y = np.random.default_rng(seed).normal(np.repeat([0.0, 9.0, 1.0], 40), 1)
    once, twice = cp.level(y).index, cp.level(np.repeat(y, 2)).index
    np.testing.assert_allclose(twice, [80, 160], atol=2)
    assert all(np.abs(2 * once - cut).min() <= 2 for cut in twice)
    np.testing.assert_array_equal(cp.binseg(np.repeat(y, 2)).index, 2 * cp.binseg(y).index)


@given(st.integers(0, 10**6), st.sampled_from([1.0, 1.5, 3.0]))
@settings(max_examples=25, deadline=None)
def test_noisy_counts_given_twice_gain_no_change(seed: int, factor: float) -> None:
    y = np.random.default_rng(seed).poisson(np.repeat([20.0, 20 * factor], 60)).astype(float)
    once, twice = cp.counts(y, season=1), cp.counts(np.repeat(y, 2), season=1)
    assert len(twice) <= len(once)


def test_twice_as_many_of_everything_leave_the_changes_where_they_were() -> None:
    y = year(8, (200, 2.0))
    np.testing.assert_array_equal(cp.counts(y).index, cp.counts(2 * y).index)


def test_points_that_repeat_themselves_do_no_harm() -> None:
    assert cp.level([1.0] * 40 + [2.0] * 40).index.tolist() == [40]
    assert cp.counts([5.0] * 60 + [9.0] * 60, season=1).index.tolist() == [60]
    assert len(cp.level([7.0] * 50)) == len(cp.cusum([7.0] * 50)) == len(cp.binseg([7.0] * 50)) == 0
    assert math.isnan(cp.p_any([7.0] * 50))


ODD = st.lists(st.one_of(st.integers(0, 9), st.just(10**9), st.just(NAN)), max_size=40)


@given(ODD, st.sampled_from(sorted(cp.METHODS)), st.sampled_from([1, 7]), st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_no_series_is_too_odd_to_have_an_orderly_result(y: list[float], method: str, season: int, m: int) -> None:
    options: dict[str, dict[str, object]] = {
        "counts": {"season": season, "min_segment": m}, "level": {"min_segment": m}, "cusum": {"season": season},
        "notebook": {"seed": 1, "iterations": 5}, "binseg": {},
    }  # fmt: skip
    if method == "notebook":
        y = [0 if math.isnan(x) else x for x in y]
    found = cp.find(y, method, **options[method])
    assert (np.diff(found.index) > 0).all() or method == "notebook"
    assert ((found.first <= found.index) & (found.index <= found.last)).all()
    assert found.means.size == len(found) + 1
    if method != "notebook":
        assert found.to_frame().height == (len(found) + 1 if y else 0)


# --- Taylor -----------------------------------------------------------------------------------------------------------


def test_taylors_example_has_his_two_changes_with_levels_and_regimes() -> None:
    found = cp.cusum(DEFICIT, permutations=9_999, seed=2, include=0.9, start="1987-01", step="M")
    assert found.date.astype(str).tolist() == ["1987-06", "1987-11"]
    np.testing.assert_allclose(found.rates, [11.82, 14.32, 10.2])
    assert found.level.tolist() == [2, 1]
    assert found.confidence[1] > 0.99
    assert (found.first <= found.index).all()
    assert (found.index <= found.last).all()


def slow_range(x: np.ndarray) -> float:
    sums = [0.0]
    for value in x:
        sums.append(sums[-1] + value - x.mean())
    return max(sums) - min(sums)


def test_the_confidence_is_the_share_of_orders_with_a_smaller_range() -> None:
    rng = np.random.default_rng(3)
    x = np.r_[rng.normal(0, 1, 12), rng.normal(0.8, 1, 12)]
    whole = slow_range(x)
    expected = np.mean([slow_range(rng.permutation(x)) >= whole for _ in range(4_000)])
    found = cp.cusum(x, permutations=4_000, seed=1)
    assert found.p_any == pytest.approx(expected, abs=0.03)


def test_the_analytic_tail_is_that_of_many_permutations() -> None:
    apart = []
    for seed in range(20):
        x = np.random.default_rng(seed).normal(size=365)
        permuted = cp.cusum(x, permutations=2_000, seed=1, candidate=0.98, include=0.98).p_any
        apart.append(abs(cp.cusum(x, candidate=0.98, include=0.98).p_any - permuted))
    assert np.mean(apart) < 0.02


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
def test_the_test_for_any_change_keeps_its_level_under_autocorrelation(rho: float) -> None:
    rng = np.random.default_rng(11)
    rejected = np.mean([cp.p_any(wander(rng, 300, rho)) < 0.05 for _ in range(600)])
    assert 0.02 <= rejected <= 0.08
    if rho > 0.5:
        naive = np.mean([cp.cusum(wander(rng, 300, rho), include=0.95).p_any < 0.05 for _ in range(100)])
        assert naive > 0.5


def test_ranks_make_outliers_harmless_to_the_cusum() -> None:
    rng = np.random.default_rng(12)
    x = np.r_[rng.normal(0, 1, 60), rng.normal(1.5, 1, 60)]
    x[[20, 95]] = 40, -60
    assert len(cp.cusum(x)) == 0
    assert cp.cusum(x, ranks=True).index[0] == pytest.approx(60, abs=8)


def test_the_turn_of_the_cusum_is_the_best_cut_by_least_squares() -> None:
    x = np.random.default_rng(13).normal(np.repeat([0, 1], 20), 1)
    squares = [((x[:k] - x[:k].mean()) ** 2).sum() + ((x[k:] - x[k:].mean()) ** 2).sum() for k in range(1, 40)]
    turn = sys.modules[cp.cusum.__module__]._turn
    assert turn(x, 1, True) == 1 + int(np.argmin(squares))


def test_permutations_need_a_seed_and_autocorrelation_none() -> None:
    with pytest.raises(tc.StatisticsError, match="seed"):
        cp.cusum(DEFICIT, permutations=99)
    with pytest.raises(tc.StatisticsError, match="autocorrelation"):
        cp.cusum(DEFICIT, permutations=99, seed=1, autocorrelated=True)
    with pytest.raises(tc.StatisticsError, match="one dimension"):
        cp.counts([[1, 2], [3, 4]])
    with pytest.raises(tc.StatisticsError, match="not negative"):
        cp.counts([1, -1])


# --- binary segmentation, the notebook --------------------------------------------------------------------------------


def slow_mbic(z: np.ndarray, most: int) -> list[int]:
    """Binary segmentation from its definition: always the cut of the largest gain among all parts."""
    found: list[tuple[int, float]] = []
    for _ in range(most):
        edges, best = [0, *sorted(c for c, _ in found), len(z)], (-1, -math.inf)
        for a, b in pairwise(edges):
            for k in range(a + 1, b):
                parts = [((p - p.mean()) ** 2).sum() + math.log(len(p)) for p in (z[a:b], z[a:k], z[k:b])]
                if parts[0] - parts[1] - parts[2] > best[1]:
                    best = k, parts[0] - parts[1] - parts[2]
        found.append(best)
    kept = max((i + 1 for i, (_, gain) in enumerate(found) if gain >= 3 * math.log(len(z))), default=0)
    return sorted(c for c, _ in found[:kept])


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_binary_segmentation_is_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(np.repeat(rng.normal(0, 2, 4), 12), 1)
    z = (x - x.mean()) / x.std(ddof=1)
    assert binseg(x).index.tolist() == slow_mbic(z, 5)


def seeds_own(data: list[float], confidence_level: float, offset: int, points: list[int]) -> list[int]:
    """The notebook's algorithm once more, from its description: shuffles by drawing values, offsets one too small."""

    def sums(values: list[float]) -> list[float]:
        out = [0.0]
        for value in values:
            out.append((value - np.average(values)) + out[-1])
        return out

    whole = max(sums(data)) - min(sums(data)) if data else 0.0
    smaller = 0
    for _ in range(100):
        left, made = list(data), []
        for _ in data:
            made.append(random.choice(left))
            left.remove(made[-1])
        smaller += max(sums(made)) - min(sums(made)) < whole
    if smaller > confidence_level:
        at = int(np.argmax(np.abs(sums(data))))
        points.append(at + offset)
        seeds_own(data[:at], confidence_level, offset, points)
        seeds_own(data[at:], confidence_level, offset + at - 1, points)
    return points


def test_the_notebooks_way_gives_the_notebooks_numbers_bit_for_bit() -> None:
    rng = np.random.default_rng(14)
    y = rng.poisson(np.repeat([10, 25, 15], 20)).astype(float)
    random.seed(5)
    expected = sorted(seeds_own(y.tolist(), 95, 0, []))
    found = cp.notebook(y, seed=5, iterations=100)
    assert found.index.tolist() == expected
    assert len(found) >= 2
    assert found.means[-1] == pytest.approx(y[expected[-1] : -1].mean())  # the last value is left out
    assert found.warnings


def test_the_notebook_reports_the_second_change_a_day_early_and_the_default_does_not() -> None:
    y = np.repeat([2.0, 9.0, 7.0], 60)
    assert cp.notebook(y, seed=1, iterations=50).index.tolist() == [60, 119]
    assert cp.level(y + np.random.default_rng(1).normal(0, 0.3, 180)).index.tolist() == [60, 120]


# --- thresholds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["counts", "level", "cusum", "binseg"])
def test_a_change_below_the_minimum_effect_is_not_reported(method: str) -> None:
    rng = np.random.default_rng(22)
    y = rng.poisson(np.repeat([100.0, 160.0, 300.0], 100)).astype(float)
    options = {"season": 1} if method in ("counts", "cusum") else {}
    least = 0.7 if method == "counts" else 100.0  # a ratio less one; a difference
    assert len(cp.find(y, method=method, **options)) == 2
    assert cp.find(y, method=method, min_effect=least, **options).index.tolist() == pytest.approx([200], abs=2)
    assert len(cp.find(y, method=method, min_effect=1e6, **options)) == 0


@given(st.integers(0, 10**6), st.floats(0, 4), st.sampled_from(["least-squares", "furthest"]))
@settings(max_examples=60, deadline=None)
def test_changes_that_are_reported_have_the_minimum_effect_and_none_given_hides_none(
    seed: int, least: float, estimator: str
) -> None:
    rng = np.random.default_rng(seed)
    y = rng.normal(np.repeat(rng.normal(0, 2, 6), rng.integers(3, 25, 6)), 1)
    for method, options in ((cp.cusum, {"estimator": estimator}), (cp.binseg, {})):
        found = method(y, min_effect=least, **options)
        assert (np.abs(found.effect) >= least).all()
        assert len(found) <= len(method(y, **options))
        np.testing.assert_array_equal(method(y, min_effect=0.0, **options).index, method(y, **options).index)


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_a_larger_penalty_never_finds_more(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.normal(np.repeat(rng.normal(0, 2, 6), rng.integers(3, 25, 6)), 1)
    found = [set(cp.binseg(y, penalty=penalty).index.tolist()) for penalty in (0.5, 2.0, 8.0, 30.0, 120.0, 1e9)]
    assert all(more >= fewer for more, fewer in pairwise(found))
    assert not found[-1]
    default = cp.binseg(y, penalty=3 * math.log(y.size))
    np.testing.assert_array_equal(default.index, cp.binseg(y).index)


@pytest.mark.parametrize("method", ["counts", "level", "cusum", "binseg"])
def test_thresholds_that_make_no_sense_are_refused(method: str) -> None:
    refused = [{"min_effect": -0.1}, {"min_effect": -2.0}, {"min_effect": NAN}]
    refused += [{"penalty": 0.0}, {"penalty": NAN}] if method != "cusum" else []
    for options in refused:
        with pytest.raises(tc.StatisticsError, match="at least 0 and a penalty above 0"):
            cp.find([1.0, 2.0] * 20, method=method, **options)
        if method == "counts":
            with pytest.raises(tc.StatisticsError, match="at least 0 and a penalty above 0"):
                cp.batch([[1.0, 2.0] * 20], **options)


# --- by name ----------------------------------------------------------------------------------------------------------


def test_each_method_can_be_had_by_name_and_an_unknown_one_is_answered_with_the_closest() -> None:
    y = year(19, (200, 2.5))
    for method, options in (("counts", {}), ("level", {}), ("cusum", {"season": 7}), ("binseg", {})):
        found = cp.find(y, method=method, start="2026-01-05", **options)
        assert found.method == method
        assert np.abs(found.index - 200).min() <= 14
        assert found.means.size == found.rates.size == len(found) + 1
        assert (
            found.p.size == found.first.size == found.last.size == found.effect.size == found.level.size == len(found)
        )
        assert found.to_frame().height == len(found) + 1
    with pytest.raises(tc.StatisticsError, match='Did you mean "cusum"'):
        cp.find(y, method="cumsum")
