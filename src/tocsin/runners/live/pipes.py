"""A pipe: what takes time to make is made in a thread, a little ahead of who takes it.

Enters: an iterator. Leaves: what it yields, in its order, and its error. Layer: runners.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, TypeVar

from tocsin.runners.live.patience import GaveUpError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
DEPTH = 1
"""How much may be ready before it is taken: that is all the memory a slow taker costs."""
LOOK_SECONDS = 0.1
JOIN_SECONDS = 3.0


class _Ended:
    """Marks that nothing more comes."""


def ahead(items: Iterator[T], waiting: Callable[[], None] = lambda: None) -> Iterator[T | None]:
    """Yield what is made in a thread; and None every now and then where there is nothing yet.

    That the maker gave up, since it was told to stop, is an end like any other. waiting: called in the maker's thread every now
    and then while nobody takes what it made.

    >>> [item for item in ahead(iter([1, 2, 3])) if item is not None]
    [1, 2, 3]
    """
    ready: queue.Queue[T | BaseException | _Ended] = queue.Queue(DEPTH)
    left = threading.Event()

    def put(item: T | BaseException | _Ended) -> None:
        while not left.is_set():
            try:
                ready.put(item, timeout=LOOK_SECONDS)
            except queue.Full:
                waiting()
                continue
            return

    def make() -> None:
        try:
            for item in items:
                put(item)
                if left.is_set():
                    return
            put(_Ended())
        except GaveUpError:
            put(_Ended())
        except BaseException as error:  # noqa: BLE001 - handed over to the thread that takes, which raises it
            put(error)

    thread = threading.Thread(target=make, name="tocsin-reader", daemon=True)
    thread.start()
    try:
        while True:
            try:
                item = ready.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                yield None
                continue
            if isinstance(item, _Ended):
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        left.set()
        thread.join(JOIN_SECONDS)
