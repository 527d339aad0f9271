"""Triage: what people and programs do with an alert, each a row with who, when and why.

Enters: an alert, a word, its particulars. Leaves: the key of the row that was written, or an error that says what the
alert's state allows. Layer: alerts.
"""

from __future__ import annotations

import json
import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Required, TypedDict, Unpack

import polars as pl

from tocsin.alerts.legal import refusals
from tocsin.alerts.reading import beginning, resolve
from tocsin.calendars import instant_us
from tocsin.lifecycle import ACTIVITIES, ACTOR_KINDS, SEVERITIES, VERDICTS, LifecycleError, fit_frame
from tocsin.lifecycle.frames import ACTIVITY, TIME, digest
from tocsin.lifecycle.words import check_word
from tocsin.store import append, read
from tocsin.store.schema import TABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from tocsin.store import Store

Row = dict[str, Any]
AHEAD: Final = timedelta(minutes=10)
"""How far the clock of whoever says something may be ahead of ours: what the log sees last is "now" for its numbers."""
_WORDS: Final = {"verdict": (VERDICTS, "verdict"), "severity_changed": (SEVERITIES, "severity")}


class NonsenseError(LifecycleError):
    """What was said makes no sense, whatever the log holds: an unknown word, a time to come, less than no minutes."""


class Said(TypedDict, total=False):
    """What every activity says: who (always), of which kind, when (left out: now), and a name under which it is said once only."""

    actor: Required[str]
    actor_kind: str
    at: datetime
    idempotency_key: str


class Triage:
    """The verbs of triage. Each takes the alert (its id, or a unique beginning of it) and ``actor=``.

    ``at=``: when it happened, where not now. ``idempotency_key=``: said again under the same key, nothing is written. Each returns
    the ``key`` of its activity, which `correct` takes. Several rows of one call are written together or not at all.

    Raises:
        NonsenseError: An unknown word (capitals do not matter), a time more than ten minutes to come, an end before its
            beginning, a number of minutes that is none.
        LifecycleError: No such alert, a missing reason, or a step that the alert's state does not allow (then the message
            names those it does).
    """

    _store: Store
    _clock: Callable[[], datetime]

    def assign(self, alert: str, to: str, **said: Unpack[Said]) -> str:
        """Give it to somebody."""
        return self._say(alert, said, _row("assigned", _must(to, "whom it is assigned to")))

    def unassign(self, alert: str, **said: Unpack[Said]) -> str:
        """Take it from whoever has it."""
        return self._say(alert, said, _row("unassigned"))

    def view(self, alert: str, **said: Unpack[Said]) -> str:
        """Say that somebody opened it."""
        return self._say(alert, said, _row("viewed"))

    def start(self, alert: str, **said: Unpack[Said]) -> str:
        """Begin to work on it."""
        return self._say(alert, said, _row("work_started"))

    def stop(self, alert: str, why: str | None = None, *, minutes: float | None = None, **said: Unpack[Said]) -> str:
        """End or interrupt the work on it; ``minutes`` of work, where they were measured."""
        return self._say(alert, said, _row("work_ended", why, number=minutes))

    def hold(self, alert: str, waiting_for: str, **said: Unpack[Said]) -> str:
        """Let it wait for somebody."""
        return self._say(alert, said, _row("held", _must(waiting_for, "whom it waits for")))

    def resume(self, alert: str, **said: Unpack[Said]) -> str:
        """End the wait."""
        return self._say(alert, said, _row("resumed"))

    def act(self, alert: str, what: str, **said: Unpack[Said]) -> str:
        """Say which step of an investigation was taken: a query, a look-up, a sandbox run."""
        return self._say(alert, said, _row("investigative_action", _must(what, "what was done")))

    def escalate(self, alert: str, investigation: str, **said: Unpack[Said]) -> str:
        """Make it part of an investigation."""
        return self._say(alert, said, _row("escalated", _must(investigation, "the investigation")))

    def promote(self, alert: str, incident: str, **said: Unpack[Said]) -> str:
        """Make it part of an incident."""
        return self._say(alert, said, _row("promoted", _must(incident, "the incident")))

    def notify(self, alert: str, whom: str, **said: Unpack[Said]) -> str:
        """Say that somebody outside was told."""
        return self._say(alert, said, _row("notified", _must(whom, "who was told")))

    def remediate(self, alert: str, what: str, **said: Unpack[Said]) -> str:
        """Say what was done about it."""
        return self._say(alert, said, _row("remediated", _must(what, "what was done")))

    def verdict(self, alert: str, verdict: str, reason: str, **said: Unpack[Said]) -> str:
        """Decide what it was."""
        return self._say(alert, said, _verdict(verdict, reason))

    def close(self, alert: str, reason: str, *, verdict: str | None = None, **said: Unpack[Said]) -> str:
        """Close it, with a verdict or without."""
        rows = [] if verdict is None else [_verdict(verdict, reason)]
        return self._say(alert, said, *rows, _row("closed", _must(reason, "a reason")))

    def reopen(self, alert: str, reason: str, **said: Unpack[Said]) -> str:
        """Open a closed one again."""
        return self._say(alert, said, _row("reopened", _must(reason, "a reason")))

    def severity(self, alert: str, severity: str, reason: str, **said: Unpack[Said]) -> str:
        """Change how bad it would be."""
        return self._say(alert, said, _row("severity_changed", severity, payload=_because(reason)))

    def suppress(self, alert: str, reason: str, *, until: datetime | None = None, **said: Unpack[Said]) -> str:
        """Keep it out of triage, until a time or until somebody says otherwise."""
        return self._say(alert, said, _row("suppressed", _must(reason, "a reason"), until=until))

    def unsuppress(self, alert: str, reason: str, **said: Unpack[Said]) -> str:
        """Bring a suppressed one back before its time."""
        return self._say(alert, said, _row("unsuppressed", _must(reason, "a reason")))

    def merge(self, alert: str, into: str, reason: str, **said: Unpack[Said]) -> str:
        """Let another alert go on in its place; nothing more happens to this one."""
        return self._say(alert, said, _row("merged", into, payload=_because(reason)))

    def enrich(self, alert: str, observables: Sequence[dict[str, str | None]], **said: Unpack[Said]) -> str:
        """Add observables found later: each a dict with ``kind``, ``role`` and ``value``."""
        told = [{key: one.get(key) for key in ("kind", "role", "value")} for one in observables]
        return self._say(alert, said, _row("enriched", payload={"observables": told}))

    def comment(self, alert: str, text: str, **said: Unpack[Said]) -> str:
        """Say something about it."""
        return self._say(alert, said, _row("commented", payload={"text": _must(text, "a text")}))

    def correct(self, key: str, reason: str, *, actor: str, actor_kind: str = "human", **changes: Any) -> str:
        """Say that an activity did not happen so: it is retracted, and with ``changes`` said again as it did.

        key: the activity's, or as much of its beginning as is unique. changes: ``type``, ``value``, ``at``, ``number``, ``until``;
        none of them: it did not happen at all.
        The new row keeps whose deed it was; its payload names who corrected it. Returns the key of the last row written.
        """
        for name in changes:
            check_word(name, ("type", "value", "at", "number", "until"), "change")
        _must(actor, "an actor: who corrects it")
        with self._store.writing() as connection:
            asked, found = key, beginning(connection, TABLES["activity"].c.key, key)
            if len(found) > 1 and asked not in found:
                raise LifecycleError(
                    f"several activities begin with {key!r}: {', '.join(found)}. Write more of the key."
                )
            key = asked if asked in found else "".join(found)
            wrong = read(connection, "activity", TABLES["activity"].c.key == key)
            if not wrong.height or wrong["type"].item() == "retracted":
                raise LifecycleError(
                    f"there is no activity {asked!r} to correct; `show` lists those of an alert with their keys."
                )
            columns = TABLES["activity"].c
            if read(
                connection,
                "activity",
                columns.alert_id == wrong["alert_id"].item(),
                columns.value == key,
                columns.type == "retracted",
            ).height:
                raise LifecycleError(
                    f"the activity {key} was retracted already; correct the row that was said instead."
                )
            old = wrong.row(0, named=True)
            mine = {"actor": actor, "actor_kind": actor_kind}
            rows = [_row("retracted", key, payload=_because(reason)) | mine | {"at": old["at"]}]
            if changes:
                about = json.loads(old["payload"] or "{}") | {
                    "corrects": key,
                    "corrected_by": actor,
                    "correction": reason,
                }
                told = {c: old[c] for c in ("type", "value", "number", "until", "actor", "actor_kind", "at")}
                rows.append(told | changes | {"payload": json.dumps(about, ensure_ascii=False)})
                if "value" in changes:
                    _must_have_value(rows[-1])
            return self._write(connection, old["alert_id"], rows)

    def _say(self, alert: str, said: Said, *rows: Row) -> str:
        """Write rows about an alert in one transaction, if its state allows them; return the key of the last."""
        _must(said.get("actor", ""), "an actor: who did it")
        check_word(said.get("actor_kind", "human"), ACTOR_KINDS, "kind of actor")
        named = said.get("idempotency_key")
        with self._store.writing() as connection:
            alert_id = resolve(connection, alert)
            at = said.get("at") or self._clock()
            told = [
                row | {"actor": said["actor"], "actor_kind": said.get("actor_kind", "human"), "at": at} for row in rows
            ]
            if named is not None:
                for row in told:
                    row["key"] = _named_key(alert_id, row["type"], named)
            return self._write(connection, alert_id, told)

    def _write(self, connection: Connection, alert_id: str, rows: list[Row]) -> str:
        now, table = self._clock(), TABLES["activity"].c
        rows = [_sensible(row, now) for row in rows]
        for row in rows:
            if row["type"] == "merged":
                row["value"] = self._goes_on(connection, alert_id, row["value"])
        schema = {c: t for c, t in ACTIVITY.items() if c in {*rows[0], "key"}}
        frame = pl.DataFrame([{"key": None} | row for row in rows], schema=schema).with_columns(
            pl.lit(alert_id).alias("alert_id"), pl.lit(now, TIME).alias("recorded_at")
        )
        new = fit_frame(frame, "activity")
        known = read(connection, "activity", table.alert_id == alert_id)
        fresh = new.filter(~pl.col("key").is_in(known["key"].implode()))
        if fresh.height:
            raised = read(connection, "alert", TABLES["alert"].c.alert_id == alert_id)["created_at"].item()
            _check(alert_id, raised, known.to_dicts(), fresh.to_dicts())
            append(connection, "activity", fresh)
        return str(new["key"][-1])

    def _goes_on(self, connection: Connection, alert_id: str, into: str) -> str:
        """Return the alert that one is merged into, if it can go on."""
        other = resolve(connection, into)
        if other == alert_id:
            raise LifecycleError(f"alert {alert_id} cannot be merged into itself.")
        rows = read(connection, "activity", TABLES["activity"].c.alert_id == other).to_dicts()
        voided = {row["value"] for row in rows if row["type"] == "retracted"}
        for row in rows:
            if row["type"] == "merged" and row["key"] not in voided:
                raise LifecycleError(f"alert {other} was itself merged into {row['value']}: merge into that one.")
        return other


def _check(alert_id: str, raised: datetime, known: list[Row], fresh: list[Row]) -> None:
    """Refuse rows that are not possible where they stand, or after which a later one would not have been."""
    early = [row for row in fresh if row["at"] < raised]
    if early:
        raise LifecycleError(
            f"alert {alert_id} was raised at {raised}: nothing can have happened to it at {early[0]['at']}."
        )
    before, after = refusals(alert_id, known), refusals(alert_id, [*known, *fresh])
    later = {row["key"]: row for row in known}
    for key, error in after.items():
        if key not in before and key in later:
            row = later[key]
            raise LifecycleError(
                f"this would make the later `{row['type']}` ({key[:12]}, {row['at']}) impossible; correct that one first."
            )
        if key not in before:
            raise error


def _named_key(alert_id: str, kind: str, name: str) -> str:
    frame = pl.DataFrame({"alert_id": [alert_id], "type": [kind], "name": [name]})
    return str(digest([pl.lit("idempotency_key"), *map(pl.col, frame.columns)], frame).item())


def _row(kind: str, value: str | None = None, *, payload: dict[str, Any] | None = None, **more: Any) -> Row:
    told = None if payload is None else json.dumps(payload, ensure_ascii=False)
    return {"type": kind, "value": value, "number": None, "until": None, "payload": told} | more


def _verdict(verdict: str, reason: str) -> Row:
    return _row("verdict", verdict, payload=_because(reason))


def _sensible(row: Row, now: datetime) -> Row:
    """Return a row with its words as the log writes them.

    Raises:
        NonsenseError: It makes no sense, whatever the log holds.
    """
    instant_us(row["at"])  # refuses a time without a zone
    if row["type"] != "retracted" and row["at"] > now + AHEAD:  # what was written too late must be retractable
        raise NonsenseError(
            f"it cannot have happened at {row['at']}: it is {now}. Times are UTC unless they name a zone."
        )
    word_of(row["type"], ACTIVITIES, "activity")
    if row["type"] in _WORDS:
        row = row | {"value": word_of(row["value"] or "", *_WORDS[row["type"]])}
    if row["type"] == "work_ended" and not 0 <= (row["number"] or 0) < math.inf:
        raise NonsenseError(f"{row['number']} is no number of minutes of work; it is 0 or more.")
    if row["until"] is not None and instant_us(row["until"]) <= instant_us(row["at"]):
        raise NonsenseError(f"it cannot last until {row['until']}: it begins at {row['at']}.")
    return row


def word_of(word: str, known: Iterable[str], what: str) -> str:
    """Return a word as the log writes it.

    >>> word_of("FALSE_POSITIVE", VERDICTS, "verdict")
    'false_positive'
    """
    try:
        check_word(word.lower(), known, what)
    except LifecycleError as error:
        raise NonsenseError(str(error)) from None
    return word.lower()


def _must_have_value(row: Row) -> None:
    if "value:" not in ACTIVITIES.get(row["type"], ""):
        raise NonsenseError(f'"{row["type"]}" has no value to correct; correct it without one, and say it again.')
    _must(row["value"] or "", "a value")


def _because(reason: str) -> dict[str, Any]:
    return {"reason": _must(reason, "a reason")}


def _must(text: str, what: str) -> str:
    if not text.strip():
        raise LifecycleError(f"this needs {what}.")
    return text
