"""What can go wrong with a service, as values: which requests it meets, how often, and what is answered instead.

Enters: a request's path. Leaves: the `Fault` that it meets, if any. Layer: testing (standard library only).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "status",  # `status`, with a JSON error as the service writes it
    "not-json",  # `status`, with a body that is no JSON
    "odd-json",  # `status`, with JSON of another shape than any error the service is known to write
    "hang",  # no answer at all until the server closes
    "cut",  # half of the right answer, then the connection is closed
    "redirect",  # 302 to `location`
    "html",  # 200 with a page for browsers
    "empty",  # 200 with nothing
    "next-elsewhere",  # the right answer, with links.next (and related links) on the host `location`
    "next-again",  # the right answer, with links.next leading back to the same page
    "echo",  # `status`, with the request's own Authorization header in the message
]


@dataclass
class Fault:
    """One way to fail.

    Args:
        kind: See `Kind`.
        path: A part of the paths it meets; empty meets all.
        times: How often; None is for ever.
        after: How many matching requests pass before it begins.
        status: The status code, for those kinds that have one.
        retry_after: Value of the header Retry-After, or None for none.
        location: Where a redirect or a foreign link leads.
    """

    kind: Kind = "status"
    path: str = ""
    times: int | None = None
    after: int = 0
    status: int = 500
    retry_after: str | None = None
    location: str = ""


class Faults:
    """The faults that are switched on; the first that meets a request is used up by it.

    >>> faults = Faults()
    >>> faults.add(Fault(status=429, path="/evidence", times=1))
    >>> [getattr(faults.meet(path), "status", None) for path in ("/a", "/b/evidence", "/b/evidence")]
    [None, 429, None]
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Switch a fault on."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Switch all faults off."""
        with self._lock:
            self._faults.clear()

    def meet(self, path: str) -> Fault | None:
        """Return the fault that a request to this path meets, counting it down."""
        with self._lock:
            for fault in self._faults:
                if fault.path not in path or fault.times == 0:
                    continue
                if fault.after:
                    fault.after -= 1
                    continue
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None
