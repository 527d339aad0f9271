"""Fits: the tables that history makes, described as data.

Enters: nothing but parameters. Leaves: frozen descriptions that a detection names as ``against=``; the engine
keeps the fit current while it replays or runs, and ``tocsin.fit`` writes it as versioned tables.
Layer: below detections, beside measures.

A fit reads closed windows only. The table made from the windows before window d is valid from the start of d, so
an event is never compared with anything its own window contributed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tocsin.errors import RuleError
from tocsin.expressions import digest

STATS = ("mean", "sd", "median", "mad")


def quantile_name(quantile: float) -> str:
    """Return the column name of a quantile.

    >>> quantile_name(0.99), quantile_name(0.999), quantile_name(0.5)
    ('q99', 'q99_9', 'q50')
    """
    return "q" + f"{quantile * 100:.10g}".replace(".", "_")


@dataclass(frozen=True)
class Fit:
    """What all fits share."""

    stats: tuple[str, ...]
    quantiles: tuple[float, ...]
    at_least: int

    def __post_init__(self) -> None:
        """Refuse a fit of nothing and quantiles outside 0 to 1."""
        if not self.stats and not self.quantiles:
            msg = "A fit needs at least one statistic: mean=True, sd=True, median=True, mad=True or quantiles=(0.99,)."
            raise RuleError(msg)
        for q in self.quantiles:
            if not 0 <= q <= 1:
                msg = f"A quantile lies between 0 and 1, not {q}. For the 99th percentile write 0.99."
                raise RuleError(msg)

    @property
    def columns(self) -> tuple[str, ...]:
        """The value columns of the table, in order; ``n`` comes last."""
        return (*self.stats, *(quantile_name(q) for q in self.quantiles), "n")

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names under which a rule reads them."""
        return tuple(f"@ref.{c}" for c in self.columns)

    @property
    def key(self) -> str:
        """Text that is equal for equal fits."""
        return digest(type(self).__name__, repr(self))


@dataclass(frozen=True)
class OwnHistory(Fit):
    """A baseline from the entity's own closed windows (tier 3). Made by ``own_history``."""

    windows: int = 28
    same_weekday: bool = False
    exclude_alerted: bool = False
    skip: int = 0
    notebook: bool = False
    """Set by ``compat="notebook"`` alone: an expanding mean over days with events that includes today."""

    def __post_init__(self) -> None:
        """Refuse a baseline that can never be long enough."""
        super().__post_init__()
        if not 1 <= self.at_least <= self.windows:
            msg = f"at_least={self.at_least} can never be reached with windows={self.windows}; at_least lies between 1 and windows."
            raise RuleError(msg)
        if self.skip < 0:
            msg = f"skip={self.skip} would look ahead; it is how many of the last closed windows to leave out."
            raise RuleError(msg)

    @property
    def stride(self) -> int:
        """How many windows lie between two baseline windows."""
        return 7 if self.same_weekday else 1

    @property
    def span(self) -> int:
        """How many windows back the baseline reaches."""
        return (self.windows + self.skip) * self.stride

    def as_notebook(self) -> OwnHistory:
        """Return the workshop notebook's own arithmetic: ``expanding(7).mean()``, today included."""
        return replace(self, notebook=True)


@dataclass(frozen=True)
class Population(Fit):
    """Statistics over one value per entity of the window before (tier 4). Made by ``population``."""

    of: OwnHistory | None = None


@dataclass(frozen=True)
class Limit(Fit):
    """A quantile of single events over the last days, for a stateless rule (tier 4). Made by ``limit``."""

    column: str = ""
    windows: int = 28
    zone: str = "UTC"

    @property
    def columns(self) -> tuple[str, ...]:
        """The limit and the number of events behind it."""
        return ("limit", "n")


def _stats(*, mean: bool, sd: bool, median: bool, mad: bool) -> tuple[str, ...]:
    wanted = {"mean": mean, "sd": sd, "median": median, "mad": mad}
    return tuple(name for name in STATS if wanted[name])


def own_history(
    *,
    mean: bool = False,
    sd: bool = False,
    median: bool = False,
    mad: bool = False,
    quantiles: tuple[float, ...] = (),
    windows: int = 28,
    at_least: int = 7,
    same_weekday: bool = False,
    exclude_alerted: bool = False,
    skip: int = 0,
) -> OwnHistory:
    """Compare with the entity's own past windows.

    The baseline of window d runs from the entity's first matching event (its window included) to d - 1, at most
    ``windows`` of them. A window without events counts as zero where the source was covered and is missing where
    it was not; for means, ratios and extremes it is always missing. With fewer than ``at_least`` windows the event
    is unscored (no_history). ``same_weekday`` takes every seventh window; ``exclude_alerted`` leaves out windows in
    which this detection fired for this entity; ``skip`` leaves out the last so many, for "the four weeks before the last".

    >>> own_history(mean=True).outputs
    ('@ref.mean', '@ref.n')
    """
    return OwnHistory(
        _stats(mean=mean, sd=sd, median=median, mad=mad),
        tuple(quantiles),
        at_least,
        windows=windows,
        same_weekday=same_weekday,
        exclude_alerted=exclude_alerted,
        skip=skip,
    )


def population(
    *,
    mean: bool = False,
    sd: bool = False,
    median: bool = False,
    mad: bool = False,
    quantiles: tuple[float, ...] = (),
    at_least: int = 30,
    of: OwnHistory | None = None,
) -> Population:
    """Compare with everybody: the entities with a matching event in the window before, one value each.

    Entities weigh the same. With fewer than ``at_least`` entities the event is unscored. ``of`` makes it a
    second-level fit: the value of an entity is then the first statistic of its own baseline.

    >>> population(mean=True, sd=True).outputs
    ('@ref.mean', '@ref.sd', '@ref.n')
    """
    return Population(_stats(mean=mean, sd=sd, median=median, mad=mad), tuple(quantiles), at_least, of=of)


def limit(column: str, *, quantile: float = 0.999, windows: int = 28, at_least: int = 1000, zone: str = "UTC") -> Limit:
    """Discover the limit of a stateless rule: a quantile of ``column`` over the events of the last ``windows`` days.

    >>> limit("nr_recipients").outputs
    ('@ref.limit', '@ref.n')
    """
    return Limit((), (quantile,), at_least, column=column, windows=windows, zone=zone)
