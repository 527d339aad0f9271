"""The words of triage: activities, states, verdicts, and which may follow which.

Enters: a state and an activity. Leaves: the next state, or an error that names what is allowed. Layer: lifecycle.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from tocsin.errors import TocsinError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class LifecycleError(TocsinError):
    """An activity that the alert's state does not allow, or a word that triage does not know."""


SEVERITIES: Final = ("unknown", "informational", "low", "medium", "high", "critical")
"""From least to most; `unknown` is an imported alert whose source names none."""

STATES: Final = ("new", "in_progress", "on_hold", "closed", "reopened", "suppressed", "merged")
WAITING: Final = ("new", "in_progress", "on_hold", "reopened")
"""The states in which somebody still has to do something."""

VERDICTS: Final = (
    "unjudged",
    "true_positive",
    "benign_true_positive",
    "false_positive",
    "inconclusive",
    "test",
    "duplicate",
)
"""What a person decided an alert was: an axis of its own, beside the state."""

ACTOR_KINDS: Final = ("human", "automation", "import", "system")

ACTIVITIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "assigned": "value: to whom",
        "unassigned": "nobody has it any more",
        "viewed": "somebody opened it",
        "work_started": "somebody works on it",
        "work_ended": "number: minutes of work since it started, where measured; value: why it paused",
        "investigative_action": "a query, a look-up, a sandbox run; value: which",
        "escalated": "value: the investigation it became part of",
        "promoted": "value: the incident it became part of",
        "notified": "somebody outside was told; value: whom",
        "remediated": "value: what was done",
        "verdict": "value: one of the verdicts; payload: reason",
        "closed": "value: the reason",
        "reopened": "value: the reason",
        "held": "value: whom it waits for",
        "resumed": "the wait is over",
        "severity_changed": "value: the new severity",
        "merged": "value: the id of the alert that goes on",
        "suppressed": "value: the reason; until: when it ends by itself (none: never)",
        "unsuppressed": "value: the reason",
        "enriched": "payload: observables found later",
        "commented": "payload: text",
        "peak": "value: a finding's id; number: the higher score its window reached later",
        "retracted": "value: the key of the activity that did not happen so; a correction is this and a new row",
    }
)
"""Each type of activity and what its particulars mean. The alert's own row is its creation."""

TRANSITIONS: Final[Mapping[str, tuple[frozenset[str], str]]] = MappingProxyType(
    {
        "work_started": (frozenset({"new", "in_progress", "reopened", "on_hold"}), "in_progress"),
        "held": (frozenset({"new", "in_progress", "reopened"}), "on_hold"),
        "resumed": (frozenset({"on_hold"}), "in_progress"),
        "closed": (frozenset({"new", "in_progress", "on_hold", "reopened"}), "closed"),
        "reopened": (frozenset({"closed"}), "reopened"),
        "suppressed": (frozenset({"new", "reopened"}), "suppressed"),
        "unsuppressed": (frozenset({"suppressed"}), "new"),
        "merged": (frozenset(STATES) - {"merged"}, "merged"),
    }
)
"""The activities that move the state: from which states, and to which."""

JOURNAL_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "covered": "name: a feed of alerts or events; from at to until it delivered",
        "gap": "name: a feed; from at to until it delivered nothing",
        "events": "name: a feed; number: how many events it brought from at to until",
        "release": "name: a rule; value: the version that began at",
        "list_update": "name: a threat list, allow-list or reference table; value: its digest",
        "roster": "name: an analyst; on shift from at to until",
        "note": "value: anything a reader of a chart should know",
    }
)
"""What was true around the alerts; `at` and `until` bound it."""


def check_word(word: str, known: Iterable[str], what: str) -> None:
    """Refuse a word that is none of the known ones.

    >>> check_word("closd", STATES, "state")
    Traceback (most recent call last):
    ...
    tocsin.lifecycle.words.LifecycleError: "closd" is no state. Did you mean "closed"? Known: new, in_progress, on_hold, ...
    """
    known = tuple(known)
    if word not in known:
        raise LifecycleError(f'"{word}" is no {what}.{did_you_mean(word, known)} Known: {", ".join(known)}.')


def check_transition(alert_id: str, state: str, activity: str) -> str:
    """Return the state after an activity; most leave it as it is.

    Raises:
        LifecycleError: The state does not allow it. The message names what it allows.

    >>> check_transition("4f", "new", "closed")
    'closed'
    >>> check_transition("4f", "closed", "work_started")
    Traceback (most recent call last):
    ...
    tocsin.lifecycle.words.LifecycleError: alert 4f is closed: "work_started" is not possible. Possible: reopened, merged, ...
    """
    check_word(activity, ACTIVITIES, "activity")
    if state == "merged" and activity not in ("commented", "retracted"):
        raise LifecycleError(f"alert {alert_id} was merged into another: nothing more happens here; work on that one.")
    if activity not in TRANSITIONS:
        return state
    allowed, after = TRANSITIONS[activity]
    if state in allowed:
        return after
    possible = [name for name, (states, _) in TRANSITIONS.items() if state in states]
    raise LifecycleError(
        f'alert {alert_id} is {state}: "{activity}" is not possible.'
        f" Possible: {', '.join(possible)}, and what leaves the state as it is (a comment, a verdict)."
    )
