"""New alerts, brought to whoever wants them: at least once, in their order, with the alert's id as key.

Enters: the alert log, settings, the state folder. Leaves: what the outputs were given, how far each is. Layer: runners.

The log itself is the outbox. Each output keeps the row number up to which it has delivered, written down after the delivery:
what a crash came between is delivered again, and nothing is ever left out.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from tocsin.alerts import Alerts
from tocsin.durable import write_durably
from tocsin.errors import StateError, TocsinError
from tocsin.lifecycle.words import SEVERITIES
from tocsin.runners.live.delivery import Patience, RefusedError, as_json, told_alerts, utc_text
from tocsin.runners.live.jsonl import JsonLines
from tocsin.runners.live.settings import WebhookOutput
from tocsin.runners.live.webhook import Webhook

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from tocsin.runners.live.delivery import Target, Told
    from tocsin.runners.live.settings import JsonlOutput

_PAGE_ALERTS: Final = 500
_COUNT_SECONDS: Final = 5.0
"""While an output waits, it looks so often how many alerts wait with it."""


@dataclass
class Place:
    """How far an output is: the row number of the last alert it dealt with, and that alert's id; kept in a file."""

    path: Path
    seq: int
    alert_id: str | None

    @classmethod
    def find(cls, path: Path, log: Alerts) -> Place:
        """Return the saved place in this log; a new output begins with the next alert.

        In another log than before (moved, restored, made anew) the place is that of the same alert, or its end.

        Raises:
            StateError: The file is damaged.
        """
        if path.exists():
            try:
                told = json.loads(path.read_bytes())
                seq, alert_id = int(told["seq"]), told["alert_id"]
            except (ValueError, KeyError, TypeError, OSError):
                raise StateError(
                    f'{path}: how far this output was cannot be read. Remove it to begin with the next alert, or write {{"seq":0,'
                    f'"alert_id":null}} to deliver all that the log has.'
                ) from None
            there = log.seq_of(alert_id) if alert_id is not None else None
            place = cls(path, min(seq, log.last_seq()) if there is None else there, alert_id)
        else:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            place = cls(path, *log.last())
        place.save()
        return place

    def save(self) -> None:
        """Write it down, to stay."""
        write_durably(self.path, json.dumps({"seq": self.seq, "alert_id": self.alert_id}).encode())


class Outputs:
    """The outputs of a running engine, a thread for each.

    Args:
        log: The place of the alert log, a path or URL.
        outputs: Their settings.
        folder: Where they keep their places; the state folder's ``outputs``.
        clock: The time, aware.
        tell: Called with words when an output has new trouble, or sets an alert aside; from the threads.
        patience: How long to wait for what.

    Raises:
        SettingsError: An output cannot be what the settings ask for.
    """

    def __init__(
        self, log: str | os.PathLike[str], outputs: Sequence[JsonlOutput | WebhookOutput], folder: Path,
        clock: Callable[[], datetime], *, tell: Callable[[str], None] = lambda _: None, patience: Patience | None = None,
    ) -> None:  # fmt: skip
        self._where, self._folder = log, folder
        waits = patience or Patience()
        self._runs = [_Run(one, _target(one, clock), folder / one.name, clock, tell, waits) for one in outputs]
        self._log: Alerts | None = None

    def start(self) -> Self:
        """Find each output's place in the log and begin; call it before any alert is raised, or a new output misses that.

        Raises:
            StoreError: The log cannot be opened.
            StateError: A place cannot be read.
        """
        if self._runs:
            self._log = Alerts(self._where)
            for run in self._runs:
                run.start(self._log)
        return self

    def wake(self) -> None:
        """Say that there are new alerts in the log."""
        for run in self._runs:
            run.wake()

    def status(self) -> list[dict[str, Any]]:
        """Return how each output stands: counts since the start, ``behind`` as it was counted last; it waits for nothing."""
        return [run.status() for run in self._runs]

    def settle(self, seconds: float) -> bool:
        """Wait until every output has all there is; return False when the time is up before."""
        until = time.monotonic() + seconds
        return all(run.settled.wait(max(0.0, until - time.monotonic())) for run in self._runs)

    def stop(self, seconds: float = 1.0) -> None:
        """End within so many seconds; what is under way is broken off, and delivered again by the next start."""
        until = time.monotonic() + seconds
        for run in self._runs:
            run.halt()
        for run in self._runs:
            run.join(max(0.0, until - time.monotonic()))
        if self._log is not None:
            self._log.disconnect()
            self._log = None


def _target(one: JsonlOutput | WebhookOutput, clock: Callable[[], datetime]) -> Target:
    return Webhook(one, clock) if isinstance(one, WebhookOutput) else JsonLines(one.path)


class _Run:
    """One output at work."""

    def __init__(
        self, one: JsonlOutput | WebhookOutput, target: Target, folder: Path, clock: Callable[[], datetime],
        tell: Callable[[str], None], patience: Patience,
    ) -> None:  # fmt: skip
        self.name, self._target, self._folder, self._clock = one.name, target, folder, clock
        self._tell, self._patience = tell, patience
        least = SEVERITIES.index(getattr(one, "min_severity", SEVERITIES[0]))
        # Of an alert whose severity nobody knows, nobody knows that it may be left out.
        self._severities = frozenset({SEVERITIES[0], *SEVERITIES[least:]})
        self._counts = {"behind": 0, "delivered": 0, "failed": 0, "refused": 0}
        self._last_error: str | None = None
        self._set_aside = JsonLines(folder / "refused.jsonl")
        self._woken, self._halted, self.settled = threading.Event(), threading.Event(), threading.Event()
        self._saving = threading.Lock()
        self._thread = threading.Thread(target=self._work, name=f"output {one.name}", daemon=True)
        self._waking = threading.Lock()
        self._place_is_ours = True
        self._failed_in_a_row = 0
        self._looked = 0  # every row up to here was dealt with; those after the place were none of ours

    def start(self, log: Alerts) -> None:
        self._log = log
        self._place = Place.find(self._folder / "place.json", log)
        self._thread.start()

    def wake(self) -> None:
        with self._waking:
            self.settled.clear()
            self._woken.set()

    def status(self) -> dict[str, Any]:
        return {"name": self.name, **self._counts, "last_error": self._last_error}

    def halt(self) -> None:
        self._halted.set()
        self._woken.set()
        self._target.interrupt()

    def join(self, seconds: float) -> None:
        """Wait for the thread; one that hangs is left alone, and writes its place down no more."""
        if self._thread.ident is not None:
            self._thread.join(seconds)
        with self._saving:
            self._place_is_ours = False

    # ---- in the thread

    def _work(self) -> None:
        while not self._halted.is_set():
            self._woken.clear()
            try:
                last = self._log.last_seq()
                page = self._page()
                self._deliver(page)
                if len(page) < _PAGE_ALERTS and not self._halted.is_set():
                    self._looked = max(last, self._place.seq)
                    self._rest()
            except Exception as error:  # noqa: BLE001 - whatever it is, the output goes on; the log keeps the place
                self._pause(error, "log")
        self._target.close()
        self._set_aside.close()

    def _rest(self) -> None:
        with self._waking:
            if not self._woken.is_set():  # else it was said while the page was read, which may not have had it
                self.settled.set()
        self._woken.wait(self._patience.poll_seconds)

    def _page(self) -> list[Told]:
        """Return the next alerts; fewer than a page are all there are."""
        rows = self._log.raised_after(max(self._place.seq, self._looked), _PAGE_ALERTS)
        if rows.height:
            self.settled.clear()
        self._count()
        return told_alerts(rows)

    def _deliver(self, page: list[Told]) -> None:
        size = self._target.at_once
        for begin in range(0, len(page), size):
            if self._halted.is_set():
                return
            part = page[begin : begin + size]
            wanted = [a for a in part if a.severity in self._severities]
            if wanted and not self._persist(wanted):
                return
            self._note(part[-1])
            self._counts["behind"] = max(0, self._counts["behind"] - len(wanted))

    def _persist(self, alerts: list[Told]) -> bool:
        """Deliver alerts, however often it takes; return False where the run ended before."""
        refused = 0
        while not self._halted.is_set():
            try:
                self._target.deliver(alerts)
            except RefusedError as error:
                refused += 1
                if refused >= self._patience.tries:
                    self._counts["failed"] += 1
                    self._last_error = None  # what is said next is new, though the words may be the same
                    return self._put_aside(alerts[0], error)
                self._pause(error, alerts[0].alert_id)
            except Exception as error:  # noqa: BLE001 - as above
                self._pause(error, alerts[0].alert_id)
            else:
                self._counts["delivered"] += len(alerts)
                self._failed_in_a_row, self._last_error = 0, None
                return True
        return False

    def _put_aside(self, alert: Told, error: RefusedError) -> bool:
        """Write down an alert that nobody takes, and go on with the next."""
        entry = {
            "alert_id": alert.alert_id,
            "refused_at": utc_text(self._clock()),
            "why": str(error),
            "answer": error.answer,
        }
        line = as_json(entry | {"alert": json.loads(alert.body)})
        while not self._halted.is_set():
            try:
                self._set_aside.append([line])
            except TocsinError as trouble:
                self._pause(trouble, alert.alert_id)
            else:
                self._counts["refused"] += 1
                self._failed_in_a_row = 0
                self._trouble(f"alert {alert.alert_id} is set aside in {self._folder / 'refused.jsonl'}: {error}")
                return True
        return False

    def _note(self, alert: Told) -> None:
        """Write down that everything up to an alert is delivered."""
        with self._saving:
            if not self._place_is_ours:
                return
            self._place.seq, self._place.alert_id = alert.seq, alert.alert_id
            try:
                self._place.save()
            except OSError as error:  # the next place says this one, too; until then a crash delivers more again
                self._trouble(f"{self._place.path}: {error.strerror}: how far this output is cannot be written down.")

    def _pause(self, error: Exception, salt: str) -> None:
        """Count a failure and wait, longer each time."""
        if self._halted.is_set():
            return
        self._failed_in_a_row += 1
        self._counts["failed"] += 1
        self._trouble(str(error) if isinstance(error, TocsinError) else f"unexpected: {type(error).__name__}")
        asked = getattr(error, "wait_seconds", None)
        until = time.monotonic() + self._patience.wait_seconds(self._failed_in_a_row, f"{self.name} {salt}", asked)
        while (left := until - time.monotonic()) > 0 and not self._halted.wait(min(left, _COUNT_SECONDS)):
            self._try_to_count()

    def _trouble(self, what: str) -> None:
        told, self._last_error = self._last_error == what, what
        if not told:
            with contextlib.suppress(Exception):  # whoever is told, the output goes on
                self._tell(f"{self.name}: {what}")

    def _try_to_count(self) -> None:
        try:
            self._count()
        except TocsinError:
            return  # the log does not answer; the count stays what it was

    def _count(self) -> None:
        self._counts["behind"] = self._log.count_after(self._place.seq, severities=self._severities)
