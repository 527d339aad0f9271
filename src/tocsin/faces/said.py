"""Options of commands that write into an alert log, and what becomes of them.

Enters: what was typed, or the environment says. Leaves: an open log, an actor, or a `UsageError` that says what to
type. Layer: faces.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from tocsin.faces.logs import LOG_VARIABLE
from tocsin.faces.options import Flag, UsageError, instant

if TYPE_CHECKING:
    from tocsin.alerts import Alerts

Log = Annotated[
    str | None,
    Parameter(
        name="--log",
        env_var=LOG_VARIABLE,
        help="The alert log: a SQLite file, or postgresql://user@host/database (its password: PGPASSFILE or PGPASSWORD).",
        metavar="FILE|URL",
    ),
]
AlertId = Annotated[str, Parameter(name="ALERT", help="The alert's id, or as much of its beginning as is unique.")]
Reason = Annotated[str, Parameter(help="Why; it is kept with the change.", metavar="TEXT")]
AsJson = Annotated[bool, Flag, Parameter(help="Print one JSON document and nothing else.")]


@Parameter(name="*")
@dataclass(frozen=True)
class SaidOptions:
    """Who says it, when, and where."""

    actor: Annotated[str | None, Parameter(env_var="TOCSIN_ACTOR", help="Who does it.", metavar="NAME")] = None
    at: Annotated[str | None, Parameter(help="When it happened. Default: now.", metavar="TIME")] = None
    once: Annotated[
        str | None, Parameter(help="A name under which this is said once: again, it changes nothing.", metavar="NAME")
    ] = None
    log: Log = None
    json: AsJson = False


SAID = SaidOptions()
_COMMANDS: Final = {
    "work_started": "start",
    "held": "hold",
    "resumed": "resume",
    "closed": "close",
    "reopened": "reopen",
    "suppressed": "suppress",
    "unsuppressed": "unsuppress",
    "merged": "merge",
}
_REFUSAL = re.compile(r'(?<=: )"\w+" is not possible\. Possible: [\w, ]+(?=, and what)')


@contextlib.contextmanager
def in_commands() -> Iterator[None]:
    """Let an error of the log speak the command line's words, and tell what makes no sense from what is not possible now.

    Raises:
        UsageError: An unknown word, a time to come, and the like.
        LifecycleError: A step that is not possible; the steps that are possible are named as commands.
    """
    from tocsin.alerts import NonsenseError
    from tocsin.lifecycle import LifecycleError

    try:
        yield
    except NonsenseError as error:
        raise UsageError(str(error)) from None
    except LifecycleError as error:
        said = _REFUSAL.sub(lambda m: re.sub(r"\w+", lambda w: _COMMANDS.get(w[0], w[0]), m[0]), str(error))
        raise LifecycleError(said) from None


def open_log(where: str | None, *, create: bool = False) -> "Alerts":
    """Open the log that was named.

    Raises:
        UsageError: None was.
    """
    if not where:
        raise UsageError(f"Which log? Say --log soc.db (or a PostgreSQL URL), or set {LOG_VARIABLE}.")
    from tocsin.alerts import Alerts

    return Alerts(where, create=create)


def said(options: SaidOptions) -> dict[str, Any]:
    """Return who says it and when, as the verbs of `Alerts` take it.

    Raises:
        UsageError: Nobody was named.
    """
    if not options.actor:
        raise UsageError("Who does this? Say --actor NAME, or set TOCSIN_ACTOR: every change names who made it.")
    told: dict[str, Any] = {"actor": options.actor, "at": instant(options.at, "--at"), "idempotency_key": options.once}
    return {key: value for key, value in told.items() if value is not None}
