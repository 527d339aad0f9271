"""Clocks: what is measured from when to when, as data, and the durations they give.

Enters: a scope, a clock (one that ships, or a few lines of TOML), working hours. Leaves: a row an alert: minutes, whether it
ended or still waits, or why it does not count. Layer: metrics, above scope.

Well-known systems define "time to first action" in eight ways. So a clock is a value with a digest, its definition is
printed with every number, and what still waits is a lower bound, neither -1 nor absent.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from tocsin.calendars import MINUTE, instant_us
from tocsin.errors import did_you_mean
from tocsin.lifecycle.frames import ALERT, TIME
from tocsin.lifecycle.words import ACTIVITIES, ACTOR_KINDS, TRANSITIONS
from tocsin.metrics.scope import MetricError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from tocsin.metrics.scope import Scope
    from tocsin.workhours import WorkHours

    Int64s = NDArray[np.int64]

NEVER: Final = np.iinfo(np.int64).min
"""Where a moment that did not come would stand in an array of instants."""

DURATION: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "alert": pl.UInt32,  # the alert's row in the history
        "started_at": TIME,
        "ended_at": TIME,  # null while it waits
        "minutes": pl.Float64,  # until it ended, or so far
        "ended": pl.Boolean,
        "excluded": pl.String,  # why it does not count; null: it does
    }
)
"""The columns of `durations`."""

BACKWARDS: Final = "ended before it began (clock skew)"
_PICKS: Final = ("earliest", "last", "first in this order")
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "pick": _PICKS,
        "calendar": ("wall", "business", "minus hold"),
        "otherwise": ("waits", "left out"),
        "needs": ("summary", "full"),
        "arithmetic": ("exact", "notebook"),
    }
)


@dataclass(frozen=True)
class Clock:
    """What is measured from when to when, of which alerts.

    start: created, first_activity, or the first activity of a type. end: activity types, or created. pick: which of them
    ends it: the earliest; the last, unless the alert was reopened after it; or the first type in this order that has a
    time at all. actors: whose activities count; none named: anybody's. calendar: wall; business, the working hours; or
    minus hold, without the time on hold. only: alert column -> the values that take part. otherwise: an alert without the end
    waits, or is left out. needs: "full" refuses histories that hold only first and last times. arithmetic: "notebook" is that
    of the workshop notebook, see `docs/metrics-response.md`.
    """

    id: str
    title: str
    end: tuple[str, ...]
    version: int = 1
    start: str = "created"
    pick: str = "earliest"
    actors: tuple[str, ...] = ("human",)
    calendar: str = "wall"
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    otherwise: str = "waits"
    needs: str = "summary"
    arithmetic: str = "exact"
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse words that no activity, actor or choice has."""
        for name, known in _CHOICES.items():
            _check(getattr(self, name), known, f"{self.id}: {name}")
        _check(self.start, ("created", "first_activity", *ACTIVITIES), f"{self.id}: start")
        for word in self.end:
            _check(word, ("created", *ACTIVITIES), f"{self.id}: end")
        for word in self.actors:
            _check(word, ACTOR_KINDS, f"{self.id}: actors")
        for word in self.only:
            _check(word, ALERT, f"{self.id}: only")
        if not self.end or (self.end != ("created",) and "created" in self.end) or self.end == (self.start,):
            raise MetricError(f"Clock {self.id}: a clock ends with activities, or with created, and not as it starts.")

    @property
    def digest(self) -> str:
        """16 hex digits of everything that changes its numbers; two clocks with one digest measure the same."""
        said = {k: v for k, v in asdict(self).items() if k not in ("id", "title", "note", "version")}
        return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=8).hexdigest()

    def words(self) -> str:
        """Say exactly what it measures.

        >>> find("first-close").words()
        'Minutes from created to the earliest closed by human. (Clock first-close, version 1, a27be5ca.)'
        """
        said = {"earliest": "the earliest ", "last": "the last ", "first in this order": "the first, in this order, "}
        by = " by " + " or ".join(self.actors) if self.actors else " by anybody"
        ends = " or ".join(self.end)
        end = ends if self.end == ("created",) else f"{said[self.pick]}{ends}{by}"
        how = {"wall": "Minutes", "business": "Working minutes", "minus hold": "Minutes not on hold"}[self.calendar]
        text = f"{how} from {self.start.replace('_', ' ')} to {end}."
        for column, values in self.only.items():
            text += f" Only {column} {' or '.join(values)}."
        return f"{text}{' ' + self.note if self.note else ''} (Clock {self.id}, version {self.version}, {self.digest[:8]}.)"


def _check(word: Any, known: Iterable[str], where: str) -> None:
    known = tuple(known)
    if word not in known:
        raise MetricError(
            f"Clock {where}: {word!r} is unknown.{did_you_mean(str(word), known)} Known: {', '.join(known)}."
        )


def parse_clocks(text: str, where: str = "clocks") -> dict[str, Clock]:
    """Return the clocks of a TOML text, id -> clock.

    Each is a table ``[clock.ID]`` with ``end``, and any other field of `Clock`; ``actors = "any"`` names nobody.

    Raises:
        MetricError: No TOML, an unknown key or word; the message names the place and the nearest right word.

    >>> own = parse_clocks('[clock.look]' + chr(10) + 'title = "Look"' + chr(10) + 'end = ["viewed"]')
    >>> own["look"].end
    ('viewed',)
    """
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MetricError(f"{where}: {error}") from None
    for name in told:
        if name != "clock":
            raise MetricError(
                f'{where}: "{name}" is not of a clock file.{did_you_mean(name, ["clock"])} Write [clock.ID].'
            )
    clocks = told.get("clock", {})
    if not isinstance(clocks, dict):
        raise MetricError(f"{where}: write [clock.ID], and below it a line for each of its keys.")
    return {key: _clock(key, value, where) for key, value in clocks.items()}


def _clock(key: str, told: Any, where: str) -> Clock:
    known = [f.name for f in fields(Clock) if f.name != "id"]
    if not isinstance(told, dict):
        raise MetricError(f"{where}: write [clock.{key}], and below it a line for each of its keys.")
    for name in told:
        if name not in known:
            raise MetricError(f'{where}: clock {key} has no key "{name}".{did_you_mean(name, known)}')
    if "end" not in told:
        raise MetricError(f'{where}: clock {key} needs end, for example end = ["assigned", "closed"].')
    made = {"title": key, **told}
    only = made.get("only", {})
    if not isinstance(only, dict):
        raise MetricError(f'{where}: clock {key}: only is a table, as in only = {{ severity = ["high", "critical"] }}.')
    made["end"] = _words(made["end"], f"{where}: clock {key}: end")
    made["actors"] = (
        () if made.get("actors") == "any" else _words(made.get("actors", "human"), f"{where}: clock {key}: actors")
    )
    made["only"] = {column: _words(values, f"{where}: clock {key}: only") for column, values in only.items()}
    try:
        return Clock(key, **made)
    except MetricError as error:
        raise MetricError(f"{where}: {error}") from None


def _words(told: Any, where: str) -> tuple[str, ...]:
    words = [told] if isinstance(told, str) else told
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise MetricError(f'{where} is a word or a list of words, such as ["assigned", "closed"].')
    return tuple(words)


@cache
def shipped() -> Mapping[str, Clock]:
    """Return the clocks that ship, id -> clock."""
    text = files("tocsin.metrics").joinpath("clocks.toml").read_text(encoding="utf-8")
    return MappingProxyType(parse_clocks(text, "clocks.toml"))


def find(clock: Clock | str | Path) -> Clock:
    """Return a clock by the id of one that ships, or from a file: "own.toml" with one clock, "own.toml:ID" with several.

    >>> find("first-action").start
    'created'
    >>> find("first-acton")
    Traceback (most recent call last):
    ...
    tocsin.metrics.scope.MetricError: There is no clock "first-acton". Did you mean "first-action"...
    """
    if isinstance(clock, Clock):
        return clock
    file, _, key = str(clock).partition(".toml")
    if str(clock) == file:
        if file not in shipped():
            hint = did_you_mean(file, shipped())
            raise MetricError(
                f'There is no clock "{file}".{hint} Those that ship: {", ".join(shipped())}; or name a .toml file.'
            )
        return shipped()[file]
    path = Path(f"{file}.toml")
    try:
        own = parse_clocks(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise MetricError(f"{path}: {error.strerror}.") from None
    key = key.removeprefix(":") or (next(iter(own)) if len(own) == 1 else "")
    if key not in own:
        raise MetricError(
            f'{path}: name one of its clocks, as in "{path}:ID".{did_you_mean(key, own)} It has: {", ".join(own)}.'
        )
    return own[key]


def durations(scope: Scope, clock: Clock | str | Path = "first-action", work: WorkHours | None = None) -> pl.DataFrame:
    """Return how long each alert of a scope took by a clock, in the order of ``scope.alerts``; columns as in `DURATION`.

    What did not end lasts until the scope's time at least (``ended`` False), unless nothing more can be expected of it.
    Times that run backwards are excluded, never clipped.

    Args:
        scope: Which alerts, seen when.
        clock: `Clock`, or what `find` takes.
        work: Working hours; only a business clock needs them.

    Raises:
        MetricError: The clock needs activities that a history of summary times does not hold, or working hours.
    """
    clock, rows = find(clock), scope.alerts
    if not rows.height or scope.as_of is None:
        return pl.DataFrame(schema=dict(DURATION))
    whole = clock.needs == "full" or clock.calendar == "minus hold"
    if whole and (rows["history"] == "summary").all():
        raise MetricError(
            f"Clock {clock.id} needs every activity; this history holds only first and last times, from which it would be"
            " wrong. Take a clock that does not, such as first-action."
        )
    if clock.calendar == "business" and work is None:
        raise MetricError(f"Clock {clock.id} counts working minutes: say when people work (work=WorkHours.of(...)).")
    number = rows["alert"].to_numpy()
    start = _starts(scope, clock)
    end = _ends(scope, clock, start)
    if clock.arithmetic == "notebook":
        return _notebook(rows, start[number], end[number])
    until = np.where(end == NEVER, instant_us(scope.as_of), end)
    begun = np.where(start == NEVER, until, start)
    if clock.calendar == "business" and work is not None:
        minutes = work.minutes_between(begun[number], until[number])
    else:
        paused = _on_hold(scope, begun, until) if clock.calendar == "minus hold" else np.zeros(len(start), np.int64)
        minutes = ((until - begun - paused) / MINUTE)[number]
    told: dict[str, Any] = {"started_at": _time(start[number]), "ended_at": _time(end[number]), "minutes": minutes}
    made = rows.with_columns(**told).with_columns(
        ended=pl.col("ended_at").is_not_null(), excluded=_reason(clock, whole=whole)
    )
    shown = pl.col("excluded").is_null() | (pl.col("excluded") == BACKWARDS)
    return made.select(*DURATION).with_columns(pl.when(shown).then("minutes"))


def _reason(clock: Clock, *, whole: bool) -> pl.Expr:
    """Say why an alert does not count; the first reason that holds."""
    over = pl.lit(value=True) if clock.otherwise == "left out" else pl.col("state") == "closed"
    others = [~pl.col(column).is_in(list(values)).fill_null(value=False) for column, values in clock.only.items()]
    start = "first activity unknown" if clock.start == "first_activity" else f"never {clock.start}"
    reasons = {
        "not of the clock's population": pl.any_horizontal(others) if others else pl.lit(value=False),
        "only first and last times known": pl.lit(whole) & (pl.col("history") == "summary"),
        "suppressed": pl.col("state") == "suppressed",
        start: pl.col("started_at").is_null(),
        BACKWARDS: pl.col("ended_at") < pl.col("started_at"),
        f"{'left' if clock.otherwise == 'left out' else 'closed'} without it": pl.col("ended_at").is_null() & over,
    }
    told = pl.lit(None, pl.String)
    for reason, holds in reversed(reasons.items()):
        told = pl.when(holds).then(pl.lit(reason)).otherwise(told)
    return told


def _starts(scope: Scope, clock: Clock) -> Int64s:
    """Return when the clock starts for each alert of the history, in its order."""
    alerts = scope.history.alerts
    if clock.start in ("created", "first_activity"):
        return _us(alerts["created_at" if clock.start == "created" else "first_activity_at"])
    begun = scope.history.events.filter(pl.col("type") == clock.start)
    return _pick(begun["alert"].to_numpy(), _us(begun["at"]), alerts.height)


def _ends(scope: Scope, clock: Clock, start: Int64s) -> Int64s:
    """Return when the clock ends for each alert of the history, in its order."""
    if clock.end == ("created",):
        return _us(scope.history.alerts["created_at"])
    by = pl.col("actor_kind").is_in(clock.actors) if clock.actors else pl.lit(value=True)
    events = scope.history.events.select("alert", "at", "type", "actor_kind").with_row_index("row")
    ending = events.filter(pl.col("type").is_in(clock.end) & by)
    if clock.start in ACTIVITIES:  # what ended before it began was the end of something else
        begun = start[ending["alert"].to_numpy()]
        ending = ending.filter(pl.Series((begun != NEVER) & (_us(ending["at"]) >= begun)))
    alert, at = ending["alert"].to_numpy(), _us(ending["at"])
    if clock.pick == "earliest":
        return _pick(alert, at, len(start))
    if clock.pick == "last":
        end = _pick(alert, at, len(start), last=True)
        again = events.filter(pl.col("type") == "reopened")
        row = _pick(alert, ending["row"].to_numpy().astype(np.int64), len(start), last=True)
        reopened = _pick(again["alert"].to_numpy(), again["row"].to_numpy().astype(np.int64), len(start), last=True)
        return np.where(reopened > row, NEVER, end)
    end = np.full(len(start), NEVER)
    for word in clock.end:
        mine = (ending["type"] == word).to_numpy()
        end = np.where(end == NEVER, _pick(alert[mine], at[mine], len(start)), end)
    return end


def _pick(alert: NDArray[np.uint32], value: Int64s, n: int, *, last: bool = False) -> Int64s:
    """Return the first (or last) value of each of ``n`` alerts, whose rows come in order of alert and time."""
    edge = np.diff(alert, append=n) if last else np.diff(alert, prepend=n)
    chosen = np.full(n, NEVER)
    chosen[alert[edge != 0]] = value[edge != 0]
    return chosen


def _on_hold(scope: Scope, begun: Int64s, until: Int64s) -> Int64s:
    """Return how long each alert was on hold between two instants, in microseconds.

    A hold ends with the next activity that moves the alert's state: resumed, worked on, closed.
    """
    moving = scope.history.events.filter(pl.col("type").is_in(list(TRANSITIONS)))
    alert, at = moving["alert"].to_numpy(), _us(moving["at"])
    following = np.append(at[1:], NEVER)
    following[np.diff(alert, append=len(begun)) != 0] = np.iinfo(np.int64).max
    held = (moving["type"] == "held").to_numpy()
    alert, low, high = alert[held], at[held], following[held]
    inside = np.minimum(high, until[alert]) - np.maximum(low, begun[alert])
    paused = np.zeros(len(begun), np.int64)
    np.add.at(paused, alert, np.maximum(inside, 0))
    return paused


def _notebook(rows: pl.DataFrame, start: Int64s, end: Int64s) -> pl.DataFrame:
    """Count as the notebook does: -1 for what is new, seconds over 60 rounded as Python rounds, and nothing excluded.

    Where it stops with an error, an alert that is no longer new and has no time of action, the alert is excluded.
    """
    new = (rows["state"] == "new").to_numpy()
    none = (end == NEVER) & ~new
    exact = np.where(new | none, -1.0, np.where(end == NEVER, 0, end - start) / 10**6 / 60)
    minutes = pl.Series([round(m, 2) for m in exact.tolist()], dtype=pl.Float64)
    told: dict[str, Any] = {
        "started_at": _time(start),
        "ended_at": _time(np.where(new, NEVER, end)),
        "minutes": minutes,
    }
    made = rows.with_columns(**told).with_columns(
        ended=pl.Series(~(new | none)),
        excluded=pl.when(pl.Series(none)).then(pl.lit("no time of action: the notebook stops with an error")),
    )
    return made.select(*DURATION).with_columns(pl.when(pl.col("excluded").is_null()).then("minutes"))


def _us(times: pl.Series) -> Int64s:
    return times.cast(pl.Int64).fill_null(NEVER).to_numpy()


def _time(us: Int64s) -> pl.Series:
    told = pl.Series(us)
    return told.set(told == NEVER, None).cast(TIME)
