"""Rules that are asked when a window closes say what the slow reference says, at every close and about everybody.

The logs are those of the parity tests: late, repeated, altered and future events, several partitions, days of 23 and 25
hours and dates that never happened. Every score, column and count is compared, not only what fired.
"""

from __future__ import annotations

import datetime as dt
import os
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.oracle import Spec, outputs
from tests.oracle_close import Closing, closings
from tests.oracle_time import DAY_US, HOUR_US, End, Idle, Record, Row, from_us, to_us
from tests.parity import Ran, agree, detection_id, expected, run, same
from tests.strategies import (
    DIFFICULT,
    EVERY,
    IS_MAIL,
    SCHEMA,
    Case,
    _gaps,
    aggregates,
    arrivals,
    own_fits,
    population_fits,
    scored,
    several_fits,
    shuffled_within,
)
from tocsin import fits, measures

if TYPE_CHECKING:
    from pathlib import Path

    from hypothesis.strategies import DrawFn

_COMMON: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("ci-close", derandomize=True, max_examples=60, database=None, **_COMMON)
settings.register_profile("soak-close", max_examples=2000, print_blob=True, **_COMMON)
PROFILE = settings.get_profile("soak-close" if os.environ.get("HYPOTHESIS_PROFILE") == "soak" else "ci-close")
CUTS = st.sets(st.integers(1, 45), max_size=12)
REACH = {"1h": 3 * DAY_US, "1d": 60 * DAY_US, "1w": 400 * DAY_US, "1mo": 400 * DAY_US}
"""How far from the anchor events may lie; the reference looks at every window between."""


# ---------------------------------------------------------------------------------------------------------------- cases
@st.composite
def close_specs(draw: DrawFn, per: str, zone: str, name: str) -> Spec:
    on, entity = draw(st.sampled_from((EVERY, IS_MAIL))), draw(st.sampled_from(("user_id", "user_id", "src_ip")))
    if draw(st.booleans()):  # what most rules on silence are
        measure: measures.Measure = measures.Count(per=per, zone=zone)
        windows, leaves_out = draw(st.sampled_from((2, 5, 28))), draw(st.booleans())
        compared = fits.own_history(
            mean=True, quantiles=(1.0,), windows=windows, at_least=1, exclude_alerted=leaves_out
        )
    else:
        measure = draw(st.sampled_from(aggregates(per=per, zone=zone)))
        compared = draw(st.one_of(st.none(), own_fits(per), own_fits(per), population_fits(per), several_fits(per)))
    spec = Spec(name, on, entity, measure, compared, quiet_after=draw(st.sampled_from((1, 2, 3, 5, 28))))
    if draw(st.integers(0, 4)) == 0:
        near = Spec(f"{name}_near", EVERY, "kind", measures.Count(per="1d", zone=zone))
        spec = replace(spec, on=on & (pl.col(f"@ctx.{near.id}") < 3), context={near.id: near})
    return _asked(spec, draw(st.integers(0, 3)))


def _asked(spec: Spec, way: int) -> Spec:
    """Too little, too much, or a quotient that need not be: of the value and the first statistic, if there is one."""
    value, first = pl.col("@value"), pl.lit(2.0)
    if spec.against is not None:
        assert spec.measure is not None
        first = pl.col(next(c for c in outputs(spec) if c.startswith("@ref.")))
    score = (first - value, first - value, value - first, value / first)[way]
    return replace(spec, score=score, threshold=0.5)


@st.composite
def close_cases(draw: DrawFn, *, tidy: bool = False) -> Case:
    zone, anchor = draw(st.sampled_from(DIFFICULT))
    anchor_us = to_us(dt.datetime.fromisoformat(anchor))
    per = draw(st.sampled_from(("1d", "1d", "1h", "1w", "1mo")))
    lateness = draw(st.sampled_from((0, HOUR_US, 6 * HOUR_US, DAY_US)))
    asked = [draw(close_specs(per, zone, f"r{i}")) for i in range(draw(st.integers(1, 2)))]
    if draw(st.booleans()):  # a rule asked at events, beside them, that may share their state
        asked.append(replace(scored(replace(asked[0], context={}, on=EVERY)), id="events", quiet_after=None))
    log = draw(arrivals(anchor_us, lateness, tidy=tidy))
    log = [r for r in log if not isinstance(r, dict) or abs(to_us(r["timestamp"]) - anchor_us) <= REACH[per]]
    return Case(log, asked, lateness, max(lateness, 7 * DAY_US), draw(_gaps(anchor_us)), zone)


# ----------------------------------------------------------------------------------------------------------- comparison


def at_close(case: Case) -> list[Spec]:
    return [s for s in case.specs if s.quiet_after is not None]


def reference(case: Case) -> dict[str, list[Closing]]:
    """What the reference says; an id repeated with other contents is a conflict for all rules alike, so all are read."""
    everything = [*at_close(case), *(replace(s, quiet_after=1) for s in case.specs if s.quiet_after is None)]
    return closings(case.log, everything, schema=SCHEMA, **case.settings)


def close_id(c: Closing) -> str:
    return f"close:{from_us(c.begin_us):%Y-%m-%dT%H:%M:%SZ}:{c.entity}"


def agree_at_closes(case: Case, got: Ran) -> None:
    """Every close of every rule: who was asked, all columns, the score, what fired, and who was not asked and why."""
    want = reference(case)
    for spec in at_close(case):
        name, asked = detection_id(spec), [c for c in want[spec.id] if not c.why]
        wanted = {close_id(c): c for c in asked}
        made = {c: name + c for c in outputs(spec) if not c.startswith("@ctx.")}
        mine = [r for r in got.closes if name + "@value" in r and r["event_id"] in wanted]
        for event_id, c in wanted.items():
            answers = [r for r in mine if r["event_id"] == event_id]
            cells = {k: c.cells[k] for k in made}
            assert any(all(same(x, r.get(made[k])) for k, x in cells.items()) for r in answers), (spec, c, answers)
        assert sorted(got.scores[name]) == sorted((close_id(c), c.score) for c in asked if c.score is not None), spec
        found = [
            (f["entity"], f["event_id"], to_us(f["time"]), f["score"], to_us(f["window_start"])) for f in got.mine(spec)
        ]
        fired = [(c.entity, close_id(c), c.end_us, c.score, c.begin_us) for c in asked if c.fired]
        assert sorted(found) == sorted(fired), spec
        tally, why = got.tallies[name], Counter(c.why for c in want[spec.id])
        assert tally["events"] == len(want[spec.id])
        assert tally["scored"] == sum(c.score is not None for c in asked)
        assert {r: tally["unscored"].get(r, 0) for r in ("gone", "uncovered")} == {
            r: why[r] for r in ("gone", "uncovered")
        }


def agree_everywhere(case: Case, got: Ran) -> None:
    agree_at_closes(case, got)
    agree(replace(case, specs=[s for s in case.specs if s.quiet_after is None]), expected(case), got)


# ------------------------------------------------------------------------------------------------------------- any cut
@settings(PROFILE, max_examples=PROFILE.max_examples * 4)
@given(close_cases(), CUTS)
def test_every_close_under_any_cut_is_that_of_the_reference(case: Case, cuts: set[int]):
    agree_everywhere(case, run(case, cuts))


@settings(PROFILE)
@given(close_cases())
def test_one_batch_and_single_events_close_the_same(case: Case):
    whole, single = run(case), run(case, range(len(case.log)))
    agree_everywhere(case, whole)
    assert whole.found() == single.found()
    assert whole.tallies == single.tallies


@settings(PROFILE)
@given(case=close_cases(), cuts=CUTS, saves=st.sets(st.integers(0, 15), min_size=1, max_size=4))
def test_a_state_saved_and_loaded_between_any_two_batches_closes_the_same(
    case: Case, cuts: set[int], saves: set[int], tmp_path: Path
):
    agree_everywhere(case, run(case, cuts, saves=saves, folder=tmp_path))


@settings(PROFILE)
@given(close_cases(tidy=True), st.data(), CUTS)
def test_any_order_within_the_lateness_closes_the_same(case: Case, data: st.DataObject, cuts: set[int]):
    count = len(case.log) - 1
    delays = data.draw(st.lists(st.integers(0, case.lateness), min_size=count, max_size=count))
    other = run(replace(case, log=shuffled_within(case.log, case.lateness, delays)), cuts)
    assert other.found() == run(case).found()
    agree_at_closes(case, other)


@settings(PROFILE, max_examples=PROFILE.max_examples * 2)
@given(close_cases(), st.integers(0, 30), CUTS)
def test_what_closed_by_some_record_is_what_the_log_up_to_it_says_and_stands(case: Case, keep: int, cuts: set[int]):
    """Without an end: the frontier alone closes. Whatever came later changes nothing of it."""
    head = replace(case, log=case.log[:keep])
    early = run(head, cuts)
    agree_at_closes(head, early)
    whole = {f["finding_id"]: f for f in run(case).found()}
    names = {detection_id(s) for s in at_close(case)}
    assert all(whole[f["finding_id"]] == f for f in early.found() if f["detection_id"] in names)


# ------------------------------------------------------------------------------------------------------------ by hand
T0 = to_us(from_us(20_089 * DAY_US))  # 2025-01-01


def event(day: float, user: str = "ann", **more: Any) -> Row:
    us = T0 + round(day * DAY_US)
    name = more.pop("event_id", f"{user}{us}{more.get('partition', '')}")
    return dict.fromkeys(SCHEMA) | {"event_id": name, "timestamp": from_us(us), "kind": "mail", "user_id": user} | more


def silence(**more: Any) -> Spec:
    fit = fits.own_history(mean=True, windows=5, at_least=2)
    asked = {"measure": measures.Count(per="1d"), "against": fit, "score": pl.col("@ref.mean") - pl.col("@value")}
    return Spec("r", IS_MAIL, "user_id", **(asked | {"threshold": 0.0, "quiet_after": 4} | more))


def case_of(log: list[Record], spec: Spec | None = None, **more: Any) -> Case:
    return replace(Case(log, [spec or silence()], HOUR_US, 7 * DAY_US, (), "UTC"), **more)


def ends(case: Case, user: str = "ann") -> list[int]:
    """The days at whose begin a finding about the user stands."""
    got = run(case)
    agree_at_closes(case, got)
    return sorted((to_us(f["time"]) - T0) // DAY_US for f in got.findings if f["entity"] == user)


def bob(days: int) -> list[Row]:
    return [event(d + 0.5, "bob") for d in range(days)]


def ordered(*rows: Row) -> list[Record]:
    return sorted(rows, key=lambda r: (r["timestamp"], r["event_id"]))


def test_a_silent_day_fires_when_it_is_over_and_not_before():
    log = ordered(*bob(6), *(event(d + 0.5) for d in (0, 1, 2, 4, 5)))
    assert ends(case_of([*log, End()])) == [4]
    until_day_four = [r for r in log if r["timestamp"] <= from_us(T0 + 4 * DAY_US)]
    assert ends(case_of(until_day_four)) == []
    assert ends(case_of([*until_day_four, event(4 + 1 / 24, "cy")])) == [4], "the hour of lateness is over"


def test_the_last_day_is_not_silent_at_the_end_of_the_input():
    log = ordered(*bob(4), *(event(d + 0.5) for d in (0, 1, 2)))
    assert ends(case_of([*log, End()])) == []


def test_somebody_gone_is_asked_about_no_more_and_counted_once():
    log = ordered(*bob(20), *(event(d + 0.5) for d in (0, 1, 2)))
    case = case_of([*log, End()])
    assert ends(case) == [4, 5, 6, 7]
    assert run(case).tallies["parity.r"]["unscored"]["gone"] == 1


def test_a_day_without_cover_is_not_silent_and_makes_nobody_gone():
    log = ordered(*bob(20), *(event(d + 0.5) for d in (0, 1, 2)))
    gaps = ((T0 + 4 * DAY_US + 5, T0 + 5 * DAY_US),)
    case = case_of([*log, End()], gaps=gaps)
    assert ends(case) == [4, 6, 7, 8]
    assert run(case).tallies["parity.r"]["unscored"]["uncovered"] == 2, "bob is not asked about either"


def test_a_pause_of_everybody_closes_every_window_in_it():
    log = ordered(*bob(3), *(event(d + 0.5) for d in (0, 1, 2)), event(60, "cy"))
    assert ends(case_of([*log, End()])) == [4, 5, 6, 7]
    assert ends(case_of([*log, End()]), "bob") == [4, 5, 6, 7]


def test_a_partition_that_lags_holds_the_close_back_until_it_is_idle():
    log: list[Record] = [event(d + 0.5, partition="p") for d in range(3)]
    log += [event(2.9, "bob", partition="q"), event(9, "bob", partition="p")]
    assert ends(case_of(log)) == []
    assert ends(case_of([*log, Idle("q")])) == [4, 5, 6, 7]


def test_an_event_late_by_its_own_clock_but_before_the_close_breaks_the_silence():
    log: list[Record] = [*ordered(*bob(3), *(event(d + 0.5) for d in (0, 1, 2))), event(3.9, "bob")]
    log += [event(3.5), event(5, "bob"), End()]
    assert ends(case_of(log)) == [5]


def test_an_event_later_than_the_close_does_not_undo_it():
    log: list[Record] = [*ordered(*bob(3), *(event(d + 0.5) for d in (0, 1, 2))), event(4.5, "bob"), event(3.5)]
    assert ends(case_of([*log, event(5.5, "bob"), End()])) == [4, 5]


def test_somebody_new_is_asked_about_from_the_next_window_on():
    log = ordered(*bob(9), event(4.5, "cy"), event(5.5, "cy"))
    assert ends(case_of([*log, End()], silence(quiet_after=28)), "cy") == [7, 8]


def test_days_that_fired_are_left_out_of_the_baseline_where_the_rule_says_so():
    fit = fits.own_history(mean=True, windows=3, at_least=2, exclude_alerted=True)
    log = ordered(*bob(9), *(event(d + 0.5) for d in (0, 1, 2)))
    case = case_of([*log, End()], silence(against=fit))
    assert ends(case) == [4, 5], "with one day left of three there is no baseline"
    assert run(case).tallies["parity.r"]["unscored"]["no_history"] > 0


@pytest.mark.parametrize("lateness", [0, HOUR_US])
def test_the_hours_of_a_day_of_23_and_of_25_close_once_each(lateness: int):
    for day in ("2026-03-08T06:30:00+00:00", "2026-11-01T05:30:00+00:00"):
        start = to_us(dt.datetime.fromisoformat(day))
        rows = [event((start - T0 + h * HOUR_US) / DAY_US, "bob") for h in range(30)]
        rows += [event((start - T0 + h * HOUR_US) / DAY_US) for h in range(4)]
        hourly = silence(measure=measures.Count(per="1h", zone="America/Denver"), quiet_after=20)
        case = case_of([*ordered(*rows), End()], hourly, lateness=lateness, zone="America/Denver")
        got = run(case)
        agree_at_closes(case, got)
        times = [to_us(f["time"]) for f in got.findings]
        assert len(times) == len(set(times)) == 5, "until the mean of the last five hours is zero too"
