"""The small simulation that questions and explanations are tested on.

Layer: tests.
"""

from __future__ import annotations

import pytest

import tocsin as tc


@pytest.fixture(scope="module")
def sim() -> tc.Simulation:
    return tc.simulate(users=60, days=20, seed=3)


@pytest.fixture(scope="module")
def events(sim: tc.Simulation) -> tc.Events:
    return tc.read(sim.events)


@pytest.fixture(scope="module")
def refs(sim: tc.Simulation) -> tc.References:
    return tc.reference(geo=sim.geo, threats=sim.threats)
