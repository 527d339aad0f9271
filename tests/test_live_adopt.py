"""An engine whose rules change goes on with all that still means the same; and it says which events it set aside.

Layer: tests.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import tocsin as tc
from tests.oracle import Spec
from tests.parity import Ran, batches, control, detection, detection_id, engine, run
from tests.strategies import EVERY, Case, cases, own_fits, population_fits, scored, specs
from tests.strategies import SCHEMA as LOG_SCHEMA
from tests.test_parity import PROFILE
from tocsin import measures, rules
from tocsin.engine import End, Engine, Output, State
from tocsin.engine.saved import load_state, save_state
from tocsin.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

START = datetime(2025, 3, 3, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SCHEMA = {
    "event_id": pl.String,
    "timestamp": pl.Datetime("us", "UTC"),
    "received_at": pl.Datetime("us", "UTC"),
    "user_id": pl.String,
}
COUNT = tc.Detection(
    id="test.count", title="Counts", severity="low", on=pl.lit(value=True), entity="user_id",
    measure=tc.Count(per="1d"), score=tc.value, when=tc.score > 0,
)  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- set aside
def event(event_id: str, after: timedelta, **more: Any) -> dict[str, Any]:
    return {"event_id": event_id, "timestamp": START + after, "received_at": None, "user_id": "ada"} | more


def test_events_that_are_late_in_conflict_or_from_the_future_are_told_with_their_row_in_the_batch():
    engine = Engine([COUNT], SCHEMA, lateness="1h")
    rows = [
        event("a", 5 * HOUR), event("late", HOUR), event("b", 6 * HOUR), event("a", 5 * HOUR),
        event("b", 6 * HOUR, user_id="bob"), event("future", 9 * HOUR, received_at=START),
    ]  # fmt: skip
    batch = pl.DataFrame(rows, schema=SCHEMA)
    for batch_given in (batch, engine.prepare(batch)):
        _, output = engine.step(engine.new_state(), batch_given)
        assert output.aside is not None
        assert output.aside.schema == {"row": pl.UInt32, "event_id": pl.String, "fate": pl.String}
        assert output.aside.rows() == [(1, "late", "late"), (4, "b", "conflict"), (5, "future", "future")]


def test_nothing_is_set_aside_where_all_is_well():
    engine = Engine([COUNT], SCHEMA, lateness="1h")
    state, output = engine.step(engine.new_state(), pl.DataFrame([event("a", HOUR), event("a", HOUR)], schema=SCHEMA))
    assert output.aside is None
    assert engine.step(state, End())[1].aside is None


# ------------------------------------------------------------------------------------------------ nothing has changed
CUTS = st.sets(st.integers(1, 45), max_size=12)
RELOADS = st.sets(st.integers(0, 20), min_size=1, max_size=4)


def run_reloading(
    case: Case, cuts: Iterable[int], versions: Mapping[int, list[Spec]], folder: Path | None = None
) -> Ran:
    """Fold the log over the step; before the pieces that ``versions`` names, an engine of other specs goes on.

    With a folder, what was adopted goes through a file.
    """
    running, ran = engine(case), Ran()
    state = running.new_state()
    for i, piece in enumerate(batches(case.log, cuts)):
        if i in versions:
            other = engine(replace(case, specs=versions[i]))
            state = other.adopt(running, state)
            running = other
            if folder is not None:
                save_state(state, folder / f"state-{i}")
                state = load_state(running, folder / f"state-{i}")
        state, output = running.step(state, control(piece))
        ran.add(output)
    ran.tallies = {name: vars(tally) for name, tally in state.tallies.items()}
    return ran


@settings(PROFILE)
@given(cases(max_specs=4), CUTS, RELOADS)
def test_rules_loaded_again_without_a_change_say_what_they_would_have_said(case: Case, cuts: set[int], at: set[int]):
    assert run_reloading(case, cuts, dict.fromkeys(at, case.specs)) == run(case, cuts)


# ------------------------------------------------------------------------------------------------- other rules change
@st.composite
def reloads(draw: st.DrawFn) -> tuple[Case, set[int], dict[int, list[Spec]], list[Spec]]:
    """A case, cuts, other specs at some pieces, and the specs that are there all the time.

    Some of those that come and go share the measure of one that stays, under other fits.
    """
    case = draw(cases(max_specs=3))
    more = [draw(specs(case.zone, None, f"x{i}")) for i in range(2)]
    stays = case.specs[: draw(st.integers(1, len(case.specs)))]
    for n, spec in enumerate(s for s in stays if isinstance(s.measure, measures.Spanned) and s.measure.per):
        siblings = draw(st.lists(st.one_of(own_fits("1d"), population_fits("1d"), st.none()), min_size=1, max_size=3))
        more += [
            scored(Spec(f"y{n}{i}", spec.on, spec.entity, spec.measure, f, context=spec.context))
            for i, f in enumerate(siblings)
        ]
    pool = [*case.specs[len(stays) :], *more]
    versions = {}
    for at in draw(st.sets(st.integers(0, 20), min_size=1, max_size=4)):
        others = [s for s in pool if draw(st.booleans())]
        versions[at] = draw(st.permutations([*stays, *others]))
    before = [*stays, *(s for s in pool if draw(st.booleans()))]
    return replace(case, specs=before), draw(CUTS), versions, stays


@settings(PROFILE, max_examples=PROFILE.max_examples * 2)
@given(reloads())
def test_a_rule_that_did_not_change_says_the_same_whatever_rules_come_and_go_beside_it(
    drawn: tuple[Case, set[int], dict[int, list[Spec]], list[Spec]],
):
    case, cuts, versions, stays = drawn
    alone, among = run(replace(case, specs=stays), cuts), run_reloading(case, cuts, versions)
    for spec in stays:
        name = detection_id(spec)
        assert among.scores[name] == alone.scores[name]
        assert among.mine(spec) == alone.mine(spec)
        assert among.rows(spec) == alone.rows(spec)
    known = {"conflict": "duplicate"}
    assert [(i, known.get(f, f)) for i, f in among.fates] == [(i, known.get(f, f)) for i, f in alone.fates]


@settings(PROFILE)
@given(reloads())
def test_what_was_adopted_can_be_saved_and_loaded_like_any_other_state(
    tmp_path: Path, drawn: tuple[Case, set[int], dict[int, list[Spec]], list[Spec]]
):
    case, cuts, versions, _ = drawn
    assert run_reloading(case, cuts, versions, tmp_path) == run_reloading(case, cuts, versions)


@pytest.fixture(scope="module")
def mails() -> tuple[pl.DataFrame, tc.References]:
    made = tc.simulate(10, 40)
    frame = pl.concat(list(tc.read(made.events).batches(made.events.columns, 1_000_000)))
    return frame, tc.reference(geo=made.geo, networks=made.networks, threats=made.threats)


@pytest.fixture(scope="module")
def unreloaded(mails: tuple[pl.DataFrame, tc.References]) -> tuple[dict[str, pl.DataFrame], pl.DataFrame]:
    return _shipped(mails, [(0, rules.ALL)])


def _shipped(
    mails: tuple[pl.DataFrame, tc.References], versions: list[tuple[int, Iterable[tc.Detection]]]
) -> tuple[dict[str, pl.DataFrame], pl.DataFrame]:
    """Replay with the given rules from the given rows on; return the scores by rule, and the findings."""
    frame, refs = mails
    ends = [*(start for start, _ in versions[1:]), frame.height]
    outputs, running, state = [], None, None
    for (start, chosen), end in zip(versions, ends, strict=True):
        fresh = Engine(chosen, frame.schema, refs, keep_scores=True)
        state = fresh.new_state() if running is None else fresh.adopt(running, state)
        running = fresh
        state, output = running.step(state, frame[start:end])
        outputs.append(output)
    assert running is not None
    outputs.append(running.step(state, End())[1])
    every = {d.id: [o.scores[d.id] for o in outputs if d.id in o.scores] for d in rules.ALL}
    return {k: pl.concat(v) for k, v in every.items() if v}, pl.concat([o.findings for o in outputs])


@settings(PROFILE, max_examples=PROFILE.max_examples // 2)
@given(st.data())
def test_the_shipped_rules_that_stay_score_the_same_whatever_subset_is_loaded_beside_them(
    mails: tuple[pl.DataFrame, tc.References],
    unreloaded: tuple[dict[str, pl.DataFrame], pl.DataFrame],
    data: st.DataObject,
):
    stays = data.draw(st.sets(st.sampled_from([d.id for d in rules.ALL]), min_size=1))
    starts = sorted(data.draw(st.sets(st.integers(1, mails[0].height - 1), min_size=1, max_size=3)))
    draw = data.draw
    versions = [(at, [d for d in rules.ALL if d.id in stays or draw(st.booleans())]) for at in [0, *starts]]
    scores, findings = _shipped(mails, versions)
    for rule in stays & unreloaded[0].keys():
        assert_frame_equal(scores[rule], unreloaded[0][rule], check_exact=True)
    mine = pl.col("detection_id").is_in(stays)
    order = ["detection_id", "time", "finding_id"]
    assert_frame_equal(findings.filter(mine).sort(order), unreloaded[1].filter(mine).sort(order), check_exact=True)


# ---------------------------------------------------------------------------------------------- what is new, by hand
def volume(name: str = "volume", **more: Any) -> tc.Detection:
    parts = {
        "id": f"test.{name}", "title": name, "severity": "low", "on": tc.col("user_id").is_not_null(), "entity": "user_id",
        "measure": tc.Count(per="1d"), "score": tc.value, "when": tc.score > 1,
    }  # fmt: skip
    return tc.Detection(**parts | more)


def baseline(name: str, windows: int) -> tc.Detection:
    own = tc.own_history(mean=True, windows=windows, at_least=1)
    return volume(name, against=own, score=tc.ref.mean)


def days(first: int, last: int, n: Any = lambda day: day + 1, user: str = "ada") -> list[dict[str, Any]]:
    """``n(day)`` events on each day from ``first`` to before ``last``."""
    return [
        event(f"{user}-{day}-{i}", day * DAY + i * timedelta(minutes=1), user_id=user)
        for day in range(first, last)
        for i in range(n(day))
    ]


def reloaded(
    before: tuple[list[tc.Detection], list[dict[str, Any]]], after: tuple[list[tc.Detection], list[dict[str, Any]]]
) -> tuple[dict[str, list[Any]], State, list[Output]]:
    """Run rules over rows, then others over others; return the scores after the change, in order."""
    old, new = (Engine(d, SCHEMA, keep_scores=True, lateness="0s") for d in (before[0], after[0]))
    state, first = old.step(old.new_state(), pl.DataFrame(before[1], schema=SCHEMA))
    state, second = new.step(new.adopt(old, state), pl.DataFrame(after[1], schema=SCHEMA))
    state, third = new.step(state, End())
    outputs = [second, third]
    scores = {d.id: [x for o in outputs if d.id in o.scores for x in o.scores[d.id]["score"]] for d in after[0]}
    return scores, state, [first, *outputs]


def test_a_longer_baseline_begins_with_the_history_that_was_held_and_counts_nothing_forgotten_as_zero():
    seven, longer = baseline("seven", 7), baseline("longer", 28)
    scores, _, _ = reloaded(([seven], days(0, 20)), ([seven, longer], days(20, 23, lambda _: 1)))
    # Day n had n + 1 events. The last one of day 19 still waits, and held are days 12 to 18.
    ends = ((sum(range(13, 20)), 0), (sum(range(14, 21)), 0), (sum(range(15, 21)), 1), (sum(range(16, 21)), 2))
    assert scores["test.seven"] == [(old + new) / 7 for old, new in ends]
    assert scores["test.longer"] == [sum(range(13, 20)) / 7, *((sum(range(13, 21)) + n) / (8 + n) for n in range(3))]


def test_a_population_that_is_new_is_undefined_until_the_next_boundary_and_right_from_there_on():
    everyone = volume("all", against=tc.population(mean=True, at_least=2), score=tc.ref.mean)
    noon = event("noon", 4 * DAY + 12 * HOUR)
    before = sorted(
        [*days(0, 5), *days(0, 5, lambda _: 2, "bob"), *days(0, 4, lambda _: 9, "cy")], key=lambda r: r["timestamp"]
    )
    after = [noon, *days(5, 6, lambda _: 1)]
    scores, state, _ = reloaded(([volume()], before), ([volume(), everyone], after))
    assert scores["test.all"] == [None, None, (6 + 2) / 2]
    assert state.tallies["test.all"].unscored == {"no_history": 2}


def test_a_population_that_stays_holds_through_the_window_at_hand_however_many_statistics_others_ask_for():
    everyone = volume("all", against=tc.population(mean=True, at_least=2), score=tc.ref.mean + tc.ref.n)
    wider = volume("wider", against=tc.own_history(mean=True, sd=True, median=True), score=tc.ref.mean)
    rows = sorted([*days(0, 3), *days(0, 2, lambda _: 5, "bob")], key=lambda r: r["timestamp"])
    noon = [event(f"noon-{i}", 2 * DAY + (12 + i) * HOUR) for i in range(2)]
    scores, _, _ = reloaded(([everyone], rows), ([wider, everyone], noon))
    assert scores["test.all"] == [(2 + 5) / 2 + 2] * 3
    scores, _, _ = reloaded(([wider, everyone], rows), ([everyone], noon))
    assert scores["test.all"] == [(2 + 5) / 2 + 2] * 3


def test_a_new_version_fires_and_tallies_anew_and_the_same_version_does_not():
    same, old, new = volume("same"), volume("other"), volume("other", when=tc.score > 2)
    rows = days(0, 1, lambda _: 4)
    scores, state, outputs = reloaded(([same, old], rows), ([same, new], [event("x", 6 * HOUR), event("y", 7 * HOUR)]))
    assert scores["test.other"][-1] == 6  # the measure went on
    fired = [o.findings.group_by("detection_id").len().sort("detection_id").rows() for o in outputs]
    assert fired[0] == [("test.other", 1), ("test.same", 1)]
    assert fired[1:] == [[("test.other", 1)], []]
    assert state.tallies["test.same"].events == 6
    assert state.tallies["test.other"].events == 3  # the last of the first rows was still waiting


def test_events_that_wait_have_no_entity_of_a_new_kind_and_null_in_columns_that_were_not_kept():
    schema = SCHEMA | {"host": pl.String, "note": pl.String}
    row = event("a", HOUR, host="h", note="n")
    on = {"on": pl.lit(value=True)}
    by_host = volume("host", entity="host", **on)
    noted = volume("noted", score=pl.col("note").is_null().cast(pl.Int64), **on)
    old, new = (Engine(d, schema, keep_scores=True) for d in ([volume(**on)], [volume(**on), by_host, noted]))
    state, _ = old.step(old.new_state(), pl.DataFrame([row], schema=schema))
    state = new.adopt(old, state)
    state, _ = new.step(state, pl.DataFrame([row | {"event_id": "b"}], schema=schema))
    state, output = new.step(state, End())
    assert output.scores["test.volume"].rows() == [("a", 1, False), ("b", 2, True)]
    assert output.scores["test.host"].rows() == [("b", 1, False)]
    assert state.tallies["test.host"].unscored == {"no_entity": 1}
    assert output.scores["test.noted"].rows() == [("a", 1, False), ("b", 0, False)]


def test_a_repeated_event_is_a_duplicate_even_where_the_new_rules_read_other_columns():
    schema = SCHEMA | {"note": pl.String}
    rows = pl.DataFrame([event("a", HOUR, note="n"), event("b", HOUR, note="n")], schema=schema)
    old = Engine([COUNT], schema)
    more = Engine([COUNT, volume("noted", evidence=("note",))], schema)
    state, _ = old.step(old.new_state(), rows)
    state, _ = more.step(more.adopt(old, state), rows)
    assert state.counts["duplicate"] == 2
    state, _ = more.step(more.adopt(more, state), rows)
    assert (state.counts["duplicate"], state.counts["conflict"]) == (4, 0)


def test_without_a_change_of_columns_an_altered_repeat_is_still_a_conflict():
    one, other = (Engine([d], SCHEMA) for d in (COUNT, volume()))
    state, _ = one.step(one.new_state(), pl.DataFrame([event("a", HOUR)], schema=SCHEMA))
    state, _ = other.step(other.adopt(one, state), pl.DataFrame([event("a", HOUR, user_id="bob")], schema=SCHEMA))
    assert state.counts["conflict"] == 1


def test_a_measure_whose_context_means_something_else_now_begins_anew():
    def near(measure: tc.Count) -> tc.Detection:
        context = {"near": tc.Context(entity="user_id", measure=measure)}
        return volume("near", context=context, on=tc.ctx.near < 100)

    hour = near(tc.Count(per="1h"))
    for then, expected in ((hour, 5), (near(tc.Count(ever=True)), 2)):  # the last of the first four was waiting
        scores, _, _ = reloaded(([hour], days(0, 1, lambda _: 4)), ([then], [event("x", 6 * HOUR)]))
        assert scores["test.near"][-1] == expected


@pytest.mark.parametrize(
    ("setting", "value"),
    [("lateness", "2h"), ("future_skew", "1m"), ("dedup_horizon", "9d"), ("key", b"0123456789abcdef")],
)
def test_other_time_settings_and_another_key_are_refused_with_advice(setting: str, value: Any):
    old, new = Engine([COUNT], SCHEMA), Engine([COUNT], SCHEMA, **{setting: value})
    with pytest.raises(StateError, match=rf"another {setting}.*empty"):
        new.adopt(old, old.new_state())


# ------------------------------------------------------------------------------------------- rules asked at the close
def closing(spec: Spec, fit: Any, quiet_after: int) -> tc.Detection:
    """A rule that is asked when the windows of a spec's measure close."""
    score = tc.value if fit is None else tc.value / pl.col(f"@ref.{fit.columns[0]}")
    name = f"test.closes-{spec.id}-{quiet_after}-{'none' if fit is None else fit.key[:8]}"
    return tc.Detection(
        id=name, title="x", severity="low", on=spec.on, entity=spec.entity or "", measure=spec.measure, against=fit,
        score=score, when=tc.score < 1, at="close", quiet_after=quiet_after,
    )  # fmt: skip


@st.composite
def closing_reloads(draw: st.DrawFn) -> tuple[Case, set[int], list[tc.Detection], dict[int, list[tc.Detection]]]:
    """A case, cuts, rules of one measure of which the first stay, and which rules there are from some pieces on."""
    case = draw(cases(shape="own", max_specs=1))
    spec = replace(case.specs[0], id="r", context={}, on=EVERY)
    compared = st.one_of(own_fits("1d"), population_fits("1d"), st.none())
    asked = [closing(spec, draw(compared), draw(st.sampled_from((1, 2, 5)))) for _ in range(4)]
    at_events = [detection(scored(replace(spec, id=f"e{i}", against=draw(compared)))) for i in range(2)]
    rules_of_one = list({d.id: d for d in [*asked, *at_events]}.values())
    n = draw(st.integers(1, 2))
    stays, others = rules_of_one[:n], rules_of_one[n:]
    chosen = st.lists(st.sampled_from(others), unique_by=id) if others else st.just([])
    versions = {at: [*draw(chosen), *stays] for at in draw(st.sets(st.integers(0, 20), min_size=1, max_size=4))}
    return case, draw(CUTS), stays, {-1: [*draw(chosen), *stays]} | versions


def told(
    case: Case, cuts: set[int], versions: Mapping[int, list[tc.Detection]]
) -> tuple[State, dict[str, Any], list[Any]]:
    """Fold the log over the step with the rules of each version; return the state, the scores and the findings."""

    def made(chosen: list[tc.Detection]) -> Engine:
        times = {"lateness": case.lateness, "dedup_horizon": case.dedup_horizon, "gaps": case.gaps}
        return Engine(chosen, LOG_SCHEMA, keep_scores=True, **times)

    running = made(versions[-1])
    state, scores, found = running.new_state(), defaultdict(list), []
    for i, piece in enumerate(batches(case.log, cuts)):
        if i in versions:
            other = made(versions[i])
            running, state = other, other.adopt(running, state)
        state, output = running.step(state, control(piece))
        for name, frame in output.scores.items():
            scores[name] += frame.rows()
        found += output.findings.drop("table_digest").rows(named=True)
    return state, scores, found


@settings(PROFILE, max_examples=PROFILE.max_examples * 2)
@given(closing_reloads())
def test_a_rule_about_closed_windows_says_the_same_whatever_rules_come_and_go_beside_it(
    drawn: tuple[Case, set[int], list[tc.Detection], dict[int, list[tc.Detection]]],
):
    case, cuts, stays, versions = drawn
    alone, among = told(case, cuts, {-1: stays}), told(case, cuts, versions)
    for rule in stays:
        assert among[1][rule.id] == alone[1][rule.id]
        assert among[0].tallies[rule.id] == alone[0].tallies[rule.id]
        mine, others = ([f for f in run[2] if f["detection_id"] == rule.id] for run in (among, alone))
        assert mine == others


def test_a_new_rule_about_closed_windows_is_first_asked_about_the_window_at_hand():
    """Ada was silent on days 2 and 3, which nobody asked about; the first window asked about is that of day 5."""
    silent = volume("silent", at="close", when=tc.score <= 0)
    before = [*days(0, 2), *days(4, 6, lambda _: 1, "bob")]
    _, _, outputs = reloaded(([volume()], before), ([volume(), silent], days(7, 8, lambda _: 1, "bob")))
    closed = pl.concat([o.findings for o in outputs]).filter(pl.col("detection_id") == "test.silent")
    assert closed.select("entity", pl.col("window_start").dt.day() - START.day).rows() == [
        ("ada", 5), ("ada", 6), ("bob", 6)
    ]  # fmt: skip


def asked_about(outputs: list[Output], rule: str) -> list[str]:
    """The closes that a rule scored, by begin and entity, without the one of the input's end."""
    return [i.removeprefix("close:2025-03-") for o in outputs if rule in o.scores for i in o.scores[rule]["event_id"]]


def test_who_had_an_event_in_the_window_at_hand_is_asked_about_though_another_rule_now_holds_closed_windows():
    asks = volume("asks", at="close")
    _, _, outputs = reloaded(([asks], days(0, 3)), ([baseline("own", 7), asks], days(3, 4)))
    assert asked_about(outputs[1:], "test.asks") == ["05T00:00:00Z:ada"]


def test_a_rule_with_more_patience_asks_about_those_who_were_given_up():
    short, long = (volume(f"asks-{n}", at="close", quiet_after=n) for n in (1, 9))
    before = [*days(0, 2), *days(2, 6, lambda _: 1, "bob")]
    _, _, outputs = reloaded(([short], before), ([short, long], days(6, 7, lambda _: 1, "bob")))
    assert asked_about(outputs[1:], "test.asks-1") == ["08T00:00:00Z:bob"]
    assert asked_about(outputs[1:], "test.asks-9") == ["08T00:00:00Z:ada", "08T00:00:00Z:bob"]
