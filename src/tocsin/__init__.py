"""Tocsin: detections that mean the same in a replay over a year and live on the stream.

Enters: events. Leaves: findings, and the same names for notebook, command line and service. Layer: the front door;
it only re-exports. Measures, fits and the rule language are all here, so that a rule file needs one import.

A name is imported when it is first used, so that ``tocsin --help`` need not load a compiler.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tocsin import metrics, reports, rules, stats
    from tocsin import questions as ask
    from tocsin.alerts import Alerts, Grouping
    from tocsin.detection import Condition, Context, Detection, Example, col, ctx, known, prev, ref, score, total, value
    from tocsin.engine import End, Engine, Expect, Idle, State
    from tocsin.engine.fitting import fit
    from tocsin.engine.parameters import operating_hours, poisson_parameter
    from tocsin.engine.replay import Backtest, backtest
    from tocsin.engine.saved import load_state, save_state
    from tocsin.errors import MappingError, RuleError, SourceError, StateError, StatisticsError, TableError, TocsinError
    from tocsin.fits import limit, own_history, population
    from tocsin.lifecycle import History, LifecycleError
    from tocsin.measures import Count, Distinct, FirstSeen, Hours, Max, Mean, Min, Previous, Ratio, Sum
    from tocsin.questions.explanation import explain
    from tocsin.references import References, reference
    from tocsin.runners.compare import compare
    from tocsin.runners.rulefiles import check_rules, load_rules, test_rules
    from tocsin.runners.verify import verify
    from tocsin.sources import Events, read
    from tocsin.sources.histories import Imported, read_history
    from tocsin.sources.simulate import Simulation, simulate
    from tocsin.tables import Table

__version__ = "0.1.0"

_HOMES = {
    "alerts": ("Alerts", "Grouping"),
    "detection": (
        "Condition",
        "Context",
        "Detection",
        "Example",
        "col",
        "ctx",
        "known",
        "prev",
        "ref",
        "score",
        "total",
        "value",
    ),
    "engine": ("End", "Engine", "Expect", "Idle", "State"),
    "engine.fitting": ("fit",),
    "engine.parameters": ("operating_hours", "poisson_parameter"),
    "engine.replay": ("Backtest", "backtest"),
    "engine.saved": ("load_state", "save_state"),
    "errors": (
        "MappingError",
        "RuleError",
        "SourceError",
        "StateError",
        "StatisticsError",
        "TableError",
        "TocsinError",
    ),
    "fits": ("limit", "own_history", "population"),
    "lifecycle": ("History", "LifecycleError"),
    "measures": ("Count", "Distinct", "FirstSeen", "Hours", "Max", "Mean", "Min", "Previous", "Ratio", "Sum"),
    "questions.explanation": ("explain",),
    "references": ("References", "reference"),
    "runners.compare": ("compare",),
    "runners.rulefiles": ("check_rules", "load_rules", "test_rules"),
    "runners.verify": ("verify",),
    "sources": ("Events", "read"),
    "sources.histories": ("Imported", "read_history"),
    "sources.simulate": ("Simulation", "simulate"),
    "tables": ("Table",),
}
_ROOMS = {"ask": "questions", "metrics": "metrics", "reports": "reports", "rules": "rules", "stats": "stats"}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Alerts", "Backtest", "Condition", "Context", "Count", "Detection", "Distinct", "End", "Engine", "Events", "Example",
    "Expect", "FirstSeen", "Grouping", "History", "Hours", "Idle", "Imported", "LifecycleError", "MappingError", "Max", "Mean", "Min",
    "Previous", "Ratio", "References", "RuleError", "Simulation", "SourceError", "State", "StateError", "StatisticsError", "Sum",
    "Table", "TableError", "TocsinError", "ask", "backtest", "check_rules", "col", "compare", "ctx", "explain", "fit", "known",
    "limit", "load_rules", "load_state", "metrics", "operating_hours", "own_history", "poisson_parameter", "population", "prev",
    "read", "read_history", "ref", "reference", "reports", "rules", "save_state", "score", "simulate", "stats", "test_rules", "total",
    "value", "verify",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use."""
    if name in _ROOMS:
        return importlib.import_module(f"tocsin.{_ROOMS[name]}")
    if name not in _HOME_OF:
        message = f"tocsin has no {name!r}"
        raise AttributeError(message)
    found = getattr(importlib.import_module(f"tocsin.{_HOME_OF[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List the public names."""
    return sorted({*globals(), *__all__})
