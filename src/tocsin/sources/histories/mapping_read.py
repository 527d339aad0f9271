"""History mappings from TOML: read, checked, found by name or by the fields of a file.

Enters: a TOML file, its text, or the name of a shipped mapping. Leaves: a `HistoryMapping`, or an error that says where and
what was meant. Layer: sources.
"""

from __future__ import annotations

import tomllib
from dataclasses import fields, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tocsin.errors import MappingError, did_you_mean
from tocsin.lifecycle.frames import ALERT, TIME
from tocsin.lifecycle.words import ACTIVITIES, ACTOR_KINDS, STATES, LifecycleError, check_word
from tocsin.sources.histories.cleaning import ACTIONS, BUILT_IN, CleaningRule
from tocsin.sources.histories.mapping import (
    SHAPES,
    WHEN,
    ActivityRule,
    Cell,
    ChangeRule,
    Condition,
    HistoryMapping,
    ObservableRule,
)
from tocsin.sources.mapping import as_instant, as_table, check_regex, check_rule, check_zone, only_known, parse_rule

if TYPE_CHECKING:
    from collections.abc import Iterable

_TOP: Final = {"history", "alert", "update", "activities", "changes", "observables", "cleaning"}
_HISTORY: Final = {
    "name", "title", "source", "shape", "history", "format", "zone", "earliest", "recognise", "null_values", "separator", "automation",
    "caveats",
}  # fmt: skip
_TIMES: Final = {name for name, dtype in ALERT.items() if dtype == TIME}
_NUMBERS: Final = {"score", "threshold"}
_COLUMNS: Final = set(ALERT) - {
    "alert_id",
    "recorded_at",
    "observables",
    "source",
    "history",
    "rule_hash",
    "tier",
    "table_digest",
}
_ACTIVITY: Final = {f.name for f in fields(ActivityRule)}
_CHANGE: Final = {f.name for f in fields(ChangeRule)} - {"value"} | {"from"}


def parse_history_mapping(text: str, *, where: str = "mapping") -> HistoryMapping:
    r"""Read a history mapping from TOML text.

    Raises:
        MappingError: Not TOML, an unknown key or word (with "did you mean"), or a value that cannot be used.

    >>> text = '[history]\nname = "mine"\n[alert]\nexternal_id = "id"\ncreated_at = "opened"'
    >>> parse_history_mapping(text).cell("created_at").fields
    ('opened',)
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MappingError(f"{where}: not valid TOML: {error}") from None
    only_known(document, _TOP, where, "table")
    try:
        return _parse(document, where)
    except LifecycleError as error:
        raise MappingError(f"{where}: {error}") from None


def _parse(document: dict[str, Any], where: str) -> HistoryMapping:
    head = dict(as_table(document.get("history", {}), f"{where} [history]"))
    only_known(head, _HISTORY, f"{where} [history]", "key")
    if "name" not in head:
        raise MappingError(f'{where} [history]: a mapping needs a name: name = "..."')
    for key in ("recognise", "null_values", "caveats"):
        head[key] = tuple(head.get(key, ()))
    if "earliest" in head:
        head["earliest"] = as_instant(head["earliest"], f"{where} [history] earliest")
    alert = dict(as_table(document.get("alert", {}), f"{where} [alert]"))
    status = alert.pop("status", None)
    only_known(alert, _COLUMNS, f"{where} [alert]", "column")
    update = as_table(document.get("update", {}), f"{where} [update]")
    only_known(update, {"at", "actor", "closed_value"}, f"{where} [update]", "key")
    mapping = HistoryMapping(
        **head,
        alert=tuple((name, cell(body, _alert_kind(name), f"{where} [alert] {name}")) for name, body in alert.items()),
        status=_optional(status, "text", f"{where} [alert] status"),
        at=_optional(update.get("at"), "time", f"{where} [update] at"),
        actor=_optional(update.get("actor"), "text", f"{where} [update] actor"),
        closed_value=_optional(update.get("closed_value"), "text", f"{where} [update] closed_value"),
        activities=tuple(_activity(body, f"{where} [[activities]]") for body in document.get("activities", [])),
        changes=tuple(_change(body, f"{where} [[changes]]") for body in document.get("changes", [])),
        observables=tuple(_observable(body, f"{where} [[observables]]") for body in document.get("observables", [])),
        cleaning=tuple(_cleaning(body, f"{where} [[cleaning]]") for body in document.get("cleaning", [])),
    )
    _check(mapping, where)
    return mapping


def load_history_mapping(mapping: str | Path | HistoryMapping) -> HistoryMapping:
    """Return a history mapping given as a value, a TOML file's path, or the name of a shipped one.

    Raises:
        MappingError: No such file or name (with "did you mean"), or the file is wrong.

    >>> load_history_mapping("uci-incident-log").shape
    'updates'
    """
    if isinstance(mapping, HistoryMapping):
        return mapping
    known = shipped_histories()
    if isinstance(mapping, str) and mapping in known:
        return known[mapping]
    path = Path(mapping)
    if not path.is_file():
        raise MappingError(
            f"no mapping file {str(mapping)!r}, and no shipped history mapping of that name.{did_you_mean(str(mapping), known)}"
            f" Shipped: {', '.join(sorted(known))}."
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MappingError(f"{path}: not UTF-8 at byte {error.start + 1}") from None
    return parse_history_mapping(text, where=str(path))


@cache
def shipped_histories() -> dict[str, HistoryMapping]:
    """Return the history mappings that come with the package, by name.

    >>> sorted(shipped_histories())
    ['expel-metrics', 'generic-alerts', 'kibana-alerts', 'ocsf', 'sentinel-incidents', 'thehive-alerts', 'tocsin-alerts', ...]
    """
    folder = resources.files("tocsin.sources.histories") / "mappings"
    texts = {f.name.removesuffix(".toml"): f.read_text("utf-8") for f in folder.iterdir() if f.name.endswith(".toml")}
    return {name: parse_history_mapping(text, where=f"{name}.toml") for name, text in sorted(texts.items())}


def recognise_history(names: Iterable[str]) -> HistoryMapping | None:
    """Return the shipped mapping whose telling fields are all among `names`; the one with most of them wins.

    >>> recognise_history(["expel alert id", "Insert At (T3)", "Severity"]).name
    'expel-metrics'
    """
    names = list(names)
    fitting = [m for m in shipped_histories().values() if m.recognises(names)]
    return max(fitting, key=lambda m: len(m.recognise), default=None)


def cell(body: Any, kind: str, where: str) -> Cell:
    """Return a cell: of a field's name, a table, or several of them to be tried in turn."""
    parts = body if isinstance(body, list) else [body]
    if not parts:
        raise MappingError(f"{where}: an empty list names no field")
    rules, prefixes = [], []
    for part in parts:
        table = {"from": part} if isinstance(part, str) else dict(as_table(part, where))
        prefixes.append(str(table.pop("prefix", "")))
        table.setdefault("kind", kind)
        rule = replace(parse_rule("cell", table, where), on_invalid="null")
        if len(rule.source) != (0 if rule.constant is not None else 1):
            raise MappingError(f'{where}: a cell is made from one field, from = "...", or is a constant')
        check_rule(rule, where)
        rules.append(rule)
    return Cell(tuple(rules), tuple(prefixes))


def _optional(body: Any, kind: str, where: str) -> Cell | None:
    return None if body is None else cell(body, kind, where)


def _alert_kind(column: str) -> str:
    if column in _TIMES:
        return "time"
    return "float" if column in _NUMBERS else "bool" if column == "is_test" else "text"


def _activity(body: Any, where: str) -> ActivityRule:
    body = dict(as_table(body, where))
    only_known(body, _ACTIVITY, where, "key")
    if "type" not in body:
        raise MappingError(f'{where}: an activity needs a type: type = "closed"')
    check_word(body["type"], ACTIVITIES, "activity")
    where = f"{where} {body['type']}"
    for kind in (body.get("actor_kind", "human"), body.get("actor_kind_if_nobody", "human")):
        check_word(kind, ACTOR_KINDS, "kind of actor")
    kinds = {"at": "time", "value": "text", "actor": "text", "number": "float", "until": "time", "judged_by": "text"}
    for key, kind in kinds.items():
        if key in body:
            body[key] = cell(body[key], kind, f"{where} {key}")
    between = body.get("between")
    if between is not None:
        if not isinstance(between, list) or len(between) != 2:
            raise MappingError(f'{where}: between takes two fields, such as ["First Closed", "Last Closed"]')
        body["between"] = (str(between[0]), str(between[1]))
    if (between is None) == ("at" not in body):
        raise MappingError(f"{where}: say when it happened, with one of at and between")
    told = as_table(body.pop("payload", {}), f"{where} payload")
    body["payload"] = tuple((name, cell(part, "text", f"{where} payload")) for name, part in told.items())
    if "where" in body:
        body["where"] = _condition(body["where"], f"{where} where")
    return ActivityRule(**body)


def _condition(body: Any, where: str) -> Condition:
    body = as_table(body, where)
    only_known(body, {"field", "among", "not_among"}, where, "key")
    if "field" not in body or ("among" in body) == ("not_among" in body):
        raise MappingError(f"{where}: a condition is a field, and among or not_among with words")
    return Condition(str(body["field"]), tuple(body.get("among", ())), tuple(body.get("not_among", ())))


def _change(body: Any, where: str) -> ChangeRule:
    body = dict(as_table(body, where))
    only_known(body, _CHANGE, where, "key")
    if "type" not in body or "from" not in body:
        raise MappingError(f'{where}: a change needs from = "..." and type = "..."')
    for key in ("type", "empty"):
        if key in body:
            check_word(body[key], ACTIVITIES, "activity")
    when = body.get("when", "changes")
    if when not in WHEN:
        raise MappingError(f"{where}: when is one of {', '.join(WHEN)}, not {when!r}.{did_you_mean(str(when), WHEN)}")
    value = cell(body.pop("from"), "float" if when == "increases" else "text", f"{where} {body['type']}")
    return ChangeRule(value=value, **body)


def _observable(body: Any, where: str) -> ObservableRule:
    body = dict(as_table(body, where))
    only_known(body, {"kind", "role", "value"}, where, "key")
    if "kind" not in body or "value" not in body:
        raise MappingError(f'{where}: an observable needs kind = "host" (or user, ip, ...) and value = "field"')
    return ObservableRule(body["kind"], cell(body["value"], "list", f"{where} {body['kind']}"), body.get("role"))


def _cleaning(body: Any, where: str) -> CleaningRule:
    body = dict(as_table(body, where))
    only_known(body, {"name", "field", "among", "then", "meaning"}, where, "key")
    for key in ("name", "field", "among"):
        if key not in body:
            raise MappingError(f"{where}: a cleaning rule needs {key}")
    if body.get("then", "test") not in ACTIONS:
        raise MappingError(
            f"{where} {body['name']}: then is one of {', '.join(ACTIONS)}.{did_you_mean(str(body['then']), ACTIONS)}"
        )
    if body["name"] in BUILT_IN:
        raise MappingError(f"{where}: {body['name']!r} is the name of a built-in rule")
    return CleaningRule(
        body["name"], body.get("meaning", ""), body.get("then", "test"), body["field"], tuple(body["among"])
    )


def _check(mapping: HistoryMapping, where: str) -> None:
    check_zone(mapping.zone, f"{where} [history] zone")
    if mapping.shape not in SHAPES:
        raise MappingError(
            f"{where}: shape is one of {', '.join(SHAPES)}, not {mapping.shape!r}.{did_you_mean(mapping.shape, SHAPES)}"
        )
    if mapping.history not in ("full", "summary"):
        raise MappingError(f'{where}: history is "full" or "summary", not {mapping.history!r}')
    if len(mapping.separator.encode()) != 1:
        raise MappingError(f"{where}: the separator must be one ASCII character, not {mapping.separator!r}")
    if mapping.automation is not None:
        check_regex(mapping.automation, f"{where} automation")
    if mapping.shape == "ocsf":
        return
    for needed in ("external_id", "created_at"):
        if mapping.cell(needed) is None:
            raise MappingError(f'{where} [alert]: {needed} is needed: {needed} = "name of the field"')
    if (mapping.shape == "updates") != (mapping.at is not None):
        raise MappingError(f'{where}: [update] at = "..." and shape = "updates" belong together')
    if mapping.status is not None:
        for rule in mapping.status.rules:
            for _, state in rule.values:
                check_word(state, STATES, "state")
