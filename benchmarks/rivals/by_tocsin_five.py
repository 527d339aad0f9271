"""Tocsin with the first five analyses alone, in one pass: earlier goals are about these.

Enters: the made data. Leaves: five answers. Layer: none (outside the package).
"""

from __future__ import annotations

from benchmarks import analyses as an
from benchmarks.rivals import by_tocsin


class Rival(by_tocsin.Rival):
    """As with all eight, but for the rules."""

    names = an.FIVE
