"""Counts and shares: many tests at once, changes of level, Poisson parameters, intervals; against slow answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

import tocsin as tc
from tocsin.stats import multiple, poisson, rates, welch

NAN = float("nan")
p_values = st.lists(st.one_of(st.floats(0, 1), st.just(NAN)), max_size=30)


def step_up(p: list[float]) -> list[float]:
    """Benjamini and Hochberg's q of each, from its definition: the smallest bound over all larger p-values."""
    known = sorted(x for x in p if not math.isnan(x))
    m = len(known)
    return [NAN if math.isnan(x) else min(1.0, *(v * (m / (i + 1)) for i, v in enumerate(known) if v >= x)) for x in p]


def step_down(p: list[float]) -> list[float]:
    known = sorted(x for x in p if not math.isnan(x))
    m = len(known)
    return [NAN if math.isnan(x) else min(1.0, max(v * (m - i) for i, v in enumerate(known) if v <= x)) for x in p]


@given(p_values)
def test_benjamini_hochberg_and_holm_equal_their_definitions_and_keep_nan(p: list[float]) -> None:
    np.testing.assert_allclose(multiple.benjamini_hochberg(p), step_up(p), rtol=1e-12)
    np.testing.assert_allclose(multiple.holm(p), step_down(p), rtol=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_benjamini_hochberg_equals_scipy(p: list[float]) -> None:
    expected = scipy_stats.false_discovery_control(p)
    np.testing.assert_allclose(multiple.benjamini_hochberg(p), expected, rtol=1e-12)


@given(st.permutations(range(8)))
def test_adjusted_p_values_follow_their_tests_when_these_are_reordered(order: list[int]) -> None:
    p = np.array([0.2, 0.01, NAN, 0.01, 1.0, 0.0, 0.5, 0.049])
    for adjust in (multiple.benjamini_hochberg, multiple.holm):
        np.testing.assert_array_equal(adjust(p[order]), adjust(p)[order])


def test_a_p_value_outside_0_to_1_is_refused() -> None:
    with pytest.raises(tc.StatisticsError, match="between 0 and 1"):
        multiple.benjamini_hochberg([0.5, 1.5])


def test_the_empirical_null_recovers_a_drifting_population_and_keeps_nan() -> None:
    rng = np.random.default_rng(1)
    z = np.r_[rng.normal(0.5, 2.0, 5_000), NAN, 40.0]
    null = multiple.empirical_null(z)
    assert (null.center, null.spread) == (pytest.approx(0.5, abs=0.1), pytest.approx(2.0, rel=0.05))
    assert np.mean(null.p[:5_000] < 0.05) == pytest.approx(0.05, abs=0.01)
    assert np.isnan(null.p[5_000])
    assert null.p[5_001] < 1e-12


def test_the_drift_null_separates_how_much_members_differ_from_how_well_they_are_known() -> None:
    rng = np.random.default_rng(2)
    error = rng.uniform(0.05, 1.0, 4_000)
    effect = 0.3 + rng.normal(0, 0.25, 4_000) + rng.normal(0, error)
    null = multiple.drift_null(effect, error)
    assert null.center == pytest.approx(0.3, abs=0.05)
    assert null.spread == pytest.approx(0.25, abs=0.05)
    assert np.mean(null.p < 0.05) == pytest.approx(0.05, abs=0.012)
    assert multiple.drift_null(rng.normal(0, error), error).spread < 0.08


@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.integers(2, 8))
def test_welch_equals_scipy_row_by_row_with_missing_days(seed: int, before: int, after: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.poisson(20, (5, before + after)).astype(float) + rng.normal(0, 0.1, (5, before + after))
    x[0, 1 : before - 1] = NAN
    found = welch.welch(x, before)
    for i, row in enumerate(x):
        a, b = (side[~np.isnan(side)] for side in (row[:before], row[before:]))
        if len(a) < 2:
            assert np.isnan(found.p[i])
            continue
        expected = scipy_stats.ttest_ind(b, a, equal_var=False)
        interval = expected.confidence_interval(0.95)
        got = found.t[i], found.df[i], found.p[i], found.low[i], found.high[i]
        wanted = expected.statistic, expected.df, expected.pvalue, interval.low, interval.high
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)
        assert (found.days_before[i], found.days_after[i]) == (len(a), len(b))


def test_each_row_may_have_its_own_split_and_a_constant_row_is_not_tested() -> None:
    x = [[1, 2, 9, 8, 9], [1, 2, 1, 9, 8], [0, 0, 0, 5, 5]]
    found = welch.welch(x, [2, 3, 3])
    np.testing.assert_allclose(found.p[:2], [welch.welch(x[0], 2).p[0], welch.welch(x[1], 3).p[0]])
    assert np.isnan(found.p[2])
    assert found.change[2] == 5
    assert welch.welch(x, [2, 3, 3], variance_at_least=welch.INTEGER_VARIANCE).p[2] < 0.01


def population(seed: int, drift: float) -> np.ndarray:
    """2,000 users with bursty days, the first ten multiplied by five after day 30, everybody drifting."""
    rng = np.random.default_rng(seed)
    base, factor = rng.lognormal(np.log(2.0), 0.8, 2_000), np.exp(rng.normal(0, drift, 2_000))
    factor[:10] = 5
    rates_a_day = np.c_[np.repeat(base[:, None], 30, 1), np.repeat((base * factor)[:, None], 30, 1)]
    return rng.poisson(rates_a_day * rng.gamma(1.5, 1 / 1.5, rates_a_day.shape))


def test_welch_and_benjamini_hochberg_find_planted_users_and_hardly_an_innocent_one() -> None:
    found, wrong = [], []
    for seed in range(5):
        q = multiple.benjamini_hochberg(welch.welch(population(seed, 0.0), 30).p) <= 0.05
        found.append(q[:10].sum())
        wrong.append(q[10:].sum())
    assert np.mean(found) >= 6
    assert np.mean(wrong) <= 1


def test_when_everybody_drifts_the_drift_null_finds_who_changed_more_where_welch_finds_everybody() -> None:
    found, wrong, plain_wrong = [], [], []
    for seed in range(5):
        x = population(seed, 0.25)
        plain = multiple.benjamini_hochberg(welch.welch(x, 30).p) <= 0.05
        q = multiple.benjamini_hochberg(welch.against_drift(x, 30).p) <= 0.05
        found.append(q[:10].sum())
        wrong.append(q[10:].sum())
        plain_wrong.append(plain[10:].sum())
    assert np.mean(found) >= 7
    assert np.mean(wrong) <= 1.5
    assert np.mean(plain_wrong) >= 3


def test_an_interval_of_a_share_equals_published_and_scipy_values() -> None:
    for k, n in [(0, 10), (3, 10), (10, 10), (81, 263), (15, 148)]:
        expected = scipy_stats.binomtest(k, n).proportion_ci(method="wilson")
        got = rates.wilson(k, n)
        np.testing.assert_allclose((got.low, got.high), (expected.low, expected.high), atol=1e-12)
    # Newcombe, Statistics in Medicine 17 (1998), table I, Wilson's score without continuity: 81 of 263, 15 of 148.
    newcombe = [rates.wilson(81, 263), rates.wilson(15, 148), rates.wilson(0, 20), rates.wilson(1, 29)]
    published = [(0.2553, 0.3662), (0.0624, 0.1605), (0.0, 0.1611), (0.0061, 0.1718)]
    np.testing.assert_allclose([(float(x.low), float(x.high)) for x in newcombe], published, atol=5e-5)


def test_garwood_equals_the_published_table() -> None:
    # Garwood 1936 by way of any table of exact Poisson limits: 0, 1, 5 and 10 events, 95 %.
    got = rates.rate([0, 1, 5, 10])
    np.testing.assert_allclose(got.low, [0, 0.0253, 1.6235, 4.7954], atol=1e-4)
    np.testing.assert_allclose(got.high, [3.6889, 5.5716, 11.6683, 18.3904], atol=1e-4)


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.1, 10), st.floats(0.1, 10))
def test_a_ratio_of_rates_has_the_p_value_of_the_binomial_test_and_turns_over_with_its_sides(
    k: int, k0: int, t: float, t0: float
) -> None:
    ratio, p = rates.rate_ratio(k, t, k0, t0)
    if k + k0:
        tails = [scipy_stats.binomtest(k, k + k0, t / (t + t0), alternative=a).pvalue for a in ("less", "greater")]
        assert float(p) == pytest.approx(min(1, 2 * min(tails)), rel=1e-9)
    back, p_back = rates.rate_ratio(k0, t0, k, t)
    assert float(p_back) == pytest.approx(float(p))
    if k and k0:
        np.testing.assert_allclose([back.low, back.high], [1 / ratio.high, 1 / ratio.low], rtol=1e-6)


def test_nothing_to_estimate_from_is_nan_and_nonsense_is_refused() -> None:
    assert np.isnan(rates.wilson([0, 1], [0, 2]).estimate).tolist() == [True, False]
    assert np.isnan(rates.rate(0, 0.0).low)
    for wrong in (lambda: rates.wilson(3, 2), lambda: rates.rate(-1), lambda: rates.wilson(1, 2, level=95)):
        with pytest.raises(tc.StatisticsError):
            wrong()


def test_poisson_counts_pass_both_tests_of_fit_as_often_as_they_should_and_bursts_fail() -> None:
    rng = np.random.default_rng(3)
    fits = [poisson.fit(rng.poisson(3.0, 200)) for _ in range(600)]
    assert np.mean([f.p_dispersion < 0.05 for f in fits]) == pytest.approx(0.05, abs=0.025)
    assert np.mean([f.p_chi_square < 0.05 for f in fits]) == pytest.approx(0.05, abs=0.025)
    assert np.mean([f.low <= 3.0 <= f.high for f in fits]) >= 0.93
    bursts = poisson.fit(rng.negative_binomial(3, 0.5, 200))
    assert bursts.p_dispersion < 1e-4
    assert bursts.p_chi_square < 0.05


def members(seed: int, rate: float, support: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(250), rng.integers(20, 80, 250))
    x = rng.poisson(rng.poisson(rate, 250)[who])
    if support == "truncated":
        return who[x > 0], x[x > 0]
    return who, np.maximum(x, 1) if support == "clamped" else x


@pytest.mark.parametrize("support", poisson.SUPPORTS)
def test_the_population_fit_covers_the_parameter_where_recipients_are_at_least_one(support: str) -> None:
    fits = [poisson.population_fit(*members(seed, 3.0, support), support=support) for seed in range(40)]
    assert np.mean([f.low <= 3.0 <= f.high for f in fits]) >= 0.875
    assert np.mean([f.dispersion for f in fits]) == pytest.approx(1.0, abs=0.1)


def test_the_mean_of_user_means_is_biased_by_truncation_and_the_mean_of_events_by_busy_members() -> None:
    who, x = members(1, 3.0, "truncated")
    assert poisson.population_mean(who, x).low > 3.0
    rng = np.random.default_rng(4)
    own = rng.poisson(6.0, 300)
    who = np.repeat(np.arange(300), 5 + 10 * own)  # who writes to more people also writes more often
    found = poisson.population_mean(who, rng.poisson(own[who]))
    assert found.low <= 6.0 <= found.high
    assert found.event_mean > 6.5


def test_a_gamma_population_is_fitted_with_its_own_dispersion() -> None:
    rng = np.random.default_rng(5)
    own = rng.gamma(3.0, 2.0, 600)
    who = np.repeat(np.arange(600), 30)
    found = poisson.population_fit(who, rng.poisson(own[who]), prior="gamma")
    assert found.low <= 6.0 <= found.high
    assert found.dispersion == pytest.approx(2.0, abs=0.3)


def test_a_population_fit_refuses_what_its_support_rules_out() -> None:
    with pytest.raises(tc.StatisticsError, match="below 1"):
        poisson.population_fit([0, 0, 1, 1], [0, 0, 1, 2], support="truncated")
    with pytest.raises(tc.StatisticsError, match="prior"):
        poisson.population_fit([0, 1], [1, 2], prior="beta")
    with pytest.raises(tc.StatisticsError, match="at least two"):
        poisson.population_mean([0, 0], [1, 2])
