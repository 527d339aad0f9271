"""Secrets that settings name and do not hold: from an environment variable, or from a file that its owner alone may read.

Enters: the name of a variable or the path of a file. Leaves: the text, or a `SettingsError` without it. Layer: runners.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from tocsin.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MOST_BYTES = 1 << 16


def private_text(
    variable: str | None, file: Path | None, where: str, environ: Mapping[str, str] | None = None
) -> str | None:
    """Return what the variable or the file says, blanks around it left out; None where neither is named.

    where: the setting, for messages, such as ``http.token``: then ``http.token_env`` and ``http.token_file`` are meant.

    Raises:
        SettingsError: It is not there or empty, others may read the file, or both are named.

    >>> private_text("TOKEN", None, "http.token", {"TOKEN": " abc "})
    'abc'
    """
    if variable is not None and file is not None:
        raise SettingsError(f"{where}_env and {where}_file: name one of them, not both.")
    if variable is not None:
        text = (os.environ if environ is None else environ).get(variable, "").strip()
        if not text:
            raise SettingsError(f"{where}_env: the environment variable {variable} is not set, or is empty.")
        return text
    if file is None:
        return None
    text = owners_text(file, f"{where}_file").strip()
    if not text:
        raise SettingsError(f"{where}_file: {file} is empty.")
    return text


def owners_text(file: Path, where: str) -> str:
    """Return what stands in a file that its owner alone may read; ``where`` is the setting that names it.

    Raises:
        SettingsError: It is not there, is no file, holds no text, or others may read it.
    """
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode  # of what was opened, not of what lies there by then
            if not stat.S_ISREG(mode) or mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise SettingsError(
                    f"{where}: {file} can be read by others, or is no file. It has to be a file that only its owner can read:"
                    f" `chmod 600 {file}`, and change the secret."
                )
            return opened.read(MOST_BYTES).decode()
    except OSError as error:
        raise SettingsError(f"{where}: {file}: {error.strerror}. It names a file that holds the secret.") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{where}: {file} holds no text.") from None
