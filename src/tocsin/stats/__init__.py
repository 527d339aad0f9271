"""Statistics on plain arrays: each module is of use by itself, in a notebook as in the package.

Enters: NumPy arrays. Leaves: small frozen results of arrays. Layer: ground floor; imports nothing of the house but its
errors. A module is imported when it is first used, since some of them load a compiler.

``multiple`` many tests at once, ``welch`` changes of a daily level, ``circular`` hours of the day, ``poisson`` and
``rates`` counts with intervals, ``changepoints`` when a level changed, ``survival`` how long things take while some are still
open, ``queueing`` how many analysts that needs, ``waiting`` how many wait at any time, and how long they have.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tocsin.stats import changepoints, circular, multiple, poisson, queueing, rates, survival, waiting, welch

__all__ = ["changepoints", "circular", "multiple", "poisson", "queueing", "rates", "survival", "waiting", "welch"]


def __getattr__(name: str) -> Any:
    """Import a module on first use."""
    if name not in __all__:
        message = f"tocsin.stats has no {name!r}"
        raise AttributeError(message)
    return importlib.import_module(f"tocsin.stats.{name}")


def __dir__() -> list[str]:
    """List the modules."""
    return __all__
