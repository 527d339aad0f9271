"""Engine: fit, apply and backtest are one ``step(state, batch)``.

Enters: detections, events, reference data. Leaves: findings, tallies, scores. Layer: above rules, below runners.
"""

from tocsin.engine.arrive import End, Expect, Idle
from tocsin.engine.core import Engine, State
from tocsin.engine.output import Output

__all__ = ["End", "Engine", "Expect", "Idle", "Output", "State"]
