"""Live: the whole engine of one machine, from its sources to the alert log, started, recovered and stopped.

Enters: settings, sources, a clock. Leaves: rows of the alert log, snapshots, a status; `run` returns when it was told to stop, or
when every source has ended. Layer: runners.

Three threads pass work on through short queues: the reader (sources, batch log, decoding), the step (here), the sink (dead
letters, alert log). A slow one makes those before it wait, so memory does not grow with what has to be read.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from tocsin.durable import write_durably
from tocsin.engine.snapshots import Snapshots
from tocsin.errors import StateError
from tocsin.runners.live.batchlog import Batch, BatchLog, Version
from tocsin.runners.live.machine import Machine, Outcome, Preparer, Work
from tocsin.runners.live.patience import PASSING, GaveUpError
from tocsin.runners.live.pipes import ahead
from tocsin.runners.live.reader import Held, Reader
from tocsin.runners.live.sink import Sink
from tocsin.runners.live.tables import LiveTables
from tocsin.runners.live.telling import tell
from tocsin.runners.live.versions import Versions
from tocsin.runners.live.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    import polars as pl

    from tocsin.runners.live.deadletters import DeadLetters
    from tocsin.runners.live.folder import StateFolder
    from tocsin.runners.live.meters import Meters
    from tocsin.runners.live.outputs import Outputs
    from tocsin.runners.live.settings import Settings
    from tocsin.sources.live import LiveSource

_LOG = logging.getLogger("tocsin.live")
STOP_SECONDS = 3.0
"""How long a clean stop waits for the alert log; what it does not take by then is done by the next start."""
TIMES = ("lateness", "dedup_horizon", "future_skew")
LEFT = "stopped before everything was written to the alert log; the next start writes the rest"
ONE_SOURCE = (
    "this state began with one source: ids of the others are not told apart from its own, an id seen twice is a duplicate or a"
    " conflict; another state folder begins anew"
)
STATUS_SECONDS = 1.0
MUTE_SECONDS, MOST_MUTED = 60.0, 1000
MOST_WAITING_ROWS = 2_000_000
"""Where more events wait for release, sources that run ahead of the slowest one are not read."""


class Live:
    """One run over a locked state folder.

    sources: opened by the run, which also closes them. letters: where what was set aside goes. clock: the wall clock. outputs:
    brings new alerts to whoever wants them.
    """

    def __init__(
        self,
        settings: Settings,
        folder: StateFolder,
        sources: Sequence[LiveSource],
        letters: DeadLetters,
        meters: Meters,
        *,
        clock: Callable[[], datetime],
        outputs: Outputs | None = None,
        accept_loss: bool = False,
        finish: bool = False,
    ) -> None:
        self._settings, self._folder, self._clock, self._meters = settings, folder, clock, meters
        self._sources, self._letters, self._outputs = sources, letters, outputs
        self._versions = Versions(folder.versions)
        self._watcher: Watcher | None = None
        self._errors: queue.SimpleQueue[pl.DataFrame] = queue.SimpleQueue()
        self._finish = finish
        self._units = {s.name: "messages" if s.kind == "kafka" else "bytes" for s in settings.sources}
        self._stop, self._give_up = threading.Event(), threading.Event()
        self._snapshots = Snapshots(
            folder.snapshots, keep=settings.snapshots.keep, full_every=settings.snapshots.full_every
        )
        self._log = BatchLog(folder.batches)
        self._machine = Machine()
        self._preparer = Preparer(settings, self._versions, folder.decoders, folder.key())
        self._held = Held(MOST_WAITING_ROWS)
        self._reader = Reader(
            settings, sources, self._log, self._preparer, clock=clock, stop=self._stop, changed=self._changed, held_back=self._held,
            trouble=self.trouble, busy=self._busy, accept_loss=accept_loss,
        )  # fmt: skip
        scores = folder.scores if settings.keep_scores else None
        if scores is not None:
            scores.mkdir(mode=0o700, exist_ok=True)
        tables = None
        if settings.tables.publish:
            tables = LiveTables(folder.windows, folder.tables, settings.tables.keep_days, self.trouble)
        self._sink = Sink(
            None if settings.shadow else settings.log, letters, scores, trouble=self.trouble, done=self._done, tables=tables,
            wake=outputs.wake if outputs else _nothing, give_up=self._give_up,
        )  # fmt: skip
        self._saved_number, self._saved_at = 0, time.monotonic()
        self._looked_at = 0.0
        self._stopped_at: float | None = None
        self._logged: dict[str, float] = {}
        self._status: dict[str, Any] | None = None

    def stop(self) -> None:
        """Ask the run to end: no further batch is begun, what is under way is finished, a snapshot is written."""
        self._stopped_at = time.monotonic()
        self._stop.set()

    @property
    def told_to_stop(self) -> bool:
        """Whether somebody asked the run to end, rather than its input having ended."""
        return self._stopped_at is not None

    @property
    def number(self) -> int:
        """The last entry of the batch log that was applied."""
        return self._machine.number

    def trouble(self, what: str) -> None:
        """Note what does not go as it should, and log it: the same words once a minute."""
        self._meters.trouble(what, self._clock())
        now = time.monotonic()
        if now - self._logged.get(what, -MUTE_SECONDS) >= MUTE_SECONDS:
            if len(self._logged) >= MOST_MUTED:
                self._logged.clear()
            self._logged[what] = now
            _LOG.warning("trouble", extra={"fields": {"what": what}})

    # The run

    def run(self) -> None:
        """Recover, then follow the sources.

        Raises:
            StateError: The state folder cannot be used.
            LostError: Records that have to be read again are gone.
        """
        try:
            self._recover()
            if self._machine.finished:
                raise StateError(
                    f"{self._folder.path}: its input was finished, nothing can follow. Start anew with another state folder."
                )
            if not self._stop.is_set():
                self._follow()
            self._end()
        except GaveUpError:
            self.trouble(LEFT)
        finally:
            self._stop.set()
            self._give_up.set()
            self._sink.finish(0.5)
            for source in self._sources:
                source.close()
            self._log.close()
            self._meters.mode("stopped")
            with contextlib.suppress(OSError):
                tell(self._meters, self._machine, self._reader.behind(), self._letters, self._outputs, self._units)
                self.write_status()

    def _recover(self) -> None:
        """Load the newest valid snapshot and do again what the batch log says came after it."""
        self._meters.mode("recovering")
        with contextlib.suppress(OSError):
            self.write_status()  # so that it can be seen that something is under way
        self._resume()
        self._sink.start(self._machine.number)
        began, came_from = time.monotonic(), self._machine.number
        for work in self._stepping(ahead(self._reader.replay(came_from))):
            self._step(work)
            self._look()
            if self._stop.is_set():
                break
        facts = {"snapshot": came_from, "entries": self._machine.number, "seconds": round(time.monotonic() - began, 3)}
        _LOG.info("recovered", extra={"fields": facts})

    def _resume(self) -> None:
        self._check_times()
        found = self._snapshots.peek()
        if found is None:
            return
        engine = self._preparer.resume(Version(**found.facts["version"]))
        if engine is None:
            return  # nothing had been read by then
        restored = self._snapshots.newest(engine)
        if restored is None:
            return
        for note in restored.notes:
            self.trouble(note)
        self._machine.resume(engine, restored.state, restored.number, restored.facts)
        self._saved_number = restored.number

    def _check_times(self) -> None:
        """Keep the time settings with the state, from the first start on; what was decided by them cannot be decided anew.

        So it is with whether there are several sources, whose ids are told apart.
        """
        times = {name: getattr(self._settings.times, name) for name in TIMES}
        path = self._folder.path / "times.json"
        if not path.exists():
            write_durably(path, json.dumps(times | {"scope": self._preparer.scope}).encode())
            return
        before = json.loads(path.read_bytes())
        now_scoped, self._preparer.scope = self._preparer.scope, before.get("scope", self._preparer.scope)
        if now_scoped and not self._preparer.scope:
            self.trouble(ONE_SOURCE)
        for name, now in times.items():
            if before.get(name) != now:
                raise StateError(
                    f"{self._folder.path}: times.{name} was {before.get(name)} when this state was made, the settings say {now}."
                    " Which events are late or repeated depends on it: put it back, or start anew with another state folder."
                )

    def _follow(self) -> None:
        digest = self._begin_version()
        settings = self._settings
        self._watcher = Watcher(
            self._versions, settings.rules, settings.references, self._preparer.compile, digest=digest, columns=self._preparer.columns
        )  # fmt: skip
        self._watcher.start()
        self._meters.mode("shadow" if settings.shadow else "live")
        try:
            for work in self._stepping(ahead(self._reader.follow(self._machine, digest), self._reader.wait)):
                self._step(work)
                self._look()
        finally:
            self._watcher.stop()

    def _begin_version(self) -> str:
        """Return the version of rules and references that the files hold now.

        Raises:
            BrokenFileError: One of them is wrong; nothing was read.
        """
        digest = self._versions.keep(self._settings.rules.files, self._settings.references)
        self._versions.open(digest)
        return digest

    def _changed(self) -> str | None:
        """Return the digest of a new version of rules and references, once there is one; called by the reader."""
        change = self._watcher.changed() if self._watcher is not None else None
        if change is None:
            return None
        _LOG.info("files", extra={"fields": {"note": change.note}})
        if change.finding is not None:
            self.trouble(change.note)
            self._errors.put(change.finding)
        return change.digest

    def _stepping(self, works: Iterator[Work | None]) -> Iterator[Work]:
        """Yield work as it comes; in between look after snapshots and the status."""
        for work in works:
            if work is None:
                self._look()
                continue
            yield work

    def _step(self, work: Work) -> None:
        outcome = self._machine.apply(work)
        self._sink.put(outcome, self._wait)
        if (state := self._machine.state) is not None:
            self._held.look(state.arrival)

    def _busy(self) -> bool:
        """Tell whether a batch that was cut is not durable yet."""
        return self._sink.durable < self._log.last

    def _wait(self) -> None:
        """Show how things stand while the sink takes nothing; not for ever once the run was told to stop."""
        self._show()
        if not self._patience_seconds():
            raise GaveUpError(LEFT)

    def _patience_seconds(self) -> float:
        """Return how long the alert log may still be waited for."""
        asked_at = self._stopped_at
        return STOP_SECONDS if asked_at is None else max(0.0, asked_at + STOP_SECONDS - time.monotonic())

    def _end(self) -> None:
        """Finish what is under way, and save."""
        self._meters.mode("stopping")
        if self._finish and not self._stop.is_set():
            self._step(self._reader.finish())
        done = self._sink.finish(self._patience_seconds())
        while not done and not self._stop.is_set() and self._sink.error is None:  # nobody is in a hurry
            self._look()
            done = self._sink.finish(self._patience_seconds())
        self._stop.set()
        if done:
            self._snapshot()
            self._reader.look()
        elif self._sink.error is not None and not isinstance(self._sink.error, GaveUpError):
            raise self._sink.error
        else:
            self.trouble(LEFT)

    # What happens beside the batches

    def _done(self, outcome: Outcome) -> None:
        """Count a batch that is durable; called by the sink."""
        work = outcome.work
        if isinstance(work.entry, Batch):
            counts = {"accepted" if fate == "ok" else fate: n for fate, n in outcome.counts.items()}
            found = sum(f.height for f in outcome.findings)
            seconds = time.monotonic() - work.begun
            self._meters.batch(work.read, seconds, {**counts, "rejected": work.rejected}, found, self._clock())

    def _look(self) -> None:
        """See to what is due: the error that a file's owner has to know of, a snapshot, the status."""
        now = time.monotonic()
        while not self._errors.empty():
            self._sink.put(self._errors.get(), self._wait)
        if now - self._saved_at >= self._settings.snapshots.every_seconds and self._machine.number > self._saved_number:
            self._snapshot()
        self._show()

    def _show(self) -> None:
        """Write the status once a second."""
        now = time.monotonic()
        if now - self._looked_at >= STATUS_SECONDS:
            self._looked_at = now
            tell(self._meters, self._machine, self._reader.behind(), self._letters, self._outputs, self._units)
            try:
                self.write_status()
            except OSError as error:
                self.trouble(f"the status: {error}")

    def _snapshot(self) -> None:
        """Save the state once all that it holds is durable elsewhere; then let the sources forget what is before the oldest one."""
        machine = self._machine
        if machine.engine is None or machine.state is None or machine.number == self._saved_number:
            return
        if not self._sink.ended and not self._sink.flush(machine.number, self._patience_seconds()):
            self._saved_at = (
                time.monotonic() + STOP_SECONDS
            )  # the log is away: the stream goes on before this is tried again
            return
        began = time.monotonic()
        try:
            written = self._snapshots.save(machine.state, machine.number, machine.facts())
        except PASSING as error:
            self.trouble(f"the snapshot: {error}")
            self._saved_at = time.monotonic()
            return
        self._saved_number, self._saved_at = machine.number, time.monotonic()
        _LOG.info(
            "snapshot", extra={"fields": {"number": machine.number, "kind": written.kind, "bytes": written.bytes}}
        )
        self._meters.snapshot(machine.number, written.kind, self._clock(), written.bytes, self._saved_at - began)
        self._release()

    def _release(self) -> None:
        oldest = self._snapshots.oldest_kept()
        if oldest is None:
            return
        try:
            self._log.forget(oldest.number)
            self._forget_versions(oldest.number, oldest.facts["version"]["rules"])
        except OSError as error:
            self.trouble(f"forgetting what is saved: {error}")
        self._reader.release(oldest.facts["positions"])

    def _forget_versions(self, number: int, rules: str) -> None:
        """Remove versions that no snapshot and no entry after the oldest one names."""
        if sum(1 for path in self._folder.versions.glob("*/manifest.json")) > 1:
            later = {e.rules for _, e in self._log.entries(number) if isinstance(e, Version)}
            self._versions.forget({rules, self._machine.version.rules, self._preparer.version.rules} | later)

    # What it shows of itself

    def write_status(self) -> None:
        """Write down how things stand, for `tocsin status`."""
        status = self._status = self._meters.status(self._clock())
        write_durably(self._folder.status, json.dumps(status, ensure_ascii=False).encode("utf-8", "backslashreplace"))

    @property
    def status(self) -> dict[str, Any] | None:
        """How things stood when they were written down last, at most a second ago while all is well; None before."""
        return self._status


def _nothing() -> None:
    """Do nothing."""
