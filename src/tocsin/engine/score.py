"""Score: what a detection says of each event, why it says nothing, and whether it fires.

Enters: one detection, the events it looks at, the columns its measure and table made. Leaves: scores (finite or
NaN for unscored), the reasons of the unscored, and which events fire. Layer: engine, last stage.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from tocsin.expressions import evaluate
from tocsin.text_views import present

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tocsin.conditions import Condition
    from tocsin.detection import Detection

REASONS = ("no_entity", "late", "uncovered", "gone", "no_history", "zero_baseline", "undefined", "error")
MOST_ERRORS = 1000
"""A rule that raised on so many events is switched off; its later events count as errors without being tried."""


@dataclass
class Scored:
    """The scores of one detection over one frame; the arrays are as long as the frame.

    ``error`` is what the rule raised first, on the event in row ``error_row``.
    """

    score: NDArray[np.float64]
    fired: NDArray[np.bool_]
    unscored: dict[str, int] = field(default_factory=dict)
    error: str = ""
    error_row: int = 0


def score(detection: Detection, scope: pl.DataFrame, errors_so_far: int = 0) -> Scored:
    """Score the events of ``scope`` (those that match, with an entity), which has the ``@`` columns of the rule."""
    if errors_so_far >= MOST_ERRORS:
        return _failed(scope, "switched off after too many errors", scope.height)
    try:
        return _score(detection, scope)
    except Exception as error:  # noqa: BLE001 - a rule may raise anything; it must not stop the others
        return _bisect(detection, scope, error, errors_so_far)


def _bisect(detection: Detection, scope: pl.DataFrame, error: Exception, errors_so_far: int) -> Scored:
    """Find the events on which a rule raises, so that its other events are scored whatever batch they came in."""
    if scope.height <= 1 or _raises_on_nothing(detection, scope):
        return _failed(scope, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}", scope.height)
    middle = scope.height // 2
    left = score(detection, scope[:middle], errors_so_far)
    right = score(detection, scope[middle:], errors_so_far + left.unscored.get("error", 0))
    reasons = {r: left.unscored.get(r, 0) + right.unscored.get(r, 0) for r in REASONS}
    return Scored(
        np.concatenate([left.score, right.score]),
        np.concatenate([left.fired, right.fired]),
        {r: n for r, n in reasons.items() if n},
        left.error or right.error,
        left.error_row if left.error else middle + right.error_row,
    )


def _raises_on_nothing(detection: Detection, scope: pl.DataFrame) -> bool:
    """Whether the rule itself is wrong (a missing column, a type), not one of its events."""
    try:
        _score(detection, scope[:0])
    except Exception:  # noqa: BLE001
        return True
    return False


def _failed(scope: pl.DataFrame, message: str, n: int) -> Scored:
    return Scored(np.full(scope.height, np.nan), np.zeros(scope.height, np.bool_), {"error": n} if n else {}, message)


def _score(detection: Detection, scope: pl.DataFrame) -> Scored:
    values = evaluate(scope, detection.score).cast(pl.Float64).to_numpy()  # null becomes NaN
    finite = np.isfinite(values)
    reasons: dict[str, int] = {}
    if not finite.all():
        reasons = _reasons(detection, scope, values, finite)
        values = np.where(finite, values, np.nan)
    return Scored(values, _fires(detection.when, scope, values) & finite, reasons)


def _fires(when: Condition, scope: pl.DataFrame, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which scores meet the condition; what it says beside the threshold is asked only where some score passes that."""
    passed = when.holds(values)
    if passed is not None and (when.extra is None or not passed.any()):
        return passed
    column = pl.Series("@score", values, nan_to_null=True)
    seen = pl.DataFrame([*(c for c in scope.get_columns() if c.name != "@score"), column])
    fires = evaluate(seen, when.expression).cast(pl.Boolean)
    if fires.null_count():
        fires = fires.fill_null(value=False)
    return np.ascontiguousarray(fires.to_numpy())


def _reasons(
    detection: Detection, scope: pl.DataFrame, values: NDArray[np.float64], finite: NDArray[np.bool_]
) -> dict[str, int]:
    """Count why events are unscored: no history, a zero baseline, or undefined."""
    names = [n for n in scope.columns if n.startswith(("@ref.", "@prev."))]
    used = set(detection.score.meta.root_names()) | set(detection.when.expression.meta.root_names())
    refs = [n for n in names if n.startswith("@ref.") and n in used]
    lacking = [*refs, *(["@prev.timestamp"] if "@prev.timestamp" in names else [])]
    no_history = np.zeros(values.size, np.bool_)
    for name in lacking:
        if scope[name].null_count():
            no_history |= ~present(scope[name])
    zero = np.zeros(values.size, np.bool_)
    for name in refs:
        if scope[name].dtype.is_numeric():
            zero |= scope[name].to_numpy() == 0  # null is NaN there, which equals nothing
    unscored = ~finite
    counts = {
        "no_history": int((unscored & no_history).sum()),
        "zero_baseline": int((unscored & ~no_history & zero).sum()),
        "undefined": int((unscored & ~no_history & ~zero).sum()),
    }
    return {reason: n for reason, n in counts.items() if n}
