"""Simulated mail and login events with planted stories and their truth; simulated alerts and their triage.

Enters: a number of users, days and a seed. Leaves: events in the workshop's columns, a synthetic geography, networks,
a threat list, and the truth about which events are which story; or alerts, what analysts did with them, and how long each
truly waits. Layer: sources.

The same arguments give the same bytes: every draw comes from a stream keyed by (seed, purpose, day or story).
"""

from tocsin.sources.simulate.alerts import AlertRule, Arrivals, arrive
from tocsin.sources.simulate.analysts import Desk, SimulatedTriage, simulate_alerts, triage
from tocsin.sources.simulate.casting import ALL_KINDS, INNOCENT_KINDS, STORY_KINDS, kinds_of
from tocsin.sources.simulate.files import write_truth
from tocsin.sources.simulate.run import Simulation, Written, simulate, simulate_to
from tocsin.sources.simulate.truth import Label, Truth

__all__ = [
    "ALL_KINDS",
    "INNOCENT_KINDS",
    "STORY_KINDS",
    "AlertRule",
    "Arrivals",
    "Desk",
    "Label",
    "SimulatedTriage",
    "Simulation",
    "Truth",
    "Written",
    "arrive",
    "kinds_of",
    "simulate",
    "simulate_alerts",
    "simulate_to",
    "triage",
    "write_truth",
]
