"""Snapshots: what is restored is the live state, bit for bit, or is refused; what is damaged is passed over and said.

Layer: tests.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import tocsin as tc
from tests.test_state import ONE, engine, log, rule, said, steps
from tocsin.engine import End, Idle, State
from tocsin.engine.manifests import MANIFEST, PARTS_FILE
from tocsin.engine.parts import Assembled, PartsFile
from tocsin.engine.saved import arrays_of, facts_of
from tocsin.engine.snapshots import Snapshots, Written

DATA = Path(__file__).resolve().parent / "data"


def content(state: State) -> dict[str, Any]:
    """Everything a state holds, in a form that can be compared."""
    arrays = {n: (x.dtype.str, x.shape, x.tolist() if x.dtype == object else x.tobytes()) for n, x in arrays_of(state)}
    names = {entity: (slots.n, slots.names.to_list()) for entity, slots in state.slots.items()}
    waiting = state.arrival.waiting
    rows = [] if waiting is None else waiting.sort("@t", "event_id").to_dicts()
    return {"facts": json.dumps(facts_of(state)), "names": names, "waiting": rows, **arrays}


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def batches(events: pl.DataFrame, size: int) -> list[pl.DataFrame]:
    return [events[i : i + size] for i in range(0, events.height, size)]


def chain(folder: Path, n: int, *, full_every: int = 20, keep: int = 3, size: int = 40) -> dict[int, dict[str, Any]]:
    """Write ``n`` snapshots of a small run; return what the state was at each."""
    run = engine(ONE)
    state, snapshots, was = run.new_state(), Snapshots(folder, full_every=full_every, keep=keep), {}
    for number, batch in enumerate(batches(log(n * size), size)[:n], 1):
        state, _ = run.step(state, batch)
        snapshots.save(state, number, {"at": number})
        was[number] = content(state)
    return was


# ------------------------------------------------------------------------------------------------- the state comes back
@settings(
    max_examples=8,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_whatever_is_saved_and_restarted_in_between_every_array_and_every_later_score_is_that_of_an_uninterrupted_run(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    events = log(data.draw(st.integers(40, 260), label="events"), seed=data.draw(st.integers(0, 99), label="seed"))
    cuts = sorted(data.draw(st.sets(st.integers(1, events.height - 1), min_size=2, max_size=9), label="cuts"))
    records: list[Any] = [events[a:b] for a, b in pairwise([0, *cuts, events.height])]
    records.insert(data.draw(st.integers(0, len(records)), label="idle"), Idle("q"))
    records.append(End())
    whole = engine()
    state, outputs = whole.new_state(), []
    folder, full_every = tmp_path_factory.mktemp("s"), data.draw(st.integers(1, 4), label="full_every")
    made = engine()
    other, snapshots, got = made.new_state(), Snapshots(folder, full_every=full_every, keep=2), []
    for number, record in enumerate(records):
        state, output = whole.step(state, record)
        outputs.append(output)
        other, output = made.step(other, record)
        got.append(output)
        do = data.draw(st.sampled_from(["nothing", "save", "save and restart", "save twice apart"]), label="do")
        if do == "nothing":
            continue
        if do == "save twice apart":
            captured = snapshots.capture(other, 10 * number, {})
            later = snapshots.capture(other, 10 * number + 1, {"n": number})
            snapshots.write(captured)
            snapshots.write(later)
        else:
            snapshots.save(other, 10 * number + 1, {"n": number})
        if do == "save and restart":
            made, snapshots = engine(), Snapshots(folder, full_every=full_every, keep=2)
        found = (snapshots if do == "save and restart" else Snapshots(folder)).newest(made)
        assert found is not None
        assert (found.number, found.facts, found.notes) == (10 * number + 1, {"n": number}, [])
        assert not differing(content(found.state), content(state))
        if do == "save and restart":
            other = found.state
    for name, frame in said(outputs).items():
        assert_frame_equal(said(got)[name], frame, check_exact=True)
    assert not differing(content(other), content(state))


def test_what_was_captured_is_the_state_as_it_was_though_the_state_went_on_before_it_was_written(
    tmp_path: Path,
) -> None:
    run, events = engine(), batches(log(400), 50)
    state, snapshots = run.new_state(), Snapshots(tmp_path, full_every=3)
    captures, was = [], []
    for number, batch in enumerate(events, 1):
        state, _ = run.step(state, batch)
        captures.append(snapshots.capture(state, number, {}))
        was.append(content(state))
    for captured, expected in zip(captures, was, strict=True):
        snapshots.write(captured)
        found = Snapshots(tmp_path).newest(run)
        assert found is not None
        assert not differing(content(found.state), expected)


def test_a_state_without_any_event_and_one_in_which_all_were_released_come_back(tmp_path: Path) -> None:
    run = engine()
    state, snapshots = run.new_state(), Snapshots(tmp_path)
    for number, record in enumerate([None, log(60), End()], 1):
        if record is not None:
            state, _ = run.step(state, record)
        snapshots.save(state, number, {})
        found = Snapshots(tmp_path).newest(engine())
        assert found is not None
        assert not differing(content(found.state), content(state))


def test_names_and_values_that_an_attacker_chose_come_back_as_they_were(tmp_path: Path) -> None:
    hostile = ["a\x00b", "\u202eexe", '"\\', "", "日本", "x" * 5000]
    frame = pl.DataFrame(
        {
            "event_id": [f"e{i}" for i in range(6)],
            "timestamp": log(6).sort("timestamp")["timestamp"],
            "user_id": hostile,
            "src_ip": hostile[::-1],
            "partition": hostile,
        }
    )
    rules = (rule("previous", tc.Previous("src_ip"), tc.col("src_ip").str.len_chars()),)
    run = tc.Engine(rules, frame.schema)
    state, snapshots = run.new_state(), Snapshots(tmp_path)
    for number, record in enumerate((frame[:3], frame[3:], End()), 1):
        state, _ = run.step(state, record)
        snapshots.save(state, number, {"hostile": hostile})
    found = Snapshots(tmp_path).newest(run)
    assert found is not None
    assert found.facts == {"hostile": hostile}
    assert not differing(content(found.state), content(state))


def test_a_snapshot_of_this_version_of_the_format_can_be_opened_by_this_program() -> None:
    run = engine(ONE)
    state, _ = steps(run, run.new_state(), batches(log(120), 40)[:3])
    found = Snapshots(DATA / "snapshots").newest(run)
    assert found is not None
    assert (found.number, found.facts, found.notes) == (3, {"at": 3}, [])
    kinds = [p.name for p in sorted((DATA / "snapshots").iterdir())]
    assert kinds == ["000000000001-full", "000000000002-delta", "000000000003-delta"]
    assert not differing(content(found.state), content(state))


# ------------------------------------------------------------------------------------------------- deltas are small
def test_a_delta_of_few_touched_entities_is_small_and_one_of_an_idle_minute_smaller_still(tmp_path: Path) -> None:
    run, n = engine(ONE), 20_000
    first = log(n).with_columns(user_id=pl.Series([f"u{i}" for i in range(n * 21 // 20)][: log(n).height]))
    state, _ = steps(run, run.new_state(), [first])
    snapshots = Snapshots(tmp_path)
    full = snapshots.save(state, 1, {})
    again = first.tail(20).with_columns(pl.col("event_id") + "-")
    state, _ = steps(run, state, [again])
    delta = snapshots.save(state, 2, {})
    nothing = snapshots.save(state, 3, {})
    assert (full.kind, delta.kind, nothing.kind) == ("full", "delta", "delta")
    assert nothing.bytes < delta.bytes < full.bytes / 10


def test_events_that_wait_are_written_once(tmp_path: Path) -> None:
    run, events = engine(ONE, lateness="30d"), batches(log(400), 100)  # nothing is released
    state, snapshots, rows = run.new_state(), Snapshots(tmp_path), []
    for number, batch in enumerate(events, 1):
        state, _ = run.step(state, batch)
        captured = snapshots.capture(state, number, {})
        rows.append([r.data.height for r in captured.rows if r.name.startswith("waiting/")])
        snapshots.write(captured)
    assert state.arrival.waiting is not None
    assert all(len(r) == 1 for r in rows)
    assert sum(r[0] for r in rows) == state.arrival.waiting.height


def test_of_events_that_waited_only_those_come_back_that_still_wait(tmp_path: Path) -> None:
    run, cut = engine(ONE, lateness="2d"), 0
    state, snapshots = run.new_state(), Snapshots(tmp_path)
    for number, batch in enumerate(batches(log(400), 40), 1):
        state, _ = run.step(state, batch)
        snapshots.save(state, number, {})
        found = Snapshots(tmp_path).newest(run)
        assert found is not None
        assert not differing(content(found.state), content(state))
        cut += len(found.state.arrival.pieces) > 1
    assert cut > 5


def test_a_full_snapshot_is_put_together_from_those_before_and_takes_no_more_from_the_live_state(
    tmp_path: Path,
) -> None:
    run, events = engine(), batches(log(800), 100)
    state, snapshots = run.new_state(), Snapshots(tmp_path, full_every=4)
    for number, batch in enumerate(events[:5], 1):
        state, _ = run.step(state, batch)
        captured = snapshots.capture(state, number, {})
        taken = sum(r.data.size for r in captured.rows if isinstance(r.data, np.ndarray))
        snapshots.write(captured)
        if number == 5:
            assert captured.kind == "full"
            assert taken < sum(x.nbytes for _, x in arrays_of(state) if x.dtype != object) / 2
    assert max(names_in(tmp_path)) == "000000000005-full"
    for p in tmp_path.glob("*-delta"):
        shutil.rmtree(p)
    found = Snapshots(tmp_path).newest(engine())
    assert found is not None
    assert not differing(content(found.state), content(state))


def test_a_delta_may_follow_a_snapshot_of_other_rules_where_the_state_was_adopted(tmp_path: Path) -> None:
    old, new, events = engine(ONE), engine(), batches(log(300), 60)
    state, snapshots = old.new_state(), Snapshots(tmp_path)
    for number, batch in enumerate(events[:3], 1):
        state, _ = old.step(state, batch)
        snapshots.save(state, number, {})
    state = new.adopt(old, state)
    for number, batch in enumerate(events[3:], 4):
        state, _ = new.step(state, batch)
        assert snapshots.save(state, number, {}).kind == "delta"
        found = Snapshots(tmp_path).newest(engine())
        assert found is not None
        assert not differing(content(found.state), content(state))


# ------------------------------------------------------------------------------------------------- what is kept
def test_several_full_ones_are_kept_with_their_deltas_and_older_ones_go(tmp_path: Path) -> None:
    chain(tmp_path, 11, full_every=3, keep=2)
    names = [parsed.name.lstrip("0") for parsed in sorted(tmp_path.iterdir())]
    assert names == ["7-full", "8-delta", "9-delta", "10-full", "11-delta"]
    oldest = Snapshots(tmp_path).oldest_kept()
    assert oldest is not None
    assert (oldest.number, oldest.facts) == (7, {"at": 7})


def test_an_empty_or_absent_folder_holds_no_snapshot(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        snapshots = Snapshots(folder)
        assert (snapshots.newest(engine(ONE)), snapshots.peek(), snapshots.oldest_kept()) == (None, None, None)


def test_the_newest_can_be_looked_at_without_an_engine(tmp_path: Path) -> None:
    chain(tmp_path, 3)
    found = Snapshots(tmp_path).peek()
    assert found is not None
    assert (found.number, found.facts, found.notes) == (3, {"at": 3}, [])


def test_numbers_rise_and_a_folder_with_later_snapshots_is_not_written_over(tmp_path: Path) -> None:
    chain(tmp_path, 3)
    run = engine(ONE)
    snapshots = Snapshots(tmp_path)
    found = snapshots.newest(run)
    assert found is not None
    with pytest.raises(tc.StateError, match="the last snapshot is number 3; one numbered 3 cannot follow it"):
        snapshots.save(found.state, 3, {})
    with pytest.raises(tc.StateError, match=r"holds the snapshot 0+2-delta.*Go on from it"):
        Snapshots(tmp_path).save(run.new_state(), 2, {})


# ------------------------------------------------------------------------------------------------- what is damaged
def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


DAMAGE = {"torn": _torn, "empty": lambda p: p.write_bytes(b""), "flipped": _flipped, "missing": lambda p: p.unlink()}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("file", [MANIFEST, PARTS_FILE])
@pytest.mark.parametrize("at", [2, 3, 4])
def test_a_damaged_snapshot_is_passed_over_for_the_one_before_and_that_is_said(
    tmp_path: Path, damage: Any, file: str, at: int
) -> None:
    was = chain(tmp_path, 4)
    damage(next(tmp_path.glob(f"*{at}-delta")) / file)
    snapshots = Snapshots(tmp_path)
    peeked = snapshots.peek()
    found = snapshots.newest(engine(ONE))
    assert found is not None
    assert peeked is not None
    assert found.number == peeked.number == at - 1
    assert not differing(content(found.state), was[at - 1])
    assert len(found.notes) == 1
    assert found.notes[0].startswith(str(tmp_path / f"{at:012d}-delta" / file))
    assert "000000000004-delta" in found.notes[0]
    assert f"for {at - 1:012d}" in found.notes[0]
    # and it goes on from there: what was passed over is replaced, and nothing of it is left
    state, _ = steps(engine(ONE), found.state, batches(log(160), 40)[at - 1 : 4])
    snapshots.save(state, 4, {"again": True})
    again = Snapshots(tmp_path).newest(engine(ONE))
    assert again is not None
    assert (again.number, again.facts, again.notes) == (4, {"again": True}, [])
    assert not differing(content(again.state), was[4])
    assert len(list(tmp_path.iterdir())) == at


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_where_nothing_is_whole_that_is_an_error_and_not_a_fresh_start(tmp_path: Path, damage: Any) -> None:
    chain(tmp_path, 3)
    damage(tmp_path / "000000000001-full" / PARTS_FILE)
    for look in (Snapshots(tmp_path).peek, lambda: Snapshots(tmp_path).newest(engine(ONE))):
        with pytest.raises(tc.StateError, match=r"no snapshot can be used.*parts\.arrow.*Put back a copy"):
            look()


def test_a_delta_is_not_put_on_another_base_than_its_own(tmp_path: Path) -> None:
    was = chain(tmp_path / "a", 3)
    run = engine(ONE)
    state, _ = steps(run, run.new_state(), [log(500, seed=8)])
    Snapshots(tmp_path / "b").save(state, 1, {})
    shutil.rmtree(tmp_path / "a" / "000000000001-full")
    shutil.copytree(tmp_path / "b" / "000000000001-full", tmp_path / "a" / "000000000001-full")
    found = Snapshots(tmp_path / "a").newest(run)
    assert found is not None
    assert found.number == 1
    assert "rests on another" in found.notes[0]
    assert differing(content(found.state), was[1])


def _of_version(folder: Path, version: int) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"version": version}))


@pytest.mark.parametrize("version", [0, 2, 999])
def test_another_version_of_the_format_is_refused_unless_an_older_snapshot_is_of_this_one(
    tmp_path: Path, version: int
) -> None:
    was = chain(tmp_path, 3)
    _of_version(tmp_path / "000000000003-delta", version)
    found = Snapshots(tmp_path).newest(engine(ONE))
    assert found is not None
    assert not differing(content(found.state), was[2])
    assert f"format tocsin-snapshot {version}, this version reads tocsin-snapshot 1" in found.notes[0]
    _of_version(tmp_path / "000000000001-full", version)
    with pytest.raises(tc.StateError, match=f"format tocsin-snapshot {version}, this version reads"):
        Snapshots(tmp_path).newest(engine(ONE))


def test_the_snapshot_of_other_rules_or_another_key_is_refused(tmp_path: Path) -> None:
    chain(tmp_path, 2)
    for other in (engine((*ONE, rule("two", None, tc.col("size")))), engine(ONE, key=bytes(range(16)))):
        with pytest.raises(tc.StateError, match="written by other rules, time settings or another key"):
            Snapshots(tmp_path).newest(other)


def test_cut_or_changed_anywhere_the_state_is_the_right_one_of_an_older_number_or_refused(tmp_path: Path) -> None:
    was, rng, outcomes = chain(tmp_path / "whole", 3, size=25), np.random.default_rng(3), set()
    run = engine(ONE)
    for folder in sorted((tmp_path / "whole").iterdir()):
        for path in folder.iterdir():
            whole = path.read_bytes()
            places = {0, 1, 7, 8, len(whole) - 1, *rng.integers(0, len(whole), 12).tolist()}
            for place in sorted(places):
                flipped = bytearray(whole)
                flipped[place] ^= 1 << (place % 8)
                for damaged in (whole[:place], bytes(flipped)):
                    path.write_bytes(damaged)
                    try:
                        found = Snapshots(tmp_path / "whole").newest(run)
                    except tc.StateError:
                        outcomes.add("refused")
                        continue
                    assert found is not None
                    assert not differing(content(found.state), was[found.number]), (path.name, place)
                    outcomes.add(found.number)
            path.write_bytes(whole)
    assert outcomes >= {"refused", 1, 2}


# ------------------------------------------------------------------------------------------------- whole or not at all
@pytest.mark.parametrize("fails", ["os.fsync", "shutil.rmtree", "Path.rename"])
def test_after_a_write_that_failed_all_is_as_before_and_the_next_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    was = chain(tmp_path, 3)
    run, snapshots = engine(ONE), Snapshots(tmp_path)
    found = snapshots.newest(run)
    assert found is not None
    state, _ = steps(run, found.state, [log(50, seed=7)])
    target = {
        "os.fsync": "tocsin.durable.os.fsync",
        "Path.rename": "pathlib.Path.rename",
        "shutil.rmtree": "tocsin.engine.snapshots.write_rows",
    }
    with monkeypatch.context() as patch:
        patch.setattr(target[fails], _full_disk)
        with pytest.raises(OSError, match="No space left"):
            snapshots.save(state, 4, {})
    assert names_in(tmp_path) == ["000000000001-full", "000000000002-delta", "000000000003-delta"]
    again = Snapshots(tmp_path).newest(run)
    assert again is not None
    assert not differing(content(again.state), was[3])
    written = snapshots.save(state, 5, {})
    assert (written.kind, written.number) == ("full", 5)
    now = Snapshots(tmp_path).newest(run)
    assert now is not None
    assert not differing(content(now.state), content(state))


def _full_disk(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


def test_what_follows_a_snapshot_that_was_not_written_is_not_written_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, snapshots = engine(ONE), Snapshots(tmp_path)
    state, _ = steps(run, run.new_state(), [log(50)])
    snapshots.save(state, 1, {})
    lost, after = snapshots.capture(state, 2, {}), snapshots.capture(state, 3, {})
    with monkeypatch.context() as patch:
        patch.setattr("tocsin.durable.os.fsync", _full_disk)
        with pytest.raises(OSError, match="No space left"):
            snapshots.write(lost)
    with pytest.raises(tc.StateError, match=r"was not written\. Capture again"):
        snapshots.write(after)
    assert snapshots.save(state, 4, {}) == Written(4, "full", *snapshots_size(tmp_path))


def snapshots_size(folder: Path) -> tuple[int, int]:
    newest = folder / max(names_in(folder))
    return sum(p.stat().st_size for p in newest.iterdir()), len(Assembled([PartsFile(newest / PARTS_FILE)]).names())


def test_a_base_that_was_damaged_since_is_not_carried_into_the_next_full_one(tmp_path: Path) -> None:
    run, snapshots = engine(ONE), Snapshots(tmp_path, full_every=2)
    state, _ = steps(run, run.new_state(), [log(200)])
    snapshots.save(state, 1, {})
    snapshots.save(state, 2, {})
    _flipped(tmp_path / "000000000001-full" / PARTS_FILE)
    with pytest.raises(tc.StateError, match=r"were damaged since.*checksum"):
        snapshots.save(state, 3, {})
    assert snapshots.save(state, 4, {}).kind == "full"  # from the live state
    found = Snapshots(tmp_path).newest(run)
    assert found is not None
    assert not differing(content(found.state), content(state))


KILLED = """
import sys
from tests.test_live_snapshots import ONE, Snapshots, batches, engine, log
run = engine(ONE)
snapshots = Snapshots(sys.argv[1], full_every=3, keep=2)
found = snapshots.newest(run)
state, number = (found.state, found.number) if found else (run.new_state(), 0)
for n, batch in enumerate(batches(log(9000), 15)[number:], number + 1):
    state, _ = run.step(state, batch)
    snapshots.save(state, n, {"at": n})
    print("saved", flush=True)
"""


def test_a_process_that_is_killed_while_it_writes_leaves_a_state_to_go_on_from(tmp_path: Path) -> None:
    rng, reached = np.random.default_rng(5), [0]
    for _ in range(3):
        command = [sys.executable, "-c", KILLED, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=DATA.parent.parent) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"saved\n"
            time.sleep(rng.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
        if (found := Snapshots(tmp_path).newest(engine(ONE))) is not None:
            assert found.notes == []
            assert found.number >= reached[-1]
            reached.append(found.number)
    assert reached[-1] > 0
    run = engine(ONE)
    state, _ = steps(run, run.new_state(), batches(log(9000), 15)[: reached[-1]])
    found = Snapshots(tmp_path).newest(run)
    assert found is not None
    assert not differing(content(found.state), content(state))
