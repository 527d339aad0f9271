"""What a fetch gives back: where its files are, what they hold, and what could not be had.

Enters: a folder and its manifest. Leaves: `Fetched`. Layer: sources.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tocsin.errors import WorkbenchError
from tocsin.sources.workbench.kept import MANIFEST, digest_of, read_manifest, read_rows
from tocsin.sources.workbench.transport import Skew

if TYPE_CHECKING:
    from collections.abc import Iterator

EXPORT: Final = "export.csv"
ALERTS: Final = "alerts"
DETAILS: Final = "details"


@dataclass(frozen=True, slots=True)
class FetchError:
    """Something that could not be had: of which alert (empty: of the list), what, why, and after how many attempts."""

    alert_id: str
    what: str
    message: str
    attempts: int
    status: int | None


@dataclass(frozen=True)
class Fetched:
    """A folder of raw files and its manifest.

    Attributes:
        folder: Where everything is.
        asked: url, since, until (local dates, half-open), zone, and from and to (the same as instants in UTC).
        export: The metrics export, byte for byte.
        alerts: Pages of alerts, one resource a line (``.jsonl.gz``).
        details: ``{"id", "evidence", "vendor_alerts"}`` a line, both lists of resources; with "alert" where the list had not named it.
        counts: How many rows, alerts and errors; each is named.
        errors: What could not be had. The same fetch into the same folder asks for that, and only that, again.
        notes: What a reader should know: missing columns, another path of the export, clocks that differ.
        skew: How far the server's clock is ahead of ours.
        complete: Nothing is missing.
    """

    folder: Path
    asked: dict[str, Any]
    export: Path
    alerts: tuple[Path, ...]
    details: tuple[Path, ...]
    counts: dict[str, int]
    errors: tuple[FetchError, ...]
    notes: tuple[str, ...]
    skew: Skew | None
    complete: bool

    @property
    def manifest(self) -> Path:
        """The file that vouches for the others."""
        return self.folder / MANIFEST

    def alert_rows(self) -> Iterator[dict[str, Any]]:
        """Yield the listed alerts as the service sent them, those outside the range as well."""
        for path in self.alerts:
            yield from read_rows(path)

    def detail_rows(self) -> Iterator[dict[str, Any]]:
        """Yield, for each alert, its evidence and vendor alerts as the service sent them."""
        for path in self.details:
            yield from read_rows(path)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "folder": str(self.folder),
            "complete": self.complete,
            "asked": self.asked,
            "counts": self.counts,
            "files": [str(p.relative_to(self.folder)) for p in (self.export, *self.alerts, *self.details)],
            "errors": [asdict(error) for error in self.errors],
            "notes": list(self.notes),
            "skew": asdict(self.skew) if self.skew else None,
        }


def open_fetched(folder: str | Path, *, check: bool = True) -> Fetched:
    """Open what an earlier fetch has kept.

    Args:
        folder: The folder it wrote.
        check: Compare every file with the hash that the manifest has of it.

    Raises:
        WorkbenchError: No manifest, no export yet, or a file that is not what was fetched.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if EXPORT not in manifest["files"]:
        raise WorkbenchError(f"{folder} holds no export yet: the fetch was stopped early. Run it again")
    if check:
        changed = [name for name, entry in manifest["files"].items() if digest_of(folder / name) != entry["sha256"]]
        if changed:
            raise WorkbenchError(
                f"{folder}: {', '.join(changed[:3])} {'is' if len(changed) == 1 else 'are'} not what was fetched (SHA-256 differs). "
                "Fetch again into the same folder: only these are asked for"
            )
    return fetched_of(folder, manifest)


def fetched_of(folder: Path, manifest: dict[str, Any]) -> Fetched:
    """Return what a manifest says."""

    def under(name: str) -> tuple[Path, ...]:
        return tuple(folder / file for file in sorted(manifest["files"]) if file.startswith(f"{name}/"))

    return Fetched(
        folder=folder,
        asked=manifest["asked"],
        export=folder / EXPORT,
        alerts=under(ALERTS),
        details=under(DETAILS),
        counts=manifest.get("counts", {}),
        errors=tuple(FetchError(**error) for error in manifest.get("errors", ())),
        notes=tuple(manifest.get("notes", ())),
        skew=Skew(**manifest["skew"]) if manifest.get("skew") else None,
        complete=manifest["complete"],
    )
