"""Groups of alerts that were timed: who is in which, in which order, and whose name may be shown.

Enters: a scope and its durations. Leaves: a `Group` for each severity, rule, vendor or assignee, and one of all. Layer: metrics.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from tocsin.errors import did_you_mean
from tocsin.lifecycle.words import SEVERITIES
from tocsin.metrics.scope import MetricError
from tocsin.stats.survival import Curve, kaplan_meier

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from tocsin.metrics.scope import Scope

COLUMNS: Final[Mapping[str, str]] = MappingProxyType(
    {"severity": "severity", "rule": "rule_id", "vendor": "vendor", "assignee": "assignee"}
)
EVERYBODY: Final = "all"
NOBODY, SOMEBODY, TOO_FEW = "nobody", "people", "too few people to show apart"
LEAST_PEOPLE: Final = 3


@dataclass(frozen=True, eq=False)
class Group:
    """The alerts of one group that count: minutes, whether each ended; and why how many others do not count.

    averaged: the times are only good for a plain mean: the notebook's, which mark what waits by -1.
    """

    name: str
    minutes: NDArray[np.float64]
    ended: NDArray[np.bool_]
    reasons: Mapping[str, int] = field(default_factory=dict)
    averaged: bool = False

    @property
    def n(self) -> int:
        """How many count."""
        return self.minutes.size

    @property
    def waiting(self) -> int:
        """How many of them still wait."""
        return self.n - int(self.ended.sum())

    @cached_property
    def curve(self) -> Curve | None:
        """The share that still waits; None where there is nothing to draw it from."""
        return None if self.averaged or not self.n else kaplan_meier(self.minutes, self.ended)


def grouped(
    scope: Scope,
    timed: pl.DataFrame,
    by: str | None,
    *,
    names: bool,
    averaged: bool = False,
    per: Mapping[str, float] | None = None,
) -> list[Group]:
    """Return the groups of alerts that were timed, the group of all last; severities from critical down, others by size.

    Args:
        scope: Whose alerts ``timed`` are, row by row.
        timed: As `clocks.durations` returns.
        by: One of `COLUMNS`, or None: only the group of all.
        names: Whether single assignees are groups; else they are one, of at least `LEAST_PEOPLE`.
        averaged: As in `Group`.
        per: Severity -> target. Minutes become multiples of the target; alerts of other severities take no part.

    Raises:
        MetricError: ``by`` is none of `COLUMNS`.
    """
    if by is not None and by not in COLUMNS:
        raise MetricError(
            f'There are no groups by "{by}".{did_you_mean(by, COLUMNS)} Known: {", ".join(COLUMNS)}, or None.'
        )
    if not timed.height:
        return []
    rows = timed.select("minutes", "ended", "excluded", group=_labels(scope, by, names=names))
    if per is not None:
        target = scope.alerts["severity"].replace_strict(dict(per), default=None, return_dtype=pl.Float64)
        rows = rows.with_columns(minutes=pl.col("minutes") / target).filter(target.is_not_null())
    parts = {key[0]: part for key, part in rows.partition_by("group", as_dict=True).items()} if by else {}
    order = {severity: -i for i, severity in enumerate(SEVERITIES)} if by == "severity" else {}
    ordered = sorted(parts, key=lambda name: (order.get(name, 1), name in (NOBODY, TOO_FEW), -parts[name].height, name))
    return [_group(name, parts[name], averaged=averaged) for name in ordered] + [
        _group(EVERYBODY, rows, averaged=averaged)
    ]


def _group(name: Any, rows: pl.DataFrame, *, averaged: bool) -> Group:
    counted = rows.filter(pl.col("excluded").is_null())
    reasons = rows["excluded"].drop_nulls().value_counts(sort=True).sort("count", "excluded", descending=[True, False])
    return Group(str(name), counted["minutes"].to_numpy(), counted["ended"].to_numpy(), dict(reasons.rows()), averaged)


def _labels(scope: Scope, by: str | None, *, names: bool) -> pl.Series:
    if by is None:
        return pl.Series([EVERYBODY]).new_from_index(0, scope.alerts.height)
    told = scope.alerts[COLUMNS[by]]
    if by != "assignee":
        return told.fill_null(f"no {by}")
    if names:
        return told.fill_null(NOBODY)
    if told.drop_nulls().n_unique() < LEAST_PEOPLE:
        return pl.Series([TOO_FEW]).new_from_index(0, told.len())
    return pl.select(pl.when(told.is_null()).then(pl.lit(NOBODY)).otherwise(pl.lit(SOMEBODY))).to_series()
