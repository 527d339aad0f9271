"""Verify, live: the real engine in processes of its own, fed by a growing file, killed and started again.

Enters: an arrival log, what a replay of it gave, rule and reference files. Leaves: a row of the report: every score and
finding that the processes left behind, compared with the replay's. Layer: runners.

The file holds the events as `read` accepted them, and before anything is started it is read back and compared: what then
differs is of the engine and not of the way there. The state folder gets the replay's key, since hashes depend on it.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl

from tocsin.alerts import Alerts
from tocsin.errors import RuleError, SourceError
from tocsin.references import References, reference
from tocsin.rules import ALL
from tocsin.runners.live.batchlog import Batch, BatchLog
from tocsin.runners.live.deadletters import DeadLetters
from tocsin.runners.live.folder import StateFolder
from tocsin.runners.live.settings import ReferenceFiles
from tocsin.runners.rulefiles import load_rules
from tocsin.runners.verify_process import LiveFailedError, LiveProcess
from tocsin.runners.verify_results import Result, result
from tocsin.schema import KINDS, STANDARD, TIME
from tocsin.sources import read
from tocsin.sources.mapping import ColumnRule, Mapping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from collections.abc import Mapping as Values

    from tocsin.detection import Detection
    from tocsin.engine import Engine
    from tocsin.runners.verify_results import Book

SOURCE = "log"
BATCHES = 40
"""Into about so many batches the log is cut, where they are not bounded by `MOST_ROWS`."""
FEWEST_ROWS, MOST_ROWS = 20, 10_000
MOST_SECONDS = 0.6
"""The longest that a process runs on after it began to follow the file, until it is killed."""
CHUNKS = 5
"""In so many parts the file grows while a process follows it."""
_KIND_OF = {dtype: kind for kind, dtype in KINDS.items() if kind != "address"}
_WIDER: dict[Any, Any] = dict.fromkeys((pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32), pl.Int64)
_WIDER |= {pl.Float32: pl.Float64, pl.Categorical: pl.String, pl.Enum: pl.String}


@dataclass(frozen=True)
class LiveFiles:
    """What the process loads: rule files (none: the rules that ship), and reference files."""

    rules: tuple[Path, ...]
    references: ReferenceFiles

    @classmethod
    def of(
        cls,
        detections: Iterable[Detection],
        refs: References | None,
        rules: Iterable[str | Path],
        references: Values[str, Any] | None,
    ) -> Self:
        """Return the files of a process that runs these detections with these references.

        Raises:
            RuleError, SourceError: The files do not hold them.
        """
        paths = tuple(Path(rule).absolute() for rule in rules)
        there = {(d.id, d.version) for d in (ALL if not paths else (d for path in paths for d in load_rules(path)))}
        gone = next((d.id for d in detections if (d.id, d.version) not in there), None)
        if gone is not None:
            where = "among the rules that ship" if not paths else "in " + ", ".join(map(str, paths))
            raise RuleError(
                f"{gone} is not {where}, or not in this version. A live process loads its rules from files: name them with rule_files."
            )
        asked = ReferenceFiles(**_absolute(references or {}))
        given = {k: v for k, v in asked.model_dump().items() if v}
        if (refs or References()).digest != reference(**{k: _listed(v) for k, v in given.items()}).digest:
            raise SourceError(
                "reference_files do not hold what refs holds. A live process looks events up in files: name the same ones, "
                'as in reference_files={"threats": ["listed.txt"]}.'
            )
        return cls(paths, asked)


def _absolute(references: Values[str, Any]) -> dict[str, Any]:
    """Return reference files by their absolute paths; several of a kind as a list."""
    found: dict[str, Any] = {}
    for name, value in references.items():
        if name in {"geo", "networks"}:
            found[name] = value if value in {None, "country"} else str(Path(value).absolute())
        else:
            several = [value] if isinstance(value, (str, Path)) else value or ()
            found[name] = tuple(Path(path).absolute() for path in several)
    return found


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def carried(log: pl.DataFrame) -> pl.DataFrame:
    """Return events with columns of types that JSON lines carry: narrow numbers become wide, categories text.

    Raises:
        SourceError: A column has a type that none of the kinds of a mapping stands for.

    >>> carried(pl.DataFrame({"n": [1]}, schema={"n": pl.Int16})).dtypes
    [Int64]
    """
    for name, dtype in log.schema.items():
        if dtype not in _KIND_OF and dtype.base_type() not in _WIDER:
            raise SourceError(
                f"the column {name!r} is {dtype}: JSON lines cannot carry it to a live process. Verify without live."
            )
    return log.with_columns(
        pl.col(name).cast(_WIDER[dtype.base_type()]) for name, dtype in log.schema.items() if dtype not in _KIND_OF
    )


@dataclass
class Driver:
    """Drives a live process over arrival logs; ``engine`` is the one that replayed them."""

    engine: Engine
    files: LiveFiles
    kills: int
    seed: int
    progress: Callable[[str], None]

    def drive(
        self,
        book: Book,
        name: str,
        log: pl.DataFrame,
        expected: Result,
        *,
        kills: int | None = None,
        stopped: bool = False,
    ) -> None:
        """Feed a log to a process that is killed, and once stopped where that is asked, and write down what came of it."""
        kills = self.kills if kills is None else kills
        rng = np.random.default_rng([self.seed, len(book.rows)])
        with tempfile.TemporaryDirectory(prefix="tocsin-verify-") as temporary:
            course = _Course(Path(temporary), self, name)
            course.prepare(log)
            try:
                course.run(kills, rng, stopped=stopped)
                ran = {p.detection.id for p in self.engine.plan.planned}
                got, batches, notes = course.gathered(ran)
            except LiveFailedError as error:
                book.fail(name, log.height, str(error))
                return
        repeated = log.height - log.select(pl.col("^source|event_id$")).n_unique()
        note = [f"{repeated} events sent twice"] if repeated else []
        note += ["also stopped once"] if stopped else []
        expected = dataclasses.replace(expected, findings=_of(expected.findings, ran))
        book.enter(name, batches, log.height, expected, got, "; ".join(note + notes))


class _Course:
    """One log on its way through the lives of a process, in a folder of its own."""

    def __init__(self, folder: Path, driver: Driver, name: str) -> None:
        self._folder, self._driver, self._name = folder, driver, name
        self._path, self._settings = folder / f"{SOURCE}.jsonl", folder / "live.toml"
        self._state, self._log = StateFolder(folder / "state"), folder / "alerts.db"
        self._data, self._fed = b"", 0

    def prepare(self, log: pl.DataFrame) -> None:
        """Write the settings, and look whether the file will say what the log says."""
        mapping = _mapping(log)
        (self._folder / "mapping.toml").write_text(mapping.to_toml(), "utf-8")
        self._data = _json_lines(log)
        self._path.write_bytes(self._data)
        _check_read(self._path, mapping, log)
        self._path.write_bytes(b"")
        self._settings.write_text(self._document(log.height), "utf-8")
        self._state.lock().unlock()
        (self._state.path / "key").write_bytes(self._driver.engine.key)

    def _document(self, n: int) -> str:
        """Return the settings file: small batches, frequent snapshots, the times of the replay."""
        engine, files = self._driver.engine, self._driver.files
        source = {"kind": "file", "name": SOURCE, "path": self._path, "mapping": self._folder / "mapping.toml"}
        tables: dict[str, dict[str, Any]] = {
            "rules": {"files": files.rules},
            "references": {k: v for k, v in files.references.model_dump().items() if v},
            "batches": {"rows": min(max(n // BATCHES, FEWEST_ROWS), MOST_ROWS), "linger_ms": 5},
            "times": {
                "lateness": f"{engine.lateness}us", "dedup_horizon": f"{engine.horizon}us", "future_skew": f"{engine.skew}us",
                "idle_after": "3650d",
            },
            "snapshots": {"every_seconds": 0.2, "full_every": 3, "keep": 2},
        }  # fmt: skip
        top = {"state": self._state.path, "log": self._log, "keep_scores": True}
        lines = [f"{k} = {_toml(v)}" for k, v in top.items()]
        for name, table in [*tables.items(), ("[sources]", source)]:
            lines += [f"[{name}]", *(f"{k} = {_toml(v)}" for k, v in table.items())]
        return "\n".join(lines) + "\n"

    def run(self, kills: int, rng: np.random.Generator, *, stopped: bool) -> None:
        """Let processes follow the file as it grows; the last one finishes it.

        A kill comes at a random moment after the process began to follow, and finds the file at a random byte.

        Raises:
            LiveFailedError: A process did not do what it was asked to.
        """
        lives = kills + stopped
        edges = np.sort(rng.integers(0, len(self._data) + 1, lives)).tolist()
        for life, upto in enumerate(edges):
            self._driver.progress(f"{self._name}: start {life + 1} of {lives + 1}")
            self._feed((self._fed + upto) // 2)
            with self._process() as process:
                process.until_following()
                seconds, start = rng.uniform(0, MOST_SECONDS), self._fed
                for i in range(1, CHUNKS + 1):
                    self._feed(start + (upto - start) * i // CHUNKS)
                    time.sleep(seconds / CHUNKS)
                if stopped and life == lives - 1:
                    process.stop()
                else:
                    process.kill()
        self._driver.progress(f"{self._name}: start {lives + 1} of {lives + 1}")
        self._feed(len(self._data))
        with self._process("--finish") as process:
            process.finish()

    def _process(self, *more: str) -> LiveProcess:
        return LiveProcess(["run", str(self._settings), *more], self._state.path, self._folder / "said.jsonl")

    def _feed(self, upto: int) -> None:
        with self._path.open("ab") as file:
            file.write(self._data[self._fed : upto])
        self._fed = upto

    def gathered(self, ran: set[str]) -> tuple[Result, int, list[str]]:
        """Return what the processes left behind of these detections, how many batches they made, and what there is to note."""
        files = sorted(self._state.scores.glob("*.arrow")) if self._state.scores.exists() else []
        scores = [pl.read_ipc(file).filter(pl.col("detection").is_in(ran)) for file in files]
        with Alerts(str(self._log)) as alerts:
            history = alerts.history()
        letters = DeadLetters(self._state.dead_letters, keep_days=1, clock=_never, create=False)
        try:
            late, reasons = letters.counts()["late"], letters.reasons()
        finally:
            letters.close()
        log = BatchLog(self._state.batches)
        batches = sum(isinstance(entry, Batch) for _, entry in log.entries(log.first - 1))
        others = sorted({d for file in files for d in pl.read_ipc(file)["detection"].unique()} - ran)
        notes = [f"{n} set aside: {reason}" for _, reason, n in reasons]
        notes += [f"run live on columns that are all null, and not compared: {', '.join(others)}"] if others else []
        return _result(scores, history, ran, late), batches, notes


def _result(scores: Sequence[pl.DataFrame], history: Any, ran: set[str], late: int) -> Result:
    found = _of(history.findings, ran)
    peaks = history.events.filter(pl.col("type") == "peak").select(finding_id="value", later="number")
    farthest = (pl.col("later") - pl.col("score")).abs()
    peaks = found.select("finding_id", "score").join(peaks, on="finding_id", how="inner").sort(farthest)
    return result(scores, found, peaks.select("finding_id", "later").iter_rows(), {"late": late})


def _of(findings: pl.DataFrame, ran: set[str]) -> pl.DataFrame:
    """Return the findings of these detections, with the engine's columns."""
    from tocsin.engine.findings import SCHEMA

    return findings.filter(pl.col("detection_id").is_in(ran)).select(pl.col(n).cast(t) for n, t in SCHEMA.items())


def _mapping(log: pl.DataFrame) -> Mapping:
    """Return the mapping under which the file's fields are the log's columns again: times are whole microseconds."""
    rules = []
    for name, dtype in log.schema.items():
        kind = _KIND_OF[dtype]
        standard = None if name not in STANDARD else STANDARD[name].kind
        rules.append(ColumnRule(name, (name,), kind=standard or kind, unit="us" if kind == "time" else None))
    return Mapping(name=SOURCE, format="jsonl", columns=tuple(rules))


def _json_lines(log: pl.DataFrame) -> bytes:
    """Return events as JSON lines: floats in as many digits as tell them apart, times as microseconds."""
    times = [pl.col(name).dt.epoch("us") for name, dtype in log.schema.items() if dtype == TIME]
    return log.with_columns(times).write_ndjson().encode()


def _check_read(path: Path, mapping: Mapping, log: pl.DataFrame) -> None:
    """Look whether a file says what the log says.

    Raises:
        SourceError: It does not; the message names the first column that came back otherwise.
    """
    back = read(path, mapping=mapping, name=SOURCE, order="arrival")
    frames = list(back.batches(log.columns))
    found = pl.concat(frames).select(log.columns) if frames else log.clear()
    if found.height != log.height:
        why = next(iter(back.reject_reasons), "unknown")
        raise SourceError(
            f"{log.height - found.height} events cannot be carried to a live process as JSON lines ({why}). Verify without live."
        )
    for name in log.columns:
        if not found[name].equals(log[name], null_equal=True):
            row = int((~found[name].eq_missing(log[name])).arg_true()[0])
            raise SourceError(
                f"event {log['event_id'][row]}: its {name!r} is {log[name][row]!r}, but read back from JSON lines {found[name][row]!r}."
                " Verify without live."
            )


def _toml(value: Any) -> str:
    """Return a value as TOML writes it.

    >>> _toml(("a", True, 3))
    '["a", true, 3]'
    """
    return json.dumps(value, default=str, ensure_ascii=False)


def _never() -> datetime:
    """Stand for the time it is, where nothing is written."""
    return datetime(1970, 1, 1, tzinfo=UTC)
