"""Alert logs on the command line: which one is meant, which of its alerts count, seen from when.

Enters: what was typed. Leaves: a history and its metrics, or an error: of what was typed, or of the file. Layer: faces.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tocsin.errors import MappingError, SourceError
from tocsin.faces.options import Flag, UsageError

if TYPE_CHECKING:
    from tocsin.lifecycle import History
    from tocsin.metrics import Metrics

LOG_VARIABLE = "TOCSIN_LOG"
_SQLITE = b"SQLite format 3\x00"


@Parameter(name="*")
@dataclass(frozen=True)
class LogOptions:
    """Which alerts are meant."""

    log: Annotated[
        str | None,
        Parameter(
            help=f"The alert log (a file, or postgresql://...), or a file of alerts to read. Default: ${LOG_VARIABLE}.",
            metavar="FILE|URL",
        ),
    ] = None
    map: Annotated[
        str | None,
        Parameter(help="For a file of alerts: its mapping, a TOML file or a shipped name.", metavar="FILE|NAME"),
    ] = None
    as_of: Annotated[
        str | None, Parameter(help="See the log as it was then. Default: at the latest time in it.", metavar="TIME")
    ] = None


@Parameter(name="*")
@dataclass(frozen=True)
class ScopeOptions:
    """Which of them count, by whose clock."""

    since: Annotated[str | None, Parameter(help="Alerts raised from here on.", metavar="TIME")] = None
    until: Annotated[str | None, Parameter(help="Alerts raised before this.", metavar="TIME")] = None
    zone: Annotated[str, Parameter(help="Zone of days, hours and weeks, such as Europe/Berlin.")] = "UTC"
    hours: Annotated[
        str | None,
        Parameter(
            help='When people work, such as "Mon-Fri 08:00-18:00; Sat 09:00-13:00", or a TOML file. Default: Mon-Fri 09:00-17:00.',
            metavar="HOURS|FILE",
        ),
    ] = None
    holidays: Annotated[
        str | None,
        Parameter(help="Days off: a country or part of one (US, DE-BY), or a file of dates.", metavar="CODE|FILE"),
    ] = None
    tests: Annotated[bool, Flag, Parameter(help="Count test alerts, too.")] = False


LOG, SCOPE = LogOptions(), ScopeOptions()


def place_of(options: LogOptions) -> str:
    """Return the log that is meant: the one that was typed, else the environment's.

    Raises:
        UsageError: Neither names one.
    """
    place = options.log or os.environ.get(LOG_VARIABLE)
    if not place:
        raise UsageError(f"Which alert log? Say --log soc.db, or set {LOG_VARIABLE}.")
    return place


def is_log(place: str) -> bool:
    """Tell whether a place is a database (one that is there, or a URL), and not a file or folder of alerts."""
    if "://" in place:
        return True
    path = Path(place)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def open_history(options: LogOptions, zone: str = "UTC") -> "History":
    """Return the history of the log, or of the file of alerts, at the time that was asked for, by the zone's clock.

    Raises:
        SourceError: What was named is neither, or is not there.
    """
    from tocsin.metrics import local_instant

    place = place_of(options)
    if is_log(place):
        from tocsin.alerts import Alerts
        from tocsin.store import StoreError

        try:
            with Alerts(place, create=False) as log:
                history = log.history()
        except StoreError as error:
            raise SourceError(str(error)) from None
    else:
        if not Path(place).exists():
            raise SourceError(
                f"There is no alert log {place}. `tocsin alerts import` or `tocsin backtest --log` makes one."
            )
        from tocsin.sources.histories import read_history

        try:
            history = read_history(place, options.map).history
        except (MappingError, SourceError) as error:
            if options.map:
                raise
            raise SourceError(f"{place} is no alert log and no file of alerts: {error}") from None
    when = local_instant(options.as_of, zone, "--as-of")
    when = when or (history.seen_at if history.at is None else None)  # a log is looked at at a time
    return history if when is None else history.as_of(when)


def open_metrics(options: LogOptions, scope: ScopeOptions) -> "Metrics":
    """Return the metrics of the alerts that were asked for."""
    from tocsin import metrics

    history = open_history(options, scope.zone)
    return metrics.of(
        history, since=scope.since, until=scope.until, zone=scope.zone, hours=scope.hours, holidays=scope.holidays, tests=scope.tests
    )  # fmt: skip
