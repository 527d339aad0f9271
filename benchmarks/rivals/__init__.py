"""The contestants: each computes the analyses in its own best way. Layer: none (outside the package)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.analyses import Contestant

NAMES = ("tocsin", "tocsin_five", "duckdb", "polars", "pandas", "scan")
UNCHECKED = ("tocsin_five", "scan")  # the first computes some of what tocsin does, the second nothing


def contestant(name: str) -> Contestant:
    """Return a new contestant of this name; its packages are imported only now."""
    return import_module(f"benchmarks.rivals.by_{name}").Rival()  # type: ignore[no-any-return]
