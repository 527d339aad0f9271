"""Manifests: what a snapshot says of itself, and whether it is true.

Enters: the folder of a snapshot. Leaves: its manifest, and that of those it rests on; or what is wrong with it.
Layer: engine.

A snapshot is a folder: ``manifest.json`` and the files it names, each with its size and checksum. A delta rests on the
snapshot before it, named with the checksum of its manifest.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tocsin.durable import write_durably
from tocsin.kernels.blocks import digest_of

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = "tocsin-snapshot"
FORMAT_VERSION = 1
MANIFEST, PARTS_FILE = "manifest.json", "parts.arrow"
FULL, DELTA = "full", "delta"


class DamagedError(Exception):
    """A snapshot that cannot be used. The message says which file, and what is wrong with it."""


@dataclass(frozen=True)
class Manifest:
    """What a snapshot is.

    number: how far the state had come. base: the snapshot it rests on and that one's checksum (None: on nothing). rules:
    the digest of the engine that may use it. facts: what the caller wants to know again. parts: every part of the state,
    with the digest of an array's bytes. files: size and checksum by name.
    """

    number: int
    kind: str
    base: tuple[str, int] | None
    rules: str
    facts: dict[str, Any]
    parts: dict[str, int | None]
    files: dict[str, tuple[int, int]]

    @property
    def name(self) -> str:
        """The name of its folder."""
        return name_of(self.number, self.kind)

    @property
    def check(self) -> int:
        """The checksum of all it says."""
        return _check(asdict(self))


def name_of(number: int, kind: str) -> str:
    """Return the name of a snapshot's folder; names are in the order of numbers.

    >>> name_of(12, "full")
    '000000000012-full'
    """
    return f"{number:012d}-{kind}"


def parsed(name: str) -> tuple[int, str] | None:
    """Return number and kind of a snapshot's folder, None for anything else.

    >>> parsed("000000000012-full"), parsed("lost+found")
    ((12, 'full'), None)
    """
    number, _, kind = name.partition("-")
    return (int(number), kind) if number.isdecimal() and kind in {FULL, DELTA} else None


def _check(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a snapshot whose files are there."""
    content = asdict(manifest)
    whole = {"format": FORMAT, "version": FORMAT_VERSION, "check": _check(content), "snapshot": content}
    write_durably(folder / MANIFEST, json.dumps(whole, indent=1).encode())


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a snapshot.

    Raises:
        DamagedError: It is not there, not whole, or of another version of the format.
    """
    path = folder / MANIFEST
    try:
        whole = json.loads(path.read_bytes())
        found = f"{whole['format']} {whole['version']}"
        content, check = whole["snapshot"], whole["check"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{path}: no readable manifest ({type(error).__name__})") from error
    if found != f"{FORMAT} {FORMAT_VERSION}":
        raise DamagedError(f"{path}: format {found}, this version reads {FORMAT} {FORMAT_VERSION}")
    if _check(content) != check:
        raise DamagedError(f"{path}: the manifest is damaged (checksum)")
    base = tuple(content.pop("base") or ()) or None
    manifest = Manifest(base=base, **content)
    if manifest.name != folder.name:
        raise DamagedError(f"{path}: the manifest of another snapshot ({manifest.name})")
    return manifest


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Compare size and checksum of a snapshot's files.

    Raises:
        DamagedError: One is missing, or is not what was written.
    """
    for name, (size, check) in manifest.files.items():
        path = folder / name
        try:
            found = path.stat().st_size
            if found != size:
                raise DamagedError(f"{path}: {found:,} bytes, {size:,} were written")
            if file_check(path) != check:
                raise DamagedError(f"{path}: damaged (checksum)")
        except (OSError, ValueError) as error:
            raise DamagedError(f"{path}: not readable ({error})") from error


def file_check(path: Path) -> int:
    """Return the checksum of a file that is not empty."""
    return digest_of(np.memmap(path, np.uint8, "r"))


def chain_of(folder: Path, name: str, sound: set[int]) -> list[Manifest]:
    """Return a snapshot and all it rests on, the full one first, every file checked.

    ``sound``: the checksums of manifests whose files were found as written; it is added to.

    Raises:
        DamagedError: Something it needs is damaged.
    """
    chain = [read_manifest(folder / name)]
    while (base := chain[0].base) is not None:
        before = read_manifest(folder / base[0])
        if before.check != base[1] or before.number >= chain[0].number:
            raise DamagedError(f"{folder / chain[0].name}: rests on another {base[0]} than the one that is there")
        chain.insert(0, before)
    for manifest in chain:
        if manifest.check not in sound:
            verify_files(folder / manifest.name, manifest)
            sound.add(manifest.check)
    return chain
