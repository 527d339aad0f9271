"""A folder of raw answers of Expel Workbench as a history: the metrics export, and beside it what the alerts themselves say.

Enters: the folder that `tocsin workbench fetch` writes: ``manifest.json``, ``export.csv``, ``alerts/*.jsonl.gz`` (alerts as
the service lists them), ``details/*.jsonl.gz`` (evidence and vendor alerts of each). Leaves: `Imported`; evidence becomes
``enriched`` activities. Layer: sources.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from tocsin.errors import SourceError
from tocsin.lifecycle import fit_frame
from tocsin.lifecycle.frames import TIME, digest
from tocsin.sources import parquet
from tocsin.sources.clean import Parsed
from tocsin.sources.histories.mapping_read import load_history_mapping
from tocsin.sources.histories.raw import Rows, read_rows
from tocsin.sources.mapping import as_instant
from tocsin.sources.times import parse_times

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from tocsin.sources.histories.mapping import HistoryMapping
    from tocsin.sources.histories.read import Imported

MANIFEST: Final = "manifest.json"
SOURCE: Final = "expel-workbench"
ID, CREATED, CLOSED = "Expel Alert ID", "Insert At (T3)", "Time First Closed (T60)"
# The alert's own attribute -> the column of the export that says the same, or a column of its own.
ATTRIBUTES: Final = {
    "created_at": CREATED, "expel_severity": "Severity", "status": "Alert Status", "close_reason": "Close Reason",
    "expel_name": "Expel Alert Name", "expel_signature_id": "expel_signature_id", "expel_version": "expel_version",
    "git_rule_url": "git_rule_url", "activity_first_at": "activity_first_at", "activity_last_at": "activity_last_at",
    "status_updated_at": "status_updated_at",
}  # fmt: skip
EVIDENCE: Final = {
    "HOSTNAME": ("host", None), "SRC_HOSTNAME": ("host", "source"), "DST_HOSTNAME": ("host", "destination"),
    "USERNAME": ("user", None), "SRC_USERNAME": ("user", "source"), "DST_USERNAME": ("user", "destination"),
    "IP": ("ip", None), "SRC_IP": ("ip", "source"), "DST_IP": ("ip", "destination"), "DOMAIN": ("domain", None), "URL": ("url", None),
}  # fmt: skip
"""Kind of evidence -> kind and role of the observable; any other is its own kind, in lower case."""
_MAX_NESTING: Final = 32


def is_folder(source: str | Path) -> bool:
    """Tell whether a path is a folder that a fetch from the Workbench wrote."""
    path = Path(source)
    if not (path / MANIFEST).is_file():
        return False
    found = _manifest(path)
    return found.get("source") == SOURCE


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read_folder(
    folder: Path,
    mapping: str | Path | HistoryMapping | None = None,
    *,
    zone: str | None = None,
    as_of: datetime | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    cleaning: Iterable[str] | Mapping[str, str] | None = None,
) -> Imported:
    """Read a fetched folder; the time of export and the span come from its manifest unless they are given.

    Raises:
        SourceError: The folder holds no export yet.
    """
    from tocsin.sources.histories.read import import_rows

    manifest = _manifest(folder)
    export = folder / "export.csv"
    if not export.is_file():
        raise SourceError(f"{folder} holds no export.csv: the fetch stopped early. Run it again.")
    chosen = load_history_mapping(mapping or "expel-metrics")
    asked = manifest.get("asked") or {}
    as_of = as_of or _told((manifest.get("files") or {}).get("export.csv", {}).get("asked_at"))
    since, until = since or _told(asked.get("from")), until or _told(asked.get("to"))
    bad: list[tuple[str, int, str, str]] = []
    listed = [row for _, row in _rows(folder, "alerts", bad)]
    details = list(_rows(folder, "details", bad))
    listed += [row["alert"] for _, row in details if isinstance(row.get("alert"), dict)]
    exported = read_rows(export, format="csv", separator=chosen.separator)
    files = [part for rows in exported for part in _with_attributes(rows, listed, since, until)]
    files += [
        Rows(name, Parsed(pl.DataFrame(), pl.Series(dtype=pl.Int64), [], [(line, value, why)]))
        for name, line, value, why in bad
    ]
    enriched = _enriched([row for _, row in details], files, chosen, as_of)
    return import_rows(
        files, chosen, zone=zone, as_of=as_of, since=since, until=until, cleaning=cleaning, more=[enriched]
    )


def _told(value: Any) -> datetime | None:
    return as_instant(value, MANIFEST) if isinstance(value, str) and value else None


def _rows(folder: Path, name: str, bad: list[tuple[str, int, str, str]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of packed JSON lines; a line or file that is damaged is noted and the rest still read."""
    for path in sorted((folder / name).glob("*.jsonl.gz")):
        shown, line = f"{name}/{path.name}", 0
        try:
            with gzip.open(path, "rb") as file:
                for line, data in enumerate(file, 1):
                    try:
                        row = json.loads(data)
                    except (ValueError, RecursionError):
                        row = None
                    if isinstance(row, dict):
                        yield shown, row
                    else:
                        bad.append((shown, line, data[:200].decode("utf-8", "backslashreplace"), "not a JSON object"))
        except (OSError, EOFError, zlib.error) as error:
            bad.append((shown, line + 1, "", f"the file is damaged or ends early: {error}"))


def _with_attributes(
    export: Rows, listed: list[dict[str, Any]], since: datetime | None, until: datetime | None
) -> list[Rows]:
    """Return the export with what the list of alerts adds, and the listed alerts of the span that it lacks."""
    frame = export.parsed.frame
    schema = {ID: pl.String, **{f"@{column}": pl.String for column in ATTRIBUTES.values()}}
    known = [_attributes(resource) for resource in listed if isinstance(resource.get("id"), str)]
    told = pl.DataFrame(known, schema=schema, orient="row").unique(ID, keep="last", maintain_order=True)
    if not told.height or ID not in frame.columns:
        return [export]
    joined = frame.join(told, on=ID, how="left", maintain_order="left").with_columns(
        pl.coalesce(pl.col(column).replace("", None), f"@{column}").alias(column)
        if column in frame.columns
        else pl.col(f"@{column}").alias(column)
        for column in ATTRIBUTES.values()
    )
    whole = replace(export.parsed, frame=joined.select(pl.exclude(r"^@.*$")))
    missing = told.join(frame.select(ID), on=ID, how="anti", maintain_order="left").rename(
        lambda n: n.removeprefix("@")
    )
    created = parse_times(missing[CREATED])
    inside = created.is_not_null()
    inside = inside if since is None else inside & (created >= since)
    inside = inside if until is None else inside & (created < until)
    closed = pl.when(pl.col("Alert Status").str.to_uppercase() == "CLOSED").then(pl.col("status_updated_at"))
    missing = missing.filter(inside.fill_null(value=False)).with_columns(closed.alias(CLOSED))
    return [Rows(export.name, whole), Rows("alerts", parquet.parsed(0, missing))]


def _attributes(resource: dict[str, Any]) -> list[str | None]:
    told = resource.get("attributes")
    told = told if isinstance(told, dict) else {}
    values = [told.get(name) for name in ATTRIBUTES]
    return [resource["id"], *(None if v is None else v if isinstance(v, str) else json.dumps(v) for v in values)]


def _enriched(
    details: list[dict[str, Any]], files: list[Rows], mapping: HistoryMapping, as_of: datetime | None
) -> pl.DataFrame:
    """Return one activity for each alert with evidence. It hung on the alert from its creation on, and was learnt by the fetch."""
    found = {row["id"]: seen for row in details if isinstance(row.get("id"), str) and (seen := observables_of(row))}
    payloads = [json.dumps({"observables": seen}, ensure_ascii=False) for seen in found.values()]
    told = pl.DataFrame({ID: list(found), "payload": payloads}, schema={ID: pl.String, "payload": pl.String})
    frames = [
        rows.parsed.frame.select(ID, CREATED) for rows in files if {ID, CREATED} <= set(rows.parsed.frame.columns)
    ]
    if not frames or not told.height:
        return fit_frame(pl.DataFrame(schema={"alert_id": pl.String, "at": TIME, "type": pl.String}), "activity")
    alerts = pl.concat(frames).unique(ID, keep="first", maintain_order=True)
    rows = alerts.join(told, on=ID, how="inner", maintain_order="left")
    rows = rows.with_columns(parse_times(rows[CREATED], zone=mapping.zone).alias("at")).drop_nulls("at")
    ids = digest([pl.lit(mapping.source or mapping.name), pl.col(ID)], rows)
    made = rows.select(
        "at", "payload", type=pl.lit("enriched"), actor_kind=pl.lit("import"), recorded_at=pl.lit(as_of, TIME)
    )
    return fit_frame(made.with_columns(ids.alias("alert_id"), pl.lit(None, pl.String).alias("key")), "activity")


def observables_of(row: dict[str, Any]) -> list[dict[str, str | None]]:
    """Return what an alert's evidence and vendor alerts name, each once.

    >>> observables_of({"evidence": [{"attributes": {"evidence_type": "SRC_IP", "evidence": "192.0.2.7"}}],
    ...                 "vendor_alerts": [{"attributes": {"evidence_summary": [{"device": {"os": {"name": "Debian 13"}}}]}}]})
    [{'kind': 'ip', 'role': 'source', 'value': '192.0.2.7'}, {'kind': 'os', 'role': None, 'value': 'Debian 13'}]
    """
    seen: dict[tuple[str, str | None, str], None] = {}
    for item in _resources(row.get("evidence")):
        kind, value = item.get("evidence_type"), item.get("evidence")
        if isinstance(kind, str) and isinstance(value, str) and value.strip():
            seen[(*EVIDENCE.get(kind.upper(), (kind.lower(), None)), value.strip())] = None
    for item in _resources(row.get("vendor_alerts")):
        for name in _os_names(item.get("evidence_summary"), "", 0):
            seen["os", None, name] = None
    return [{"kind": kind, "role": role, "value": value} for kind, role, value in seen]


def _resources(value: Any) -> Iterator[dict[str, Any]]:
    for item in value if isinstance(value, list) else []:
        told = item.get("attributes") if isinstance(item, dict) else None
        if isinstance(told, dict):
            yield told


def _os_names(value: Any, path: str, depth: int) -> Iterator[str]:
    """Yield the texts whose flattened key ends in os.name."""
    if depth > _MAX_NESTING:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _os_names(item, f"{path}.{key}", depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _os_names(item, path, depth + 1)
    elif isinstance(value, str) and path.endswith(".os.name") and value.strip():
        yield value.strip()
