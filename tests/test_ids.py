"""Ids: what is remembered is found again, however often room was made. Layer: tests."""

from __future__ import annotations

import numpy as np
from numba import njit

from tocsin.engine.ids import Ids
from tocsin.kernels.arrival import HALF, find_id


@njit
def _numbers(index, entries, ids):
    """The number of each id's entry, -1 where the id is not known."""
    out = np.empty(ids.shape[0], np.int64)
    for i in range(ids.shape[0]):
        out[i] = np.int64(index[find_id(index, entries, ids[i, 0], ids[i, 1])] & ~HALF) - 1
    return out


def _entries(n: int) -> np.ndarray:
    entries = np.random.default_rng(5).integers(0, 1 << 63, (n, 4), dtype=np.uint64)
    entries[: n // 2, 0] = 12  # half of them want the same place and agree in half of the id
    entries[:, 3] = np.arange(n)
    return entries


def _taught(entries: np.ndarray) -> Ids:
    ids = Ids()
    ids.restore(entries)
    return ids


def test_every_id_is_found_at_its_entry_and_no_other_is() -> None:
    entries = _entries(3000)
    ids = _taught(entries)
    assert (_numbers(ids.index, ids.entries, entries) == np.arange(3000)).all()
    assert (_numbers(ids.index, ids.entries, entries + np.uint64(1)) == -1).all()


def test_making_room_forgets_what_is_older_than_asked_and_nothing_else_in_place_or_not() -> None:
    entries = _entries(9000)
    for adding in (1000, 100_000):
        ids = Ids()
        ids.make_room(4500, oldest=0)
        ids.entries[:9000], ids.used = entries, 9000
        before = ids.entries
        ids.make_room(adding, oldest=8000)
        assert (ids.entries is before) == (adding == 1000)
        assert (ids.kept == entries[8000:]).all()
        assert ids.used + adding <= len(ids.entries) < 0.61 * len(ids.index)
        assert (_numbers(ids.index, ids.entries, entries) == np.r_[np.full(8000, -1), np.arange(1000)]).all()


def test_where_there_is_room_nothing_is_forgotten() -> None:
    ids = _taught(_entries(3000))
    ids.make_room(1, oldest=3000)
    assert ids.used == 3000
