"""How long a batch is gathered: until it is full, until it has lingered, and not while the batches before it are under way.

Layer: tests.
"""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.live_fixtures import NOW, MemorySource, some_settings
from tocsin.runners.live.reader import HOLD_SECONDS, MANY_ROWS, Reader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Counting(MemorySource):
    """A source that counts how often it was asked, and may get more lines each time."""

    asked = 0
    more = 0

    def poll(self, most_rows: int, most_bytes: int) -> list[Any]:
        self.asked += 1
        found = super().poll(most_rows, most_bytes)
        self.lines[""] += [b"{}"] * self.more
        return found


def reader(folder: Path, source: MemorySource, busy: Callable[[], bool], **batches: Any) -> Reader:
    settings = some_settings(folder, batches={"linger_ms": 10} | batches)
    source.open({})
    return Reader(
        settings, [source], log=None, preparer=SimpleNamespace(decoders={"mail": None}), clock=lambda: NOW, stop=threading.Event(),
        changed=lambda: None, held_back=set, trouble=pytest.fail, busy=busy,
    )  # fmt: skip


def gathered(made: Reader) -> tuple[int, float]:
    """Rows of the next batch, and how long it took."""
    began = time.monotonic()
    pieces = made._gather(began)
    return sum(p.rows for p in pieces), time.monotonic() - began


def test_a_small_batch_waits_for_those_before_it_and_takes_up_what_came_meanwhile_in_one_piece(tmp_path):
    source = Counting("mail", {"": [b"{}"] * 5})
    looks = iter([True] * 20)
    made = reader(tmp_path, source, lambda: next(looks, False))
    rows, seconds = gathered(made)
    assert (rows, source.asked) == (5, 1)
    assert seconds >= 0.01


def test_what_never_ends_holds_a_batch_up_for_so_long_and_no_longer(tmp_path):
    made = reader(tmp_path, Counting("mail", {"": [b"{}"] * 5}), lambda: True)
    rows, seconds = gathered(made)
    assert rows == 5
    assert seconds >= HOLD_SECONDS


def test_after_a_full_batch_the_next_is_read_at_once_whatever_is_under_way(tmp_path):
    asked: list[None] = []

    def busy() -> bool:
        asked.append(None)
        return True

    source = Counting("mail", {"": [b"{}"] * 50})
    made = reader(tmp_path, source, busy, rows=20)
    made._full = True
    assert gathered(made)[0] == 20
    assert gathered(made)[0] == 20
    assert not asked, "full batches do not wait"
    assert gathered(made)[0] == 10
    assert gathered(made)[0] == 0
    assert asked, "the one after a batch that was not full does"


def test_a_source_that_gives_much_is_asked_again_without_a_rest_and_one_that_gives_little_after_it(tmp_path):
    much = Counting("mail", {"": [b"{}"] * MANY_ROWS})
    much.more = MANY_ROWS
    made = reader(tmp_path / "much", much, lambda: False, rows=5 * MANY_ROWS, linger_ms=5_000)
    assert gathered(made)[0] == 5 * MANY_ROWS
    little = Counting("mail", {"": [b"{}"] * 3})
    little.more = 1
    made = reader(tmp_path / "little", little, lambda: False, linger_ms=50)
    rows, seconds = gathered(made)
    assert (rows, little.asked) == (4, 2)
    assert seconds >= 0.05


def test_nothing_is_waited_for_where_nothing_came_and_nothing_after_a_stop(tmp_path):
    made = reader(tmp_path, Counting("mail", {"": []}), lambda: False, linger_ms=5_000)
    assert gathered(made)[0] == 0
    stopped = reader(tmp_path, Counting("mail", {"": [b"{}"]}), lambda: pytest.fail("it waited"), linger_ms=10_000)
    stopped._stop.set()
    assert gathered(stopped)[0] == 1
