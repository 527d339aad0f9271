"""Response: how long until something happens, with what still waits counted as waiting, and the share in time.

Enters: a scope, a clock, targets. Leaves: an `Answer`: medians and tails by Kaplan-Meier, the span before beside them, and
which alerts missed their target and why. Layer: metrics.

Dropping alerts that still wait makes a slow week look fast: the slow ones are exactly those that are not over yet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from tocsin.answers import Answer
from tocsin.errors import did_you_mean
from tocsin.lifecycle.words import SEVERITIES
from tocsin.metrics.clocks import Clock, durations, find
from tocsin.metrics.groups import EVERYBODY, LEAST_PEOPLE, Group, grouped
from tocsin.metrics.misses import missed, reasons_of
from tocsin.metrics.scope import MetricError
from tocsin.stats.rates import wilson
from tocsin.stats.survival import Curve, log_rank
from tocsin.views.chart import Chart

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tocsin.metrics.scope import Scope
    from tocsin.workhours import WorkHours

TARGETS: Final[Mapping[str, float]] = MappingProxyType({"critical": 15, "high": 30, "medium": 120, "low": 480})
"""Targets in minutes, where nobody says others: an example, not advice."""
QUANTILES: Final[Mapping[str, float]] = MappingProxyType({"median": 0.5, "p90": 0.9, "p99": 0.99})
DAY_MINUTES = 1_440.0
MOST_CURVES, CURVE_POINTS, MOST_RANKED = 6, 300, 12

_TEXT, _WHOLE, _REAL = pl.String(), pl.Int64(), pl.Float64()
_ROW: Final[Mapping[str, pl.DataType]] = MappingProxyType(
    {"group": _TEXT, "n": _WHOLE, "ended": _WHOLE, "waiting": _WHOLE, "excluded": _WHOLE}
    | {f"{q}_{end}": _REAL for q in QUANTILES for end in ("minutes", "low", "high")}
    | {"restricted_mean_minutes": _REAL, "restricted_to_minutes": _REAL, "naive_mean_minutes": _REAL}
    | {"before_n": _WHOLE, "before_waiting": _WHOLE}
    | {f"before_{name}_minutes": _REAL for name in (*QUANTILES, "naive_mean")}
)
_KEPT: Final[Mapping[str, pl.DataType]] = MappingProxyType(
    {"group": _TEXT, "target_minutes": _REAL, "n": _WHOLE, "ended": _WHOLE, "waiting": _WHOLE, "excluded": _WHOLE}
    | {"in_time_share": _REAL, "low": _REAL, "high": _REAL, "naive_share": _REAL}
    | {"met": _WHOLE, "missed": _WHOLE, "undecided": _WHOLE}
    | {"before_n": _WHOLE, "before_waiting": _WHOLE, "before_in_time_share": _REAL}
)


def response(
    scope: Scope,
    *,
    clock: Clock | str | Path = "first-action",
    by: str | None = "severity",
    work: WorkHours | None = None,
    names: bool = False,
) -> Answer:
    """Return how long alerts took by a clock: median, p90, p99 with intervals, by group, the span before beside them.

    Args:
        scope: Which alerts, seen when.
        clock: A clock that ships, a `Clock`, or a TOML file, see `clocks.find`.
        by: "severity" (as it was raised), "rule", "vendor", "assignee" (who has it now), or None.
        work: Working hours, for clocks that count them.
        names: Whether single people are shown; without it, only all of them together, and only from three on.

    Raises:
        MetricError: There is no such clock or group, or the history does not hold what the clock needs.
    """
    clock = find(clock)
    now, then = (_timed(s, clock, by, work, names=names) for s in (scope, scope.before))
    before = {group.name: group for group in then}
    return Answer(
        question=clock.title + (f", by {by}" if by else ""),
        definition=_definition(scope, clock),
        table=pl.DataFrame([_row(g, before.get(g.name)) for g in now], schema=dict(_ROW)).rename(
            {"group": by or "group"}
        ),
        notes=_notes(now, clock, by, names=names),
        more={"Left out, by reason": _left_out(now, scope)},
        chart=_chart(clock.title, now),
        facts=_ranked(now),
        **_told(scope, now),
    )


def slo(
    scope: Scope,
    *,
    clock: Clock | str | Path = "first-action",
    targets: Mapping[str, float] | float | None = None,
    by: str | None = "severity",
    work: WorkHours | None = None,
    names: bool = False,
) -> Answer:
    """Return which share of alerts met its target, with its interval, and which did not, and why.

    The share is 1 - S(1), S the Kaplan-Meier curve of minutes over target: an alert that has waited longer than its target
    has missed it, one that has waited less may still meet it. Beside it stands the naive share: of the ended alone.

    Args:
        scope: Which alerts, seen when.
        clock: As in `response`.
        targets: Minutes by severity, or one number for all; left out: `TARGETS`. Severities without a target take no part.
        by: As in `response`; targets go by severity in any case.
        work: Working hours; they also say which alerts arrived outside of them.
        names: As in `response`.

    Raises:
        MetricError: As `response`; a target of no severity, or one that is not positive.
    """
    clock, aims = find(clock), _aims(targets)
    if clock.arithmetic == "notebook":
        raise MetricError(
            "The notebook's clock calls waiting alerts -1 minute, so all of them would be in time. Take another."
        )
    now, then = (_timed(s, clock, by, work, names=names, per=aims) for s in (scope, scope.before))
    before = {group.name: group for group in then}
    misses = missed(scope, durations(scope, clock, work), aims, work)
    one = {EVERYBODY: aims["critical"]} if len(set(aims.values())) == 1 and len(aims) == len(SEVERITIES) else {}
    single = {**(aims if by == "severity" else {}), **one}
    plural = f"Target met: {clock.title[0].lower()}{clock.title[1:]}"
    return Answer(
        question=plural + (f", by {by}" if by else ""),
        definition=_slo_definition(scope, clock, aims),
        table=pl.DataFrame([_kept(g, before.get(g.name), single.get(g.name)) for g in now], schema=dict(_KEPT)).rename(
            {"group": by or "group"}
        ),
        notes=(*_unaimed(scope, aims), *_notes(now, clock, by, names=names, tails=False)),
        more={"Missed": misses, "Why missed": reasons_of(misses), "Left out, by reason": _left_out(now, scope)},
        chart=_chart(plural, [_in_minutes(g, aims) for g in now if g.name in aims], aims)
        if by == "severity"
        else _chart(plural, now, {g.name: 1.0 for g in now}, "multiples of the target"),
        facts={"missed": misses.height},
        **_told(scope, now),
    )


def _timed(
    scope: Scope | None,
    clock: Clock,
    by: str | None,
    work: WorkHours | None,
    *,
    names: bool,
    per: Mapping[str, float] | None = None,
) -> list[Group]:
    if scope is None:
        return []
    averaged = clock.arithmetic == "notebook"
    return grouped(scope, durations(scope, clock, work), by, names=names, averaged=averaged, per=per)


def _told(scope: Scope, now: Sequence[Group]) -> dict[str, Any]:
    """Return what every answer says of its alerts: how many, as of when, or why none."""
    n = now[-1].n if now else 0
    empty = (
        ""
        if n
        else "No alert was raised in this span."
        if not now
        else "No alert of this span counts; see what was left out."
    )
    return {"n": n, "as_of": scope.as_of, "empty": empty}


def _row(group: Group, before: Group | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "group": group.name, "n": group.n, "ended": group.n - group.waiting, "waiting": group.waiting,
        "excluded": sum(group.reasons.values()), "naive_mean_minutes": _naive_mean(group),
        "before_n": before.n if before else None, "before_waiting": before.waiting if before else None,
        "before_naive_mean_minutes": _naive_mean(before) if before else None,
    }  # fmt: skip
    curve, earlier = group.curve, before.curve if before else None
    for name, q in QUANTILES.items():
        if curve is not None:
            told = (_finite(value) for value in curve.quantile(q))
            row |= dict(zip((f"{name}_minutes", f"{name}_low", f"{name}_high"), told, strict=True))
        if earlier is not None:
            row[f"before_{name}_minutes"] = _finite(earlier.quantile(q)[0])
    if curve is not None:
        over = curve.share.size > 0 and curve.share[-1] == 0
        row["restricted_to_minutes"] = DAY_MINUTES if over else min(DAY_MINUTES, curve.last)
        row["restricted_mean_minutes"] = curve.restricted_mean(row["restricted_to_minutes"])[0]
    return row


def _naive_mean(group: Group) -> float | None:
    counted = group.minutes if group.averaged else group.minutes[group.ended]
    return float(counted.mean()) if counted.size else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _kept(group: Group, before: Group | None, target: float | None) -> dict[str, Any]:
    late = group.minutes > 1
    share, low, high = in_time(group)
    ended = int(group.ended.sum())
    return {
        "group": group.name, "target_minutes": target, "n": group.n, "ended": ended, "waiting": group.waiting,
        "excluded": sum(group.reasons.values()), "in_time_share": share, "low": low, "high": high,
        "naive_share": float((group.ended & ~late).sum() / ended) if ended else None,
        "met": int((group.ended & ~late).sum()), "missed": int(late.sum()), "undecided": int((~group.ended & ~late).sum()),
        "before_n": before.n if before else None, "before_waiting": before.waiting if before else None,
        "before_in_time_share": in_time(before)[0] if before else None,
    }  # fmt: skip


def in_time(group: Group, target: float = 1.0, level: float = 0.95) -> tuple[float | None, float | None, float | None]:
    """Return 1 - S(target) with its interval; three times None where the curve does not reach so far.

    Where nobody or everybody ended by then, the curve's own interval has no width; Wilson's stands for it, of those
    that were watched for so long.

    >>> group = Group("all", np.array([0.5, 0.8, 2.0, 0.2]), np.array([True, True, False, False]))
    >>> round(in_time(group)[0], 6)
    0.666667
    """
    curve = group.curve
    if curve is None or math.isnan(share := float(curve.at([target])[0])):
        return None, None, None
    if share in (0, 1):
        watched = int(((group.minutes >= target) | group.ended).sum())
        interval = wilson(watched * (1 - share), watched, level)
        return 1 - share, float(interval.low), float(interval.high)
    last = int(np.searchsorted(curve.times, target, "right")) - 1
    return 1 - share, 1 - float(curve.high[last]), 1 - float(curve.low[last])


def _ranked(now: Sequence[Group]) -> dict[str, Any]:
    """Return the log-rank test between the groups, where there are two at least and not too many."""
    groups = [g for g in now[:-1] if g.n and not g.averaged]
    if not 2 <= len(groups) <= MOST_RANKED:
        return {}
    test = log_rank([g.minutes for g in groups], [g.ended for g in groups])
    return {"log_rank_chi_square": test.chi_square, "log_rank_df": test.df, "log_rank_p": test.p}


def _aims(targets: Mapping[str, float] | float | None) -> dict[str, float]:
    told = TARGETS if targets is None else targets
    aims = (
        {s: float(v) for s, v in told.items()} if isinstance(told, Mapping) else dict.fromkeys(SEVERITIES, float(told))
    )
    for severity, minutes in aims.items():
        if severity not in SEVERITIES:
            raise MetricError(
                f'A target for "{severity}": there is no such severity.{did_you_mean(severity, SEVERITIES)}'
                f" There are {', '.join(SEVERITIES)}."
            )
        if not 0 < minutes < math.inf:
            raise MetricError(f"The target for {severity} is {minutes:g} minutes; it has to be a number above 0.")
    return {severity: aims[severity] for severity in reversed(SEVERITIES) if severity in aims}


def _definition(scope: Scope, clock: Clock) -> str:
    how = (
        "The plain mean of the notebook's numbers, those of -1 included; nothing else can be computed from them."
        if clock.arithmetic == "notebook"
        else "Median, p90 and p99 by Kaplan-Meier with 95 % intervals: an alert that still waits counts for as long as it has"
        " waited, and a quantile is null while too many wait to know it. restricted_mean_minutes: mean of the lesser of an"
        " alert's minutes and restricted_to_minutes. naive_mean_minutes: plain mean of the ended alone."
    )
    return f"{clock.words()} {how} {_before(scope)}{scope.words()}"


def _slo_definition(scope: Scope, clock: Clock, aims: Mapping[str, float]) -> str:
    said = ", ".join(f"{severity} {minutes:g}" for severity, minutes in aims.items())
    return (
        f"Share of alerts within their target in minutes ({said}): 1 - S(target) by Kaplan-Meier with 95 % interval; an alert"
        " that still waits counts for as long as it has waited. naive_share: of the ended alone. undecided: they wait, and"
        f" their target has not passed. {clock.words()} {_before(scope)}{scope.words()}"
    )


def _before(scope: Scope) -> str:
    if scope.before is None or scope.before.span is None:
        return ""
    since, until = (scope.local(t) for t in scope.before.span)
    return f"before_: alerts created from {since} to before {until} ({scope.zone}), seen at the same time. "


def _notes(now: Sequence[Group], clock: Clock, by: str | None, *, names: bool, tails: bool = True) -> tuple[str, ...]:
    if not now:
        return ()
    total, notes = now[-1], []
    if total.waiting:
        notes.append(f"{total.waiting:,} of {total.n:,} alerts still wait ({total.waiting / total.n:.1%}).")
    for name, q in QUANTILES.items() if tails else ():
        short = [g.name for g in now if (curve := g.curve) is not None and math.isinf(curve.quantile(q)[0])]
        if short:
            notes.append(f"{name} is not reached for {', '.join(short)}: too many of their alerts still wait.")
    if tails and total.waiting and not total.averaged:
        notes.append(
            "naive_mean_minutes leaves out what waits, so it is too small: compare it with old reports, not with targets."
        )
    if by == "assignee" and not names:
        notes.append(f"People are shown together, and only from {LEAST_PEOPLE} on; names=True shows each.")
    notes += [f"{n:,} alerts do not count: {reason}." for reason, n in total.reasons.items()]
    return (*notes, clock.note) if clock.note else tuple(notes)


def _unaimed(scope: Scope, aims: Mapping[str, float]) -> tuple[str, ...]:
    others = scope.alerts.filter(~pl.col("severity").is_in(list(aims))).height
    return (f"{others:,} alerts of severities without a target take no part.",) if others else ()


def _left_out(now: Sequence[Group], scope: Scope) -> pl.DataFrame:
    rows = [(g.name, reason, n) for g in now for reason, n in g.reasons.items()]
    rows += [(EVERYBODY, reason, n) for reason, n in scope.excluded.items()]
    return pl.DataFrame(rows, schema={"group": pl.String, "reason": pl.String, "alerts": pl.Int64}, orient="row")


def _in_minutes(group: Group, aims: Mapping[str, float]) -> Group:
    return Group(group.name, group.minutes * aims[group.name], group.ended)


def _chart(
    title: str, groups: Sequence[Group], targets: Mapping[str, float] | None = None, unit: str = "minutes"
) -> Chart | None:
    """Return the curves of the largest groups, at so many times that the steps look exact."""
    named = [g for g in groups if g.name != EVERYBODY] or groups
    shown = [(g.name, curve) for g in named[:MOST_CURVES] if (curve := g.curve) is not None]
    parts = [_steps(name, curve) for name, curve in shown]
    if not parts:
        return None
    marks = {name: minutes for name, minutes in (targets or {}).items() if name in dict(shown)}
    return Chart("survival", title, pl.concat(parts), x=unit, y="share that still waits", words={"targets": marks})


def _steps(name: str, curve: Curve) -> pl.DataFrame:
    """Return a curve at times that lie closer the earlier they are; where it has few steps, at each of them."""
    times = np.append(curve.times, curve.last)
    if times.size > CURVE_POINTS:
        low = max(float(times[times > 0][0]), float(times[-1]) / 1e5)
        times = np.append(np.geomspace(low, times[-1], CURVE_POINTS - 1), times[-1])
    at = np.searchsorted(curve.times, times, "right")
    share, below, above = (np.append(1.0, part)[at] for part in (curve.share, curve.low, curve.high))
    data = {
        "minutes": np.append(0.0, times),
        "share": np.append(1.0, share),
        "low": np.append(1.0, below),
        "high": np.append(1.0, above),
    }
    return (
        pl.DataFrame(data)
        .select(pl.lit(name).alias("label"), pl.all())
        .unique("minutes", keep="last", maintain_order=True)
    )
