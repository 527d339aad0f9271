"""A history mapping as TOML text.

Enters: a `HistoryMapping`. Leaves: text that reads back to an equal value. Layer: sources.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tocsin.sources.mapping import ColumnRule, quote, rule_lines, toml_key

if TYPE_CHECKING:
    from tocsin.sources.histories.mapping import ActivityRule, Cell, HistoryMapping


def _inline(cells: Cell) -> str:
    """Return a cell as TOML: a name where that says it all."""
    parts = []
    for rule, prefix in zip(cells.rules, cells.prefixes, strict=True):
        plain = rule == ColumnRule("cell", rule.source, kind=rule.kind, on_invalid="null")
        if plain and not prefix and rule.source:
            parts.append(quote(rule.source[0]))
            continue
        told = rule_lines(replace(rule, on_invalid="reject", kind=None))
        parts.append("{ " + ", ".join([*told, *([f"prefix = {quote(prefix)}"] if prefix else [])]) + " }")
    return parts[0] if len(parts) == 1 else "[" + ", ".join(parts) + "]"


def write_mapping(mapping: HistoryMapping) -> str:
    """Return the mapping as text."""
    lines = ["[history]"]
    for key in ("name", "title", "source", "shape", "history", "format", "zone", "earliest", "recognise", "null_values", "automation",
                "caveats"):  # fmt: skip
        value = getattr(mapping, key)
        if value not in {None, "", ()}:
            lines.append(f"{key} = {quote(value)}")
    if mapping.separator != ",":
        lines.append(f"separator = {quote(mapping.separator)}")
    lines += ["", "[alert]", *(f"{name} = {_inline(told)}" for name, told in mapping.alert)]
    lines += [] if mapping.status is None else [f"status = {_inline(mapping.status)}"]
    update = {"at": mapping.at, "actor": mapping.actor, "closed_value": mapping.closed_value}
    if mapping.at is not None:
        lines += ["", "[update]", *(f"{key} = {_inline(told)}" for key, told in update.items() if told is not None)]
    for activity in mapping.activities:
        lines += ["", "[[activities]]", *_activity_lines(activity)]
    for change in mapping.changes:
        lines += ["", "[[changes]]", f"type = {quote(change.type)}", f"from = {_inline(change.value)}"]
        lines += [f"empty = {quote(change.empty)}"] if change.empty else []
        lines += [] if change.first else ["first = false"]
        lines += [] if change.when == "changes" else [f"when = {quote(change.when)}"]
    for seen in mapping.observables:
        lines += ["", "[[observables]]", f"kind = {quote(seen.kind)}", f"value = {_inline(seen.value)}"]
        lines += [f"role = {quote(seen.role)}"] if seen.role else []
    for rule in mapping.cleaning:
        lines += ["", "[[cleaning]]", f"name = {quote(rule.name)}", f"field = {quote(rule.field)}"]
        lines += [f"among = {quote(rule.among)}", f"then = {quote(rule.action)}"]
        lines += [f"meaning = {quote(rule.meaning)}"] if rule.meaning else []
    return "\n".join(lines) + "\n"


def _activity_lines(activity: ActivityRule) -> list[str]:
    lines = [f"type = {quote(activity.type)}"]
    for key in ("at", "value", "actor", "number", "until", "judged_by"):
        told = getattr(activity, key)
        if told is not None:
            lines.append(f"{key} = {_inline(told)}")
    if activity.between:
        lines.append(f"between = {quote(activity.between)}")
    if activity.payload:
        lines.append("payload = { " + ", ".join(f"{toml_key(n)} = {_inline(c)}" for n, c in activity.payload) + " }")
    if activity.actor_kind != "human":
        lines.append(f"actor_kind = {quote(activity.actor_kind)}")
    if activity.where:
        among = ("among", activity.where.among) if activity.where.among else ("not_among", activity.where.not_among)
        lines.append(f"where = {{ field = {quote(activity.where.field)}, {among[0]} = {quote(among[1])} }}")
    told = {key: getattr(activity, key) for key in ("actor_kind_if_nobody", "unless", "differs_from")}
    lines += [f"{key} = {quote(value)}" for key, value in told.items() if value is not None]
    return lines + (["needs_value = true"] if activity.needs_value else [])
