"""The folder in which a fetch is kept: raw files, written whole or not at all, and a manifest that vouches for them.

Enters: bytes and lines as the service sent them. Leaves: files that only their owner can read, their SHA-256 and numbers
of rows in ``manifest.json``, and, after a break, which of them need not be asked for again. Layer: sources.

No secret comes here: what is written is what was answered, and what was asked is written without who asked.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from tocsin.errors import WorkbenchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1
"""Raised when a key of the manifest changes its meaning or goes away."""

Row = dict[str, Any]


class Kept:
    """A folder and its manifest, a JSON document that the caller fills.

    Args:
        folder: Made if it is not there.
        asked: What is asked for. A folder that holds something else is refused.

    Raises:
        WorkbenchError: The folder holds the answer to another question, or files that are not ours.
    """

    def __init__(self, folder: Path, asked: Row) -> None:
        self.folder = folder
        if (folder / MANIFEST).exists():
            self.manifest = read_manifest(folder)
            held = {key: self.manifest["asked"].get(key) for key in asked}
            if held != asked:
                different = ", ".join(
                    f"{key} {held[key]} (asked now: {asked[key]})" for key in asked if held[key] != asked[key]
                )
                raise WorkbenchError(f"{folder} holds another fetch: {different}. Name another folder")
            return
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise WorkbenchError(f"{folder} is not empty and holds no fetch of ours; name a new or an empty folder")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.manifest = {"format": FORMAT, "source": "expel-workbench", "asked": asked, "complete": False, "files": {}}

    @property
    def files(self) -> dict[str, Row]:
        """The files by name: sha256, bytes, rows."""
        return self.manifest["files"]  # type: ignore[no-any-return]

    def save(self) -> None:
        """Write the manifest."""
        self.manifest["files"] = dict(sorted(self.files.items()))
        data = json.dumps(self.manifest, indent=1, ensure_ascii=False).encode() + b"\n"
        with self._whole(MANIFEST) as file:
            file.write(data)

    @contextmanager
    def _whole(self, name: str) -> Iterator[IO[bytes]]:
        """Give a temporary file that takes its name when the block has ended well, and goes away when not."""
        target = self.folder / name
        target.parent.mkdir(mode=0o700, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")  # mode 0600
        try:
            with os.fdopen(handle, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(part).replace(target)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise

    @contextmanager
    def raw(self, name: str, facts: Row) -> Iterator[IO[bytes]]:
        """Give a file to fill with what comes; when the block ends well it is kept, with its hash and `facts`."""
        with self._whole(name) as file:
            yield file
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
            size = file.tell()
        self.files[name] = {"sha256": digest, "bytes": size, **facts}
        self.save()

    def write_rows(self, name: str, rows: Iterable[Row], facts: Row) -> None:
        """Keep rows as JSON lines, packed; the same rows give the same bytes."""
        lines = [json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for row in rows]
        with self.raw(name, {"rows": len(lines), **facts}) as file:
            file.write(gzip.compress(b"".join(lines), 6, mtime=0))

    def holds(self, name: str) -> bool:
        """Tell whether a file is here, whole and unchanged."""
        entry = self.files.get(name)
        return entry is not None and digest_of(self.folder / name) == entry["sha256"]

    def drop(self, name: str) -> None:
        """Forget the files of a folder, and remove them."""
        for file in [f for f in self.files if f.startswith(f"{name}/")]:
            del self.files[file]
            (self.folder / file).unlink(missing_ok=True)

    def rows(self, name: str) -> list[Row]:
        """Return the rows of a file, none where it is missing or damaged: they are asked for again."""
        return list(read_rows(self.folder / name)) if self.holds(name) else []


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, or the empty string where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a packed file of JSON lines."""
    with gzip.open(path, "rb") as file:
        for line in file:
            yield json.loads(line)


def read_manifest(folder: Path) -> Row:
    """Return the manifest of a folder.

    Raises:
        WorkbenchError: There is none, it cannot be read, or it is of a later format.
    """
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise WorkbenchError(f"{path}: {error.strerror}; `tocsin workbench fetch` makes such a folder") from None
    except ValueError:
        found = None
    if (
        not isinstance(found, dict)
        or not isinstance(found.get("asked"), dict)
        or not isinstance(found.get("files"), dict)
    ):
        raise WorkbenchError(f"{path} is no manifest of a fetch, or is damaged; fetch into a new folder")
    if found.get("format") != FORMAT:
        raise WorkbenchError(
            f"{path} has format {found.get('format')}; this version reads {FORMAT}. Fetch into a new folder"
        )
    return found
