"""Watch: rule files and reference files that change while the engine runs.

Enters: the files that the settings name. Leaves: a ``Change`` for each new content: an engine to go on with, or, where the
content is broken, a finding that says so; the old version then goes on. Layer: runners.

A look costs one ``stat`` a file. A file that differs from the look before waits for one more, so that a file that is being
written, or put back after a removal, is read once it is whole. All that takes long (copying, checking, examples, parsing,
compiling) happens in the watcher's own thread.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from tocsin.engine import findings as fnd
from tocsin.errors import TocsinError
from tocsin.runners.live.versions import RULES, BrokenFileError, Versions, watched
from tocsin.runners.rulefiles import check_rules, test_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from tocsin.detection import Detection
    from tocsin.engine import Engine
    from tocsin.references import References
    from tocsin.runners.live.settings import ReferenceFiles, Rules
    from tocsin.runners.rulefiles import ExampleResult

    Signature = tuple[int, int, int, int] | None
    Make = Callable[[Sequence[Detection], References], Engine]

RELOAD_ERROR = "tocsin.reload-error"
"""The detection id of the finding that a broken file leaves behind."""
MOST_PROBLEMS = 20


@dataclass(frozen=True)
class Change:
    """What became of files that changed.

    digest, engine: the version to go on with, where there is a new one. finding: one row, where a file is broken.
    note: what happened, in words.
    """

    note: str
    digest: str | None = None
    engine: Engine | None = None
    finding: pl.DataFrame | None = None


class Watcher:
    """Looks at the files every ``check_seconds``.

    versions: where contents are kept. make: compiles detections and references into an engine, with the settings of the
    run. columns: says which the events have by now, for the checks of rule files. digest: the version that is running.
    """

    def __init__(
        self,
        versions: Versions,
        rules: Rules,
        references: ReferenceFiles,
        make: Make,
        *,
        digest: str,
        columns: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._versions, self._rules, self._references = versions, rules, references
        self._make, self._columns, self._digest = make, columns, digest
        self._paths = [path for _, path in watched(rules.files, references)]
        self._name = str(self._paths[0]) if self._paths else RULES
        self._seen: list[Signature] | None = None
        self._done: list[Signature] | None = None
        self._broken: tuple[str, str] | None = None
        self._changes: queue.SimpleQueue[Change] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look, in a thread of its own, where there is anything to look at."""
        if not self._paths:
            return
        self._thread = threading.Thread(target=self._work, name="tocsin-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what it is loading is left."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(self._rules.check_seconds)

    def changed(self) -> Change | None:
        """Return the next change that is ready, or None. Costs next to nothing."""
        try:
            return self._changes.get_nowait()
        except queue.Empty:
            return None

    def _work(self) -> None:
        while not self._stop.wait(self._rules.check_seconds):
            self.look(datetime.now(UTC))

    def look(self, now: datetime) -> None:
        """Look once, and load what has changed and come to rest; ``now`` is the time of what is found."""
        signatures = [_signature(path) for path in self._paths]
        at_rest, self._seen = signatures == self._seen, signatures
        if not at_rest or signatures == self._done:
            return
        self._done = signatures
        try:
            change = self._load(now)
        except Exception as error:  # noqa: BLE001 - whatever it is, the old version goes on
            if isinstance(error, OSError):
                self._done = None  # no room, say: that may pass, so try again
            change = self._broke(BrokenFileError(self._name, "", f"{type(error).__name__}: {error}"), now)
        if change is not None:
            self._changes.put(change)

    def _load(self, now: datetime) -> Change | None:
        try:
            digest = self._versions.keep(self._rules.files, self._references)
        except BrokenFileError as error:
            return self._broke(error, now)
        if digest == self._digest:
            return self._mended()
        try:
            engine = self._engine(digest)
        except BrokenFileError as error:
            self._versions.drop(digest)
            return self._broke(error, now)
        self._digest, self._broken = digest, None
        return Change(f"rules and references are now version {digest}", digest, engine)

    def _mended(self) -> Change | None:
        if self._broken is None:
            return None
        file, self._broken = self._broken[0], None
        return Change(f"{file} is mended: it says again what version {self._digest} runs")

    def _engine(self, digest: str) -> Engine:
        """Check, test, parse and compile a version."""
        for kept in self._versions.manifest(digest).of(RULES):
            problems = check_rules(kept.where, self._columns(), self._versions.text(kept), examples=False)
            if problems:
                raise BrokenFileError(kept.where, kept.sha256, _listed([str(p) for p in problems]))
        detections, references = self._versions.open(digest)
        files = {k.where: k.sha256 for k in self._versions.manifest(digest).of(RULES)}
        failed = [_said(r) for r in test_rules(detections if files else ()) if not r.passed]
        if failed:
            raise _blamed(failed[0], files, _listed(failed))
        try:
            return self._make(detections, references)
        except TocsinError as error:
            raise _blamed(str(error), files, str(error)) from error

    def _broke(self, error: BrokenFileError, now: datetime) -> Change | None:
        """Return what is to be said of a broken content, once."""
        if self._broken == (error.file, error.digest or str(error)):
            return None
        self._broken = (error.file, error.digest or str(error))
        note = f"{error.file} is broken; version {self._digest} goes on: {error}"
        return Change(note, finding=write_reload_error(error, now))


def write_reload_error(error: BrokenFileError, now: datetime) -> pl.DataFrame:
    """Return the one finding that says a file is broken; its id is made of the file and of what it holds."""
    text = pl.Series([f"{RELOAD_ERROR}\x1f{error.digest}\x1f{error.file}"])
    finding_id = fnd.hex_digest(text)
    found = pl.select(
        finding_id=pl.lit(finding_id[0]), detection_id=pl.lit(RELOAD_ERROR), version=pl.lit(error.digest),
        severity=pl.lit("high"), tier=pl.lit(1, pl.Int8), title=pl.lit(f"{Path(error.file).name} cannot be loaded"),
        entity_kind=pl.lit("file"), entity=pl.lit(error.file), time=pl.lit(now, fnd.UTC_TIME),
        evidence=pl.struct(error=pl.lit(str(error))).struct.json_encode(), table_digest=pl.lit(""),
        event_id=pl.lit(finding_id[0]),
    )  # fmt: skip
    return pl.concat([fnd.empty(), found], how="diagonal")


def _blamed(place: str, files: Mapping[str, str], problem: str) -> BrokenFileError:
    """Return the error of the rule file whose name a message begins with."""
    file = next((f for f in files if place.startswith(f"{f}:")), next(iter(files), RULES))
    return BrokenFileError(file, files.get(file, ""), problem)


def _signature(path: Path) -> Signature:
    """Return what differs when a file was written, replaced or removed."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _said(result: ExampleResult) -> str:
    where, verb = result.detection.where, "must fire" if result.expected else "must not fire"
    did = result.error or ("it fired" if result.fired else "it did not fire")
    return f"{where[0]}:{where[1]}: {result.detection.id}: example {result.example_index + 1} {verb}: {did}."


def _listed(problems: Sequence[str]) -> str:
    more = len(problems) - MOST_PROBLEMS
    return "\n".join([*problems[:MOST_PROBLEMS], *([f"and {more} more"] if more > 0 else [])])
