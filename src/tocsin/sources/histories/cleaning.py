"""The cleaning rules: what makes a row no alert, a test, or worth counting. Data, not code.

Enters: the rules of a mapping and the wish of who reads. Leaves: which rules hold, and what each does. Layer: sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from tocsin.errors import SourceError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

ACTIONS: Final = ("drop", "test", "keep")
"""drop: the row is no alert. test: it is one, and marked as a test. keep: it is an alert and only counted."""


@dataclass(frozen=True, slots=True)
class CleaningRule:
    """One named reason for treating a row otherwise.

    Attributes:
        name: Its name in `dropped`, `counts` and the option `cleaning`.
        meaning: One sentence.
        action: drop, test or keep.
        field: The field of the file it looks at; "" for a built-in rule.
        among: The words, case apart, that it catches.
    """

    name: str
    meaning: str
    action: str
    field: str = ""
    among: tuple[str, ...] = ()


BUILT_IN: Final[Mapping[str, CleaningRule]] = MappingProxyType(
    {
        rule.name: rule
        for rule in (
            CleaningRule("unreadable-row", "The line is no row of the file: torn, ragged, not UTF-8, too long.", "drop"),
            CleaningRule("missing-id", "The row names no alert.", "drop"),
            CleaningRule("bad-creation-time", "No creation time, or none that can be read (no zone, no unit, no date).", "drop"),
            CleaningRule("absurd-creation-time", "Created before the earliest allowed time, or after the time of export.", "drop"),
            CleaningRule("duplicate-row", "The very same row stands there already.", "drop"),
            CleaningRule("conflicting-id", "An alert of this id stands there already, and says otherwise.", "drop"),
            CleaningRule("bad-update-time", "An update without a time that can be believed.", "drop"),
            CleaningRule("bad-value", "A later time, or a number, that cannot be read or is absurd: it is left out.", "keep"),
            CleaningRule("clock-skew", "Something happened to the alert before it was created.", "keep"),
            CleaningRule("closed-time-unknown", "It is closed, and nothing says since when.", "keep"),
        )
    }
)  # fmt: skip
"""The rules that hold for every file, in the order in which they are applied."""

_ALWAYS: Final = ("unreadable-row", "missing-id", "bad-creation-time", "bad-update-time", "conflicting-id")
"""Without these there is no alert to speak of: they cannot be switched off."""


def choose(own: Iterable[CleaningRule], wished: Iterable[str] | Mapping[str, str] | None) -> dict[str, CleaningRule]:
    """Return the rules that hold, by name.

    Args:
        own: The mapping's own rules.
        wished: None for all; names for just these; or name -> action to change what some of them do.

    Raises:
        SourceError: A rule or action of no such name (with "did you mean"), or one that cannot be switched off.

    >>> sorted(choose([], ["clock-skew"]))
    ['bad-creation-time', 'bad-update-time', 'clock-skew', 'conflicting-id', 'missing-id', 'unreadable-row']
    """
    rules = {**BUILT_IN, **{rule.name: rule for rule in own}}
    if wished is None:
        return rules
    for name in wished:
        if name not in rules:
            raise SourceError(f"no cleaning rule {name!r}.{did_you_mean(name, rules)} Known: {', '.join(rules)}.")
    if not isinstance(wished, Mapping):
        wanted = {*wished, *_ALWAYS}
        return {name: rule for name, rule in rules.items() if name in wanted}
    for name, action in wished.items():
        if action not in ACTIONS:
            raise SourceError(
                f"{name}: an action is one of {', '.join(ACTIONS)}, not {action!r}.{did_you_mean(action, ACTIONS)}"
            )
        if rules[name].action != action and not rules[name].field:
            raise SourceError(
                f"{name} always does the same ({rules[name].action}). Leave it out of a list to switch it off."
            )
        rules[name] = replace(rules[name], action=action)
    return rules
