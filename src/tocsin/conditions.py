"""Conditions: when a score fires.

Enters: the comparison that a rule writes, ``score > 3``, perhaps with further conditions. Leaves: a ``Condition`` that keeps
the threshold apart, so that a finding can show it and a tuner can move it. Layer: below detections.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from functools import cached_property

import polars as pl


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

    def __and__(self, extra: pl.Expr) -> Condition:
        """Add a condition that must hold too."""
        return dataclasses.replace(self, extra=extra if self.extra is None else self.extra & extra)

    def __str__(self) -> str:
        """Read like the rule that was written."""
        text = f"score {self.operator} {self.threshold.meta.output_name() if self.threshold.meta.is_column() else _literal(self.threshold)}"
        return text if self.extra is None else f"{text} and {self.extra}"


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
