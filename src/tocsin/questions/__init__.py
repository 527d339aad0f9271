"""Questions: what a person asks of a log beside rules, each answered by a table, a chart and a definition.

Enters: events, and what a question names. Leaves: `Answer`. Layer: questions, above the charts and below the faces.
`tocsin.ask` is this room, and `tocsin ask` has the same questions.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tocsin.answers import Answer
    from tocsin.questions.changes import largest_changes
    from tocsin.questions.columns import describe, histogram, top
    from tocsin.questions.explanation import explain
    from tocsin.questions.habits import poisson_parameter, shifted_hours
    from tocsin.questions.levels import change_points
    from tocsin.questions.places import fastest_travellers, outside, world_map
    from tocsin.questions.timelines import population, series

_HOMES = {
    "answer": ("Answer",),
    "changes": ("largest_changes",),
    "columns": ("describe", "histogram", "top"),
    "explanation": ("explain",),
    "levels": ("change_points",),
    "habits": ("poisson_parameter", "shifted_hours"),
    "places": ("fastest_travellers", "outside", "world_map"),
    "timelines": ("population", "series"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Answer", "change_points", "describe", "explain", "fastest_travellers", "histogram", "largest_changes", "outside",
    "poisson_parameter", "population", "series", "shifted_hours", "top", "world_map",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a question on first use."""
    if name not in _HOME_OF:
        message = f"tocsin.questions has no {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(f"tocsin.questions.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    """List the questions."""
    return __all__
