"""The errors every room raises, and the "did you mean" they end with.

Enters: what went wrong, where, and the names that would have been right. Leaves: one exception family
whose message says where, what, and what to try. Layer: ground floor (imports nothing of the house).
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class TocsinError(Exception):
    """The root of all errors raised on purpose. The command line prints its message, not a traceback."""


class SourceError(TocsinError):
    """A source of events cannot be read at all (missing file, unknown format, strict mode met a bad row)."""


class MappingError(TocsinError):
    """A mapping file is wrong, or does not fit the source it is used on."""


class TableError(TocsinError):
    """A reference or fitted table is malformed: overlapping ranges, missing key, damaged file."""


class RuleError(TocsinError):
    """A detection or rule file is wrong. The message starts with ``file:line`` where it is known."""


class SettingsError(TocsinError):
    """Settings of a running engine are wrong. The message names the file and the place in it."""


class StateError(TocsinError):
    """Saved engine state cannot be used: damaged, of another format version, or of other rules."""


class StatisticsError(TocsinError):
    """Numbers from which a statistic cannot be computed: wrong shape, out of range, too few."""


class WorkbenchError(TocsinError):
    """The Workbench cannot be asked, or what it answered cannot be used.

    `status` is the HTTP status, or None where no answer came; `attempts` says how often it was tried.
    """

    def __init__(self, message: str, *, status: int | None = None, attempts: int = 1) -> None:
        super().__init__(message)
        self.status, self.attempts = status, attempts


class WorkbenchAuthError(WorkbenchError):
    """The Workbench does not accept who asks: nothing further is tried."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint naming the closest known names, or the empty string when nothing is close.

    >>> did_you_mean("nr_recipient", ["nr_recipients", "user_id"])
    ' Did you mean "nr_recipients"?'
    >>> did_you_mean("zzz", ["nr_recipients"])
    ''
    """
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    if not close:
        return ""
    return " Did you mean " + " or ".join(f'"{c}"' for c in close) + "?"
