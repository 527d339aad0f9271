"""The smallest and largest of a sliding window, on streams long enough for its queue to wrap and to grow.

Layer: tests. The state is driven by itself, without the engine, and compared with a look at the whole window.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest

import tocsin as tc
from tocsin.running import Rows, SlidingExtremeState

WIDTH_US = 60_000_000
ANY = pl.lit(value=True)


def rows_of(t: np.ndarray, slot: np.ndarray, n: list[int | None]) -> Rows:
    return Rows(pl.DataFrame({"n": pl.Series(n, dtype=pl.Int64)}), t, {"user_id": slot}, b"0123456789abcdef")


def new_state(*, largest: bool) -> SlidingExtremeState:
    return SlidingExtremeState((tc.Max if largest else tc.Min)("n", sliding="1m"), ANY, "user_id")


def restarted(state: SlidingExtremeState, *, largest: bool) -> SlidingExtremeState:
    other = new_state(largest=largest)
    other.restore(state.arrays())
    return other


@pytest.mark.parametrize("largest", [False, True])
def test_an_extreme_is_that_of_the_window_under_any_cut_and_restart(largest: bool) -> None:
    rng = np.random.default_rng(5)
    size, users = 12_000, 300
    pace = np.where(np.arange(size) % 3_000 < 1_500, 500_000, 100_000)  # 300 in the window, then 1,500
    t = np.cumsum(np.where(rng.random(size) < 0.2, 0, rng.integers(0, pace)))
    slot = (rng.random(size) ** 4 * (users + 1)).astype(np.int64) - 1  # some come back when their place is taken
    n = [None if rng.random() < 0.1 else int(x) for x in rng.integers(-40, 40, size)]
    state, got = new_state(largest=largest), []
    for start, stop in pairwise([0, *np.sort(rng.integers(0, size, 60)).tolist(), size]):
        batch = rows_of(t[start:stop], slot[start:stop], n[start:stop])
        got += state.run(batch, users)["value"].tolist()
        state = restarted(state, largest=largest)
    whole = new_state(largest=largest).run(rows_of(t, slot, n), users)["value"]
    np.testing.assert_array_equal(got, whole)
    np.testing.assert_array_equal(got, naive(t, slot, n, largest=largest))


def naive(t: np.ndarray, slot: np.ndarray, n: list[int | None], *, largest: bool) -> list[float]:
    """Look at the whole window of each event."""
    past: dict[int, list[tuple[int, int]]] = {}
    found = []
    for when, who, value in zip(t.tolist(), slot.tolist(), n, strict=True):
        if who < 0 or value is None:
            found.append(np.nan)
            continue
        past[who] = [(u, x) for u, x in past.get(who, []) if u > when - WIDTH_US] + [(when, value)]
        found.append(float((max if largest else min)(x for _, x in past[who])))
    return found


@pytest.mark.parametrize("returning", [False, True])
def test_memory_is_that_of_the_window_however_many_entities_came_once(returning: bool) -> None:
    """Three hundred events in the window, a hundred in a batch: the queue never needs its first length of 1,024 twice."""
    state, batch = new_state(largest=True), 100
    for start in range(0, 100_000, batch):
        number = np.arange(start, start + batch)
        slot = np.where(number % 2 == 0, 0, number) if returning else number
        values = (-number).tolist()  # falling: every event of the window may yet be its largest
        state.run(rows_of(number * (WIDTH_US // 300), slot, values), start + batch)
    assert state.queue.shape[0] == 1024
    head, tail = state.ends.tolist()
    assert head == 100_000
    assert head - tail == 300
