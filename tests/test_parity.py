"""The engine says what the slow reference says: every fate and every column of every event, bit for bit.

Each test is one sentence of the time contract, tried on logs full of ties, changes of the clock, late, repeated,
altered and future events. HYPOTHESIS_PROFILE=soak tries many more; one failing case is shrunk and shown.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.oracle import Spec
from tests.oracle_time import DAY_US, HOUR_US, End, Record, Row, from_us, judge, to_us
from tests.parity import agree, expected, run
from tests.soak import soak_case
from tests.strategies import EVERY, SCHEMA, SHAPES, SKEW_US, Case, cases, scored, shuffled_within
from tocsin import measures

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

_COMMON = {
    "deadline": None,  # the first example compiles kernels
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("ci", derandomize=True, max_examples=50, database=None, **_COMMON)
settings.register_profile("soak", max_examples=2500, print_blob=True, **_COMMON)
PROFILE = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

CUTS = st.sets(st.integers(1, 45), max_size=12)


# ---------------------------------------------------------------------------------------- the reference, under any cut
@pytest.mark.parametrize("shape", SHAPES)
def test_the_engine_equals_the_reference_under_any_cut(shape: str):
    @settings(PROFILE, max_examples=PROFILE.max_examples * (5 if shape in {"own", "population"} else 1))
    @given(cases(shape=shape), CUTS)
    def holds(case: Case, cuts: set[int]) -> None:
        agree(case, expected(case), run(case, cuts))

    holds()


@settings(PROFILE)
@given(cases(max_specs=4))
def test_one_batch_and_single_events_say_the_same(case: Case):
    want = expected(case)
    agree(case, want, run(case))
    agree(case, want, run(case, range(len(case.log))))


def _event(event_id: str, moment: dt.datetime, **columns: Any) -> Row:
    return dict.fromkeys(SCHEMA) | {"event_id": event_id, "timestamp": moment, "user_id": "ann"} | columns


def _counted(log: list[Record], **more: Any) -> Case:
    spec = scored(Spec("r", EVERY, "user_id", measures.Count(per="1d")))
    return replace(Case([*log, End()], [spec], HOUR_US, 7 * DAY_US, (), "UTC"), **more)


def test_a_repeat_in_another_batch_is_a_duplicate_whatever_is_null_in_the_rows_around_it():
    first, nameless = _event("a", from_us(0)), _event("b", from_us(0), user_id=None)
    case = _counted([first, nameless, first])
    assert [fate for _, fate in run(case, [2]).fates] == ["ok", "ok", "duplicate"]
    agree(case, expected(case), run(case, [2]))


def test_a_late_event_from_a_new_partition_is_kept_once_however_often_it_is_delivered():
    late = _event("x", from_us(0), partition="new")
    case = _counted([_event("a", from_us(30 * DAY_US), partition="p"), late, late, late])
    assert [fate for _, fate in run(case).fates] == ["ok", "late", "duplicate", "duplicate"]
    agree(case, expected(case), run(case))


@settings(PROFILE)
@given(case=cases(max_specs=4), cuts=CUTS, saves=st.sets(st.integers(0, 15), min_size=1, max_size=4))
def test_the_state_may_be_saved_and_loaded_between_any_two_batches(
    case: Case, cuts: set[int], saves: set[int], tmp_path: Path
):
    interrupted = run(case, cuts, saves=saves, folder=tmp_path)
    agree(case, expected(case), interrupted)


@settings(PROFILE)
@given(cases(), CUTS)
def test_findings_do_not_depend_on_the_cut(case: Case, cuts: set[int]):
    """Whole findings, evidence and ids included."""
    assert run(case).found() == run(case, cuts).found()


def test_an_event_scored_alone_divides_like_one_among_many():
    """Polars divides a column of one row by a constant, but multiplies a longer one by the inverse: other last bits."""
    rows = [_event(f"e{i}", from_us(i)) for i in range(99)]
    spec = Spec("r", EVERY, "user_id", measures.Count(ever=True), score=pl.col("@value") * 3 / 7, threshold=1.0)
    case = Case([*rows, End()], [spec], 0, 0, (), "UTC")
    want = expected(case)
    agree(case, want, run(case))
    agree(case, want, run(case, range(len(rows))))


# -------------------------------------------------------------------------------------------------- order and lateness
@settings(PROFILE)
@given(cases(tidy=True), st.data(), CUTS)
def test_any_order_within_the_lateness_gives_the_same_scores(case: Case, data: st.DataObject, cuts: set[int]):
    count = len(case.log) - 1
    delays = data.draw(st.lists(st.integers(0, case.lateness), min_size=count, max_size=count))
    other = replace(case, log=shuffled_within(case.log, case.lateness, delays))
    want = expected(case)
    assert all(fate == "ok" for _, fate in expected(other).fates)
    got = run(other, cuts)
    got.fates = want.fates
    agree(case, want, got)


@settings(PROFILE)
@given(cases(tidy=True), st.data())
def test_repeating_events_within_the_horizon_changes_no_score(case: Case, data: st.DataObject):
    case = replace(case, dedup_horizon=10_000 * 86_400_000_000)
    want = expected(case)
    log = list(case.log[:-1])
    for i in data.draw(st.lists(st.integers(0, len(log) - 1), max_size=6)):
        original = log.index(case.log[i])  # earlier repeats have moved it
        log.insert(data.draw(st.integers(original + 1, len(log))), case.log[i])
    got = run(replace(case, log=[*log, End()]))
    assert sum(fate == "duplicate" for _, fate in got.fates) == len(log) - len(case.log) + 1
    got.fates = want.fates
    agree(case, want, got)


# ------------------------------------------------------------------------------------------------------- no look-ahead
@settings(PROFILE)
@given(cases(), st.integers(0, 30))
def test_what_has_been_released_is_not_changed_by_what_comes_later(case: Case, keep: int):
    """Cut the log after any record, without an end: whatever the engine has said by then, it says in the full run."""
    head = replace(case, log=case.log[:keep])
    _, frontiers = judge(
        head.log, lateness=case.lateness, dedup_horizon=case.dedup_horizon, future_skew=SKEW_US, read=frozenset()
    )
    frontier = frontiers[-1] if frontiers else None
    early = run(head)
    want = expected(case)
    assert early.fates == want.fates[: len(early.fates)]
    ids = {j.row["event_id"] for j in want.released if frontier is not None and j.us < frontier}
    ids -= {i for i, n in _times(want.fates).items() if n > 1}
    assert ids <= {row["event_id"] for row in early.trace}
    agree(head, want, early, only=ids)


@settings(PROFILE)
@given(cases(tidy=True), st.integers(1, 30))
def test_the_scores_of_a_sorted_log_do_not_depend_on_its_end(case: Case, keep: int):
    rows = sorted((r for r in case.log if isinstance(r, dict)), key=lambda r: (to_us(r["timestamp"]), r["event_id"]))
    full, head = replace(case, log=[*rows, End()]), replace(case, log=[*rows[:keep], End()])
    ids = {r["event_id"] for r in rows[:keep]}
    agree(full, expected(full), run(head), only=ids)


# ------------------------------------------------------------------------------------------------------------ entities
@settings(PROFILE)
@given(cases(max_specs=4), st.permutations(("ann", "bob", "cy")), CUTS)
def test_renaming_entities_renames_the_result_and_nothing_else(case: Case, names: list[str], cuts: set[int]):
    """Both renamings: one that keeps the alphabetical order of the users, and one that does not."""
    for new in (["b", "c", "d"], [f"{n}\u00e9 \U0001f514" for n in names]):
        renaming = dict(zip(("ann", "bob", "cy"), new, strict=True))
        log = [r | {"user_id": renaming.get(r["user_id"])} if isinstance(r, dict) else r for r in case.log]
        renamed = run(replace(case, log=log), cuts)
        plain = run(case)
        agree(case, expected(case), renamed, only={i for i, _ in plain.fates})
        back = {new: old for old, new in renaming.items()}
        assert sorted(_whom(f, back) for f in renamed.found()) == sorted(_whom(f, {}) for f in plain.found())


# ---------------------------------------------------------------------------------------------------------------- soak
def test_twenty_thousand_events_under_every_kind_of_spec_equal_the_reference():
    case = soak_case(seed=20_261_122, events=20_000)
    got = run(case, range(0, len(case.log), 1_777))
    agree(case, expected(case), got)


def _times(fates: list[tuple[str, str]]) -> dict[str, int]:
    """How often each id was given to the measures or kept as late."""
    found: dict[str, int] = {}
    for event_id, fate in fates:
        found[event_id] = found.get(event_id, 0) + (fate in {"ok", "late"})
    return found


def _whom(finding: dict, names: dict[str, str]) -> tuple:
    entity = finding["entity"]
    return (
        finding["detection_id"],
        names.get(entity, entity),
        finding["event_id"],
        finding["time"],
        finding["peak_score"],
    )
