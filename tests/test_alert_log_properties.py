"""The log under any order, batching and time: the same ids, the same views, and a past that is a log cut off there."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_rows import START, Clock, findings, minute
from test_lifecycle import history_of, logs

from tocsin.alerts import Alerts
from tocsin.lifecycle import History
from tocsin.store import append, read

pytest_plugins = ["log_fixtures"]
MAKES_A_LOG = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def batches(draw: st.DrawFn) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Return findings in the order of their time, and the same in any order, some of them twice, cut anywhere."""
    rows = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "entity": st.sampled_from(["ann", "bob"]),
                    "time": st.integers(0, 3 * 1440).map(minute),
                    "score": st.sampled_from([4.0, 5.0, 6.0]),
                    "suppressed_by": st.sampled_from([None, None, None, "scanner"]),
                }
            ),
            min_size=1,
            max_size=12,
        )
    )
    frame = findings(*rows)
    frame = frame.with_columns(
        peak_score=pl.col("score")
        + pl.Series(draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows))))
    )
    more = draw(st.lists(st.integers(0, len(rows) - 1), max_size=5))
    order = draw(st.permutations([*range(len(rows)), *more]))
    cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=4)))
    edges = itertools.pairwise([0, *cuts, len(order)])
    return frame.sort("time", "finding_id"), [frame[order[a:b]] for a, b in edges]


def same(ours: History, theirs: History, columns: list[str] | None = None) -> bool:
    """Tell whether two histories say the same of every alert and finding, whatever the order in which they learnt it."""
    left, right = (h.current.drop("alert").sort("alert_id") for h in (ours, theirs))
    if columns is not None:
        left, right = left.select(columns), right.select(columns)
    found, told = (h.findings.sort("finding_id").drop("peak_score") for h in (ours, theirs))
    return left.equals(right) and found.equals(told)


VIEWS = [
    "alert_id", "rule_id", "entity", "window_start", "window_end", "findings", "first_finding_at", "last_finding_at", "peak_score", "state",
]  # fmt: skip


@MAKES_A_LOG
@given(batches(), st.sampled_from(["live", "backtest"]))
def test_any_order_and_batching_of_findings_gives_the_same_alerts(
    new_log: Callable[[], str], made: tuple[pl.DataFrame, list[pl.DataFrame]], source: str
) -> None:
    whole, parts = made
    clock = Clock()
    with (
        Alerts(new_log(), clock=clock) as one,
        Alerts(new_log(), clock=clock) as other,
        Alerts(new_log(), clock=clock) as cut,
    ):
        one.add(whole, source)
        for part in parts:
            other.add(part, source)
        for part in (whole[:5], whole[3:], whole):
            cut.add(part, source)
        assert same(one.history(), other.history(), VIEWS), "any order at all: the same ids and views"
        assert same(one.history(), cut.history()), "any batching in order of time: the same in everything"


@MAKES_A_LOG
@given(logs(), st.integers(0, 45))
def test_a_past_asked_of_the_database_is_the_history_cut_there_and_a_log_that_ended_there(
    new_log: Callable[[], str], made: tuple[list[dict], list[dict]], at: int
) -> None:
    alerts, rows = made
    whole, when = history_of(alerts, rows), minute(at)
    ended = history_of(
        [a for a in alerts if a["recorded_at"] <= when]
        or [{"alert_id": "-", "created_at": minute(99), "severity": "low"}],
        [r for r in rows if r["recorded_at"] <= when],
    )
    with Alerts(new_log()) as log, log._store.writing() as connection:
        for name, frame in zip(("alert", "activity", "finding", "journal"), whole.frames(), strict=True):
            append(connection, name, frame)
        connection.commit()
        for ours, theirs in (
            (log.history(), whole),
            (log.as_of(when), whole.as_of(when)),
            (log.as_known_at(when), whole.as_known_at(when)),
            (log.as_known_at(when), ended.as_of(when)),
        ):
            assert ours.current.equals(theirs.current)
            assert ours.seen_at == theirs.seen_at


@MAKES_A_LOG
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.text(max_size=8)),
            st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
            st.one_of(st.none(), st.datetimes().map(lambda t: t.replace(tzinfo=START.tzinfo))),
        ),
        max_size=6,
    )
)
def test_whatever_text_number_and_time_a_row_holds_comes_back(new_log: Callable[[], str], cells: list[tuple]) -> None:
    schema = {"value": pl.String, "number": pl.Float64, "until": pl.Datetime("us", "UTC")}
    rows = pl.DataFrame(cells, schema=schema, orient="row").with_columns(
        kind=pl.lit("note"), at=pl.lit(START), key=pl.int_range(len(cells)).cast(pl.String)
    )
    with Alerts(new_log(), clock=Clock()) as log:
        log.journal(rows)
        back = log.history().journal.select(*schema)
    assert back.equals(rows.select(pl.col("value").str.replace_all("\x00", "\ufffd", literal=True), "number", "until"))


@pytest.mark.parametrize("rows", [1, 3, 7, 8])
def test_a_table_read_in_pieces_is_the_table(new_log: Callable[[], str], rows: int) -> None:
    notes = pl.DataFrame(
        {
            "kind": ["note"] * rows,
            "at": [minute(i) for i in range(rows)],
            "number": [0.1 * i if i % 3 else None for i in range(rows)],
        }
    )
    with Alerts(new_log(), clock=Clock()) as log:
        log.journal(notes)
        with log._store.reading() as connection:
            whole = read(connection, "journal")
            assert all(read(connection, "journal", chunk=n).equals(whole) for n in (1, 2, 3, 7, 100))
    assert whole["number"].to_list() == notes["number"].to_list()


def test_histories_of_the_log_know_nothing_of_the_clock(new_log: Callable[[], str]) -> None:
    clock = Clock()
    with Alerts(new_log(), clock=clock) as log:
        log.add(findings({}))
        clock.set(600)
        assert log.history().seen_at == START
        assert replace(log.history(), at=minute(9)).seen_at == minute(9)
