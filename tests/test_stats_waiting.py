"""How long things take, and how many people that needs: textbook data, tables, and slow answers."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

import tocsin as tc
from tocsin.stats import queueing, survival

# Freireich et al. 1963 (Blood 21), remission in weeks; the example of nearly every textbook of survival analysis.
TREATED = [6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
RELAPSED = [True] * 9 + [False] * 12
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]

spans = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=40)


def slow_curve(data: list[tuple[int, bool]]) -> dict[float, float]:
    share, curve = 1.0, {}
    for t in sorted({t for t, done in data if done}):
        at_risk = sum(x >= t for x, _ in data)
        share *= 1 - sum(x == t and done for x, done in data) / at_risk
        curve[float(t)] = share
    return curve


@given(spans)
def test_kaplan_meier_equals_the_product_over_times_and_scipy(data: list[tuple[int, bool]]) -> None:
    t, done = np.array([x for x, _ in data]), np.array([d for _, d in data])
    curve = survival.kaplan_meier(t, done)
    expected = slow_curve(data)
    assert curve.times.tolist() == list(expected)
    np.testing.assert_allclose(curve.share, list(expected.values()), atol=1e-12)
    if done.any():
        theirs = scipy_stats.ecdf(scipy_stats.CensoredData(t[done], right=t[~done])).sf
        np.testing.assert_allclose(curve.at(np.arange(21))[: t.max() + 1], theirs.evaluate(np.arange(t.max() + 1)))


def test_the_textbooks_remission_data_have_the_textbooks_numbers() -> None:
    curve = survival.kaplan_meier(TREATED, RELAPSED)
    published = [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448]  # Kleinbaum and Klein, table 2.2 and elsewhere
    np.testing.assert_allclose(curve.share, published, atol=5e-4)
    np.testing.assert_allclose(np.sqrt(curve.variance)[:2], [0.0764, 0.0869], atol=5e-5)
    assert curve.quantile(0.5)[0] == 23
    assert survival.kaplan_meier(PLACEBO, [True] * 21).quantile(0.5)[0] == 8
    test = survival.log_rank([TREATED, PLACEBO], [RELAPSED, [True] * 21])
    assert test.chi_square == pytest.approx(16.79, abs=0.01)
    np.testing.assert_allclose(test.observed, [9, 21])
    np.testing.assert_allclose(test.expected, [19.25, 10.75], atol=0.005)


@given(spans, st.randoms(use_true_random=False))
def test_a_curve_knows_neither_order_nor_unit_and_seen_twice_only_its_interval_changes(
    data: list[tuple[int, bool]], order: random.Random
) -> None:
    once = survival.kaplan_meier(*zip(*data, strict=True))
    twice = [*data, *data]
    order.shuffle(twice)
    t, done = zip(*twice, strict=True)
    again = survival.kaplan_meier(60 * np.array(t), done)
    np.testing.assert_array_equal(again.times, 60 * once.times)
    np.testing.assert_allclose(again.share, once.share, atol=1e-12)
    np.testing.assert_array_equal(again.ended, 2 * once.ended)
    np.testing.assert_allclose(2 * again.variance, once.variance, atol=1e-12)


@given(spans, spans)
def test_the_log_rank_test_equals_scipys_for_two_groups(a: list[tuple[int, bool]], b: list[tuple[int, bool]]) -> None:
    groups = [(np.array([t for t, _ in g], float), np.array([d for _, d in g])) for g in (a, b)]
    found = survival.log_rank([t for t, _ in groups], [d for _, d in groups])
    if not all(d.any() for _, d in groups) or found.df == 0 or found.chi_square < 1e-9:
        return
    theirs = scipy_stats.logrank(*(scipy_stats.CensoredData(t[d], right=t[~d]) for t, d in groups))
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-6)


def test_three_groups_that_are_alike_are_called_different_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(1)
    p = []
    for _ in range(400):
        t, c = rng.exponential(10, (3, 40)), rng.exponential(15, (3, 40))
        p.append(survival.log_rank(np.minimum(t, c), t <= c).p)
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.03)


def test_open_alerts_do_not_bias_the_median_as_dropping_them_does() -> None:
    rng = np.random.default_rng(2)
    takes, since = rng.lognormal(math.log(14.4), 1.4, 40_000), rng.uniform(0, 60, 40_000)
    open_now = takes > since
    curve = survival.kaplan_meier(np.where(open_now, since, takes), ~open_now)
    assert curve.quantile(0.5)[0] == pytest.approx(14.4, rel=0.05)
    assert np.median(takes[~open_now]) < 10


def test_intervals_of_curve_median_and_restricted_mean_cover_the_truth_as_often_as_they_say() -> None:
    rng, covered = np.random.default_rng(3), np.zeros(3)
    for _ in range(400):
        t, c = rng.exponential(10, 80), rng.exponential(20, 80)
        curve = survival.kaplan_meier(np.minimum(t, c), t <= c)
        k = np.searchsorted(curve.times, 8, "right") - 1
        _, low, high = curve.quantile(0.5)
        _, mean_low, mean_high = curve.restricted_mean(12)
        truth = math.exp(-0.8), 10 * math.log(2), 10 * (1 - math.exp(-1.2))
        covered += [
            curve.low[k] <= truth[0] <= curve.high[k],
            low <= truth[1] <= high,
            mean_low <= truth[2] <= mean_high,
        ]
    assert (covered / 400 > 0.91).all()


def test_a_median_that_is_not_reached_is_infinite_and_the_restricted_mean_finite() -> None:
    curve = survival.kaplan_meier([1, 2, 3, 4], [True, False, False, False])
    assert curve.quantile(0.5)[0] == math.inf
    assert curve.restricted_mean()[0] == pytest.approx(1 + 3 * 0.75)
    assert np.isnan(curve.at(5))
    with pytest.raises(tc.StatisticsError, match="beyond the longest"):
        curve.restricted_mean(10)
    nobody = survival.kaplan_meier([1, 2], [False, False])
    assert nobody.times.size == 0
    assert nobody.quantile()[0] == math.inf
    with pytest.raises(tc.StatisticsError, match="ended"):
        survival.kaplan_meier([1, 2], [True])


# Erlang B: the loads that N lines carry at a loss of 1 %, from any traffic table.
ERLANG_B = {1: 0.0101, 2: 0.153, 5: 1.361, 10: 4.461, 20: 12.03, 50: 37.90, 100: 84.06}


def test_erlang_b_equals_the_published_table() -> None:
    for servers, load in ERLANG_B.items():
        assert queueing.erlang_b(servers, load) == pytest.approx(0.01, rel=5e-3)


@given(st.integers(1, 40), st.floats(0.01, 0.99))
def test_erlang_c_equals_the_sum_of_its_series(servers: int, utilisation: float) -> None:
    load = servers * utilisation
    terms = [load**n / math.factorial(n) for n in range(servers)]
    last = load**servers / math.factorial(servers) / (1 - utilisation)
    assert queueing.erlang_c(servers, load) == pytest.approx(last / (sum(terms) + last), rel=1e-9)


def test_a_simulated_queue_waits_as_the_formula_says() -> None:
    rng, servers = np.random.default_rng(4), 4
    arrivals = np.cumsum(rng.exponential(60 / 18, 60_000))
    handling = rng.exponential(10, 60_000)
    free, waits = np.zeros(servers), []
    for at, takes in zip(arrivals, handling, strict=True):
        server = int(free.argmin())
        start = max(at, free[server])
        free[server] = start + takes
        waits.append(start - at)
    found = queueing.queue(servers, 18, 10, target_minutes=5)
    assert np.mean(waits) == pytest.approx(found.wait_minutes, rel=0.1)
    assert np.mean(np.array(waits) > 1e-9) == pytest.approx(found.p_wait, rel=0.05)
    assert np.mean(np.array(waits) <= 5) == pytest.approx(found.in_time, abs=0.02)


def test_too_much_load_never_settles_and_the_fewest_servers_are_the_fewest() -> None:
    assert queueing.queue(3, 60, 4).wait_minutes == math.inf
    found = queueing.servers_needed(60, 4, target_minutes=1, in_time=0.9)
    assert found.in_time >= 0.9
    assert queueing.queue(found.servers - 1, 60, 4, target_minutes=1).in_time < 0.9
    for wrong in (lambda: queueing.erlang_c(-1, 2), lambda: queueing.queue(2, 5, 0), lambda: queueing.erlang_b(2, -1)):
        with pytest.raises(tc.StatisticsError):
            wrong()
