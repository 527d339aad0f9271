"""The life of an alert: its words, its frames, and what it looks like at any time.

Enters: rows of the alert log or of an imported history. Leaves: `History`, the value that every metric is a function
of. Layer: lifecycle, a pure ground floor below sources and store.
"""

from tocsin.lifecycle.frames import ACTIVITY, ALERT, FINDING, JOURNAL, activity_key, empty_history, fit_frame
from tocsin.lifecycle.history import History
from tocsin.lifecycle.words import (
    ACTIVITIES,
    ACTOR_KINDS,
    JOURNAL_KINDS,
    SEVERITIES,
    STATES,
    TRANSITIONS,
    VERDICTS,
    LifecycleError,
    check_transition,
)

__all__ = [
    "ACTIVITIES", "ACTIVITY", "ACTOR_KINDS", "ALERT", "FINDING", "JOURNAL", "JOURNAL_KINDS", "SEVERITIES", "STATES",
    "TRANSITIONS", "VERDICTS", "History", "LifecycleError", "activity_key", "check_transition", "empty_history", "fit_frame",
]  # fmt: skip
