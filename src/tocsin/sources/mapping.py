"""A mapping says how a source's own fields become the standard columns; it is data, kept as TOML.

Enters: a TOML file, its text, or the name of a shipped mapping. Leaves: a frozen `Mapping` that `clean` applies and
`propose` writes. Layer: sources.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import polars as pl

from tocsin.calendars import CalendarError, load_zone
from tocsin.errors import MappingError, did_you_mean
from tocsin.schema import KINDS, STANDARD

if TYPE_CHECKING:
    from collections.abc import Iterable

Unit = Literal["s", "ms", "us", "ns"]
DEFAULT_LATENESS = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class ColumnRule:
    """How one column of the batch is made.

    Attributes:
        name: The column's name in the batch.
        source: The source's field, or several of which the first present is taken; nested fields are dotted. Defaults to `name`.
        constant: This value in every row (then nothing else applies).
        count_of: The length of that list column of the batch (null counts as 0).
        kind: One of `tocsin.schema.KINDS`; standard columns have theirs already.
        unit: For times that are numbers: s, ms, us or ns since 1970.
        format: For times that are text of a form of their own: a strptime pattern.
        pattern: A regular expression whose first group is the value (no match: null).
        split: The separator of a list that is written as one string.
        values: Replacements, looked up as text.
        otherwise: What a value not listed in `values` becomes; None leaves it as it is.
        default: The value where the source has none.
        lower: Make the text lower case.
        on_invalid: "reject" drops the row, "null" keeps it without this value; both are recorded.
    """

    name: str
    source: tuple[str, ...] = ()
    constant: str | int | float | bool | None = None
    count_of: str | None = None
    kind: str | None = None
    unit: Unit | None = None
    format: str | None = None
    pattern: str | None = None
    split: str | None = None
    values: tuple[tuple[str, str], ...] = ()
    otherwise: str | None = None
    default: str | int | float | bool | None = None
    lower: bool = False
    on_invalid: Literal["reject", "null"] = "reject"

    @property
    def resolved_kind(self) -> str:
        """The kind asked for, else the standard column's, else text."""
        if self.kind is not None:
            return self.kind
        return STANDARD[self.name].kind if self.name in STANDARD else "text"


@dataclass(frozen=True, slots=True)
class LinePattern:
    """One form of log line: its named groups are the fields, and `constants` come with it."""

    regex: str
    constants: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Mapping:
    """How a source becomes event batches.

    Attributes:
        name: Name of the source (used in ids and findings).
        title: One line for people.
        format: jsonl, csv, parquet or lines; None goes by the file's name and content.
        zone: IANA zone of times written without one.
        year: Year of times written without one (syslog).
        earliest, latest: Times outside are absurd and rejected.
        lateness: How long after its time an event may arrive.
        recognise: A source with all these fields is taken for this one when no mapping is named.
        null_values: Texts that mean "missing".
        separator: Of CSV.
        skip_unmatched: Lines that fit no pattern are counted as skipped instead of rejected.
        patterns: For format "lines".
        columns: The rules; fields no rule names keep their own name and type.
    """

    name: str | None = None
    title: str = ""
    format: str | None = None
    zone: str | None = None
    year: int | None = None
    earliest: datetime | None = None
    latest: datetime | None = None
    lateness: timedelta = DEFAULT_LATENESS
    recognise: tuple[str, ...] = ()
    null_values: tuple[str, ...] = ()
    separator: str = ","
    skip_unmatched: bool = False
    patterns: tuple[LinePattern, ...] = ()
    columns: tuple[ColumnRule, ...] = ()

    def rule(self, name: str) -> ColumnRule | None:
        """Return the rule for the batch column `name`, if any."""
        return next((r for r in self.columns if r.name == name), None)

    def recognises(self, names: Iterable[str]) -> bool:
        """Tell whether a source with these fields is this mapping's own.

        >>> Mapping(recognise=("relay_ip",)).recognises(["relay_ip", "size"])
        True
        """
        return bool(self.recognise) and set(self.recognise) <= set(names)

    def to_toml(self) -> str:
        """Return the mapping as TOML text that `parse_mapping` reads back to an equal value."""
        return _write_toml(self)


_SOURCE_KEYS = {f.name for f in fields(Mapping)} - {"patterns", "columns", "lateness"} | {"lateness_minutes"}
_COLUMN_KEYS = {f.name for f in fields(ColumnRule)} - {"name", "source"} | {"from"}
_PATTERN_KEYS = {"regex", "set"}
_FORMATS = ("jsonl", "csv", "parquet", "lines")


def parse_mapping(text: str, *, where: str = "mapping") -> Mapping:
    r"""Read a mapping from TOML text.

    Args:
        text: The TOML.
        where: Name for error messages.

    Raises:
        MappingError: Not TOML, an unknown key (with "did you mean"), or a value that cannot be used.

    >>> parse_mapping('[source]\nname = "vpn"\n[columns.src_ip]\nfrom = "client"').columns[0].source
    ('client',)
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MappingError(f"{where}: not valid TOML: {error}") from None
    only_known(document, {"source", "columns", "patterns"}, where, "table")
    source = dict(as_table(document.get("source", {}), f"{where} [source]"))
    only_known(source, _SOURCE_KEYS, f"{where} [source]", "key")
    columns = tuple(
        parse_rule(name, body, f"{where} [columns.{name}]")
        for name, body in as_table(document.get("columns", {}), f"{where} [columns]").items()
    )
    patterns = tuple(_pattern(body, f"{where} [[patterns]]") for body in document.get("patterns", []))
    minutes = source.pop("lateness_minutes", None)
    lateness = DEFAULT_LATENESS if minutes is None else timedelta(minutes=minutes)
    for key in ("earliest", "latest"):
        if key in source:
            source[key] = as_instant(source[key], f"{where} [source] {key}")
    for key in ("recognise", "null_values"):
        source[key] = tuple(source.get(key, ()))
    mapping = Mapping(**source, lateness=lateness, patterns=patterns, columns=columns)
    _check(mapping, where)
    return mapping


def load_mapping(mapping: str | Path | Mapping) -> Mapping:
    """Return a mapping given as a value, a TOML file's path, or the name of a shipped one.

    Raises:
        MappingError: No such file or name (with "did you mean"), or the file is wrong.

    >>> load_mapping("spamassassin-mail").rule("dst_ip").source
    ('relay_ip',)
    """
    if isinstance(mapping, Mapping):
        return mapping
    if isinstance(mapping, str) and mapping in shipped():
        return shipped()[mapping]
    path = Path(mapping)
    if not path.is_file():
        raise MappingError(
            f"no mapping file {str(mapping)!r}, and no shipped mapping of that name.{did_you_mean(str(mapping), shipped())}"
            f" Shipped: {', '.join(sorted(shipped()))}."
        )
    return parse_mapping(path.read_text(encoding="utf-8"), where=str(path))


@cache
def shipped() -> dict[str, Mapping]:
    """Return the mappings that come with the package, by name.

    >>> sorted(shipped())
    ['entra-sign-in', 'message-trace', 'postfix', 'spamassassin-mail']
    """
    folder = resources.files("tocsin.sources") / "mappings"
    texts = {f.name.removesuffix(".toml"): f.read_text("utf-8") for f in folder.iterdir() if f.name.endswith(".toml")}
    return {name: parse_mapping(text, where=f"{name}.toml") for name, text in sorted(texts.items())}


def recognise(names: Iterable[str]) -> Mapping | None:
    """Return the shipped mapping whose telling fields are all among `names`; the one with most of them wins.

    >>> recognise(["relay_ip", "nr_recipients", "attachments", "label"]).name
    'spamassassin-mail'
    >>> recognise(["a", "b"]) is None
    True
    """
    names = set(names)
    fitting = [m for m in shipped().values() if m.recognises(names)]
    return max(fitting, key=lambda m: len(m.recognise), default=None)


def as_instant(value: Any, what: str) -> datetime:
    """Return a date, a datetime or ISO text as an instant in UTC; without a zone it is taken as UTC.

    Raises:
        MappingError: The value is none of these.

    >>> as_instant("2026-01-02", "since").isoformat()
    '2026-01-02T00:00:00+00:00'
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise MappingError(f"{what}: {value!r} is not a time; write 2026-01-31 or 2026-01-31T12:00:00Z") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(value, datetime):
        raise MappingError(f"{what}: {value!r} is not a time")
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def check_zone(zone: str | None, what: str) -> None:
    """Raise MappingError, with "did you mean", unless `zone` is None or a known IANA zone."""
    if zone is None:
        return
    try:
        load_zone(zone)
    except CalendarError as error:
        raise MappingError(f"{what}: {error}") from None


def as_table(value: Any, where: str) -> dict[str, Any]:
    """Return a TOML value that must be a table."""
    if not isinstance(value, dict):
        raise MappingError(f"{where}: expected a table, found {value!r}")
    return value


def only_known(table: dict[str, Any], known: set[str], where: str, what: str) -> None:
    """Refuse a key that is none of the known ones, with "did you mean"."""
    for key in table:
        if key not in known:
            raise MappingError(
                f"{where}: unknown {what} {key!r}.{did_you_mean(key, known)} Known: {', '.join(sorted(known))}."
            )


def parse_rule(name: str, body: Any, where: str) -> ColumnRule:
    """Return the rule that a TOML table says."""
    body = dict(as_table(body, where))
    only_known(body, _COLUMN_KEYS, where, "key")
    source = body.pop("from", ())
    body["source"] = (source,) if isinstance(source, str) else tuple(source)
    body["values"] = tuple((str(k), str(v)) for k, v in body.get("values", {}).items())
    return ColumnRule(name=name, **body)


def _pattern(body: Any, where: str) -> LinePattern:
    body = as_table(body, where)
    only_known(body, _PATTERN_KEYS, where, "key")
    if "regex" not in body:
        raise MappingError(f"{where}: a pattern needs a regex")
    return LinePattern(body["regex"], tuple((str(k), str(v)) for k, v in body.get("set", {}).items()))


def _check(mapping: Mapping, where: str) -> None:
    check_zone(mapping.zone, f"{where} [source] zone")
    if mapping.format is not None and mapping.format not in _FORMATS:
        raise MappingError(f"{where}: unknown format {mapping.format!r}.{did_you_mean(mapping.format, _FORMATS)}")
    if len(mapping.separator.encode()) != 1:
        raise MappingError(f"{where}: the separator must be one ASCII character, not {mapping.separator!r}")
    if mapping.format == "lines" and not mapping.patterns:
        raise MappingError(f'{where}: format "lines" needs at least one [[patterns]] table')
    for rule in mapping.columns:
        check_rule(rule, f"{where} [columns.{rule.name}]")
    for pattern in mapping.patterns:
        check_regex(pattern.regex, where)


def check_rule(rule: ColumnRule, where: str) -> None:
    """Refuse a rule that cannot be applied to any source."""
    if rule.kind is not None and rule.kind not in KINDS:
        raise MappingError(
            f"{where}: unknown kind {rule.kind!r}.{did_you_mean(rule.kind, KINDS)} Known: {', '.join(KINDS)}."
        )
    if rule.name in STANDARD and rule.resolved_kind != STANDARD[rule.name].kind:
        raise MappingError(
            f"{where}: {rule.name} is a standard column of kind {STANDARD[rule.name].kind}, not {rule.kind}"
        )
    if rule.unit not in {None, "s", "ms", "us", "ns"}:
        raise MappingError(f'{where}: unit must be "s", "ms", "us" or "ns", not {rule.unit!r}')
    if rule.on_invalid not in {"reject", "null"}:
        raise MappingError(f'{where}: on_invalid must be "reject" or "null", not {rule.on_invalid!r}')
    if rule.name == "timestamp" and rule.on_invalid == "null":
        raise MappingError(f"{where}: an event without a time cannot be kept; remove on_invalid")
    if rule.pattern is not None and check_regex(rule.pattern, where) < 1:
        raise MappingError(f"{where}: the pattern needs a group (...) around the value")


def check_regex(regex: str, where: str) -> int:
    """Return the number of groups of `regex`, which must be one that the linear-time engine of Polars accepts.

    Look-ahead and back-references are refused: an attacker chooses the text they would run over.
    """
    try:
        pl.Series([""]).str.contains(regex, strict=True)
        return re.compile(regex).groups
    except (pl.exceptions.PolarsError, re.error) as error:
        raise MappingError(f"{where}: the regular expression {regex!r} cannot be used: {error}") from None


def quote(value: Any) -> str:
    """Return a plain value as TOML text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return "[" + ", ".join(quote(v) for v in value) + "]"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    escaped = re.sub(r"[\x00-\x1f\x7f]", lambda m: f"\\u{ord(m.group()):04x}", escaped)
    return f'"{escaped}"'


def toml_key(name: str) -> str:
    """Return a name as a TOML key, in quotes where it needs them."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else quote(name)


def _write_toml(mapping: Mapping) -> str:
    lines = ["[source]"]
    for key in ("name", "title", "format", "zone", "year", "earliest", "latest", "recognise", "null_values"):
        value = getattr(mapping, key)
        if value not in {None, "", ()}:
            lines.append(f"{key} = {quote(value)}")
    if mapping.separator != ",":
        lines.append(f"separator = {quote(mapping.separator)}")
    if mapping.skip_unmatched:
        lines.append("skip_unmatched = true")
    if mapping.lateness != DEFAULT_LATENESS:
        lines.append(f"lateness_minutes = {mapping.lateness.total_seconds() / 60:g}")
    for pattern in mapping.patterns:
        lines += ["", "[[patterns]]", f"regex = {quote(pattern.regex)}"]
        if pattern.constants:
            lines.append("set = { " + ", ".join(f"{toml_key(k)} = {quote(v)}" for k, v in pattern.constants) + " }")
    for rule in mapping.columns:
        lines += ["", f"[columns.{toml_key(rule.name)}]", *rule_lines(rule)]
    return "\n".join(lines) + "\n"


def rule_lines(rule: ColumnRule) -> list[str]:
    """Return what a rule says, one `key = value` a line."""
    lines = []
    if rule.source:
        lines.append(f"from = {quote(rule.source[0] if len(rule.source) == 1 else rule.source)}")
    for key in ("constant", "count_of", "kind", "unit", "format", "pattern", "split", "default"):
        value = cast("Any", getattr(rule, key))
        if value is not None:
            lines.append(f"{key} = {quote(value)}")
    if rule.values:
        lines.append("values = { " + ", ".join(f"{toml_key(k)} = {quote(v)}" for k, v in rule.values) + " }")
    if rule.otherwise is not None:
        lines.append(f"otherwise = {quote(rule.otherwise)}")
    if rule.lower:
        lines.append("lower = true")
    if rule.on_invalid != "reject":
        lines.append(f"on_invalid = {quote(rule.on_invalid)}")
    return lines
