"""Runs the engine and the slow reference on one log and says, readably, where they first differ.

Enters: a `Case`, and how to cut and interrupt it. Leaves: what the engine said, in the reference's own form.
Layer: tests. This is the only test file that knows the engine's face.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import polars as pl

from tests.oracle import Answer, Columns, Spec, answer, columns_read, outputs
from tests.oracle_scores import Found, findings, scores
from tests.oracle_time import End, Idle, Record, to_us
from tests.strategies import SCHEMA, SKEW_US, Case
from tocsin import engine as face
from tocsin.detection import Context, Detection, score
from tocsin.engine import Engine
from tocsin.engine.saved import load_state, save_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

KEY = b"0123456789abcdef"


@dataclass
class Ran:
    """What the engine said: fates in arrival order, trace rows and scores in the order given, findings with peaks."""

    fates: list[tuple[str, str]] = field(default_factory=list)
    trace: list[dict[str, Any]] = field(default_factory=list)
    scores: dict[str, list[tuple[str, float]]] = field(default_factory=lambda: defaultdict(list))
    findings: list[dict[str, Any]] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)
    closes: list[dict[str, Any]] = field(default_factory=list)
    tallies: dict[str, dict[str, Any]] = field(default_factory=dict, compare=False)

    def add(self, output: Any) -> None:
        if output.fates is not None:
            self.fates += output.fates.select("event_id", "fate").rows()
        for row in output.trace.to_dicts() if output.trace is not None else ():
            (self.trace if row.get("@closed") is None else self.closes).append(row)
        for detection_id, frame in output.scores.items():
            rows = frame.select("event_id", "score").rows()
            self.scores[detection_id] += [(event_id, score) for event_id, score in rows if score is not None]
        self.findings += output.findings.to_dicts()
        self.peaks |= dict(output.peaks.select("finding_id", "peak_score").rows())

    def mine(self, spec: Spec) -> list[dict[str, Any]]:
        """The findings of one spec, with their last peaks."""
        name = detection_id(spec)
        return [self._final(f) for f in self.findings if f["detection_id"] == name]

    def _final(self, finding: dict[str, Any]) -> dict[str, Any]:
        return finding | {"peak_score": self.peaks.get(finding["finding_id"], finding["peak_score"])}

    def found(self) -> list[dict[str, Any]]:
        """The findings, each with the peak its window came to in the end, in an order of their own."""
        return sorted(map(self._final, self.findings), key=lambda f: f["finding_id"])

    def rows(self, spec: Spec) -> dict[str, list[Columns]]:
        """The columns of one spec by event id, under the reference's names."""
        found: dict[str, list[Columns]] = defaultdict(list)
        names = {c: detection_id(spec) + c for c in outputs(spec)}
        for row in self.trace:
            found[row["event_id"]].append({c: row[name] for c, name in names.items()})
        return dict(found)


def detection_id(spec: Spec) -> str:
    return f"parity.{spec.id}"


def detection(spec: Spec) -> Detection:
    """The same question, asked of the package. What the reference reads is read here too, so that contents agree."""
    assert spec.score is not None
    closes = spec.quiet_after is not None
    return Detection(
        id=detection_id(spec),
        title="A rule of the parity tests",
        severity="low",
        on=spec.on,
        entity=spec.entity or "user_id",
        measure=spec.measure,
        against=spec.against,
        context={
            n: Context(entity=c.entity or "user_id", measure=c.measure, on=c.on)  # type: ignore[arg-type]
            for n, c in spec.context.items()
        },
        score=spec.score,
        when=score > spec.threshold,
        evidence=() if closes else tuple(sorted(columns_read(spec) - {"timestamp"})),
        at="close" if closes else "event",
        quiet_after=spec.quiet_after,
    )


def engine(case: Case) -> Engine:
    return Engine(
        [detection(s) for s in case.specs],
        SCHEMA,
        lateness=case.lateness,
        dedup_horizon=case.dedup_horizon,
        future_skew=SKEW_US,
        gaps=case.gaps,
        key=KEY,
        trace=True,
        keep_scores=True,
    )


def batches(log: Sequence[Record], cuts: Iterable[int]) -> list[pl.DataFrame | Idle | End]:
    """The log in pieces: cut before each of the given positions and around every control record."""
    cuts = set(cuts)
    pieces: list[list[Record]] = []
    for i, record in enumerate(log):
        alone = not isinstance(record, dict) or not pieces or not isinstance(pieces[-1][-1], dict)
        if alone or i in cuts:
            pieces.append([])
        pieces[-1].append(record)
    return [p[0] if not isinstance(p[0], dict) else pl.DataFrame(p, schema=SCHEMA) for p in pieces]


def run(case: Case, cuts: Iterable[int] = (), *, saves: Iterable[int] = (), folder: Path | None = None) -> Ran:
    """Fold the log over the engine's step; before the pieces numbered in `saves` the state goes through a file."""
    saves = set(saves)
    made, ran = engine(case), Ran()
    state = made.new_state()
    for i, piece in enumerate(batches(case.log, cuts)):
        if i in saves:
            assert folder is not None
            path = folder / f"state-{i}"
            save_state(state, path)
            made = engine(case)
            state = load_state(made, path)
        state, output = made.step(state, control(piece))
        ran.add(output)
    ran.tallies = {name: vars(tally) for name, tally in state.tallies.items()}
    return ran


def control(piece: pl.DataFrame | Idle | End) -> Any:
    """The package's own word for a control record; it writes a missing partition as an empty name."""
    if isinstance(piece, Idle):
        return face.Idle(piece.partition or "")
    return face.End() if isinstance(piece, End) else piece


def expected(case: Case) -> Answer:
    return answer(case.log, case.specs, schema=SCHEMA, **case.settings)


def same(a: Any, b: Any) -> bool:
    """Bit for bit: numbers of equal value, null only with null, and never NaN."""
    if isinstance(a, float) and isinstance(b, float):
        return a == b and not math.isnan(a)
    return type(a) is type(b) and a == b if a is None or b is None else a == b


def agree(case: Case, want: Answer, got: Ran, only: set[str] | None = None) -> None:
    """Fail with the first difference, in words."""
    __tracebackhide__ = True
    found = difference(case, want, got, only)
    if found is not None:
        raise AssertionError(found)


def difference(case: Case, want: Answer, got: Ran, only: set[str] | None = None) -> str | None:
    """The first difference in words, or None. `only` limits the comparison to the columns of some event ids."""
    if only is None and want.fates != got.fates:
        for i, (w, g) in enumerate(zip(want.fates, got.fates, strict=False)):
            if w != g:
                return f"arrival {i}: expected {w}, engine says {g}"
        return f"expected {len(want.fates)} fates, engine gave {len(got.fates)}"
    for spec in case.specs:
        found = _columns_differ(spec, want, got, only)
        if found is None and only is None:
            scored = scores(spec, want)
            found = _scores_differ(spec, want, got, scored) or _findings_differ(spec, want, got, scored)
        if found is not None:
            return f"{spec.id} {_named(spec)}\n  {found}"
    return None


def _columns_differ(spec: Spec, want: Answer, got: Ran, only: set[str] | None) -> str | None:
    late = Counter(i for i, fate in want.fates if fate == "late")
    rows, wanted = got.rows(spec), defaultdict(list)
    for event_id, cells in want.columns[spec.id]:
        wanted[event_id].append(cells)
    for event_id in wanted.keys() | rows.keys():
        if only is not None and event_id not in only:
            continue
        answers = _without_late(rows.get(event_id, []), len(wanted[event_id]), late[event_id])
        if len(answers) != len(wanted[event_id]):
            return f"{event_id}: expected {len(wanted[event_id])} trace rows, engine gave {answers}"
        for w, g in zip(wanted[event_id], answers, strict=True):
            if w == g:  # the fast way: true only if nothing differs and nothing is NaN
                continue
            for column, value in w.items():
                if not same(value, g[column]):
                    return f"{event_id} {column}: expected {value!r}, engine {g[column]!r}"
    return None


def _scores_differ(spec: Spec, want: Answer, got: Ran, scored: list[float | None]) -> str | None:
    every = zip(want.released, scored, strict=True)
    wanted = [(j.row["event_id"], score) for j, score in every if score is not None]
    said = got.scores[detection_id(spec)]
    if wanted == said:
        return None
    odd = [pair for pair in zip_longest(wanted, said) if pair[0] != pair[1]]
    return f"score: expected {odd[0][0]}, engine {odd[0][1]}"


def _findings_differ(spec: Spec, want: Answer, got: Ran, scored: list[float | None]) -> str | None:
    wanted = sorted(findings(spec, want, scored))
    said = sorted(
        Found(spec.id, f["entity"], f["event_id"], to_us(f["time"]), f["score"], f["peak_score"])
        for f in got.mine(spec)
    )
    if wanted == said:
        return None
    return f"finding: expected {sorted(set(wanted) - set(said))}, engine {sorted(set(said) - set(wanted))}"


def _without_late(rows: list[Columns], wanted: int, late: int) -> list[Columns]:
    """A late event may have a trace row, as long as it says nothing."""
    kept = list(rows)
    for row in rows:
        if len(kept) > wanted and late > 0 and all(v is None for v in row.values()):
            kept.remove(row)
            late -= 1
    return kept


def _named(spec: Spec) -> str:
    return f"on={spec.on} entity={spec.entity} measure={spec.measure} against={spec.against}"
