"""Detection: a predicate over an event, or over a running aggregate of its entity, joined with a table.

Enters: Polars expressions over event columns, a measure, and the table it is compared with. Leaves: a frozen
description that the engine compiles; it holds no state and is never changed by a fit. Layer: above measures and
fits, below rules and the engine.

The names of a rule: ``value`` is the measure, ``ref.mean`` a column of the table, ``prev.src_latitude`` a column of
the entity's previous event, ``ctx.users`` a measure of another entity of the event, ``score`` the number that is
compared; every other name is a column of the event.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from tocsin.calendars import CalendarError, duration_us
from tocsin.conditions import Condition as Condition  # noqa: PLC0414 - a name of rules, as those below are
from tocsin.conditions import score as score  # noqa: PLC0414
from tocsin.errors import RuleError, did_you_mean
from tocsin.expressions import canonical, columns_read, digest, root_names
from tocsin.fits import Fit, Limit, OwnHistory, Population
from tocsin.measures import Measure, Spanned
from tocsin.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SEVERITIES = ("informational", "low", "medium", "high", "critical")
LOOKED_UP = {
    f"{side}_{what}"
    for side in ("src", "dst", "user")
    for what in ("country", "latitude", "longitude", "city", "asn", "network", "prefix", "listed", "threat", "asset")
}
"""The columns that reference data attaches to an event."""
MOMENTS = ("event", "close")
"""When a rule is asked: at each of its events, or when a calendar window closes."""
PATIENCE = 28
"""After how many windows without events an entity is gone, where no history of its own says it."""
_ID = re.compile(r"[a-z0-9][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*)+")

col = pl.col
value = pl.col("@value")
"""The measure's running value at this event."""


class _Names:
    """Attribute access to the columns under one prefix: ``ref.mean`` is the column ``@ref.mean``."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def __getattr__(self, name: str) -> pl.Expr:
        """Return the column as an expression."""
        if name.startswith("__"):
            raise AttributeError(name)
        return pl.col(f"{self._prefix}{name}")


ref = _Names("@ref.")
prev = _Names("@prev.")
ctx = _Names("@ctx.")
known = pl.col("@known")
total = pl.col("@total")


def ref_name(fit_name: str, column: str) -> str:
    """Return the engine's name of a column of a fit.

    >>> ref_name("", "mean"), ref_name("recent", "mean")
    ('@ref.mean', '@ref.recent_mean')
    """
    return f"@ref.{fit_name}_{column}" if fit_name else f"@ref.{column}"


@dataclass(frozen=True)
class Example:
    """A rule's own test: some events, and whether the last of them must fire.

    Events are mappings of column to value; ``timestamp`` (ISO 8601 text or an aware datetime) and ``event_id`` may
    be left out, they are then one minute apart. ``tables`` may set columns that a look-up would attach.
    """

    fires: bool
    events: Sequence[Mapping[str, Any]]
    note: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """A running measure of another entity of the same event: how many users its source address has served, say.

    A detection names it in ``context`` and reads it as ``tc.ctx.<name>``, in ``on`` too. It is measured before the rule's
    own measure and includes the event itself. ``on``: which events count; all of them by default.

    >>> from tocsin.measures import Distinct
    >>> Context(entity="src_ip", measure=Distinct("user_id", ever=True)).entity
    'src_ip'
    """

    entity: str
    measure: Spanned
    on: pl.Expr = field(default_factory=lambda: pl.lit(value=True))

    @property
    def key(self) -> str:
        """Text that is equal for equal contexts."""
        return digest(self.entity, self.measure.key, canonical(self.on))

    @cached_property
    def reads(self) -> set[str]:
        """The event columns it needs."""
        return {self.entity, *self.measure.reads, *columns_read(self.on)}


_collected: ContextVar[list[tuple[tuple[str, int], str, str]] | None] = ContextVar("collected", default=None)


@contextmanager
def collect_problems() -> Iterator[list[tuple[tuple[str, int], str, str]]]:
    """Within this block a wrong detection does not raise: its problems are listed as (where, id, message)."""
    found: list[tuple[tuple[str, int], str, str]] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def _caller() -> tuple[str, int]:
    """Return file and line of the code that made the detection, for messages."""
    frame = sys._getframe(1)  # noqa: SLF001 - inspect.stack() reads every source file on the way
    while frame.f_back and (
        frame.f_globals.get("__name__") in {__name__, "dataclasses"} or frame.f_code.co_filename.startswith("<")
    ):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


@dataclass(frozen=True, kw_only=True, eq=False)
class Detection:
    """One rule.

    id: lower-case words with dots, ``mail.volume-vs-self``. severity: informational, low, medium, high or critical.
    on: boolean expression, which events take part. entity: the column that says whom it is about.
    measure: what is counted (none for a rule over single events). against: what the value is compared with (a fit,
    a ``Table``, nothing, or several fits by name, whose columns are then ``ref.<name>_<column>``). context: measures of
    other entities of the event, by name. score: a number; when: the ``Condition`` under which it fires.
    evidence: further columns kept with a finding. optional: columns that the rule can do without: they are null where the
    source lacks them. grouping: the length of the tumbling event-time window in which the
    findings of one entity become one alert. examples: events that must fire and events that must not.

    at: ``"event"``, or ``"close"``: then the rule is asked once for each known entity and calendar window, when the window
    has closed, and so also about entities without an event in it (a count or sum is then 0). There is no event to read: score
    and condition see ``value``, ``ref`` and the entity. quiet_after: after so many covered windows in a row without
    events an entity is gone and not asked about until it returns; by default as many as its own history spans, else 28.

    >>> exe = Detection(
    ...     id="mail.many-recipients", title="Mail to many recipients", severity="low", on=col("kind") == "mail",
    ...     entity="user_id", score=col("nr_recipients"), when=score > 10,
    ... )
    >>> exe.tier, str(exe.when)
    (1, 'score > 10')
    >>> from tocsin.fits import own_history
    >>> from tocsin.measures import Count
    >>> silent = Detection(
    ...     id="mail.silent", title="Sent nothing all day", severity="low", on=col("kind") == "mail", entity="user_id",
    ...     at="close", measure=Count(per="1d"), against=own_history(mean=True), score=value / ref.mean, when=score <= 0,
    ... )
    >>> silent.closes, silent.patience
    (True, 28)
    """

    id: str
    title: str
    severity: str
    on: pl.Expr
    entity: str
    score: pl.Expr
    when: Condition
    measure: Measure | None = None
    against: Fit | Table | Mapping[str, Fit] | None = None
    context: Mapping[str, Context] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    description: str = ""
    false_positives: str = ""
    grouping: str = "1d"
    examples: tuple[Example, ...] = ()
    at: str = "event"
    quiet_after: int | None = None
    where: tuple[str, int] = field(default_factory=_caller, repr=False)

    def __post_init__(self) -> None:
        """Refuse what can be seen to be wrong without an event."""
        collected = _collected.get()
        for problem in self.problems():
            if collected is not None:
                collected.append((self.where, self.id, problem))
                continue
            raise RuleError(f"{self.where[0]}:{self.where[1]}: {self.id}: {problem}")

    def problems(self) -> list[str]:
        """Return what is wrong with the rule itself."""
        found = []
        if not _ID.fullmatch(self.id):
            found.append(f'id "{self.id}" must be lower-case words joined by dots, such as "mail.volume-vs-self".')
        if self.severity not in SEVERITIES:
            found.append(
                f'severity "{self.severity}" is not one of {", ".join(SEVERITIES)}.{did_you_mean(self.severity, SEVERITIES)}'
            )
        if not self._is_condition:
            found.append("when must compare the score, such as when=tc.score > 3, perhaps & another condition.")
        try:
            if duration_us(self.grouping) <= 0:
                found.append(f'grouping="{self.grouping}" groups nothing. Give a positive duration, such as "1d".')
        except CalendarError as error:
            found.append(f"grouping: {error}")
        found += [problem for fit in self.fits.values() if (problem := self._misfit(fit))]
        own = [f.of if isinstance(f, Population) else f for f in self.fits.values()]
        if len({f.exclude_alerted for f in own if isinstance(f, OwnHistory)}) > 1:
            found.append(
                "exclude_alerted is a matter of the whole rule: set it on all of its own histories or on none."
            )
        found += [
            f'"{n}" cannot follow a dot: name fits and contexts like variables.'
            for n in (*self.fits, *self.context)
            if n and not n.isidentifier()
        ]
        for name, context in self.context.items():
            if any(n.startswith("@") for n in context.on.meta.root_names()):
                found.append(
                    f"the context {name} reads what the engine makes; its on= may name columns of the event only."
                )
        known_names = self.outputs
        for name in self._engine_names():
            if name not in known_names:
                hint = did_you_mean(name, known_names)
                found.append(f"{name[1:]} is not made by this rule's measure or table.{hint.replace('@', '')}")
        return found + self._close_problems()

    def _close_problems(self) -> list[str]:
        """Return what is wrong with when it is asked."""
        if self.at not in MOMENTS:
            return [f'at="{self.at}" is not one of {", ".join(MOMENTS)}.{did_you_mean(self.at, MOMENTS)}']
        if not self.closes:
            return ['quiet_after goes with at="close".'] if self.quiet_after is not None else []
        found = []
        if not self.windowed:
            found.append('only calendar windows close: at="close" needs a measure with per="1d" or the like.')
        if self.patience < 1:
            found.append(f"quiet_after={self.patience} asks about nobody who is silent; give at least 1 window.")
        expressions = [self.score, *([self.when.expression] if self._is_condition else [])]
        read = {n for e in expressions for n in root_names(e) if not n.startswith("@ref.")} | {*self.evidence}
        read |= {*self.against.key} if isinstance(self.against, Table) else set()
        return found + [
            f"{name.removeprefix('@')} belongs to an event, and a closed window has none: "
            f"score, when and evidence may name value, ref and {self.entity}."
            for name in sorted(read - {"@score", "@value", self.entity, "timestamp"})
        ]

    def _misfit(self, fit: Fit) -> str:
        if isinstance(fit, OwnHistory | Population) and not self.windowed:
            return (
                'own_history and population read closed windows: give the measure per="1d" or another calendar window.'
            )
        if isinstance(fit, Limit) and self.measure is not None:
            return "limit is for stateless rules: leave the measure out and score the event's own column."
        return ""

    @cached_property
    def fits(self) -> dict[str, Fit]:
        """The fits it is compared with, by name; a single one is named "" and its columns are ``ref.<column>``."""
        if isinstance(self.against, Fit):
            return {"": self.against}
        return dict(self.against) if isinstance(self.against, Mapping) else {}

    @property
    def _is_condition(self) -> bool:
        when: object = self.when  # whatever a rule file passed, before the types hold
        return isinstance(when, Condition)

    def _engine_names(self) -> list[str]:
        expressions = [self.on, self.score, *([self.when.expression] if self._is_condition else [])]
        names = {n for e in expressions for n in root_names(e) if n.startswith("@")}
        return sorted(names - {"@score"})

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """The columns the engine makes for this rule (``@value``, ``@ref.mean`` ...)."""
        made = self.measure.outputs if self.measure else ()
        made += tuple(ref_name(name, c) for name, fit in self.fits.items() for c in fit.columns)
        if isinstance(self.against, Table):
            made += tuple(f"@ref.{v}" for v in self.against.values)
        return made + tuple(f"@ctx.{name}" for name in self.context)

    @property
    def stateful(self) -> bool:
        """Whether the rule is scored at release (it has a measure, a fit or a context) and not on arrival."""
        return self.measure is not None or bool(self.fits) or bool(self.context)

    @property
    def windowed(self) -> bool:
        """Whether it fires once per entity and calendar window."""
        return isinstance(self.measure, Spanned) and self.measure.per is not None

    @property
    def closes(self) -> bool:
        """Whether it is asked when a window closes, and not at events."""
        return self.at == "close"

    @property
    def patience(self) -> int:
        """After how many covered windows without events, in a row, an entity is gone (``at="close"``)."""
        if self.quiet_after is not None:
            return self.quiet_after
        return max((fit.span for fit in self.fits.values() if isinstance(fit, OwnHistory)), default=PATIENCE)

    @property
    def tier(self) -> int:
        """Where the table comes from: 1 constants, 2 reference data, 3 the entity's own history, 4 the population's."""
        if any(isinstance(fit, Population | Limit) for fit in self.fits.values()):
            return 4
        if isinstance(self.against, Table):
            return self.against.tier
        if self.stateful:
            return 3
        return 2 if LOOKED_UP & set(self.reads) else 1

    @cached_property
    def reads(self) -> list[str]:
        """The event columns (attached ones included) that the rule needs in order to be scored."""
        names = set(columns_read(self.on, self.score, self.when.expression)) | {self.entity}
        if self.measure is not None:
            names |= set(self.measure.reads)
        names |= {fit.column for fit in self.fits.values() if isinstance(fit, Limit)}
        if isinstance(self.against, Table):
            names |= set(self.against.key)
        for context in self.context.values():
            names |= context.reads
        return sorted(names - {"event_id", "timestamp"})

    @cached_property
    def version(self) -> str:
        """A hash of all that decides what the rule scores and when it fires."""
        against = (
            self.against.digest
            if isinstance(self.against, Table)
            else "".join(f"{name}{fit.key}" for name, fit in self.fits.items())
        )
        parts = (
            self.id,
            canonical(self.on),
            self.entity,
            canonical(self.score),
            canonical(self.when.expression),
            against,
        )
        contexts = [f"{name}:{context.key}" for name, context in sorted(self.context.items())]
        moment = [f"close:{self.patience}"] if self.closes else []
        return digest(*parts, self.measure.key if self.measure else "", *contexts, *moment)

    def as_notebook(self) -> Detection:
        """Return the rule with the workshop notebook's arithmetic, where it has any (see ``docs/decisions``)."""
        if self.closes or not (
            isinstance(self.against, OwnHistory) and isinstance(self.measure, Spanned) and self.measure.per == "1d"
        ):
            return self
        measure = dataclasses.replace(self.measure, rounded=True, zone="UTC")
        return dataclasses.replace(self, measure=measure, against=self.against.as_notebook(), where=self.where)
