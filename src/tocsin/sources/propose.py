"""A first mapping for a log nobody has mapped: proposed from a sample, with what it makes of the sample's rows.

Enters: a file (or table). Leaves: a `MappingProposal`: TOML text to keep and correct, ten mapped rows, the rejects, and
what was assumed. Layer: sources.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import polars as pl

from tocsin.addresses import parse_addresses
from tocsin.schema import STANDARD, standard_name
from tocsin.sources import files, parquet, records, times
from tocsin.sources.events import read
from tocsin.sources.mapping import ColumnRule, Mapping, recognise

_PREVIEW_ROWS: Final = 10
_SAMPLE_ROWS: Final = 10_000
_MOSTLY: Final = 0.8
_HALF: Final = 0.5


@dataclass(frozen=True, slots=True)
class MappingProposal:
    """A proposed mapping and what it does to the sample.

    Attributes:
        mapping: The mapping as a value.
        toml: The same as TOML text, with comments that name every assumption.
        preview: The first ten mapped rows.
        rejects: What the sample's rows lost, as in `Events.rejected`.
        read, accepted: Rows of the sample, and how many of them were accepted.
        notes: What was assumed or could not be found, one sentence each.
    """

    mapping: Mapping
    toml: str
    preview: pl.DataFrame
    rejects: pl.DataFrame
    read: int
    accepted: int
    notes: tuple[str, ...]


def propose_mapping(
    sample: str | Path | pl.DataFrame, *, name: str | None = None, zone: str | None = None
) -> MappingProposal:
    """Propose a mapping for a file, folder, glob or frame.

    Args:
        sample: What to look at; only its first two megabytes (or 10,000 rows) are read.
        name: Name of the source; by default the file's.
        zone: Zone of times that name none; without it UTC is assumed, and the notes say so.

    Raises:
        SourceError: Nothing there, or log lines, whose patterns cannot be guessed.

    >>> proposal = propose_mapping(pl.DataFrame({"ts": [1_767_225_600, 1_767_225_601], "ClientIP": ["1.2.3.4", "::1"]}), name="vpn")
    >>> proposal.mapping.rule("timestamp").unit, proposal.mapping.rule("src_ip").source, proposal.accepted
    ('s', ('ClientIP',), 2)
    """
    if isinstance(sample, pl.DataFrame):
        frame = sample.head(_SAMPLE_ROWS)
        return _proposal(frame, frame, name or "table", None, zone, {})
    source = files.resolve(sample)[0]
    name = name or files.stem(source.name)
    if source.format in {"parquet", "excel"}:
        frame = (
            pl.read_excel(source.path)
            if source.format == "excel"
            else next((f for _, f in parquet.slices(source.path, rows=_SAMPLE_ROWS)), pl.DataFrame())
        )
        return _proposal(frame, frame, name, source.format if source.format == "parquet" else None, zone, {})
    known, kinds = records.sample(source, Mapping())
    head = files.first_bytes(source, records.SAMPLE_BYTES)
    if len(head) == records.SAMPLE_BYTES:
        head = head[: head.rfind(b"\n") + 1] or head
    with tempfile.TemporaryDirectory(prefix="tocsin-") as folder:
        path = Path(folder) / f"{name}.{'tsv' if source.separator else source.format}"
        path.write_bytes(head)
        return _proposal(known, path, name, source.format, zone, kinds)


def _proposal(
    frame: pl.DataFrame, sample: Any, name: str, file_format: str | None, zone: str | None, kinds: dict[str, str]
) -> MappingProposal:
    found = recognise(frame.columns)
    if found is not None:
        mapping, notes = (
            found,
            [f"The fields are those of the shipped mapping {found.name!r}: it is used unless another is named."],
        )
    else:
        mapping, notes = _guess(frame, name, file_format, zone, kinds)
    notes += [
        f"No field was taken for {column}."
        for column in ("user_id", "src_ip")
        if mapping.rule(column) is None and column not in frame.columns
    ]
    toml = "".join(f"# {note}\n" for note in notes) + mapping.to_toml()
    if mapping.rule("timestamp") is None and "timestamp" not in frame.columns:
        return MappingProposal(mapping, toml, pl.DataFrame(), pl.DataFrame(), len(frame), 0, tuple(notes))
    events = read(sample, mapping=mapping, zone=zone)
    preview = next(events.batches(size=_PREVIEW_ROWS), pl.DataFrame(schema=events.columns))
    if events.counts.read and not events.counts.accepted:
        reason, rows = next(iter(events.reject_reasons.items()))
        notes.append(
            f"No row of the sample is accepted as it stands; the commonest reason is: {reason} ({rows:,} times)."
        )
        toml = f"# {notes[-1]}\n{toml}"
    return MappingProposal(
        mapping, toml, preview, events.rejected, events.counts.read, events.counts.accepted, tuple(notes)
    )


def _guess(
    frame: pl.DataFrame, name: str, file_format: str | None, zone: str | None, kinds: dict[str, str]
) -> tuple[Mapping, list[str]]:
    rules: dict[str, ColumnRule] = {}
    taken: set[str] = set()
    for field in sorted(frame.columns, key=lambda f: f not in STANDARD):
        column = standard_name(field)
        if column is not None and column not in rules and _fits(frame[field], column, kinds.get(field)):
            rules[column] = ColumnRule(column, () if field == column else (field,))
            taken.add(field)
    notes: list[str] = []
    _guess_time(frame, rules, taken, notes)
    _guess_addresses(frame, rules, taken)
    mapping = Mapping(name=name, format=file_format)
    if "timestamp" in rules:
        rules["timestamp"], mapping = _finish_time(rules["timestamp"], mapping, frame, zone, notes)
    if "kind" not in rules:
        word = "mail" if {"nr_recipients", "attachments", "subject"} & rules.keys() else "event"
        rules["kind"] = ColumnRule("kind", constant=word)
        notes.append(
            f'No field says what happened: every event is of kind "{word}"; change the constant if that is wrong.'
        )
    order = [c for c in STANDARD if c in rules]
    return replace(mapping, columns=tuple(rules[c] for c in order)), notes


def _fits(values: pl.Series, column: str, kind: str | None) -> bool:
    present = values.drop_nulls()
    wanted = STANDARD[column].kind
    if wanted == "address":
        return bool(len(present)) and _share_of_addresses(present) >= _MOSTLY
    if wanted == "int":
        return kind == "int" or present.dtype.is_integer()
    if wanted == "list":
        return isinstance(values.dtype, pl.List) or (kind == "text" and bool(len(present)))
    if wanted == "time":
        return times.needs(present) is not None or _share_of_times(present) >= _MOSTLY
    return not values.dtype.is_nested() and _share_of_addresses(present) < _MOSTLY


def _share_of_addresses(present: pl.Series) -> float:
    if present.dtype != pl.String or not len(present):
        return 0.0
    return float(parse_addresses(present.str.strip_chars()).valid.mean())


def _share_of_times(present: pl.Series) -> float:
    if not len(present) or (present.dtype not in {pl.String, pl.Date} and not isinstance(present.dtype, pl.Datetime)):
        return 0.0
    return 1.0 - times.parse_times(present, zone="UTC").null_count() / len(present)


def _guess_time(frame: pl.DataFrame, rules: dict[str, ColumnRule], taken: set[str], notes: list[str]) -> None:
    if "timestamp" in rules:
        return
    shares = {field: _share_as_time(frame[field].drop_nulls()) for field in frame.columns if field not in taken}
    field = next(
        (f for f, share in shares.items() if share >= _MOSTLY), max(shares, key=lambda f: shares[f], default="")
    )
    if field and shares[field] >= _HALF:
        rules["timestamp"] = ColumnRule("timestamp", (field,))
        taken.add(field)
        most = "" if shares[field] >= _MOSTLY else f", though only {shares[field]:.0%} of them can be read as times"
        notes.append(f"{field!r} is taken for the time because of its values{most}.")
        return
    notes.append('No field looks like a time: name it under [columns.timestamp] from = "...".')


def _share_as_time(present: pl.Series) -> float:
    return 1.0 if len(present) and _looks_like_epoch(present) else _share_of_times(present)


def _looks_like_epoch(present: pl.Series) -> bool:
    return times.needs(present) == "unit" and times.guess_unit(present) is not None


def _guess_addresses(frame: pl.DataFrame, rules: dict[str, ColumnRule], taken: set[str]) -> None:
    for field in frame.columns:
        if field in taken or _share_of_addresses(frame[field].drop_nulls()) < _MOSTLY:
            continue
        column = next((c for c in ("src_ip", "dst_ip") if c not in rules), None)
        if column is not None:
            rules[column] = ColumnRule(column, (field,))
            taken.add(field)
    for column in ("src_ip", "dst_ip"):
        if column in rules:
            rule = rules[column]
            present = frame[(rule.source or (column,))[0]].drop_nulls()
            if _share_of_addresses(present) < 1.0:
                rules[column] = replace(rule, on_invalid="null")


def _finish_time(
    rule: ColumnRule, mapping: Mapping, frame: pl.DataFrame, zone: str | None, notes: list[str]
) -> tuple[ColumnRule, Mapping]:
    values = frame[(rule.source or ("timestamp",))[0]]
    missing = times.needs(values)
    if missing == "unit":
        unit = times.guess_unit(values)
        if unit is None:
            notes.append("The times are numbers of no known unit: set unit under [columns.timestamp].")
        return replace(rule, unit=unit), mapping  # type: ignore[arg-type]
    if missing == "zone":
        if zone is None:
            notes.append("The times name no zone: UTC is assumed; correct zone under [source] if they are local times.")
        return rule, replace(mapping, zone=zone or "UTC")
    if missing == "year":
        notes.append("The times name no year: set year and zone under [source].")
    return rule, mapping
