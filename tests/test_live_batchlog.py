"""The batch log gives back what was written, and refuses what was damaged."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.errors import StateError
from tocsin.runners.live.batchlog import Batch, BatchLog, Finish, Silent, Version
from tocsin.sources.live import Span

SPAN = Span("mail", "0", {"offset": 3}, {"offset": 9})
ENTRIES = [Version("ab", {"mail": "cd"}), Batch(17, (SPAN,)), Silent("mail/0"), Batch(18, (SPAN, SPAN)), Finish()]


def written(folder, entries=ENTRIES, **options):
    log = BatchLog(folder, **options)
    for entry in entries:
        log.append(entry)
    log.close()
    return log


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 12)), segment_bytes=st.integers(1, 400))
def test_entries_come_back_in_order_over_any_files_and_reopenings(tmp_path_factory, cuts, segment_bytes):
    folder = tmp_path_factory.mktemp("log")
    entries = (ENTRIES * 3)[:12]
    log = BatchLog(folder, segment_bytes=segment_bytes)
    for i, entry in enumerate(entries):
        if i in cuts:
            log.close()
            log = BatchLog(folder, segment_bytes=segment_bytes)
        assert log.append(entry) == i + 1
    log.close()
    for after in (0, 5, 12):
        assert list(BatchLog(folder).entries(after)) == list(enumerate(entries, 1))[after:]


def test_a_torn_last_line_was_never_acted_upon_and_is_cut_at_every_byte(tmp_path):
    written(tmp_path)
    path = next(tmp_path.glob("*.log"))
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for size in range(last, len(whole)):
        path.write_bytes(whole[:size])
        log = BatchLog(tmp_path)
        assert log.last == len(ENTRIES) - 1
        assert log.append(Finish()) == len(ENTRIES)
        log.close()
        assert path.read_bytes() == whole


def test_damage_before_the_last_line_is_refused_with_file_and_line(tmp_path):
    written(tmp_path)
    path = next(tmp_path.glob("*.log"))
    whole = bytearray(path.read_bytes())
    for at in range(len(whole) - 1):
        broken = bytearray(whole)
        broken[at] ^= 1
        path.write_bytes(broken)
        with pytest.raises(StateError, match=rf"{path.name}:\d+: the batch log is damaged"):
            BatchLog(tmp_path)


def test_a_missing_file_is_refused(tmp_path):
    written(tmp_path, ENTRIES * 3, segment_bytes=100)
    files = sorted(tmp_path.glob("*.log"))
    assert len(files) > 3
    files[1].unlink()
    with pytest.raises(StateError, match="comes next"):
        BatchLog(tmp_path)


def test_forgotten_entries_are_those_of_whole_files_only_and_an_older_state_is_refused(tmp_path):
    written(tmp_path, ENTRIES * 3, segment_bytes=100)
    log = BatchLog(tmp_path)
    log.forget(8)
    assert 1 < log.first <= 9
    assert [n for n, _ in log.entries(8)] == list(range(9, 16))
    with pytest.raises(StateError, match="snapshots are missing"):
        list(log.entries(0))
    assert BatchLog(tmp_path).last == 15


def test_an_entry_that_finds_no_room_leaves_the_log_as_it_was(tmp_path, monkeypatch):
    log = written(tmp_path)
    path = next(tmp_path.glob("*.log"))
    before = path.read_bytes()
    log = BatchLog(tmp_path)

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", full)
        with pytest.raises(OSError, match="no space"):
            log.append(Finish())
    assert path.read_bytes() == before
    assert log.append(Finish()) == len(ENTRIES) + 1
    log.close()
    assert BatchLog(tmp_path).last == len(ENTRIES) + 1
