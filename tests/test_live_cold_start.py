"""A partition that has a backlog holds the others back from before its first event on; one that gives nothing does not for ever.

Layer: tests.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import tocsin as tc
from tests.live_fixtures import NOW, START, MemoryLetters, MemorySource, as_lines, mails, some_settings
from tocsin.calendars import instant_us
from tocsin.engine import Expect, Idle
from tocsin.engine.arrive import Arrival
from tocsin.runners.live.batchlog import BatchLog, Expected, Silent
from tocsin.runners.live.folder import StateFolder
from tocsin.runners.live.live import Live
from tocsin.runners.live.meters import Meters

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tocsin.runners.live.machine import Machine

HOUR, DAY = 3_600_000_000, 86_400_000_000


# ---- the engine's clocks


def arrivals(rows: list[tuple[int, str]]) -> pl.DataFrame:
    """A prepared batch with nothing but what arrival reads."""
    n = len(rows)
    return pl.DataFrame(
        {
            "@t": [t for t, _ in rows], "partition": [p for _, p in rows], "event_id": [f"{i}-{t}" for i, (t, _) in enumerate(rows)],
            "@id1": np.random.default_rng(n).integers(1, 1 << 62, n), "@id2": np.arange(n), "@content": np.ones(n, np.int64),
        }
    ).with_columns(pl.col("@id1", "@id2", "@content").cast(pl.UInt64))  # fmt: skip


def test_what_is_expected_holds_everything_back_until_it_speaks_or_is_silent():
    arrival = Arrival(HOUR, HOUR, DAY)
    assert arrival.control(Expect("slow")) is None
    assert arrival.expected() == ["slow"]
    fate, _ = arrival.judge(arrivals([(10 * DAY, "quick"), (20 * DAY, "quick")]))
    assert (fate == 0).all()
    fate, _ = arrival.judge(arrivals([(1 * DAY, "slow")]))
    assert fate.tolist() == [0], "nothing of it is late"
    assert arrival.frontier == DAY - HOUR
    assert arrival.expected() == []


def test_what_is_expected_and_falls_silent_lets_the_others_go():
    arrival = Arrival(HOUR, HOUR, DAY)
    arrival.control(Expect("slow"))
    batch = arrivals([(10 * DAY, "quick")])
    arrival.judge(batch)
    arrival.release(batch)
    before = arrival.frontier
    assert before < 0
    arrival.control(Idle("slow"))
    assert arrival.frontier == 10 * DAY - HOUR
    arrival.control(Expect("slow"))  # something came after all
    assert arrival.expected() == ["slow"]
    arrival.judge(arrivals([(12 * DAY, "quick")]))
    assert arrival.frontier == 10 * DAY - HOUR


def test_expecting_what_was_heard_changes_nothing():
    arrival = Arrival(HOUR, HOUR, DAY)
    arrival.judge(arrivals([(10 * DAY, "a")]))
    arrival.control(Idle("a"))
    clock, idle = arrival.clock.copy(), arrival.idle.copy()
    arrival.control(Expect("a"))
    assert (arrival.clock == clock).all()
    assert (arrival.idle == idle).all()


def test_an_input_that_ends_while_something_is_expected_closes_no_window_that_had_not_passed():
    arrival = Arrival(HOUR, HOUR, DAY)
    arrival.control(Expect("slow"))
    arrival.control(tc.End())
    assert arrival.passed < -(1 << 61)


# ---- the whole engine


@cache
def whole() -> list[dict[str, Any]]:
    return mails(np.random.default_rng(17), 2_000, jitter_minutes=1)


def run(where: Any, sources: list[MemorySource], **options: Any) -> Live:
    """One process's life over a state folder."""
    folder = StateFolder(where.state).lock()
    try:
        live = Live(where, folder, sources, MemoryLetters(), Meters("0", 1, NOW), clock=lambda: NOW, **options)
        live.run()
        return live
    finally:
        folder.unlock()


def run_until(where: Any, sources: list[MemorySource], done: Callable[[Machine], bool]) -> None:
    """Run until the machine is so, half a minute at most, and stop."""
    folder = StateFolder(where.state).lock()
    live = Live(where, folder, sources, MemoryLetters(), Meters("0", 1, NOW), clock=lambda: NOW)
    thread = threading.Thread(target=live.run)
    thread.start()
    try:
        for _ in range(600):
            if done(live._machine):
                break
            thread.join(0.05)
        assert done(live._machine)
    finally:
        live.stop()
        thread.join()
        folder.unlock()


class Coy(MemorySource):
    """A source that knows what it has only once it was asked, as a broker's client does."""

    asked = False

    def poll(self, most_rows: int, most_bytes: int) -> list[Any]:
        self.asked = True
        return super().poll(most_rows, most_bytes)

    def behind(self) -> dict[str, int]:
        return super().behind() if self.asked else {}


def entries(where: Any, kind: type) -> list[Any]:
    log = BatchLog(where.state / "batches")
    try:
        return [e for _, e in log.entries(log.first - 1) if isinstance(e, kind)]
    finally:
        log.close()


@settings(max_examples=6, deadline=None)
@example(shares=[1, 1, 1], seed=1, own=True, coy=False)
@example(shares=[1, 2, 1], seed=2, own=False, coy=True)
@given(
    shares=st.lists(st.integers(1, 3), min_size=3, max_size=3),
    seed=st.integers(0, 99),
    own=st.booleans(),
    coy=st.booleans(),
)
def test_a_first_start_over_unequal_backlogs_scores_as_the_replay_of_all_of_them(
    tmp_path_factory, shares, seed, own, coy
):
    """Partitions whose backlogs lie days apart, read one after the other in small batches: none of their events is late."""
    rng = np.random.default_rng(seed)
    events = sorted(whole(), key=lambda e: e["timestamp"])
    cuts = np.cumsum(shares) * len(events) // sum(shares)
    parts = [events[a:b] for a, b in zip([0, *cuts[:-1]], cuts, strict=True)]
    if own:
        parts = [[e | {"partition": f"host{i}"} for e in part] for i, part in enumerate(parts)]
    names = [str(i) for i in rng.permutation(3)]
    lines = {name: as_lines(parts[int(name)]) for name in names}
    where = some_settings(tmp_path_factory.mktemp("cold"), batches={"rows": 150})
    live = run(where, [Coy("mail", lines) if coy else MemorySource("mail", lines)], finish=True)
    counts = live._machine.state.counts
    assert counts["late"] == 0
    assert len(entries(where, Expected)) >= 1
    assert live._machine.expected() == []
    assert live.status["events"]["accepted"] == counts["ok"]
    path = tmp_path_factory.mktemp("plain") / "mail.jsonl"
    path.write_bytes(b"\n".join(as_lines(events)))
    past = tc.backtest(tc.rules.ALL, tc.read(path, name="mail", order="arrival"), keep_scores=True)
    kept = pl.concat([pl.read_ipc(f) for f in sorted((where.state / "scores").glob("*.arrow"))])
    ran = [p.detection.id for p in past.engine.plan.planned]
    wanted = pl.concat([s.with_columns(detection=pl.lit(d)) for d, s in past.scores.items()])
    by = ["detection", "event_id", "score", "fired"]
    assert_frame_equal(kept.filter(pl.col("detection").is_in(ran)).sort(by), wanted.sort(by))


def two(folder: Path, **more: Any) -> tuple[Any, list[MemorySource]]:
    """An old source whose backlog cannot be read, and a new one that goes on."""
    where = some_settings(folder, ("old", "new"), times={"idle_after": "1s"}, batches={"rows": 100}, **more)
    events = whole()[:600]
    return where, [MemorySource("old", {"": []}, ended=False), MemorySource("new", {"": as_lines(events)}, ended=False)]


@pytest.mark.parametrize("unread", [0, 17])
def test_a_source_that_never_gives_what_it_has_holds_the_others_until_it_counts_as_silent(
    tmp_path, monkeypatch, unread
):
    """A last line without an end is something to read for ever; `idle_after` bounds that."""
    where, (old, new) = two(tmp_path)
    monkeypatch.setattr(old, "behind", lambda: {"": unread})
    run_until(where, [old, new], lambda m: m.state is not None and m.state.arrival.frontier > instant_us(START))
    assert [e.partition for e in entries(where, Expected)] == (["old/"] if unread else [])
    silent = [e.partition for e in entries(where, Silent)]
    assert ("old/" in silent) == bool(unread)


def test_what_is_still_expected_at_a_kill_falls_silent_after_the_next_start(tmp_path, monkeypatch):
    where, (old, new) = two(tmp_path)
    where = where.model_copy(update={"times": where.times.model_copy(update={"idle_after": "1h"})})
    monkeypatch.setattr(old, "behind", lambda: {"": 17})
    old.ended = new.ended = True
    live = run(where, [old, new])
    assert live._machine.expected() == ["old/"]
    monkeypatch.setattr(old, "behind", lambda: {"": 0})
    where = where.model_copy(update={"times": where.times.model_copy(update={"idle_after": "1s"})})
    old.ended = False
    run_until(where, [old, new], lambda m: m.state is not None and not m.expected())


def test_a_source_that_left_the_settings_holds_nobody_back(tmp_path):
    where, (old, new) = two(tmp_path)
    old.lines[""], new.lines[""] = as_lines(whole()[:50]), as_lines(whole()[50:60])
    old.ended = new.ended = True
    run(where, [old, new])
    rest = some_settings(tmp_path, ("new",), batches={"rows": 100})
    live = run(rest, [MemorySource("new", {"": as_lines(whole()[50:400])})])
    assert [e.partition for e in entries(rest, Silent)] == ["old/"]
    assert live._machine.state.arrival.frontier > instant_us(START + timedelta(days=1))
    assert live._machine.state.counts["late"] == 0


def test_a_source_that_joins_a_state_of_one_source_shares_its_ids_and_that_is_said(tmp_path):
    alone = some_settings(tmp_path, ("new",))
    run(alone, [MemorySource("new", {"": as_lines(whole()[:300])})])
    both, _ = two(tmp_path)
    sources = [
        MemorySource("old", {"": as_lines(whole()[300:330])}),
        MemorySource("new", {"": as_lines(whole()[:320])}),
    ]
    live = run(both, sources, finish=True)
    assert any("began with one source" in t["what"] for t in live.status["trouble"])
    plain = len({e["event_id"] for e in whole()[:330]})
    assert live._machine.state.counts["ok"] == plain
