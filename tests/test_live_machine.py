"""The fold over the batch log scores as the plain engine does, however what came was cut into batches.

Layer: tests.
"""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import tocsin as tc
from tests.live_fixtures import NOW, Fold, MemorySource, as_lines, findings_of, mails, scores_of, some_settings
from tocsin.calendars import instant_us
from tocsin.errors import StateError
from tocsin.runners.live.batchlog import Batch, Finish, Silent
from tocsin.runners.live.settings import ReferenceFiles

RECEIVED = instant_us(NOW)


def begin(fold: Fold, source: MemorySource) -> None:
    """Let the shipped rules hold, and learn how the source is read."""
    from tocsin.runners.live.batchlog import Version

    fold.take(Version(fold.versions.keep((), ReferenceFiles()), {}))
    source.open({})
    fold.take(fold.preparer.learn(source.name, source.poll(200, 1 << 20)))
    source.open({})


def feed(fold: Fold, source: MemorySource, sizes) -> None:
    sizes = iter(sizes)
    while pieces := source.poll(next(sizes, 10_000), 1 << 20):
        fold.take(Batch(RECEIVED, tuple(p.span for p in pieces)), pieces)


@cache
def long_log() -> list[dict]:
    return mails(np.random.default_rng(5), 1500)


@pytest.fixture
def log() -> list[dict]:
    return long_log()


@cache
def replayed():
    """What a backtest of the same file says."""
    log = long_log()
    data = io.BytesIO(b"\n".join(as_lines(log)))
    events = tc.read(pl.read_ndjson(data, infer_schema_length=None), name="mail", order="arrival")
    return tc.backtest(tc.rules.ALL, events, keep_scores=True)


@settings(max_examples=5, deadline=None)
@given(sizes=st.lists(st.integers(1, 400), max_size=12))
def test_any_batches_give_every_score_of_the_replay(tmp_path_factory, sizes):
    fold = Fold(some_settings(tmp_path_factory.mktemp("fold")))
    source = MemorySource("mail", {"": as_lines(long_log())})
    begin(fold, source)
    feed(fold, source, sizes)
    fold.take(Finish())
    fold.close()
    expected = pl.concat([s.with_columns(detection=pl.lit(d)) for d, s in replayed().scores.items()])
    more = set(replayed().engine.skipped) - set(fold.preparer.engine.skipped)  # what no record has may yet come, live
    assert_frame_equal(
        scores_of(fold.outcomes).filter(~pl.col("detection").is_in(more)),
        expected.sort("detection", "event_id", "score", "fired"),
    )
    found = findings_of(fold.outcomes).filter(~pl.col("detection_id").is_in(more))
    assert found.height > 20
    assert_frame_equal(found, replayed().findings.sort("finding_id"), check_row_order=True)


def test_refused_events_become_letters_with_their_own_record(tmp_path, log):
    fold = Fold(some_settings(tmp_path))
    first, other = log[0], log[0] | {"nr_recipients": 999}
    ahead = log[1] | {"event_id": "far", "timestamp": "2035-01-01T00:00:00Z"}
    lines = as_lines([first, *log[1:50], other, ahead])
    lines.insert(30, b'{"torn": ')
    source = MemorySource("mail", {"": lines})
    begin(fold, source)
    feed(fold, source, [20, 20])
    letters = {letter.key: letter for o in fold.outcomes for letter in o.letters}
    fold.close()
    assert {k: x.record for k, x in letters.items()} == {
        "mail:31": b'{"torn": ', f"mail:{len(lines) - 1}": lines[-2], f"mail:{len(lines)}": lines[-1],
    }  # fmt: skip
    assert "seen before" in letters[f"mail:{len(lines) - 1}"].reason
    assert "future" in letters[f"mail:{len(lines)}"].reason
    assert sum(o.work.rejected for o in fold.outcomes) == 1


def test_a_clock_that_jumps_ten_years_closes_no_window(tmp_path, log):
    fold = Fold(some_settings(tmp_path))
    jump = log[700] | {"event_id": "jump", "timestamp": "2036-01-01T00:00:00Z"}
    source = MemorySource("mail", {"": as_lines([*log[:700], jump, *log[700:]])})
    begin(fold, source)
    feed(fold, source, [100] * 20)
    counts = fold.machine.state.counts
    fold.close()
    assert counts["future"] == 1
    assert counts["late"] == 0


def test_a_silent_partition_no_longer_holds_the_others_back(tmp_path, log):
    fold = Fold(some_settings(tmp_path))
    source = MemorySource("mail", {"0": as_lines(log[:10]), "1": as_lines(log[10:])})
    begin(fold, source)
    feed(fold, source, [10, 2000])
    waited = scores_of(fold.outcomes).height
    fold.take(Silent("mail/0"))
    fold.close()
    assert scores_of(fold.outcomes).height > waited + 1000


def test_nothing_follows_the_end_and_no_entry_is_left_out(tmp_path, log):
    fold = Fold(some_settings(tmp_path))
    source = MemorySource("mail", {"": as_lines(log[:10])})
    begin(fold, source)
    with pytest.raises(StateError, match="does not follow"):
        fold.machine.apply(fold.preparer.ready(9, Silent("mail/")))
    fold.take(Finish())
    with pytest.raises(StateError, match="nothing can follow"):
        fold.take(Silent("mail/"))
    fold.close()
