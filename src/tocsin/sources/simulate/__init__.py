"""Simulated mail and login events with planted stories and their truth.

Enters: a number of users, days and a seed. Leaves: events in the workshop's columns, a synthetic geography, a
threat list, and the truth about which events are which story. Layer: sources.

The same arguments give the same bytes: every draw comes from a stream keyed by (seed, purpose, day).
"""

from tocsin.sources.simulate.run import Simulation, simulate, simulate_to
from tocsin.sources.simulate.stories import INNOCENT_KINDS, STORY_KINDS

__all__ = ["INNOCENT_KINDS", "STORY_KINDS", "Simulation", "simulate", "simulate_to"]
