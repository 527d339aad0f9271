"""A history mapping says how a file of alerts becomes alerts and their activities; it is data, kept as TOML.

Enters: what `mapping_read` found in TOML, or `propose` guessed. Leaves: a frozen `HistoryMapping`. A cell of it is told as
the columns of `tocsin.sources.mapping` are: a field's name, several names (the first that has a value in the row), or
a table with `from`, `values`, `unit` and the rest. Layer: sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from tocsin.sources.histories.cleaning import CleaningRule
    from tocsin.sources.mapping import ColumnRule

SHAPES: Final = ("alerts", "updates", "ocsf")
WHEN: Final = ("changes", "increases")


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of a row: of the first rule that has one there, with a prefix in front of it."""

    rules: tuple[ColumnRule, ...]
    prefixes: tuple[str, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """The source fields it is made from."""
        return tuple(name for rule in self.rules for name in rule.source)


@dataclass(frozen=True, slots=True)
class Condition:
    """Whether a row counts: what its field says is among some words (or among none of them), case apart."""

    field: str
    among: tuple[str, ...] = ()
    not_among: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ActivityRule:
    """How one activity of an alert is read from the row that tells of it.

    Attributes:
        type: One of `lifecycle.ACTIVITIES`.
        at: When it happened; no time, no activity.
        between: Two fields instead of `at`: it happened after the first of them and not after the second. The time is
            that of the next activity there is, at most the second one.
        value, actor, number, until: What the activity says.
        payload: JSON object of these cells.
        actor_kind: Who acts: human, automation, import or system.
        judged_by: Whose name tells automation from people; by default the actor's.
        actor_kind_if_nobody: The kind where that name is missing; None is the same as `actor_kind`.
        needs_value: Without a value there is no activity.
        where: Only in rows of which this holds.
        unless: Only where this field is empty.
        differs_from: Only where this field's time is another one.
    """

    type: str
    at: Cell | None = None
    between: tuple[str, str] | None = None
    value: Cell | None = None
    actor: Cell | None = None
    number: Cell | None = None
    until: Cell | None = None
    payload: tuple[tuple[str, Cell], ...] = ()
    actor_kind: str = "human"
    actor_kind_if_nobody: str | None = None
    judged_by: Cell | None = None
    needs_value: bool = False
    where: Condition | None = None
    unless: str | None = None
    differs_from: str | None = None


@dataclass(frozen=True, slots=True)
class ChangeRule:
    """How a change of a field between two updates of an alert becomes an activity.

    Attributes:
        type: The activity when the value becomes another one.
        value: The value that is watched, and what the activity says.
        empty: The activity when the value goes away; None for nothing.
        first: The value in an alert's first update counts as a change.
        when: "changes", or "increases" (of a number).
    """

    type: str
    value: Cell
    empty: str | None = None
    first: bool = True
    when: str = "changes"


@dataclass(frozen=True, slots=True)
class ObservableRule:
    """What a row names beside the alert itself: a host, a user, an address."""

    kind: str
    value: Cell
    role: str | None = None


@dataclass(frozen=True, slots=True)
class HistoryMapping:
    """How a file becomes a history.

    Attributes:
        name: Name of the mapping.
        title: One line for people.
        source: Name of the source: it is in the alerts' ids, so two files of one source agree on them.
        shape: "alerts" (one row an alert), "updates" (one row an update of one), or "ocsf".
        history: "full" if every activity is told, "summary" if only first and last times are.
        format, zone, earliest, recognise, null_values, separator: As in `tocsin.sources.mapping.Mapping`.
        automation: A regular expression; actors it matches are automation.
        caveats: What is to be said of every history read so.
        alert: (column of `lifecycle.ALERT`, cell); external_id and created_at are needed.
        status: One of `lifecycle.STATES`; how the alert stands (alerts), or stood from that update on (updates).
        at, actor: Of an update: when it was made, and by whom.
        closed_value: Of an update that closes: the reason.
        activities, changes, observables: How they are read.
        cleaning: The mapping's own cleaning rules, beside the built-in ones.
    """

    name: str
    title: str = ""
    source: str = ""
    shape: str = "alerts"
    history: str = "summary"
    format: str | None = None
    zone: str | None = None
    earliest: datetime | None = None
    recognise: tuple[str, ...] = ()
    null_values: tuple[str, ...] = ()
    separator: str = ","
    automation: str | None = None
    caveats: tuple[str, ...] = ()
    alert: tuple[tuple[str, Cell], ...] = ()
    status: Cell | None = None
    at: Cell | None = None
    actor: Cell | None = None
    closed_value: Cell | None = None
    activities: tuple[ActivityRule, ...] = ()
    changes: tuple[ChangeRule, ...] = ()
    observables: tuple[ObservableRule, ...] = ()
    cleaning: tuple[CleaningRule, ...] = ()

    def cell(self, column: str) -> Cell | None:
        """Return the cell of an alert's column, if any."""
        return dict(self.alert).get(column)

    def recognises(self, names: Iterable[str]) -> bool:
        """Tell whether a source with these fields is this mapping's own; case and spaces apart."""
        return bool(self.recognise) and {fold(n) for n in self.recognise} <= {fold(n) for n in names}

    def to_toml(self) -> str:
        """Return the mapping as TOML text that `parse_history_mapping` reads back to an equal value."""
        from tocsin.sources.histories.mapping_toml import write_mapping

        return write_mapping(self)


def fold(name: str) -> str:
    """Return a field's name as it is compared: case, double spaces, and the _source around a document of a search apart.

    >>> fold(" Expel  Alert ID "), fold("_source.kibana.alert.uuid")
    ('expel alert id', 'kibana.alert.uuid')
    """
    return " ".join(name.split()).casefold().removeprefix("_source.")
