"""Which activities of one alert its state did not allow, walking through them one by one.

Enters: the rows of one alert, in the order they were learnt. Leaves: an error for each that was not possible where it
stands. `History` says how an alert stands; this says whether it could have come so. Layer: alerts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tocsin.lifecycle import TRANSITIONS, LifecycleError, check_transition

if TYPE_CHECKING:
    from collections.abc import Sequence


def refusals(alert_id: str, rows: Sequence[dict[str, Any]]) -> dict[str, LifecycleError]:
    """Return why an activity was not possible, by its key; none where all were.

    A suppression whose time is over has left the state as it was. An imported row may be impossible: it moves the state all
    the same, as it does in `History`.
    """
    voided = {row["value"] for row in rows if row["type"] == "retracted"}
    state, before, until = "new", "new", None
    found = {}
    for row in sorted((r for r in rows if r["key"] not in voided), key=lambda r: r["at"]):
        if until is not None and until <= row["at"]:
            state, until = before, None
        try:
            check_transition(alert_id, state, row["type"])
        except LifecycleError as error:
            found[row["key"]] = error
        if row["type"] in TRANSITIONS:
            before, state = state, TRANSITIONS[row["type"]][1]
            until = row["until"] if row["type"] == "suppressed" else None
    return found
