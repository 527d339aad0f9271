"""Tocsin: detections that mean the same in a replay over a year and live on the stream.

Enters: events. Leaves: findings, and the same names for notebook, command line and service. Layer: the front door;
it only re-exports. Measures, fits and the rule language are all here, so that a rule file needs one import.
"""

from tocsin import rules
from tocsin.detection import Condition, Detection, Example, col, known, prev, ref, score, total, value
from tocsin.engine import End, Engine, Idle, State
from tocsin.engine.fitting import fit
from tocsin.engine.replay import Backtest, backtest
from tocsin.errors import MappingError, RuleError, SourceError, StateError, TableError, TocsinError
from tocsin.fits import limit, own_history, population
from tocsin.measures import Count, Distinct, FirstSeen, Hours, Max, Mean, Min, Previous, Ratio, Sum
from tocsin.reference import References, reference
from tocsin.sources import Events, read
from tocsin.sources.simulate import Simulation, simulate
from tocsin.tables import Table

__version__ = "0.1.0"

__all__ = [
    "Backtest", "Condition", "Count", "Detection", "Distinct", "End", "Engine", "Events", "Example", "FirstSeen", "Hours", "Idle", "MappingError",
    "Max", "Mean", "Min", "Previous", "Ratio", "References", "RuleError", "Simulation", "SourceError", "State", "StateError", "Sum", "Table",
    "TableError", "TocsinError", "backtest", "col", "fit", "known", "limit", "own_history", "population", "prev", "read", "ref", "reference",
    "rules", "score", "simulate", "total", "value",
]  # fmt: skip
