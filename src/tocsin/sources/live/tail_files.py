"""The files of one growing log: which of them holds what was read, and which came after it.

Enters: the path of a log and a saved position. Leaves: `LogFile`, found again by inode and by its first bytes under whatever
name it has now, and the path of the file that follows it. Layer: sources.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import stat
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tocsin.errors import SourceError
from tocsin.sources.live.pieces import LostError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.sources.live.pieces import Position

HEAD_BYTES: Final = 1024
_BLOCK_BYTES: Final = 1 << 20
_PACKED: Final = ".gz"
_TAG: Final = re.compile(r"[-._]\d[\d._:TZ+-]*")
_COUNTER: Final = re.compile(r"\.(\d{1,4})")


class LogFile:
    """A file opened for reading at any offset; one whose name ends in ``.gz`` is unpacked on the way.

    Raises:
        OSError: It cannot be opened.
        SourceError: It is no plain file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.packed = path.suffix == _PACKED
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        found = os.fstat(self._fd)
        self.inode = found.st_ino
        if not stat.S_ISREG(found.st_mode):
            os.close(self._fd)
            raise SourceError(
                f"{path} is no plain file, so it has no place to go on from. Pipe it into `tocsin run -` instead."
            )
        self._packed = os.fdopen(os.dup(self._fd), "rb") if self.packed else None
        self._unpacked = gzip.GzipFile(fileobj=self._packed) if self._packed else None

    def read_at(self, offset: int, most: int) -> bytes:
        """Return the bytes from an offset; fewer than asked for only where the file ends.

        Raises:
            LostError: The packed file is damaged or not yet whole.
        """
        if self._unpacked is not None:
            try:
                self._unpacked.seek(offset)
                return self._unpacked.read(most)
            except (EOFError, OSError, zlib.error) as error:
                raise LostError(
                    f"{self.path}: the packed file is damaged: {error}. Put a whole copy beside it."
                ) from None
        block = os.pread(self._fd, most, offset)
        while block and len(block) < most and (more := os.pread(self._fd, most - len(block), offset + len(block))):
            block += more
        return block

    def facts(self) -> os.stat_result:
        """Return size and times as they are now; of a packed file, those of the packed one."""
        return os.fstat(self._fd)

    def holds(self, position: Position) -> bool:
        """Return whether this is the file of a position: its first bytes, and those just before the position, are there."""
        count, digest = position["head"]
        try:
            if hashlib.sha256(self.read_at(0, count)).hexdigest() != digest:
                return False
            if position["offset"] and not self.read_at(position["offset"] - 1, 1):
                return False
            return bool(checksum(self, position["since"], position["kept"]) == position["sum"])
        except LostError:
            return False

    def close(self) -> None:
        """Let the file go."""
        if self._packed is not None:
            self._packed.close()
        os.close(self._fd)


def checksum(file: LogFile, offset: int, size: int) -> int:
    """Return the CRC-32 of a part of a file."""
    found = 0
    for start in range(offset, offset + size, _BLOCK_BYTES):
        found = zlib.crc32(file.read_at(start, min(_BLOCK_BYTES, offset + size - start)), found)
    return found


def find(path: Path, position: Position) -> LogFile | None:
    """Return the file of a position: the one with its inode, or a copy, or a packed copy, in the folder of the log.

    First the inode counts, and the first bytes must agree, as inodes are given out again. A copy is known by the bytes alone.
    """
    for candidate in _candidates(path, position):
        try:
            file = LogFile(candidate)
        except (OSError, SourceError):
            continue
        if file.holds(position):
            return file
        file.close()
    return None


def _candidates(path: Path, position: Position) -> Iterator[Path]:
    plain: list[tuple[int, Path]] = []
    packed: list[Path] = []
    for name, found in _entries(path).items():
        if found.st_ino == position["inode"]:
            yield name
        elif name.suffix == _PACKED:
            packed.append(name)
        elif found.st_size >= position["offset"]:
            plain.append((found.st_size, name))
    if position["head"][0]:
        yield from (p for _, p in sorted(plain, reverse=True))
        yield from sorted(packed)


def _entries(path: Path) -> dict[Path, os.stat_result]:
    """Return the plain files of the folder of a log, and of the one that its link leads to."""
    found: dict[Path, os.stat_result] = {}
    for folder in sorted({path.parent, Path(os.path.realpath(path)).parent}):
        for name in os.listdir(folder) if folder.is_dir() else []:  # noqa: PTH208  (names are all that is wanted)
            with suppress(OSError):  # gone since
                facts = os.lstat(folder / name)
                if stat.S_ISREG(facts.st_mode):
                    found[folder / name] = facts
    return found


def successor(path: Path, last: LogFile | None, modified_ns: int) -> Path | None:
    """Return the file that was written after another: a rotated one, else that at the path; None while there is none.

    Files without content are passed over. Rotated files are those with a number or date added to the name of the log
    (``log.1``, ``log-20240131.gz``, ``log-2024.jsonl``). Counted ones follow each other downwards; others as they were written.

    Args:
        path: Of the log.
        last: The file that was read to its end; None where it is gone.
        modified_ns: When that was last written.
    """
    before = _stamp(path)
    siblings = _siblings(path)
    mine = next((t for t, (_, f) in siblings.items() if last is not None and f.st_ino == last.inode), "")
    count = _count(mine)
    later: list[tuple[int, int, str]] = []
    for tag, (_, facts) in siblings.items():
        written_ns, number = facts.st_mtime_ns, _count(tag)
        if count is not None:
            if number is not None and number < count:
                later.append((0, -number, tag))
        elif (written_ns, tag) > (modified_ns, mine) if mine else written_ns > modified_ns:
            later.append((written_ns, -(number or 0), tag))
    following = next((p for _, _, tag in sorted(later) if _has_content(p := siblings[tag][0])), path)
    return following if _has_content(following) and _stamp(path) == before else None


def _stamp(path: Path) -> tuple[int, int]:
    """Return what changes where a file of the folder gets another name: then what was listed does not fit together."""
    try:
        return path.parent.stat().st_mtime_ns, path.stat().st_ino
    except OSError:
        return 0, 0


def _siblings(path: Path) -> dict[str, tuple[Path, os.stat_result]]:
    """Return the rotated files of a log by what was added to its name; a plain one before its packed copy."""
    found: dict[str, tuple[Path, os.stat_result]] = {}
    for file, facts in _entries(path).items():
        name = file.name.removesuffix(_PACKED)
        if name.startswith(path.name):
            tag = name[len(path.name) :]
        elif path.suffix and name.startswith(path.stem) and name.endswith(path.suffix):
            tag = name[len(path.stem) : -len(path.suffix)]
        else:
            continue
        if _TAG.fullmatch(tag) and (tag not in found or file.suffix != _PACKED):
            found[tag] = file, facts
    return found


def _count(tag: str) -> int | None:
    found = _COUNTER.fullmatch(tag)
    return int(found[1]) if found else None


def _has_content(path: Path) -> bool:
    try:
        if path.suffix != _PACKED:
            return path.stat().st_size > 0
        file = LogFile(path)
    except OSError:
        return False
    try:
        return bool(file.read_at(0, 1))
    except LostError:
        return False
    finally:
        file.close()
