"""The sink: what batches gave becomes durable, in their order, before anything is said to be done.

Enters: outcomes. Leaves: dead letters, rows of the alert log, scores where they are kept; the number of the last entry all of
which is durable. Layer: runners. Everything here may be done twice: letters, findings and score files are known by their
names.
"""

from __future__ import annotations

import contextlib
import io
import queue
import threading
import time
from typing import TYPE_CHECKING

import polars as pl

from tocsin.alerts import Alerts, Grouping
from tocsin.durable import write_durably
from tocsin.engine.findings import PEAKS, empty
from tocsin.runners.live.machine import Outcome
from tocsin.runners.live.patience import GaveUpError, patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from tocsin.detection import Detection
    from tocsin.runners.live.deadletters import DeadLetters
    from tocsin.runners.live.tables import LiveTables

DEPTH = 2
"""Outcomes that may wait; then the step waits, then the reader: that is all the memory a slow log can take."""
PEAK_SECONDS = 5.0
"""How long a higher peak of an open window may wait for others: a window that goes on rising is not written with every batch."""


class _Flush:
    """Asks for everything to be written, peaks too."""


class Sink:
    """Writes in a thread of its own.

    log: where alerts go, or None (shadow): then findings are counted and dropped. scores: a folder, or None. tables: keeps closed
    windows and publishes what is fitted to them, or None. done: called after
    each outcome has become durable. wake: called after alerts were written. give_up: set when nothing may be waited for any longer.
    """

    def __init__(
        self,
        log: str | None,
        letters: DeadLetters,
        scores: Path | None,
        *,
        trouble: Callable[[str], None],
        done: Callable[[Outcome], None],
        tables: LiveTables | None = None,
        wake: Callable[[], None],
        give_up: threading.Event,
    ) -> None:
        self._log, self._letters, self._scores, self._tables = log, letters, scores, tables
        self._trouble, self._done, self._wake, self._give_up = trouble, done, wake, give_up
        self._queue: queue.Queue[Outcome | pl.DataFrame | _Flush | None] = queue.Queue(DEPTH)
        self._peaks: dict[str, float] = {}
        self._peaks_at = time.monotonic()
        self._alerts: Alerts | None = None
        self._grouping: tuple[Detection, ...] | None = None
        self._closed = False
        self.durable = self.flushed = 0
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="tocsin-sink", daemon=True)

    def start(self, durable: int) -> None:
        """Begin; everything up to this entry is durable."""
        self.durable = self.flushed = durable
        self._thread.start()

    def flush(self, number: int, timeout_seconds: float) -> bool:
        """Write all that was put, up to an entry; tell whether that was done in time. A snapshot may hold no more than that."""
        until = time.monotonic() + timeout_seconds
        asked = False
        while self.flushed < number and self._thread.is_alive() and time.monotonic() < until:
            if asked:
                time.sleep(0.001)
                continue
            with contextlib.suppress(queue.Full):  # while the log is away nothing can be put, either
                self._queue.put(_Flush(), timeout=0.05)
                asked = True
        return self.flushed >= number

    def put(self, item: Outcome | pl.DataFrame | _Flush, waiting: Callable[[], None] = lambda: None) -> None:
        """Hand over an outcome, or findings that belong to no batch; waits while the log is slower than the stream.

        waiting: called every now and then while it waits; what it raises ends the waiting.

        Raises:
            GaveUpError: The sink has stopped.
        """
        while self._thread.is_alive():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                waiting()
                continue
            return
        raise self.error or GaveUpError("the sink has stopped")

    def finish(self, timeout_seconds: float) -> bool:
        """Wait until all is durable; tell whether it is."""
        if self._thread.ident is None:
            return True  # it was never started, so nothing was put
        until = time.monotonic() + timeout_seconds
        while not self._closed and self._thread.is_alive() and time.monotonic() < until:
            with contextlib.suppress(queue.Full):
                self._queue.put(None, timeout=0.05)
                self._closed = True
        self._thread.join(max(0.0, until - time.monotonic()))
        return not self._thread.is_alive() and self.error is None

    @property
    def ended(self) -> bool:
        """Whether all that was put is written, and nothing more can be."""
        return self._closed and not self._thread.is_alive() and self.error is None

    def _run(self) -> None:
        try:
            while (batch := self._next()) is not None:
                self._write(batch)
            self._write([_Flush()])
        except GaveUpError as error:
            self.error = error
        except BaseException as error:  # noqa: BLE001 - handed to the thread that steps, which raises it
            self.error = error
        finally:
            if self._alerts is not None:
                self._alerts.disconnect()

    def _next(self) -> list[Outcome | pl.DataFrame | _Flush] | None:
        """Return all that waits, at least one; None at the end."""
        first = self._queue.get()
        if first is None:
            return None
        found = [first]
        while True:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                return found
            if following is None:
                self._queue.put(None)
                return found
            found.append(following)

    def _write(self, items: Sequence[Outcome | pl.DataFrame | _Flush]) -> None:
        outcomes = [i for i in items if isinstance(i, Outcome)]
        findings = [i for i in items if isinstance(i, pl.DataFrame)]
        self._set_aside(outcomes)
        for rules, together in _by_rules(outcomes):
            found = [*findings, *(f for o in together for f in o.findings)]
            findings = []
            for peaks in (p for o in together for p in o.peaks):
                self._peaks.update(peaks.iter_rows())
            self._raise(found, rules)
        if findings:
            self._raise(findings, self._grouping or ())
        asked = any(isinstance(i, _Flush) for i in items)
        if asked or time.monotonic() - self._peaks_at >= PEAK_SECONDS:
            self._raise_peaks()
        for outcome in outcomes:
            self._keep_scores(outcome)
            self._keep_windows(outcome)
            self.durable = outcome.work.number
            self._done(outcome)
        if not self._peaks:
            self.flushed = self.durable

    def _patiently(self, task: Callable[[], object], what: str) -> None:
        patiently(task, self._trouble, self._give_up, what)

    def _set_aside(self, outcomes: Iterable[Outcome]) -> None:
        letters = [letter for o in outcomes for letter in o.letters]
        late = [o.late for o in outcomes if o.late is not None]
        if letters:
            self._patiently(lambda: self._letters.add(letters), "the dead letters")
        if late:
            self._patiently(lambda: self._letters.add_late(pl.concat(late, how="diagonal")), "the late events")

    def _raise(self, findings: list[pl.DataFrame], rules: tuple[Detection, ...]) -> None:
        if self._log is None or not findings:
            return
        found = pl.concat(findings)
        self._patiently(lambda: self._add(found, None, rules), "the alert log")
        self._wake()

    def _raise_peaks(self) -> None:
        """Write how far the windows of earlier findings have risen since this was done last."""
        if self._peaks and self._log is not None:
            raised = pl.DataFrame(
                {"finding_id": list(self._peaks), "peak_score": list(self._peaks.values())}, schema=PEAKS
            )
            self._patiently(lambda: self._add(empty(), raised, self._grouping or ()), "the alert log")
        self._peaks, self._peaks_at = {}, time.monotonic()

    def _add(self, findings: pl.DataFrame, peaks: pl.DataFrame | None, rules: tuple[Detection, ...]) -> None:
        if self._alerts is None:
            self._alerts = Alerts(str(self._log))
        if self._grouping is not rules:
            self._alerts.grouping, self._grouping = Grouping.of_rules(rules), rules
        self._alerts.add(findings, "live", peaks=peaks)

    def _keep_windows(self, outcome: Outcome) -> None:
        tables = self._tables
        if tables is not None:
            self._patiently(lambda: tables.take(outcome), "the closed windows")

    def _keep_scores(self, outcome: Outcome) -> None:
        if self._scores is None or not outcome.scores:
            return
        path = self._scores / f"{outcome.work.number:020}.arrow"
        frame = pl.concat([s.with_columns(detection=pl.lit(name)) for name, s in outcome.scores])
        data = io.BytesIO()
        frame.write_ipc(data)
        self._patiently(lambda: write_durably(path, data.getvalue()), "the scores")


def _by_rules(outcomes: Sequence[Outcome]) -> list[tuple[tuple[Detection, ...], list[Outcome]]]:
    """Group outcomes in a row that came of the same rules."""
    groups: list[tuple[tuple[Detection, ...], list[Outcome]]] = []
    for outcome in outcomes:
        engine = outcome.work.engine
        rules = engine.detections if engine is not None else ()
        if not groups or groups[-1][0] is not rules:
            groups.append((rules, []))
        groups[-1][1].append(outcome)
    return groups
