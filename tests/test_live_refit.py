"""Closed windows are told once however the log is cut, and the tables fitted to them are what the engine compares with.

Layer: tests. The logs are those of the parity tests: late, repeated, altered events, partitions, difficult calendars.
"""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tests.oracle import Spec
from tests.oracle_time import DAY_US, End, from_us, to_us
from tests.parity import KEY, batches, control, detection, detection_id, run
from tests.strategies import BOUNCED, EVERY, IS_MAIL, SCHEMA, SKEW_US, Case, cases, scored
from tocsin import fits, measures
from tocsin.detection import ref_name
from tocsin.engine import Engine
from tocsin.engine.batchfit import History, KeptMeasure, fit_tables, history, kept_measures
from tocsin.engine.kept import CLOSED, CORRECTIONS
from tocsin.engine.saved import load_state, save_state

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_COMMON: dict[str, Any] = {
    "phases": (Phase.explicit, Phase.generate),
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("ci-refit", derandomize=True, max_examples=60, database=None, **_COMMON)
settings.register_profile("soak-refit", max_examples=2000, print_blob=True, **_COMMON)
PROFILE = settings.get_profile("soak-refit" if os.environ.get("HYPOTHESIS_PROFILE") == "soak" else "ci-refit")
CUTS = st.sets(st.integers(1, 45), max_size=12)
SHAPES = st.sampled_from(("own", "own", "population", "several"))
NO_FIRSTS = pl.DataFrame(schema={"entity": pl.String, "first": pl.Int64})


def keeping(case: Case) -> Engine:
    return Engine(
        [detection(s) for s in case.specs], SCHEMA, lateness=case.lateness, dedup_horizon=case.dedup_horizon,
        future_skew=SKEW_US, gaps=case.gaps, key=KEY, trace=True, keep_scores=True, keep_windows=True,
    )  # fmt: skip


class Told:
    """What an engine told of a log: closed windows, corrections, boundaries in their order, the trace."""

    def __init__(
        self, case: Case, cuts: Iterable[int] = (), saves: Iterable[int] = (), folder: Path | None = None
    ) -> None:
        self.engine = keeping(case)
        closed, late, self.boundaries, traces = [], [], {}, []
        state = self.engine.new_state()
        for i, piece in enumerate(batches(case.log, cuts)):
            if i in set(saves):
                assert folder is not None
                save_state(state, folder / f"state-{i}")
                self.engine = keeping(case)
                state = load_state(self.engine, folder / f"state-{i}")
            state, output = self.engine.step(state, control(piece))
            closed += [output.kept.closed] if output.kept.closed is not None else []
            late += [output.kept.corrections] if output.kept.corrections is not None else []
            for measure, boundary in output.kept.boundaries.items():
                self.boundaries.setdefault(measure, []).append(boundary)
            traces += [output.trace] if output.trace is not None else []
        self.closed = pl.concat([pl.DataFrame(schema=CLOSED), *closed])
        self.corrections = pl.concat([pl.DataFrame(schema=CORRECTIONS), *late])
        self.trace = pl.concat(traces, how="diagonal") if traces else pl.DataFrame()

    def past(self, measure: KeptMeasure, boundary: int) -> History:
        mine, before = pl.col("measure") == measure.key, pl.col("window") < boundary
        late = self.corrections.filter(mine, before, pl.col("visible") <= boundary)
        return history(measure.op, self.closed.filter(mine, before), late, NO_FIRSTS)


def in_order(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort([c for c in ("measure", "window", "visible", "entity") if c in frame.columns])


def missing(case: Case, measure: KeptMeasure) -> list[int]:
    return [w for a, b in case.gaps for w in measure.calendar.touched(a, b)]


@PROFILE
@given(cases(shape=None), CUTS, st.sets(st.integers(1, 12), max_size=2))
def test_windows_and_corrections_are_told_once_however_the_log_is_cut_and_interrupted(tmp_path, case, cuts, saves):
    whole, cut = Told(case), Told(case, cuts, saves, tmp_path)
    assert_frame_equal(in_order(whole.closed), in_order(cut.closed))
    assert_frame_equal(in_order(whole.corrections), in_order(cut.corrections))
    assert not whole.closed.select(pl.struct("measure", "window", "entity").is_duplicated().any()).item()
    assert {m: b[-1] for m, b in whole.boundaries.items()} == {m: b[-1] for m, b in cut.boundaries.items()}
    assert all(b == sorted(set(b)) for b in cut.boundaries.values())


@PROFILE
@given(cases(shape=None), CUTS)
def test_an_engine_that_keeps_windows_says_what_one_that_does_not_says(case, cuts):
    ran, told = run(case, cuts), Told(case, cuts)
    assert told.trace.to_dicts() == pl.DataFrame(ran.trace, schema=told.trace.schema).to_dicts()


@settings(PROFILE, max_examples=max(PROFILE.max_examples, 150))
@given(SHAPES.flatmap(lambda shape: cases(shape=shape)), CUTS)
def test_tables_fitted_to_closed_windows_are_what_every_event_was_compared_with(case, cuts):
    told = Told(case, cuts)
    compared_with_tables(case, told)


def compared_with_tables(case: Case, told: Told) -> int:
    """Compare the columns of each event with the row of the table that holds in its window; return how many had one."""
    measures = kept_measures(told.engine.plan)
    names = {detection_id(s): s for s in case.specs}
    entities = {r["event_id"]: r for r in case.log if isinstance(r, dict)}
    tables: dict[Any, Any] = {}
    n = 0
    for measure in measures.values():
        for event in told.trace.to_dicts():
            record = entities[event["event_id"]]
            t = np.array([to_us(record["timestamp"])], np.int64)
            window = int(measure.calendar.number(t)[0])
            for asked in measure.asked:
                spec = names[asked.detection]
                got = {c: event[asked.detection + ref_name(asked.name, c)] for c in asked.fit.columns}
                if event.get(f"{asked.detection}@value") is None and not any(v is not None for v in got.values()):
                    continue
                where = (measure.key, window)
                if where not in tables:
                    tables[where] = fit_tables(measure, told.past(measure, window), window, missing(case, measure))
                frame = tables[where][asked.id].frame
                if asked.fit.__class__.__name__ == "OwnHistory":
                    frame = frame.filter(pl.col(measure.entity) == record[spec.entity])
                want = frame.to_dicts()[0] if frame.height else dict.fromkeys(got)
                assert got == {c: want[c] for c in got}, (spec, window, event["event_id"])
                n += 1
    return n


@PROFILE
@given(SHAPES.flatmap(lambda shape: cases(shape=shape)))
def test_what_is_kept_with_the_windows_says_all_that_a_fit_needs(case):
    for measure in kept_measures(keeping(case).plan).values():
        assert KeptMeasure.from_json(measure.to_json()) == replace(measure)


def test_a_late_event_adds_to_distinct_values_only_what_was_not_there():
    def row(n: int, day: int, address: str) -> dict[str, Any]:
        at = from_us(to_us(dt.datetime(2025, 3, 3, 12, tzinfo=dt.UTC)) + day * DAY_US)
        blank = dict.fromkeys(SCHEMA)
        return blank | {"event_id": f"e{n}", "timestamp": at, "user_id": "ann", "src_ip": address}

    sent = [
        (0, "192.0.2.1"),
        (0, "192.0.2.2"),
        (2, "192.0.2.1"),
        (0, "192.0.2.1"),
        (0, "192.0.2.3"),
        (0, "192.0.2.3"),
        (4, "192.0.2.1"),
    ]
    measure, compared = measures.Distinct("src_ip", per="1d"), fits.own_history(mean=True, windows=9, at_least=1)
    spec = scored(Spec("r", EVERY, "user_id", measure, compared))
    log: list[Any] = [row(i, day, address) for i, (day, address) in enumerate(sent)]
    case = Case([*log, End()], [spec], 0, 7 * DAY_US, (), "UTC")
    told = Told(case)
    assert told.closed["lane0"].to_list() == [2, 1]
    assert told.corrections.select("entity", "lane0").rows() == [("ann", 1)]
    assert compared_with_tables(case, told) == 4


STATISTICS: dict[str, Any] = {"mean": True, "sd": True, "median": True, "mad": True, "quantiles": (0.1, 0.99, 1.0)}
DENSE = [
    fits.own_history(**STATISTICS, windows=28, at_least=2),
    fits.own_history(**STATISTICS, windows=4, at_least=1, same_weekday=True, skip=2),
    fits.own_history(**STATISTICS, windows=20, at_least=3, exclude_alerted=True, skip=1),
    fits.population(**STATISTICS, at_least=2),
    fits.population(**STATISTICS, at_least=1, of=fits.own_history(mean=True, windows=12, at_least=1)),
]


@pytest.mark.parametrize("compared", DENSE)
@pytest.mark.parametrize("measure", ["Count", "Mean", "Ratio"])
def test_so_are_tables_of_long_histories_with_gaps_late_events_and_a_date_that_never_was(measure, compared):
    rng = np.random.default_rng(7)
    zone, start = "Pacific/Apia", to_us(dt.datetime(2011, 12, 1, tzinfo=dt.UTC))
    spans = {"per": "1d", "zone": zone}
    asked: measures.Measure = {
        "Count": measures.Count(**spans), "Mean": measures.Mean("size", scale=100, **spans),
        "Ratio": measures.Ratio(num=BOUNCED, den=IS_MAIL, **spans),
    }[measure]  # fmt: skip
    log: list[Any] = []
    for i, day in enumerate(np.sort(rng.uniform(0, 60, 700)).tolist()):
        at = start + int((day - (rng.uniform(0, 9) if i % 9 == 0 else 0)) * DAY_US)
        body = {
            "user_id": f"u{int(rng.integers(12))}",
            "kind": ("mail", "login")[int(rng.integers(2))],
            "bounced": bool(rng.integers(2)),
        }
        log.append(
            dict.fromkeys(SCHEMA)
            | {"event_id": f"e{i:03}", "timestamp": from_us(at), "size": round(rng.uniform(0, 9), 2), **body}
        )
    gaps = ((start + 20 * DAY_US, start + 22 * DAY_US),)
    spec = scored(Spec("r", EVERY, "user_id", asked, compared))
    case = Case([*log, End()], [spec], DAY_US // 24, 7 * DAY_US, gaps, zone)
    told = Told(case, range(0, 700, 50))
    assert told.corrections.height > 20
    assert compared_with_tables(case, told) > 400
