"""The engine as a whole, in one process: whatever stops it, and whenever, the next start ends where one run would have.

Layer: tests.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.live_fixtures import NOW, MemoryLetters, MemorySource, as_lines, mails, some_settings
from tocsin.alerts import Alerts
from tocsin.errors import StateError, TocsinError
from tocsin.runners.live.folder import StateFolder
from tocsin.runners.live.live import Live
from tocsin.runners.live.meters import Meters
from tocsin.sources.live import LostError

if TYPE_CHECKING:
    from collections.abc import Callable


@cache
def lines() -> list[bytes]:
    return as_lines(mails(np.random.default_rng(11), 3000))


class CrashError(BaseException):
    """Stands for a process that is gone."""


def run(
    settings: Any, source: MemorySource, *, finish: bool = True, crash: Callable[[Live], None] | None = None
) -> Live:
    """One process's life over a state folder."""
    folder = StateFolder(settings.state).lock()
    try:
        letters = MemoryLetters()
        live = Live(settings, folder, [source], letters, Meters("0", 1, NOW), clock=lambda: NOW, finish=finish)
        if crash:
            crash(live)
        live.run()
        return live
    finally:
        folder.unlock()


def crash_at(number: int) -> Callable[[Live], None]:
    """Return what lets a process go when it comes to an entry."""

    def crash(live: Live) -> None:
        apply = live._machine.apply

        def broken(work):
            if work.number == number:
                raise CrashError
            return apply(work)

        live._machine.apply = broken

    return crash


def kept_scores(settings: Any) -> pl.DataFrame:
    files = sorted((settings.state / "scores").glob("*.arrow"))
    return pl.concat([pl.read_ipc(f) for f in files]).sort("detection", "event_id", "score", "fired")


def findings(settings: Any) -> pl.DataFrame:
    with Alerts(settings.log) as log:
        return log.history().findings.drop("recorded_at", "peak_score", strict=False).sort("finding_id")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Scores and findings of one undisturbed run."""
    settings = some_settings(tmp_path_factory.mktemp("whole"), batches={"rows": 700})
    run(settings, MemorySource("mail", {"": lines()}))
    return kept_scores(settings), findings(settings)


def test_an_undisturbed_run_writes_its_findings(whole):
    assert whole[0].height > 10_000
    assert whole[1].height > 30


@pytest.mark.parametrize("at", [2, 3, 6, 11])
@pytest.mark.parametrize("where", ["before the step", "after the step", "after the log"])
def test_a_run_that_breaks_off_anywhere_and_is_started_again_gives_the_same(tmp_path, whole, at, where):
    more = {"batches": {"rows": 300}, "snapshots": {"every_seconds": 0.01, "full_every": 3}}
    settings = some_settings(tmp_path, **more)

    def crash(live: Live) -> None:
        apply, done, log = live._machine.apply, live._sink._done, live._log.append

        def broken_apply(work):
            if work.number == at and where == "before the step":
                raise CrashError
            outcome = apply(work)
            if work.number == at and where == "after the step":
                raise CrashError
            return outcome

        def broken_append(entry):
            number = log(entry)
            if number == at and where == "after the log":
                raise CrashError
            return number

        live._machine.apply, live._log.append, live._sink._done = broken_apply, broken_append, done

    with pytest.raises(CrashError):
        run(settings, MemorySource("mail", {"": lines()}), crash=crash)
    run(settings, MemorySource("mail", {"": lines()}))
    assert_frame_equal(kept_scores(settings), whole[0])
    assert_frame_equal(findings(settings), whole[1])


def test_many_starts_that_end_cleanly_after_a_few_batches_give_the_same(tmp_path, whole):
    settings = some_settings(tmp_path, batches={"rows": 250})
    starts = 0
    while True:
        starts += 1

        def soon(live: Live, *, last: int = 4 * starts) -> None:
            apply = live._machine.apply

            def stopping(work):
                if work.number >= last:
                    live.stop()
                return apply(work)

            live._machine.apply = stopping

        live = run(settings, MemorySource("mail", {"": lines()}), crash=soon)
        if live._machine.finished or starts > 50:
            break
    assert starts > 3
    assert_frame_equal(kept_scores(settings), whole[0])
    assert_frame_equal(findings(settings), whole[1])


def test_records_that_are_gone_are_named_and_can_be_accepted_as_lost(tmp_path):
    settings = some_settings(tmp_path, batches={"rows": 500})

    with pytest.raises(CrashError):
        run(settings, MemorySource("mail", {"": lines()}), crash=crash_at(4))
    with pytest.raises(LostError, match=r"mail/: gone.*--accept-loss"):
        run(settings, MemorySource("mail", {"": lines()}, lost={""}))


def test_a_finished_folder_takes_nothing_more(tmp_path):
    settings = some_settings(tmp_path)
    run(settings, MemorySource("mail", {"": lines()[:100]}))
    with pytest.raises(StateError, match="finished"):
        run(settings, MemorySource("mail", {"": lines()}))


def test_other_times_are_refused_with_what_to_do(tmp_path):
    settings = some_settings(tmp_path)
    run(settings, MemorySource("mail", {"": lines()[:100]}), finish=False)
    other = some_settings(tmp_path, times={"lateness": "2h"})
    with pytest.raises(StateError, match=r"times.lateness was 1h .* the settings say 2h.*state folder"):
        run(other, MemorySource("mail", {"": lines()}))


def test_two_engines_cannot_have_one_state_folder(tmp_path):
    settings = some_settings(tmp_path)
    folder = StateFolder(settings.state).lock()
    with pytest.raises(StateError, match="works with this state folder"):
        run(settings, MemorySource("mail", {"": lines()}))
    folder.unlock()


def test_a_source_forgets_only_what_every_kept_snapshot_is_past(tmp_path):
    settings = some_settings(
        tmp_path, batches={"rows": 300}, snapshots={"every_seconds": 0.001, "full_every": 2, "keep": 2}
    )
    source = MemorySource("mail", {"": lines()})
    run(settings, source, finish=False)
    oldest = min(int(p.name.split("-")[0]) for p in (settings.state / "snapshots").iterdir())
    assert 0 < source.released[""]["line"] < len(lines())
    assert oldest > 2


def test_shadow_scores_and_writes_no_alert(tmp_path, whole):
    settings = some_settings(tmp_path, shadow=True)
    run(settings, MemorySource("mail", {"": lines()}))
    assert_frame_equal(kept_scores(settings), whole[0])
    assert not (tmp_path / "soc.db").exists()


def test_memory_is_bounded_when_the_log_is_slower_than_the_stream(tmp_path):
    settings = some_settings(tmp_path, batches={"rows": 50})
    ahead: list[int] = []

    def slow(live: Live) -> None:
        add, append = live._sink._add, live._log.append
        gate = threading.Semaphore(0)

        def waiting(*args):
            gate.acquire(timeout=0.02)
            add(*args)

        def watching(entry):
            number = append(entry)
            ahead.append(number - live._sink.durable)
            return number

        live._sink._add, live._log.append = waiting, watching

    run(settings, MemorySource("mail", {"": lines()}), crash=slow)
    assert max(ahead) <= 12


def test_while_the_log_is_away_for_long_a_snapshot_waits_and_a_stop_ends_the_run(tmp_path):
    settings = some_settings(tmp_path, batches={"rows": 20}, snapshots={"every_seconds": 0.001})
    stopper: list[threading.Timer] = []

    def away(live: Live) -> None:
        def refuse(*_: object) -> None:
            raise OSError("nobody there")

        live._sink._add = refuse
        stopper.append(threading.Timer(2.0, live.stop))
        stopper[0].start()

    live = run(settings, MemorySource("mail", {"": lines()}), crash=away, finish=False)
    assert live.status is not None
    assert {"the alert log: nobody there"} <= {t["what"] for t in live.status["trouble"]}
    run(settings, MemorySource("mail", {"": lines()}))
    assert findings(settings).height > 30


def test_time_settings_are_held_to_before_the_first_snapshot_too(tmp_path):
    settings = some_settings(tmp_path, batches={"rows": 100})

    with pytest.raises(CrashError):
        run(settings, MemorySource("mail", {"": lines()}), crash=crash_at(3))
    with pytest.raises(StateError, match=r"times.lateness was 1h"):
        run(some_settings(tmp_path, times={"lateness": "2h"}), MemorySource("mail", {"": lines()}))


def test_a_source_whose_settings_change_is_read_by_the_new_ones_from_then_on(tmp_path):
    naive = [line.replace(b"+00:00", b"") for line in lines()]
    source = {"kind": "file", "name": "mail", "path": "mail.jsonl"}

    def clock_of(zone: str, count: int) -> int:
        settings = some_settings(tmp_path, sources_as=[source | {"zone": zone}])
        live = run(settings, MemorySource("mail", {"": naive[:count]}), finish=False)
        return int(live._machine.state.arrival.clock[0])

    paris = clock_of("Europe/Paris", 100)
    again = clock_of("Europe/Paris", 130)
    assert 0 < again - paris < 5 * 3_600_000_000
    assert clock_of("America/New_York", 131) - again > 5 * 3_600_000_000


def test_an_alert_log_in_no_folder_and_a_wrong_mapping_are_refused_before_anything_is_read(tmp_path):
    from tocsin.runners.live.build import build

    for more, message in (
        ({"log": str(tmp_path / "nowhere" / "soc.db")}, "there is no folder"),
        ({"sources_as": [{"kind": "file", "name": "m", "path": "m", "mapping": "no-such-mapping"}]}, "no-such-mapping"),
        ({"sources_as": [{"kind": "file", "name": "m", "path": "m", "zone": "Mars/Olympus"}]}, "Mars/Olympus"),
    ):
        settings = some_settings(tmp_path, **more)
        folder = StateFolder(settings.state).lock()
        with pytest.raises(TocsinError, match=message):
            build(settings, folder, Meters("0", 1, NOW), clock=lambda: NOW)
        folder.unlock()
