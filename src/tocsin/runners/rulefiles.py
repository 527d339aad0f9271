"""Rule files: Python modules with ``DETECTIONS``, loaded, checked and tested.

Enters: a path. Leaves: detections; every problem of a file with its line; the result of each rule's own examples.
Layer: runners. A rule file is code: load only files you would run.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import polars as pl

from tocsin.detection import LOOKED_UP, Detection, collect_problems
from tocsin.engine import End, Engine
from tocsin.errors import RuleError, did_you_mean
from tocsin.expressions import evaluate
from tocsin.schema import STANDARD

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from tocsin.detection import Example

_EXAMPLE_START = datetime(2026, 1, 1, tzinfo=UTC)
_TYPES: dict[str, Any] = {name: column.dtype for name, column in STANDARD.items()}
for _side in ("src", "dst", "user"):
    _TYPES |= {f"{_side}_{x}": pl.String for x in ("country", "city", "threat", "asset")}
    _TYPES |= {f"{_side}_{x}": pl.Float64 for x in ("latitude", "longitude")} | {f"{_side}_listed": pl.Boolean}


@dataclass(frozen=True)
class Problem:
    """Something wrong with a rule: where, which, what."""

    file: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        """Read like a compiler's message."""
        return f"{self.file}:{self.line}: {self.rule + ': ' if self.rule else ''}{self.message}"


@dataclass(frozen=True)
class ExampleResult:
    """What a rule did with one of its examples."""

    detection: Detection
    example_index: int
    expected: bool
    fired: bool
    error: str

    @property
    def passed(self) -> bool:
        """Whether it did what the example says."""
        return not self.error and self.fired == self.expected


def load_rules(path: str | Path, source: bytes | None = None) -> tuple[Detection, ...]:
    """Return the detections of a rule file.

    source: what the file says or once said, where that is known; then nothing is read.

    Raises:
        RuleError: The file cannot be read or run, or a detection in it is wrong; the message starts with file and line.
    """
    path = Path(path).absolute()  # as tracebacks name it
    found = _run(path, source)
    if isinstance(found, Problem):
        raise RuleError(str(found))
    problems = _shape_problems(path, found)
    if problems:
        raise RuleError(str(problems[0]))
    return tuple(found)


def check_rules(
    path: str | Path, columns: Collection[str] | None = None, source: bytes | None = None, *, examples: bool = True
) -> list[Problem]:
    """Return every problem of a rule file, in the order of its lines.

    columns: what the events have, for files about columns that are neither standard nor in their own examples.
    source: as for `load_rules`.
    """
    path = Path(path).absolute()
    with collect_problems() as collected:
        found = _run(path, source)
    problems = [Problem(where[0], where[1], rule, message) for where, rule, message in collected]
    if isinstance(found, Problem):
        return sorted({*problems, found}, key=lambda p: (p.line, p.message))
    problems += _shape_problems(path, found)
    broken = {(p.line, p.rule) for p in problems}
    for detection in found:
        if isinstance(detection, Detection) and (detection.where[1], detection.id) not in broken:
            problems += [
                Problem(*detection.where, detection.id, message)
                for message in _rule_problems(detection, columns or (), examples=examples)
            ]
    return sorted(set(problems), key=lambda p: (p.line, p.rule, p.message))


def test_rules(detections: Iterable[Detection]) -> list[ExampleResult]:
    """Run each rule's own examples through the engine, as it would run over a log."""
    return [_run_example(d, i, example) for d in detections for i, example in enumerate(d.examples)]


test_rules.__test__ = False  # type: ignore[attr-defined]  # its name is no invitation to pytest


def example_frame(example: Example) -> pl.DataFrame:
    """Return an example's events as a batch: ids and times are filled in, a minute apart, where they are not given."""
    rows = []
    for i, event in enumerate(example.events):
        at = event.get("timestamp", _EXAMPLE_START + timedelta(minutes=i))
        at = datetime.fromisoformat(at) if isinstance(at, str) else at
        rows.append({"event_id": f"{i:06}", **event, "timestamp": at})
    names = dict.fromkeys(name for row in rows for name in row)
    schema = {name: _TYPES.get(name) for name in names}
    return pl.DataFrame(
        rows, schema_overrides={n: t for n, t in schema.items() if t is not None}, infer_schema_length=None
    )


def _run(path: Path, source: bytes | None) -> Problem | Sequence[Any]:
    """Execute a rule file and return its DETECTIONS, or why it cannot be had.

    It is compiled from its text each time: a cache on disk would miss a second change within one second.
    """
    try:
        if source is None:
            if path.suffix != ".py" or not path.is_file():
                return Problem(
                    str(path), 1, "", "is not a Python file. Give the path of a .py file with DETECTIONS = (...)."
                )
            source = path.read_bytes()
        if b"\0" in source:  # of which the compiler says different things in different versions of Python
            return Problem(str(path), 1, "", "is not valid Python: it holds a null byte.")
        module = ModuleType(f"tocsin_rules_{path.stem}")
        module.__file__ = str(path)
        exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))  # noqa: S102 - it is the user's code
    except SyntaxError as error:
        return Problem(str(path), error.lineno or 1, "", f"is not valid Python: {error.msg}.")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a rule file is somebody's code and may raise anything
        return Problem(str(path), _line_in(path, error), "", _message(path, error))
    found = getattr(module, "DETECTIONS", None)
    if not isinstance(found, tuple | list):
        hint = did_you_mean("DETECTIONS", vars(module))
        return Problem(str(path), 1, "", f"defines no DETECTIONS = (...), a tuple or list of tc.Detection.{hint}")
    return found


def _message(path: Path, error: BaseException) -> str:
    """Return an error's text without the place it already starts with."""
    text = str(error) if isinstance(error, RuleError) else f"{type(error).__name__}: {error}"
    prefix = f"{path}:{_line_in(path, error)}: "
    return text.removeprefix(prefix)


def _line_in(path: Path, error: BaseException) -> int:
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
    return lines[-1] or 1 if lines else 1


def _shape_problems(path: Path, found: Sequence[Any]) -> list[Problem]:
    problems: list[Problem] = []
    seen: dict[str, Detection] = {}
    for i, detection in enumerate(found):
        if not isinstance(detection, Detection):
            problems.append(
                Problem(str(path), 1, "", f"DETECTIONS[{i}] is a {type(detection).__name__}, not a tc.Detection.")
            )
        elif detection.id in seen:
            first = seen[detection.id]
            problems.append(
                Problem(
                    *detection.where,
                    detection.id,
                    f"the id is taken by {first.where[0]}:{first.where[1]}; ids are unique.",
                )
            )
        else:
            seen[detection.id] = detection
    return problems


def _rule_problems(detection: Detection, columns: Collection[str], *, examples: bool) -> list[str]:
    in_examples = {name for e in detection.examples for event in e.events for name in event}
    known = {*STANDARD, *LOOKED_UP, *columns, *in_examples}
    problems = [
        f'no column "{name}" in the standard schema, the examples or the given events.{did_you_mean(name, known)}'
        for name in (*detection.reads, *detection.evidence)
        if name not in known
    ]
    if examples and not {True, False} <= {e.fires for e in detection.examples}:
        problems.append("needs at least one example that must fire and one that must not.")
    return list(dict.fromkeys(problems)) or _expression_problems(detection)


def _expression_problems(detection: Detection) -> list[str]:
    """Evaluate the expressions over the examples' events: their types, and whether a row depends on its neighbours."""
    frame = _with_made_columns(
        detection, pl.concat([example_frame(e) for e in detection.examples], how="diagonal_relaxed").head(50)
    )
    problems = []
    for name, expression, wanted in (
        ("on", detection.on, "boolean"),
        ("score", detection.score, "number"),
        ("when", detection.when.expression, "boolean"),
    ):
        scope = (
            frame
            if name != "when"
            else frame.with_columns(pl.Series("@score", [float(i) for i in range(frame.height)]))
        )
        try:
            whole = evaluate(scope, expression)
            company = _in_other_company(scope, expression)
        except Exception as error:  # noqa: BLE001 - whatever an expression raises is the rule's problem
            problems.append(f"{name} cannot be evaluated: {type(error).__name__}: {str(error).splitlines()[0]}")
            continue
        if wanted == "boolean" and whole.dtype not in {pl.Boolean, pl.Null}:
            problems.append(f"{name} is {whole.dtype}, not boolean. Compare it with something.")
        elif wanted == "number" and not (whole.dtype.is_numeric() or whole.dtype in {pl.Boolean, pl.Null}):
            problems.append(f"{name} is {whole.dtype}, not a number.")
        elif not all(whole.equals(other, null_equal=True) for other in company):
            problems.append(
                f"{name} depends on other rows of the batch (an aggregate, a shift, a sort). Use a measure or a fit instead."
            )
    return problems


def _in_other_company(scope: pl.DataFrame, expression: pl.Expr) -> list[pl.Series]:
    """Return the values of the same rows, evaluated row by row, and beside a second copy of all of them."""
    alone = [evaluate(scope[i : i + 1], expression) for i in range(scope.height)]
    return [pl.concat(alone), evaluate(pl.concat([scope, scope]), expression)[: scope.height]]


def _with_made_columns(detection: Detection, frame: pl.DataFrame) -> pl.DataFrame:
    """Add columns the rule reads but no example gives, and invented values for those the engine makes."""
    for name in (*detection.reads, *detection.evidence):
        if name not in frame.columns:
            frame = frame.with_columns(pl.lit(None, _TYPES.get(name, pl.String)).alias(name))
    for i, name in enumerate(detection.outputs):
        column = name.removeprefix("@prev.")
        if name.startswith("@prev."):
            frame = frame.with_columns(pl.col(column).reverse().alias(name))
        else:
            frame = frame.with_columns(pl.Series(name, [1.0 + i + j % 5 for j in range(frame.height)]))
    return frame


def _run_example(detection: Detection, index: int, example: Example) -> ExampleResult:
    frame = example_frame(example)
    for name in detection.reads:  # an example need not spell out every column a rule may look at
        if name not in frame.columns:
            frame = frame.with_columns(pl.lit(None, _TYPES.get(name, pl.String)).alias(name))
    engine = Engine([detection], frame.schema)
    state, output = engine.step(engine.new_state(), frame)
    state, rest = engine.step(state, End())
    fired = detection.id in pl.concat([output.findings, rest.findings])["detection_id"]
    return ExampleResult(detection, index, example.fires, fired, state.tallies[detection.id].error)
