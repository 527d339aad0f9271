"""The named breaks that `make mutants` applies: one entry each, add freely.

Enters: nothing. Leaves: MUTATIONS. A good entry is a mistake that someone could make: an off-by-one at a boundary,
a missing case, an order that no longer holds. Its `old` text must occur exactly once in its file; its test is the one
that states the claim it breaks. Layer: none (outside the package).
"""

from __future__ import annotations

from tools.mutants import Mutation

MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        "errors.hints-name-far-words",
        "src/tocsin/errors.py",
        "cutoff=0.6",
        "cutoff=0.0",
        "src/tocsin/errors.py",
    ),
)
