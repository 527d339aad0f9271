"""Simulated triage: analysts with shifts take alerts from a queue, work on them, judge and close them.

Enters: alerts as they were raised, a desk (roster, handling times, habits), a seed. Leaves: the history of what happened,
cut at a time, and the truth: how long each alert truly waits, watched for ever. Layer: sources.

Every draw is made before the queue runs, by alert, so that the same alert is the same work whoever takes it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from tocsin.calendars import DAY, HOUR, MINUTE, SECOND, instant_us, moment
from tocsin.errors import SourceError
from tocsin.kernels import triage as queue
from tocsin.lifecycle import SEVERITIES, History, fit_frame
from tocsin.lifecycle.frames import TIME
from tocsin.sources.simulate.alerts import START, AlertRule, Arrivals, arrive
from tocsin.sources.simulate.population import Purpose, stream
from tocsin.workhours import WorkHours

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Int64s = NDArray[np.int64]
    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

ROSTER: Final = (
    ("Mon-Fri 08:00-16:00", 0.45), ("Mon-Fri 14:00-22:00", 0.25), ("daily 22:00-08:00", 0.15), ("Sat-Sun 08:00-22:00", 0.15),
)  # fmt: skip
HANDLING: Final[Mapping[str, float]] = MappingProxyType(
    {"critical": 30.0, "high": 18.0, "medium": 10.0, "low": 6.0, "informational": 4.0, "unknown": 6.0}
)
LONGEST_TAIL_DAYS: Final = 60
OVERTIME_MINUTES: Final = 20
FIRST, AFTER_HOLD, AGAIN = 0, 1, 2
"""What a piece of an alert's work is: the first look, the rest after a hold, and once more after it was reopened."""


@dataclass(frozen=True)
class Desk:
    """Who triages, and how. Times are medians in minutes or hours; shares lie between 0 and 1.

    analysts: how many; None: as many as ``utilisation`` needs. roster: hours as `WorkHours` reads them, and the share of the
    analysts who work them. handling_minutes: by severity, lognormal with ``handling_sigma``; true positives take
    ``true_factor`` times as long. notice_minutes: before an alert is seen in the queue, lognormal too. hold, hold_hours: how many
    wait for somebody outside, and how long. reopen, reopen_hours: how many are opened again, and how long after.
    mistaken: verdicts that are wrong. escalate, promote: how many judged true become part of an investigation, and how
    many of these of an incident. look: of how many alerts a look-up is recorded.
    """

    analysts: int | None = None
    utilisation: float = 0.75
    zone: str = "UTC"
    roster: tuple[tuple[str, float], ...] = ROSTER
    handling_minutes: Mapping[str, float] = field(default_factory=lambda: HANDLING)
    handling_sigma: float = 0.8
    notice_minutes: float = 1.0
    true_factor: float = 2.0
    hold: float = 0.04
    hold_hours: float = 6.0
    reopen: float = 0.02
    reopen_hours: float = 20.0
    mistaken: float = 0.03
    escalate: float = 0.6
    promote: float = 0.3
    look: float = 0.5


@dataclass(frozen=True, eq=False)
class SimulatedTriage:
    """What a SOC did with its alerts.

    history: as it stood at ``until``. whole: as it stands once everything is done. truth: one row an alert, in the order of
    ``whole.alerts``: ``true_minutes`` until a person first acts (null: nobody ever does, automation closed it), ``true_positive``.
    parameters: everything it was made with. planted: the rule whose volume changed and when; bursts.
    """

    history: History
    whole: History
    truth: pl.DataFrame
    parameters: dict[str, Any]
    planted: dict[str, Any]


def simulate_alerts(
    n: int = 5_000,
    days: int = 28,
    seed: int = 7,
    *,
    start: datetime = START,
    desk: Desk | None = None,
    change: float = 3.0,
    tests: float = 0.01,
) -> SimulatedTriage:
    """Return simulated alerts and their triage, a pure function of the arguments; looked at when the span is over.

    Args:
        n: How many alerts.
        days: Over how many days from ``start``.
        seed: Of all draws.
        start: When the first may come.
        desk: Who triages and how; its zone is also the one whose working hours alerts follow.
        change: What the volume of one rule is multiplied by from three fifths of the span on.
        tests: Share of tests among the alerts.

    >>> made = simulate_alerts(500, 14, 7)
    >>> made.history.alerts.height, sorted(made.history.activities["actor_kind"].unique())
    (500, ['automation', 'human', 'system'])
    """
    desk = desk or Desk()
    came = arrive(n, days, seed, start=start, zone=desk.zone, change=change, tests=tests)
    return triage(came, seed, desk=desk, until=start + timedelta(days=days))


def triage(
    alerts: Arrivals | pl.DataFrame,
    seed: int = 7,
    *,
    desk: Desk | None = None,
    until: datetime | None = None,
    true: pl.Series | None = None,
) -> SimulatedTriage:
    """Return what a desk does with alerts.

    Args:
        alerts: Simulated `Arrivals`, or any alerts frame; its rules get a precision of their own, drawn between 0.02 and 0.5.
        seed: Of all draws.
        desk: Who triages and how.
        until: When ``history`` looks at it. Left out: a day after the last alert.
        true: Ids of the alerts that are true positives. Left out: drawn, by the precision of their rule.

    Raises:
        SourceError: No alerts, or a desk that cannot be staffed.
    """
    desk = desk or Desk()
    came = alerts if isinstance(alerts, Arrivals) else _with_rules(alerts, seed)
    frame = came.alerts
    if not frame.height:
        raise SourceError("There are no alerts to triage.")
    created = frame["created_at"].cast(pl.Int64).to_numpy()
    plan = _plan(stream(seed, Purpose.TRIAGE), frame, came, desk, true)
    shifts, people = _shifts(desk, created, plan.work)
    rank = {severity: i for i, severity in enumerate(reversed(SEVERITIES))}
    urgency = frame["severity"].replace_strict(rank, return_dtype=pl.Int64).to_numpy()
    order = np.argsort(created + plan.notice, kind="stable")
    seen, overtime = (created + plan.notice)[order], np.int64(OVERTIME_MINUTES * MINUTE)
    spans = queue.serve(seen, urgency[order], plan.work[order], plan.delay[order], shifts, people, overtime)
    spans[:, queue.ALERT] = order[spans[:, queue.ALERT]]
    end = until or moment(int(created[-1]) + DAY)
    journal = pl.concat([came.journal, _roster(shifts, end)])
    whole = History(frame, _activities(frame, created, plan, spans), journal=journal)
    first = np.full(frame.height, -1, np.int64)
    first[spans[::-1, queue.ALERT]] = spans[::-1, queue.START]  # of several the one written last: the earliest
    waited = pl.Series(np.where(first < 0, np.nan, (first - created) / MINUTE)).fill_nan(None)
    truth = frame.select("alert_id").with_columns(true_minutes=waited, true_positive=pl.Series(plan.true))
    return SimulatedTriage(whole.as_of(end), whole, truth, _parameters(desk, seed, people, came.rules), came.truth)


@dataclass(frozen=True, eq=False)
class _Plan:
    """What each alert will be: its pieces of work and when they can begin, verdict, and which things happen to it."""

    notice: Int64s
    work: Int64s
    delay: Int64s
    true: Bools
    verdict: NDArray[np.str_]
    kind: Int64s
    held: Bools
    automated: Bools
    looked: Bools
    escalated: Bools
    promoted: Bools


def _plan(draw: np.random.Generator, frame: pl.DataFrame, came: Arrivals, desk: Desk, known: pl.Series | None) -> _Plan:
    n = frame.height
    rules = came.rules
    tests = frame["is_test"].to_numpy()
    true = (draw.random(n) < np.array([r.precision for r in rules])[came.rule]) & ~tests
    if known is not None:
        true = frame["alert_id"].is_in(known.implode()).to_numpy() & ~tests
    automated = (draw.random(n) < np.array([r.automated for r in rules])[came.rule]) & ~true
    median = frame["severity"].replace_strict(dict(desk.handling_minutes), return_dtype=pl.Float64).to_numpy()
    minutes = median * np.where(true, desk.true_factor, 1.0) * np.exp(desk.handling_sigma * draw.standard_normal(n))
    held, reopened = ((draw.random(n) < share) & ~automated for share in (desk.hold, desk.reopen))
    again = median * np.exp(desk.handling_sigma * draw.standard_normal(n))
    pieces = np.column_stack(
        [np.where(held, 0.4, 1.0) * minutes, np.where(held, 0.6 * minutes, 0), np.where(reopened, again, 0)]
    )
    hold, later = (h * np.exp(0.8 * draw.standard_normal(n)) for h in (desk.hold_hours, desk.reopen_hours))
    delay = np.column_stack([np.zeros(n), np.where(held, hold, 0), np.where(reopened, later, 0)]) * HOUR
    kind = np.tile([FIRST, AFTER_HOLD, AGAIN], (n, 1))
    up = reopened & ~held  # without a hold there is no second piece, and the third moves up into its place
    for columns in (pieces, delay, kind):
        columns[up, 1], columns[up, 2] = columns[up, 2], 0
    work = np.maximum(pieces * MINUTE, np.where(pieces > 0, SECOND, 0)).astype(np.int64)
    work[automated] = 0
    wrong = draw.random(n) < desk.mistaken
    false = np.array(["false_positive", "benign_true_positive", "inconclusive"])[draw.choice(3, n, p=[0.7, 0.25, 0.05])]
    verdict = np.where(true ^ wrong, "true_positive", false)
    verdict = np.where(tests, "test", np.where(automated, "false_positive", verdict))
    escalated = (verdict == "true_positive") & (draw.random(n) < desk.escalate)
    notice = np.exp(desk.handling_sigma * draw.standard_normal(n)) * desk.notice_minutes * MINUTE
    return _Plan(
        notice.astype(np.int64),
        work, delay.astype(np.int64), true, verdict, kind, held, automated, draw.random(n) < desk.look, escalated,
        escalated & (draw.random(n) < desk.promote),
    )  # fmt: skip


def _with_rules(alerts: pl.DataFrame, seed: int) -> Arrivals:
    """Return any alerts in order of time, with rules of their own names and drawn precisions."""
    frame = fit_frame(alerts, "alert").sort("created_at", "alert_id")
    ids = frame["rule_id"].fill_null("no rule")
    names = sorted(ids.unique())
    precision = stream(seed, Purpose.TRIAGE, 1).uniform(0.02, 0.5, len(names))
    rules = tuple(AlertRule(name, "unknown", "", 0.0, float(p)) for name, p in zip(names, precision, strict=True))
    number = ids.replace_strict({name: i for i, name in enumerate(names)}, return_dtype=pl.Int64).to_numpy()
    journal = fit_frame(pl.DataFrame(schema={"kind": pl.String, "at": TIME}), "journal")
    return Arrivals(frame, journal, {}, rules, number)


def _shifts(desk: Desk, created: Int64s, work: Int64s) -> tuple[Int64s, int]:
    """Return (begin, end, analyst) of each shift from the first alert to long after the last, and how many analysts there are."""
    begin = int(created[0]) - DAY
    end = int(created[-1]) + LONGEST_TAIL_DAYS * DAY
    hours = [WorkHours.of(text, zone=desk.zone) for text, _ in desk.roster]
    share = np.array([share for _, share in desk.roster])
    a_week = np.array([h.exposure_us(begin, begin + 28 * DAY) for h in hours]) / 4
    span = max(int(created[-1] - created[0]), DAY)
    needed = int(work.sum()) * 7 * DAY / span / desk.utilisation / float(share @ a_week / share.sum())
    people = desk.analysts if desk.analysts is not None else max(len(hours), math.ceil(needed))
    if people < 1 or not a_week.any():
        raise SourceError("A desk needs at least one analyst, and hours in which somebody works.")
    # Largest remainder: shares of people add up to people, and every line of the roster gets one while there are enough.
    least = int(people >= len(hours))
    exact = share / share.sum() * (people - least * len(hours))
    count = least + np.floor(exact).astype(np.int64)
    count[np.argsort(np.floor(exact) - exact, kind="stable")[: people - int(count.sum())]] += 1
    rows, who = [], 0
    for works, many in zip(hours, count.tolist(), strict=True):
        spans = works.spans(begin, end)
        rows += [np.column_stack([spans, np.full(len(spans), analyst)]) for analyst in range(who, who + many)]
        who += many
    shifts = np.concatenate(rows)
    return shifts[np.lexsort((shifts[:, 2], shifts[:, 0]))], people


def _names(analyst: Int64s) -> pl.Series:
    """Return analysts' names: analyst-01 is the first."""
    most = int(analyst.max(initial=0)) + 1
    return pl.Series([f"analyst-{i + 1:02}" for i in range(most)])[analyst]


def _roster(shifts: Int64s, end: datetime) -> pl.DataFrame:
    shown = shifts[shifts[:, 0] < instant_us(end)]
    rows = pl.DataFrame({"at": shown[:, 0], "until": shown[:, 1]}).cast(TIME)
    rows = rows.with_columns(kind=pl.lit("roster"), name=_names(shown[:, 2]), recorded_at="at")
    return fit_frame(rows, "journal")


def _activities(frame: pl.DataFrame, created: Int64s, plan: _Plan, spans: Int64s) -> pl.DataFrame:
    """Return every activity in order of time, those of one moment in the order in which they are told here."""
    spans = spans[np.lexsort((spans[:, queue.START], spans[:, queue.ALERT]))]
    alert, piece, start, end = (spans[:, c] for c in (queue.ALERT, queue.PIECE, queue.START, queue.END))
    kind, done = plan.kind[alert, piece], spans[:, queue.DONE] == 1
    first = np.diff(alert, prepend=-1) != 0
    begins = first | (np.diff(piece, prepend=-1) != 0)
    ready = np.append(0, end[:-1]) + plan.delay[alert, piece]  # of the first span of a later piece
    halfway = start + (end - start) // 2
    held = done & plan.held[alert] & (kind == FIRST)
    closed = done & ~held
    found = closed & (kind != AGAIN) & plan.escalated[alert]
    incident = found & plan.promoted[alert]
    cut = end - np.where(done, 0, 1)  # whom a shift's end frees is free before the next one takes over
    who, verdict = _names(spans[:, queue.ANALYST]), pl.Series(plan.verdict[alert], dtype=pl.String)
    case = pl.Series(alert).cast(pl.String)
    minutes = pl.Series((end - start) / MINUTE)
    looked = plan.looked[alert] & first
    human = [
        ("assigned", start, pl.Series(begins | np.append(False, ~done[:-1])), who, None),
        ("work_started", start, None, None, None),
        ("investigative_action", halfway, looked, pl.lit("search"), None),
        ("escalated", halfway, found, "INV-" + case, None),
        ("promoted", halfway, incident, "INC-" + case, None),
        ("notified", end, incident, pl.lit("customer"), None),
        ("remediated", end, incident, pl.lit("isolated"), None),
        ("verdict", end, closed, verdict, None),
        (
            "work_ended",
            cut,
            None,
            pl.select(pl.when(pl.Series(done)).then(None).otherwise(pl.lit("end of shift"))).to_series(),
            minutes,
        ),
        ("held", end, held, pl.lit("customer"), None),
        ("closed", end, closed, verdict, None),
        ("unassigned", cut, ~done, None, None),
    ]
    base = pl.DataFrame({"alert": alert}).with_columns(actor=who, actor_kind=pl.lit("human"))
    parts = _others(frame, created, plan, alert, ready, begins & (kind == AFTER_HOLD), begins & (kind == AGAIN))
    for name, at, rows, value, number in human:
        told = base.with_columns(
            at=pl.Series(at), type=pl.lit(name), value=pl.lit(None, pl.String) if value is None else value,
            number=pl.lit(None, pl.Float64) if number is None else number,
        )  # fmt: skip
        parts.append(told if rows is None else told.filter(pl.Series(rows)))
    told = pl.concat([p.select("alert", "at", "type", "actor", "actor_kind", "value", "number") for p in parts])
    told = told.sort("at", maintain_order=True)
    ids = frame["alert_id"][told["alert"]]
    return fit_frame(
        told.drop("alert").with_columns(ids.alias("alert_id"), pl.col("at").cast(TIME)).with_columns(recorded_at="at"),
        "activity",
    )


def _others(
    frame: pl.DataFrame, created: Int64s, plan: _Plan, alert: Int64s, ready: Int64s, resumed: Bools, again: Bools
) -> list[pl.DataFrame]:
    """Return what no analyst does: automation enriches every third alert and closes some, the workbench reopens and resumes."""
    closed = np.flatnonzero(plan.automated)
    third = np.arange(0, frame.height, 3)
    told = [
        ("enriched", third, created[third] + 5 * SECOND, "enrichment", "automation", None),
        ("verdict", closed, created[closed] + 20 * SECOND, "auto-close", "automation", "false_positive"),
        ("closed", closed, created[closed] + 20 * SECOND, "auto-close", "automation", "false_positive"),
        ("resumed", alert[resumed], ready[resumed], "workbench", "system", None),
        ("reopened", alert[again], ready[again], "workbench", "system", "seen again"),
    ]
    return [
        pl.DataFrame({"alert": rows, "at": at}).with_columns(
            type=pl.lit(name),
            actor=pl.lit(actor),
            actor_kind=pl.lit(kind),
            value=pl.lit(value, pl.String),
            number=pl.lit(None, pl.Float64),
        )
        for name, rows, at, actor, kind, value in told
    ]


def _parameters(desk: Desk, seed: int, people: int, rules: tuple[AlertRule, ...]) -> dict[str, Any]:
    told = {
        k: dict(v) if k == "handling_minutes" else v
        for k, v in {f.name: getattr(desk, f.name) for f in fields(desk)}.items()
    }
    return told | {
        "seed": seed,
        "analysts": people,
        "overtime_minutes": OVERTIME_MINUTES,
        "rules": [asdict(r) for r in rules],
    }
