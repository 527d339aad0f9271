"""Workers: what does not depend on each other runs side by side; what comes out does not depend on who is done first.

Enters: tasks, and what each needs. Leaves: their results, in the order the tasks were given. Layer: engine.

The kernels and Polars hold no interpreter lock, so threads are enough. Small batches run in the caller's thread: there
a hand-over costs more than it gains.
"""

from __future__ import annotations

import os
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

PARALLEL_ROWS = 50_000
"""From this size on, measures and detections of one batch run side by side."""

Made = dict[str, Any]
T = TypeVar("T")


def beside(n_rows: int, task: Callable[[], T]) -> Callable[[], T]:
    """Start a task in another thread where the batch is worth it; what is returned waits for its result."""
    if n_rows < PARALLEL_ROWS:
        result = task()
        return lambda: result
    return _pool().submit(task).result


def make_and_use(
    n_rows: int,
    makers: Mapping[str, Callable[[], Any]],
    users: Sequence[tuple[Collection[str], Callable[[Made], T]]],
) -> tuple[Made, list[T]]:
    """Run the makers, and each user as soon as all that it needs is made; a user gets all that is made by then.

    >>> make_and_use(2, {"a": lambda: 1, "b": lambda: 2}, [(["a", "b"], lambda made: made["a"] + made["b"])])
    ({'a': 1, 'b': 2}, [3])
    """
    if n_rows < PARALLEL_ROWS:
        made = {key: make() for key, make in makers.items()}
        return made, [use(made) for _, use in users]
    making = {_pool().submit(make): key for key, make in makers.items()}
    using: dict[int, Any] = {}
    made = {}
    while len(using) < len(users) or making:
        for i, (needs, use) in enumerate(users):
            if i not in using and (made.keys() >= set(needs) or not making):
                using[i] = _pool().submit(use, dict(made))
        for future in wait(making, return_when=FIRST_COMPLETED).done if making else ():
            made[making.pop(future)] = future.result()
    return {key: made[key] for key in makers}, [using[i].result() for i in range(len(users))]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 2, "tocsin-step")
