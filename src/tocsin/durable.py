"""Files that stay: written whole or not at all, and still there after the power went.

Enters: a path and bytes. Leaves: the file. Layer: ground.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

OWNER_ONLY = 0o600


def write_durably(path: Path, data: bytes, mode: int = OWNER_ONLY) -> None:
    """Write a file that appears whole or not at all, and stays; by default its owner alone may read it.

    Raises:
        OSError: There is no room, or no right; whatever was there before still is.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_durably(pathlib.Path(folder, "x"), b"1")
    ...     pathlib.Path(folder, "x").read_bytes()
    b'1'
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make renames, new names and removals in a folder stay."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
