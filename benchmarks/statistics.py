"""How well the statistics keep their promises, on simulated series, and how fast they are.

Enters: nothing. Leaves: a table of figures as a dict. Layer: none (outside the package).

    python -m benchmarks.statistics            all of it, some minutes
    python -m benchmarks.statistics --quick    the same on few series
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import statistics_data as made
from tocsin.stats import changepoints as cp
from tocsin.stats import circular, multiple, poisson, survival, welch

if TYPE_CHECKING:
    from collections.abc import Callable

NEAR_DAYS = 7
MARGIN = 5
NAMES = {cp.counts: "counts", cp.level: "level"}


def false_changes(years: int) -> dict[str, float]:
    """False change points a year, by kind of noise."""
    found = {}
    for name, how in made.NULLS.items():
        y = np.array([made.soc_year(seed, **how) for seed in range(years)])
        found[name] = round(cp.batch(y, keep=1).index.size / years, 4)
    return found


def false_alarms(series: int) -> dict[str, dict[str, float]]:
    """Percent of steady series with p_any below 5 %, by kind and length."""
    noises: dict[str, Callable[[np.random.Generator, int], float]] = {
        "white": lambda rng, n: cp.p_any(rng.normal(size=n)),
        "AR(1) 0.3": lambda rng, n: cp.p_any(made.autoregressive(rng, n, 0.3)),
        "AR(1) 0.6": lambda rng, n: cp.p_any(made.autoregressive(rng, n, 0.6)),
        "Poisson, weekdays": lambda rng, n: (
            cp.counts(made.soc_year(int(rng.integers(2**31)), days=n, noise="poisson")).p_any
        ),
        "NB k=15, weekdays": lambda rng, n: cp.counts(made.soc_year(int(rng.integers(2**31)), days=n)).p_any,
        "counts, AR(1) 0.5": lambda rng, n: (
            cp.counts(made.soc_year(int(rng.integers(2**31)), days=n, noise="ar0.5")).p_any
        ),
    }
    table = {}
    for name, p_of in noises.items():
        rng = np.random.default_rng(1)
        table[name] = {
            str(n): round(100 * float(np.mean([p_of(rng, n) < 0.05 for _ in range(series)])), 1)
            for n in (100, 200, 365, 1_000)
        }
    return table


def hits(years: int) -> dict[str, dict[str, float]]:
    """Of planted changes: percent found within 7 days, mean error, further points, coverage of the 95 % interval."""
    at = np.array([made.change_day(seed) for seed in range(years)])
    table = {}
    for name, (factor, how) in made.CHANGES.items():
        y = np.array([made.soc_year(seed, ((int(at[seed]), factor),), **how) for seed in range(years)])
        found = cp.batch(y, keep=1)
        error = np.abs(found.index - at[found.series])
        near = error <= NEAR_DAYS
        inside = (found.first <= at[found.series]) & (at[found.series] <= found.last)
        table[name] = {
            "hit_percent": round(100 * np.unique(found.series[near]).size / years, 1),
            "error_days": round(float(error[near].mean()), 2),
            "further_points": round(float((~near).sum()) / years, 3),
            "interval_percent": round(100 * float(inside[near].mean()), 1),
            "lost_by_screen_percent": round(100 * float((cp.screen(y) > 0.2).mean()), 1),
        }
    y = np.array([made.soc_year(s, ((int(at[s]), 2.0), (int(at[s]) + 21, 0.5))) for s in range(years)])
    found = cp.batch(y, keep=1)
    both = np.zeros((years, 2), np.bool_)
    for column, days in enumerate((0, 21)):
        both[found.series[np.abs(found.index - at[found.series] - days) <= NEAR_DAYS], column] = True
    table["21-day episode x2"] = {"hit_percent": round(100 * float(both.all(1).mean()), 1)}
    return table


def information_limit(years: int) -> dict[str, dict[str, float]]:
    """Percent of planted changes within 7 days of where the likelihood is largest, and of where ``counts`` has them.

    That likelihood knows what nobody knows: weekdays, both levels, the gamma's shape, and that there is one change.
    """
    at, table = np.array([made.change_day(seed) for seed in range(years)]), {}
    mean = 20 * made.WEEK[np.arange(365) % 7]
    for factor, shape in ((1.5, 15), (1.5, 10), (2.0, 10), (2.0, 3)):
        y = np.array([made.soc_year(s, ((int(a), factor),), noise=f"nb{shape}") for s, a in enumerate(at)])
        # log f(y; factor mean) - log f(y; mean) of negative binomials
        gain = y * np.log(factor) - (y + shape) * np.log((shape + factor * mean) / (shape + mean))
        after = np.cumsum(gain[:, ::-1], axis=1)[:, ::-1]
        found = cp.batch(y, keep=1)
        near = np.abs(found.index - at[found.series]) <= NEAR_DAYS
        table[f"x{factor:g}, NB k={shape}"] = {
            "oracle_percent": round(100 * float((np.abs(after.argmax(axis=1) - at) <= NEAR_DAYS).mean()), 1),
            "counts_percent": round(100 * np.unique(found.series[near]).size / years, 1),
        }
    return table


def delays(years: int) -> dict[str, dict[str, float]]:
    """Nights until a nightly run reports a change: median, 90 % quantile, percent never within 60."""
    table = {}
    for noise in ("poisson", "nb15", "nb10"):
        for factor in (1.5, 2.0, 3.0):
            waits = []
            for seed in range(years):
                at = made.change_day(seed)
                found = cp.nightly(made.soc_year(seed, ((at, factor),), noise=noise), at)
                waits.append(61 if found is None else found)
            table[f"x{factor:g}, {noise}"] = {
                "median": float(np.median(waits)),
                "p90": round(float(np.quantile(waits, 0.9)), 1),
                "never_percent": round(100 * float(np.mean(np.array(waits) > 60)), 1),
            }
    return table


def f1(truth: list[int], found: list[int]) -> float:
    """F1 with a margin of 5, the start of the series a change too (van den Burg and Williams, arXiv 2003.06222, 3.2)."""
    left, right = [0, *found], 0
    for at in [0, *truth]:
        near = [x for x in left if abs(x - at) <= MARGIN]
        if near:
            left.remove(min(near, key=lambda x: abs(x - at)))
            right += 1
    return 2 * right / (len(found) + len(truth) + 2)


def cover(truth: list[int], found: list[int], n: int) -> float:
    """The mean over true regimes of the largest Jaccard overlap with a found one, weighted by length (same, 3.1)."""
    total = 0.0
    mine = list(zip([0, *found], [*found, n], strict=True))
    for a, b in zip([0, *truth], [*truth, n], strict=True):
        total += (b - a) * max(max(0, min(b, d) - max(a, c)) / (max(b, d) - min(a, c)) for c, d in mine)
    return total / n


def levels(series: int) -> dict[str, dict[str, list[float]]]:
    """F1, cover and number of changes on level series of every kind: the default and binary segmentation with MBIC."""
    table: dict[str, dict[str, list[float]]] = {}
    for name, make in made.LEVELS.items():
        table[name] = {}
        for method in (cp.level, cp.binseg):
            scores = []
            for seed in range(series):
                truth, y = make(np.random.default_rng(seed))
                found = method(y).index.tolist()
                scores.append((f1(truth, found), cover(truth, found, len(y)), len(found)))
            table[name][method(y).method] = [round(float(x), 3) for x in np.mean(scores, axis=0)]
    for method in ("level", "binseg"):
        values = [row[method] for name, row in table.items() if name != "mean of all"]
        table.setdefault("mean of all", {})[method] = [round(float(x), 3) for x in np.mean(values, axis=0)]
    return table


def populations(runs: int) -> dict[str, Any]:
    """Users whose volume or hours changed, and the parameter of a Poisson population."""
    table: dict[str, Any] = {}
    for drift in (0.0, 0.25):
        tests = {
            "welch": lambda x: welch.welch(x, 30, variance_at_least=welch.INTEGER_VARIANCE).p,
            "against_drift": lambda x: welch.against_drift(x, 30).p,
        }
        for name, test in tests.items():
            q = [multiple.benjamini_hochberg(test(made.bursty_users(s, drift))) <= 0.05 for s in range(runs)]
            table[f"{name}, drift sd {drift:g}"] = {
                "found_of_10": round(float(np.mean([x[:10].sum() for x in q])), 2),
                "false": round(float(np.mean([x[10:].sum() for x in q])), 2),
            }
    for shift in (4.0, 2.0):
        rows = []
        for seed in range(runs):
            who, day, hour, _ = made.people(seed, 1_000, 50, shift)
            found = circular.shifts(who, day, hour, seed=seed)
            hit = found.q <= 0.05
            inside = (found.low <= shift) & (shift <= found.high)
            rows.append((hit[:50].sum(), hit[50:].sum(), 100 * (found.p[50:] < 0.05).mean(), 100 * inside[:50].mean()))
        mean = np.mean(rows, axis=0).round(2).tolist()
        names = ("found_of_50", "false", "p_below_5_percent_of_steady", "interval_percent")
        table[f"hours shifted by {shift:g}"] = dict(zip(names, mean, strict=True))
    for support in poisson.SUPPORTS:
        covered = 0
        for seed in range(10 * runs):
            rng = np.random.default_rng(seed)
            who = np.repeat(np.arange(300), rng.integers(20, 80, 300))
            x = rng.poisson(rng.poisson(3.0, 300)[who])
            who, x = (who[x > 0], x[x > 0]) if support == "truncated" else (who, x)
            x = np.maximum(x, 1) if support == "clamped" else x
            fit = poisson.population_fit(who, x, support=support)
            covered += fit.low <= 3.0 <= fit.high
        table[f"population fit, {support}, lambda 3: 95 % interval covers, percent"] = round(10 * covered / runs, 1)
    return table


def _best(work: Callable[[], Any], times: int = 3) -> float:
    work()
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return min(spent)


def speed(quick: bool) -> dict[str, Any]:
    """Seconds and series a second, the best of three."""
    rng = np.random.default_rng(1)
    rows, long, million = (200, 10_000, 100_000) if quick else (4_000, 100_000, 1_000_000)
    y = np.array([made.soc_year(seed % 50) for seed in range(rows)])
    many = np.tile(y, (25, 1))
    table: dict[str, Any] = {
        "full_series_of_365_a_second": round(rows / _best(lambda: cp.batch(y, keep=1))),
        "screened_series_of_365_a_second": round(len(many) / _best(lambda: cp.screen(many))),
    }
    thousand = made.soc_year(1, ((300, 1.5), (650, 0.5)), days=1_000)
    ours = _best(lambda: cp.counts(thousand))
    size = 365 if quick else 1_000
    theirs = thousand[:size]
    start = time.perf_counter()
    cp.notebook(theirs, seed=1)
    table["counts_1000_ms"] = round(1_000 * ours, 3)
    table[f"notebook_{size}_over_counts_1000"] = round((time.perf_counter() - start) / ours)
    contents = {
        "flat": rng.poisson(20, long),
        "a change every 200": rng.poisson(np.repeat(rng.uniform(10, 40, long // 200), 200)),
        "random walk": np.abs(np.cumsum(rng.normal(size=long))),
        "heavy tails": np.exp(rng.normal(0, 2, long)),
        "ramp": rng.poisson(np.linspace(5, 500, long)),
        "waves": rng.poisson(50 + 40 * np.sin(np.arange(long) / 50)),
        "zeros": np.zeros(long),
        "half missing": np.where(rng.random(long) < 0.5, np.nan, 3.0),
    }
    for name, values in contents.items():
        for method in (cp.counts, cp.level):
            table[f"{NAMES[method]}, n = {long:,}, {name}: s"] = round(_best(lambda v=values, m=method: m(v), 1), 3)
    takes, since = rng.exponential(10, million), rng.exponential(15, million)
    times, over = np.minimum(takes, since), takes <= since
    table[f"kaplan_meier, {million:,} times: s"] = round(_best(lambda: survival.kaplan_meier(times, over)), 3)
    return table


def run(*, quick: bool = False) -> dict[str, Any]:
    """Return all figures."""
    few = quick
    return {
        "false changes a year": false_changes(40 if few else 1_000),
        "percent of steady series with p_any < 0.05": false_alarms(40 if few else 2_000),
        "planted changes": hits(40 if few else 1_000),
        "planted changes, at the limit": information_limit(40 if few else 2_000),
        "nights until reported": delays(4 if few else 100),
        "levels: F1, cover, changes": levels(4 if few else 100),
        "populations": populations(2 if few else 10),
        "speed": speed(few),
    }


def main(arguments: list[str] | None = None) -> int:
    """Print the figures as JSON."""
    print(json.dumps(run(quick="--quick" in (sys.argv[1:] if arguments is None else arguments)), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
