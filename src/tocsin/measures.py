"""Measures: what is counted for an entity, and over which span of time.

Enters: nothing but parameters. Leaves: frozen descriptions that a detection carries and the engine turns into
running state (``running`` holds the state, ``kernels`` the loops). Layer: below detections, beside fits.

A measure is running: its value at an event includes that event. It spans a calendar window (``per="1d"`` in a
``zone``), a sliding one (``sliding="10m"``: the interval ``(t - 10 min, t]``) or everything so far (``ever=True``,
begun anew after a silence longer than ``forget_after``). Accumulators are integers, so a sum is the same however
the events were cut into batches; a column of floats therefore needs ``scale=``, the number of units in one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import polars as pl

from tocsin.calendars import Calendar, duration_us
from tocsin.errors import RuleError
from tocsin.expressions import canonical, columns_read, digest

DISTINCT_BOUND = 10_000


@dataclass(frozen=True, eq=False)
class Measure:
    """What all measures share: a canonical key, the columns they read, the columns they make."""

    makes: ClassVar[tuple[str, ...]] = ("@value",)
    """Names of the columns the engine offers to ``score``, ``when`` and the evidence."""

    @property
    def key(self) -> str:
        """Text that is equal for equal measures; they share one state."""
        parts = [type(self).__name__]
        for f in fields(self):
            value = getattr(self, f.name)
            parts.append(f"{f.name}={canonical(value) if isinstance(value, pl.Expr) else value!r}")
        return digest(*parts)

    @property
    def reads(self) -> list[str]:
        """The event columns the measure reads."""
        found = [getattr(self, "column", None)]
        found += [c for f in fields(self) if isinstance(e := getattr(self, f.name), pl.Expr) for c in columns_read(e)]
        return sorted({c for c in found if c})

    @property
    def outputs(self) -> tuple[str, ...]:
        """The columns the engine makes for this measure."""
        return self.makes

    def __eq__(self, other: object) -> bool:
        """Two measures are equal when they say the same."""
        return isinstance(other, Measure) and self.key == other.key

    def __hash__(self) -> int:
        """Agree with equality."""
        return hash(self.key)


@dataclass(frozen=True, eq=False, kw_only=True)
class Spanned(Measure):
    """A measure over one of the three spans; exactly one of ``per``, ``sliding`` and ``ever`` is given."""

    per: str | None = None
    sliding: str | None = None
    ever: bool = False
    zone: str = "UTC"
    forget_after: str | None = None
    rounded: bool = False
    """Set by ``compat="notebook"`` alone: day windows run from noon to noon UTC."""

    def __post_init__(self) -> None:
        """Refuse no span, two spans, and parameters that the span has no use for."""
        name = type(self).__name__
        if sum([self.per is not None, self.sliding is not None, self.ever]) != 1:
            msg = f'{name} needs exactly one span: per="1d" (calendar window), sliding="10m" or ever=True.'
            raise RuleError(msg)
        if self.forget_after is not None and not self.ever:
            msg = f"{name}: forget_after goes with ever=True; a window forgets by itself."
            raise RuleError(msg)
        if self.per is not None:
            _ = self.calendar
        for text in (self.sliding, self.forget_after):
            if text is not None and duration_us(text) <= 0:
                msg = f'{name}: a span of "{text}" holds nothing. Give a positive duration.'
                raise RuleError(msg)

    @property
    def calendar(self) -> Calendar:
        """The windows of a ``per=`` measure."""
        return Calendar(self.per or "1d", self.zone, rounded=self.rounded)


@dataclass(frozen=True, eq=False, kw_only=True)
class Count(Spanned):
    """The number of matching events, or of those among them where ``where`` holds.

    With ``where`` the rule still sees every matching event: the failed logins of the last ten minutes, at each login.

    >>> Count(per="1d", zone="America/Denver") == Count(per="1d", zone="America/Denver")
    True
    """

    where: pl.Expr | None = None


@dataclass(frozen=True, eq=False)
class _OfColumn(Spanned):
    """A measure of one numeric column; rows where it is null take no part."""

    column: str
    scale: int | None = None


@dataclass(frozen=True, eq=False)
class Sum(_OfColumn):
    """The sum of a column, for example ``Sum("nr_attachments", per="1d")``."""


@dataclass(frozen=True, eq=False)
class Mean(_OfColumn):
    """The mean of a column over the events of the span."""


@dataclass(frozen=True, eq=False)
class Min(_OfColumn):
    """The smallest value of a column, for example ``Min("size", per="1w")``."""


@dataclass(frozen=True, eq=False)
class Max(_OfColumn):
    """The largest value of a column, for example of the last ten minutes: ``Max("nr_recipients", sliding="10m")``."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Ratio(Spanned):
    """The ratio of two counts: events where ``num`` holds over events where ``den`` holds (bounces to sends).

    It is null while no event of the span satisfies ``den``. Both look only at events where the detection's ``on`` holds.
    """

    num: pl.Expr
    den: pl.Expr


@dataclass(frozen=True, eq=False)
class Distinct(Spanned):
    """The number of different values of a column: exact up to ``bound``, then it stays at the bound ("at least")."""

    column: str
    bound: int = DISTINCT_BOUND


@dataclass(frozen=True, eq=False, kw_only=True)
class Hours(Measure):
    """The entity's events by local clock hour.

    ``@value`` is how many of its events, this one included, fell into this event's hour (0 to 23) in ``zone``;
    ``@total`` is how many it had in all.
    """

    zone: str = "UTC"
    makes: ClassVar[tuple[str, ...]] = ("@value", "@total")


@dataclass(frozen=True, eq=False, init=False)
class Previous(Measure):
    """The named columns of the entity's previous matching event, as ``@prev.<column>``.

    They are null when there was none, or when it is older than ``forget_after``.

    >>> Previous("timestamp", "src_latitude").outputs
    ('@prev.timestamp', '@prev.src_latitude')
    """

    columns: tuple[str, ...]
    forget_after: str | None

    def __init__(self, *columns: str, forget_after: str | None = None) -> None:
        """Name the columns to remember; ``timestamp`` is always among them."""
        object.__setattr__(self, "columns", ("timestamp", *(c for c in columns if c != "timestamp")))
        object.__setattr__(self, "forget_after", forget_after)

    @property
    def reads(self) -> list[str]:
        """The event columns the measure reads."""
        return sorted(self.columns)

    @property
    def outputs(self) -> tuple[str, ...]:
        """One column for each remembered one."""
        return tuple(f"@prev.{c}" for c in self.columns)


@dataclass(frozen=True, eq=False)
class FirstSeen(Measure):
    """Whether the entity shows a value of ``column`` for the first time.

    ``@value`` is 1 when this value was never seen before with this entity (or its last sighting is more than
    ``forget_after`` ago), else 0; ``@known`` is how many different values were known before this event.
    """

    column: str
    forget_after: str | None = None
    makes: ClassVar[tuple[str, ...]] = ("@value", "@known")
