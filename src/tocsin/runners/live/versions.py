"""What a running engine runs, by digest: rule files and reference files as they were when they were loaded.

Enters: the files that the settings name. Leaves: copies of them, a digest that is equal for equal contents, and from that
digest the same detections and references again, whatever became of the files. Layer: runners.

A folder holds ``files/SHA256/NAME``, each content once, and ``DIGEST/manifest.json``, which says what a version is made
of. A copy keeps its file's name, since tables are named after it; messages name the file, not the copy.

A rule file is kept alone: what it imports or reads beside itself is not.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from tocsin.durable import OWNER_ONLY, sync_folder, write_durably
from tocsin.errors import RuleError, StateError, TocsinError
from tocsin.geo import read_geo
from tocsin.lists import read_allow, read_assets, read_threats
from tocsin.networks import read_networks
from tocsin.references import References
from tocsin.rules import ALL
from tocsin.runners.rulefiles import load_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tocsin.detection import Detection
    from tocsin.runners.live.settings import ReferenceFiles

RULES, SHIPPED = "rules", "shipped"
DIGEST_LENGTH = 32
_CHUNK_BYTES = 1 << 20
_READERS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "geo": (read_geo, False),
    "networks": (read_networks, False),
    "threats": (read_threats, True),
    "assets": (read_assets, True),
    "allow": (read_allow, True),
}
"""How each kind of reference file is read, and whether several make one list."""


class BrokenFileError(TocsinError):
    """A rule file or reference file cannot be used: which, and the digest of what it holds ("" where it is missing)."""

    def __init__(self, file: str, digest: str, problem: str) -> None:
        super().__init__(problem)
        self.file, self.digest = file, digest


@dataclass(frozen=True)
class Kept:
    """One file of a version. what: "rules" or the name of a reference; where: whence it came; name: of the copy."""

    what: str
    where: str
    name: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a version is made of: its files, and where the shipped rules are run, the version of each of them."""

    files: tuple[Kept, ...]
    shipped: tuple[tuple[str, str], ...] = ()
    tocsin: str = ""

    @property
    def digest(self) -> str:
        """Equal for equal contents under equal names, wherever the files lie."""
        about = [[k.what, k.name, k.sha256] for k in self.files], self.shipped, self.tocsin
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:DIGEST_LENGTH]

    def of(self, what: str) -> tuple[Kept, ...]:
        """Return the files of one kind, in the order of the settings."""
        return tuple(k for k in self.files if k.what == what)


def watched(rules: Sequence[Path], references: ReferenceFiles) -> list[tuple[str, Path]]:
    """Return the files that the settings name, each with what it is; what ships with the package is none of them."""
    geo = [Path(references.geo)] if references.geo and references.geo != "country" else []
    networks = [references.networks] if references.networks else []
    kinds = {RULES: rules, "geo": geo, "networks": networks} | {
        what: getattr(references, what) for what in ("threats", "assets", "allow")
    }
    return [(what, Path(path).absolute()) for what, paths in kinds.items() for path in paths]


class Versions:
    """The versions in a folder. Its methods may be called from several threads."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._files = self.folder / "files"
        self._lock = Lock()
        self._fresh: set[str] = set()
        self._parsed: dict[Any, Any] = {}
        """What the reference files of the version opened last hold: they are large, and seldom change."""

    def keep(self, rules: Sequence[Path], references: ReferenceFiles) -> str:
        """Copy the files into the folder and return the version's digest. No rules: those that ship.

        Raises:
            BrokenFileError: A file is missing or cannot be read.
            OSError: The folder cannot be written.
        """
        with self._lock:
            files = [self._copy(what, path) for what, path in watched(rules, references)]
            if references.geo == "country":
                with resources.as_file(resources.files("tocsin") / "data" / "country.parquet") as path:
                    files.append(self._copy("geo", path))
            manifest = Manifest(tuple(files))
            if not rules:
                manifest = Manifest(tuple(files), tuple((d.id, d.version) for d in ALL), version("tocsin"))
            target = self.folder / manifest.digest
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(target / "manifest.json", json.dumps(asdict(manifest), indent=1).encode())
            sync_folder(self.folder)
            self._fresh.add(manifest.digest)
            return manifest.digest

    def _copy(self, what: str, path: Path) -> Kept:
        """Copy a file unless its content is there under its name; what is hashed is what was copied."""
        try:
            sha256 = _hash_of(path)
        except OSError as error:
            problem = f"{path}: cannot be read ({error.strerror}). Put it back, or take it out of the settings."
            raise BrokenFileError(str(path), "", problem) from None
        if not (self._files / sha256 / path.name).exists():
            sha256 = self._copy_durably(path)
        return Kept(what, str(path), path.name, sha256)

    def _copy_durably(self, path: Path) -> str:
        self._files.mkdir(mode=0o700, parents=True, exist_ok=True)
        part, hasher = self._files / "incoming.part", hashlib.sha256()
        try:
            with (
                path.open("rb") as source,
                os.fdopen(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, OWNER_ONLY), "wb") as target,
            ):
                while chunk := source.read(_CHUNK_BYTES):
                    hasher.update(chunk)
                    target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
            folder = self._files / hasher.hexdigest()
            folder.mkdir(mode=0o700, exist_ok=True)
            if not _linked(folder / path.name, folder):
                part.replace(folder / path.name)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(folder)
        sync_folder(self._files)
        return hasher.hexdigest()

    def manifest(self, digest: str) -> Manifest:
        """Return what a version is made of.

        Raises:
            StateError: There is no such version, or it is damaged.
        """
        path = self.folder / digest / "manifest.json"
        try:
            found = json.loads(path.read_bytes())
            shipped = tuple((i, v) for i, v in found["shipped"])
            manifest = Manifest(tuple(Kept(**k) for k in found["files"]), shipped, found["tocsin"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StateError(f"{path}: this version of rules and references cannot be read ({error}).") from None
        if manifest.digest != digest:
            raise StateError(
                f"{path}: this version of rules and references is damaged: its digest is {manifest.digest}."
            )
        return manifest

    def path(self, kept: Kept) -> Path:
        """Return where the copy of a file lies."""
        return self._files / kept.sha256 / kept.name

    def text(self, kept: Kept) -> bytes:
        """Return what a rule file said.

        Raises:
            StateError: The copy is missing or damaged.
        """
        return self._whole(kept).read_bytes()

    def _whole(self, kept: Kept) -> Path:
        """Return where the copy of a file lies, if it is as it was written."""
        path = self.path(kept)
        try:
            found = _hash_of(path)
        except OSError as error:
            raise StateError(f"{path}: the copy of {kept.where} cannot be read ({error.strerror}).") from None
        if found != kept.sha256:
            raise StateError(f"{path}: the copy of {kept.where} is damaged (checksum).")
        return path

    def open(self, digest: str) -> tuple[tuple[Detection, ...], References]:
        """Return the detections and references of a version, as they were.

        Raises:
            BrokenFileError: A file of it is wrong; the message names the file itself and the line.
            StateError: The version is not there or damaged, or this package ships other rules.
        """
        manifest = self.manifest(digest)
        with self._lock:
            return self._detections(manifest), self._references(manifest)

    def _detections(self, manifest: Manifest) -> tuple[Detection, ...]:
        if manifest.shipped:
            _refuse_other_rules(manifest)
            return ALL
        found: dict[str, Detection] = {}
        for kept in manifest.of(RULES):
            try:
                for detection in load_rules(kept.where, self.text(kept)):
                    _refuse_taken_id(detection, found)
                    found[detection.id] = detection
            except RuleError as error:
                raise BrokenFileError(kept.where, kept.sha256, str(error)) from None
        return tuple(found.values())

    def _references(self, manifest: Manifest) -> References:
        parsed: dict[Any, Any] = {}
        parts = {what: self._read(what, manifest.of(what), parsed) for what in _READERS}
        parts["geo"] = () if parts["geo"] is None else (parts["geo"],)
        key = tuple(sorted(parsed))
        made: References = self._parsed.get(key) or References(**parts)
        self._parsed = {**parsed, key: made}
        return made

    def _read(self, what: str, files: tuple[Kept, ...], parsed: dict[Any, Any]) -> Any:
        """Parse the files of one kind, unless the version before had the same."""
        if not files:
            return None
        key = (what, *((k.name, k.sha256) for k in files))
        read, several = _READERS[what]
        if key not in self._parsed:
            paths = [self._whole(k) for k in files]
            try:
                self._parsed[key] = read(paths if several else paths[0])
            except Exception as error:  # noqa: BLE001 - a damaged file may make its parser raise anything
                raise self._blamed(error, files) from None
        parsed[key] = self._parsed[key]
        return parsed[key]

    def _blamed(self, error: Exception, files: tuple[Kept, ...]) -> BrokenFileError:
        """Return the error under the name of the file that it is about."""
        text, blamed = str(error), files[0]
        if not isinstance(error, TocsinError):
            text = f"{blamed.where}: cannot be read ({type(error).__name__}: {text})."
        for kept in files:
            if str(self.path(kept)) in text or f"{kept.name}:" in text:
                blamed = kept
            text = text.replace(str(self.path(kept)), kept.where)
        return BrokenFileError(blamed.where, blamed.sha256, text)

    def drop(self, digest: str) -> None:
        """Let a version go that will not be in use; the next `forget` removes it."""
        with self._lock:
            self._fresh.discard(digest)

    def forget(self, in_use: Iterable[str]) -> None:
        """Remove all versions but these, and the copies that none of these needs.

        A version that was kept and never yet in use stays, until it is dropped.
        """
        with self._lock:
            kept = set(in_use)
            self._fresh -= kept
            kept |= self._fresh
            needed = {k.sha256 for digest in kept for k in self.manifest(digest).files}
            for folder in _folders(self.folder):
                if folder.name not in kept and folder != self._files:
                    shutil.rmtree(folder)
            for folder in _folders(self._files):
                if folder.name not in needed:
                    shutil.rmtree(folder)


def _linked(path: Path, folder: Path) -> bool:
    """Give a copy in the folder, all of one content, another name; tell whether that went. Not every file system has links."""
    with suppress(OSError, StopIteration):
        path.hardlink_to(next(folder.iterdir()))
        return True
    return False


def _folders(path: Path) -> Iterator[Path]:
    return (p for p in list(path.iterdir()) if p.is_dir()) if path.is_dir() else iter(())


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_taken_id(detection: Detection, found: dict[str, Detection]) -> None:
    if detection.id in found:
        first, second = found[detection.id].where, detection.where
        raise RuleError(
            f"{second[0]}:{second[1]}: the id {detection.id} is taken by {first[0]}:{first[1]}. Ids are unique."
        )


def _refuse_other_rules(manifest: Manifest) -> None:
    now = {d.id: d.version for d in ALL}
    differ = sorted(set(manifest.shipped) ^ set(now.items()))
    if differ:
        was, now_is = manifest.tocsin, version("tocsin")
        raise StateError(
            f"The state was made with the rules that tocsin {was} ships; {differ[0][0]} is another in {now_is}. "
            f"Start tocsin {was} and let it stop in order, or start with an empty state folder."
        )
