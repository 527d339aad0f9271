"""The notation in which the Workbench is asked for some alerts: `>`, `<`, `!` not, `:` part, `^` start, a symbol for null.

Enters: an alert, a field and what is wanted of it. Leaves: whether it passes. Layer: testing (standard library only).
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tocsin.testing.workbench_data import Alert

NULL_FILTERS: Final = {"\u2400true": True, "\u2400false": False}


def field_of(alert: Alert, name: str) -> Any:
    """Return an attribute of an alert, or its id."""
    return alert["id"] if name == "id" else alert.get("attributes", {}).get(name)


def passes(alert: Alert, name: str, wanted: str) -> bool:
    """Tell whether an alert passes one filter, in the notation of the service: >, <, !, :part, ^start, null or equal."""
    value = field_of(alert, name)
    if wanted in NULL_FILTERS:
        return (value is None) == NULL_FILTERS[wanted]
    if value is None:
        return False
    sign, operand = (wanted[0], wanted[1:]) if wanted[:1] in "><!:^" else ("=", wanted)
    if sign in "><":
        left, right = (moment(value), moment(operand)) if name.endswith("_at") else (float(value), float(operand))
        return bool(left > right) if sign == ">" else bool(left < right)  # type: ignore[operator]
    text = str(value)
    return {"!": text != operand, ":": operand in text, "^": text.startswith(operand), "=": text == operand}[sign]


def moment(text: str) -> dt.datetime:
    """Return a time as it stands in a query; without a zone it is UTC."""
    found = dt.datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def inside(text: str | None, low: dt.datetime, high: dt.datetime) -> bool:
    """A row whose time nobody can read is sent, as a service that does not look would."""
    try:
        return low <= moment(text or "") < high
    except ValueError:
        return True
