"""Conditions: when a score fires.

Enters: the comparison that a rule writes, ``score > 3``, perhaps with further conditions. Leaves: a ``Condition`` that keeps
the threshold apart, so that a finding can show it and a tuner can move it. Layer: below detections.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Condition:
    """When a score fires: a comparison with a threshold, and perhaps further conditions on the event.

    ``(score > 3) & (value >= 20)`` keeps its threshold apart, so that a finding can show it and a tuner can move it.
    """

    operator: str
    threshold: pl.Expr
    extra: pl.Expr | None = None

    @cached_property
    def expression(self) -> pl.Expr:
        """The whole condition as one boolean expression; a null score or threshold never fires."""
        s, t = pl.col("@score"), self.threshold
        compared = {">": s > t, ">=": s >= t, "<": s < t, "<=": s <= t, "==": s == t}[self.operator]
        return compared if self.extra is None else compared & self.extra

    @cached_property
    def number(self) -> float | None:
        """The threshold where it is a plain number, else None."""
        if self.threshold.meta.root_names():
            return None
        value = pl.select(self.threshold).to_series()
        return float(value[0]) if len(value) == 1 and value.dtype.is_numeric() and value[0] is not None else None

    def holds(self, score: NDArray[np.float64]) -> NDArray[np.bool_] | None:
        """Return which scores meet the comparison, whatever further conditions say; None where the threshold is no number."""
        return None if self.number is None else _COMPARE[self.operator](score, self.number)

    def __and__(self, extra: pl.Expr) -> Condition:
        """Add a condition that must hold too."""
        return dataclasses.replace(self, extra=extra if self.extra is None else self.extra & extra)

    def __str__(self) -> str:
        """Read like the rule that was written."""
        text = f"score {self.operator} {self.threshold.meta.output_name() if self.threshold.meta.is_column() else _literal(self.threshold)}"
        return text if self.extra is None else f"{text} and {self.extra}"


_COMPARE = {">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal, "==": np.equal}


def _literal(expression: pl.Expr) -> str:
    return re.sub(r"dyn (int|float): ", "", str(expression))


class Score:
    """The score as a rule's ``when`` names it: comparing it gives a ``Condition``."""

    def __gt__(self, threshold: float | pl.Expr) -> Condition:
        """Fire above the threshold."""
        return Condition(">", _expression(threshold))

    def __ge__(self, threshold: float | pl.Expr) -> Condition:
        """Fire at the threshold or above."""
        return Condition(">=", _expression(threshold))

    def __lt__(self, threshold: float | pl.Expr) -> Condition:
        """Fire below the threshold."""
        return Condition("<", _expression(threshold))

    def __le__(self, threshold: float | pl.Expr) -> Condition:
        """Fire at the threshold or below."""
        return Condition("<=", _expression(threshold))


def _expression(x: float | pl.Expr) -> pl.Expr:
    return x if isinstance(x, pl.Expr) else pl.lit(x)


score = Score()
