"""Several metrics at once: each is a pure function of the same scope, so they can be computed beside each other.

Enters: questions by name. Leaves: their answers by name, in the same order. Layer: metrics.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import polars as pl

from tocsin.answers import Answer
from tocsin.metrics.scope import MetricError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tocsin.metrics.scope import Scope


def together(scopes: Iterable[Scope], asked: Mapping[str, Callable[[], Answer]]) -> dict[str, Answer]:
    """Return the answers, computed on all cores; a metric that refuses gives an empty answer that says why.

    What the scopes share (alerts in order, as they stand, their observables) is made once, before anything is asked.

    >>> from tocsin.lifecycle import History
    >>> from tocsin.metrics import Scope
    >>> def refuse() -> Answer:
    ...     raise MetricError("The log has no times of work.")
    >>> together([], {"staffing": refuse})["staffing"].empty
    'The log has no times of work.'
    """
    seen = list(scopes)
    for scope in seen:
        _ = scope.alerts, scope.excluded, scope.history.mentions, scope.before and scope.before.alerts

    def ask(name: str) -> Answer:
        try:
            return asked[name]()
        except MetricError as error:
            title, why = name.replace("_", " ").capitalize(), str(error)
            if not seen:
                return Answer(title, "", pl.DataFrame(), empty=why)
            return Answer(
                title, seen[0].words(), pl.DataFrame(), empty=why, n=seen[0].alerts.height, as_of=seen[0].as_of
            )

    with ThreadPoolExecutor(max(1, pl.thread_pool_size())) as pool:
        return dict(zip(asked, pool.map(ask, asked), strict=True))
