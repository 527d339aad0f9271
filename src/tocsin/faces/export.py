"""Results as files and as one JSON document.

Enters: frames and plain values. Leaves: Parquet, JSONL or CSV written whole or not at all; JSON with stable keys in
which nothing but ASCII reaches the terminal. Layer: faces.
"""

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tocsin.errors import did_you_mean
from tocsin.faces.options import UsageError

if TYPE_CHECKING:
    import polars as pl

FORMATS = (".parquet", ".jsonl", ".csv")
JSON_FORMAT = 1
"""Raised when a key of a JSON document changes its meaning or goes away; new keys do not raise it."""


def check_target(path: Path | None, formats: tuple[str, ...] = FORMATS) -> None:
    """Refuse a file that could not be written before anything is computed.

    Raises:
        UsageError: Another ending than those of `formats`, or no such folder.
    """
    if path is None:
        return
    if path.suffix.lower() not in formats:
        raise UsageError(
            f"{path}: write {', '.join(formats[:-1])} or {formats[-1]}.{did_you_mean(path.suffix.lower(), formats)}"
        )
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it.")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}. Make it first.")


def write_frame(frame: "pl.DataFrame", path: Path) -> None:
    """Write a frame as the file's ending says; in CSV no cell can start a formula."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False) as part:
        try:
            _write(frame, part, path.suffix.lower())
            part.flush()
            os.chmod(part.name, 0o666 & ~_umask())  # noqa: PTH101 - a temporary file is private; a result is not
            Path(part.name).replace(path)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise


def flat(frame: "pl.DataFrame") -> "pl.DataFrame":
    """Return a frame that CSV can hold: lists are joined, durations are seconds, times are UTC.

    >>> import polars as pl
    >>> flat(pl.DataFrame({"who": [["ann", "bob"]]})).rows()
    [('ann; bob',)]
    """
    import polars as pl

    made = []
    for name, dtype in frame.schema.items():
        column = pl.col(name)
        if isinstance(dtype, pl.List):
            column = column.list.eval(pl.element().cast(pl.String)).list.join("; ")
        elif isinstance(dtype, pl.Datetime) and dtype.time_zone not in (None, "UTC"):
            column = column.dt.convert_time_zone("UTC")
        elif dtype == pl.Duration:
            column = column.dt.total_microseconds() / 1e6
        made.append(column)
    return frame.select(made)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write(frame: "pl.DataFrame", file: Any, suffix: str) -> None:
    if suffix == ".parquet":
        frame.write_parquet(file)
    elif suffix == ".jsonl":
        frame.write_ndjson(file)
    else:
        from tocsin.text import guard_formulas

        guard_formulas(frame).write_csv(file, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ")


def write_text(text: str, path: Path) -> None:
    """Write a text file, whole or not at all."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
    ) as part:
        part.write(text)
    os.chmod(part.name, 0o666 & ~_umask())  # noqa: PTH101
    Path(part.name).replace(path)


def print_json(command: str, body: Mapping[str, Any]) -> None:
    """Print one JSON document and nothing else."""
    from tocsin import __version__

    document = {"tocsin": __version__, "format": JSON_FORMAT, "command": command, **body}
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False, default=_plain) + "\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    """Return what JSON has no word for: times as ISO text in UTC, paths as text."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def rows_of(frame: "pl.DataFrame") -> list[dict[str, Any]]:
    """Return a frame's rows for JSON: NaN and infinity are null."""
    import polars as pl

    floats = [pl.when(pl.col(n).is_finite()).then(pl.col(n)).alias(n) for n, t in frame.schema.items() if t.is_float()]
    return frame.with_columns(floats).to_dicts()
