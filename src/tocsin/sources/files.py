"""From a path, glob, folder, URL or `-` to files, and from a file to chunks of whole lines.

Enters: what the user typed. Leaves: `Input` values (path, format, compression, name), and for text formats a bounded
stream of `Chunk`s, decompressed in a thread so that unpacking overlaps parsing. Damage (a truncated or corrupt archive,
a line without end) becomes a `Fault` in the stream; whatever came before it is still delivered. Layer: sources.
"""

from __future__ import annotations

import glob
import importlib
import importlib.util
import queue
import shutil
import sys
import tempfile
import threading
import urllib.request
import weakref
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import urlsplit

import pyarrow as pa

from tocsin.errors import SourceError, did_you_mean

# A C library half again as fast as zlib; the answer is the same without it.
fast_zlib: Any = importlib.import_module("isal.isal_zlib") if importlib.util.find_spec("isal") else zlib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

CHUNK_BYTES: Final = 8 << 20
MAX_LINE_BYTES: Final = 16 << 20
_READ_BYTES: Final = 1 << 18
_QUEUE_CHUNKS: Final = 3
_DOWNLOAD_TIMEOUT_SECONDS: Final = 30.0
_DOWNLOAD_CAP_BYTES: Final = 64 << 30

_FORMATS: Final = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet",
    ".log": "lines", ".txt": "lines", ".xlsx": "excel", ".xls": "excel", ".ods": "excel",
}  # fmt: skip
_COMPRESSIONS: Final = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_GLOB_CHARS: Final = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Input:
    """One file to read: where it is, what it holds, how it is packed, and its name in ids and rejects."""

    path: Path
    format: str
    compression: str | None
    name: str
    separator: str | None = None

    @property
    def size_bytes(self) -> int:
        """Size on disk."""
        return self.path.stat().st_size


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines of a file. `last` marks the end of the file; `torn` that its last line may be cut short."""

    data: bytes
    last: bool = False
    torn: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """Damage at this point of the stream: a reason for the reject, and the bytes it concerns (cut short).

    `line_lost` tells that one line was thrown away here and takes a line number.
    """

    reason: str
    value: bytes = b""
    line_lost: bool = False


def resolve(source: str | Path, *, format: str | None = None) -> list[Input]:  # noqa: A002
    """Return the files behind a path, glob, folder, `-` (stdin) or http(s)/s3 URL, in order of name.

    Args:
        source: What to read. Stdin and URLs are first copied to a temporary file, removed at exit.
        format: jsonl, csv, parquet, lines or excel; None goes by the name, then by the first bytes.

    Raises:
        SourceError: Nothing there (with "did you mean"), or a format that cannot be told.
    """
    text = str(source)
    if text == "-":
        return [input_of(_spool(sys.stdin.buffer, "stdin"), format, "stdin")]
    if "://" in text:
        return [input_of(_download(text), format, Path(urlsplit(text).path).name or "download")]
    path = Path(text).expanduser()
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".") and known(p))
        return _inputs(found, path, format, f"the folder {text} holds no .jsonl, .csv or .parquet file")
    if path.exists():
        return [input_of(path, format, path.name)]
    if _GLOB_CHARS & set(text):
        found = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())  # noqa: PTH207
        return _inputs(found, None, format, f"no file matches {text}")
    near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise SourceError(f"no file {text}.{did_you_mean(path.name, near)}")


def stem(name: str) -> str:
    """Return a file name without its format and compression suffixes.

    >>> stem("mail.jsonl.gz"), stem("mail.2026-01.csv")
    ('mail', 'mail.2026-01')
    """
    path = Path(name)
    while path.suffix.lower() in _COMPRESSIONS or path.suffix.lower() in _FORMATS:
        path = path.with_suffix("")
    return path.name or name


def known(path: Path) -> bool:
    """Tell whether a file's name says that events are in it."""
    suffixes = [s.lower() for s in path.suffixes]
    return any(s in _FORMATS for s in suffixes[-2:])


def _inputs(paths: list[Path], root: Path | None, format: str | None, nothing: str) -> list[Input]:  # noqa: A002
    if not paths:
        raise SourceError(f"{nothing}. Give a file, a folder, or a pattern such as logs/*.jsonl.gz")
    names = [str(p.relative_to(root)) if root else p.name for p in paths]
    if len(set(names)) < len(names):
        names = [str(p) for p in paths]
    return [input_of(p, format, n) for p, n in zip(paths, names, strict=True)]


def input_of(path: Path, format: str | None, name: str) -> Input:  # noqa: A002
    """Return a file with its format (None: by its name, then its first bytes) and how it is packed."""
    suffixes = [s.lower() for s in Path(name).suffixes]
    with path.open("rb") as file:
        magic = file.read(8)
    compression = "gzip" if magic[:2] == b"\x1f\x8b" else "zstd" if magic[:4] == b"\x28\xb5\x2f\xfd" else None
    # The bytes decide, not the name: some tools unpack without renaming.
    if suffixes and suffixes[-1] in _COMPRESSIONS:
        suffixes = suffixes[:-1]
    if format is None and magic[:4] == b"PAR1":
        format = "parquet"  # noqa: A001
    if format is None and suffixes:
        format = _FORMATS.get(suffixes[-1])  # noqa: A001
    if format is None:
        format = _sniff(path, compression)  # noqa: A001
    separator = "\t" if suffixes and suffixes[-1] == ".tsv" else None
    return Input(path, format, compression, name, separator)


def _sniff(path: Path, compression: str | None) -> str:
    head = first_bytes(Input(path, "", compression, path.name), 65_536).lstrip()
    if head[:1] in {b"{", b"["}:
        return "jsonl"
    first = head.split(b"\n", 1)[0]
    return "csv" if first.count(b",") >= 1 and b"[" not in first else "lines"


def _temp_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="tocsin-")
    weakref.finalize(_ANCHOR, shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


class _Anchor:
    """Lives as long as the process; temporary downloads are removed with it."""


_ANCHOR: Final = _Anchor()


def _spool(stream: IO[bytes], name: str) -> Path:
    path = _temp_folder() / name
    copied = 0
    with path.open("wb") as file:
        while block := stream.read(1 << 20):
            copied += len(block)
            if copied > _DOWNLOAD_CAP_BYTES:
                raise SourceError(
                    f"{name} is larger than {_DOWNLOAD_CAP_BYTES >> 30} GiB; save it to a file and read that"
                )
            file.write(block)
    return path


def _download(url: str) -> Path:
    """Copy an http(s) or s3 object to a temporary file; the user named the address, so it is fetched as it stands."""
    scheme = urlsplit(url).scheme.lower()
    name = Path(urlsplit(url).path).name or "download"
    if scheme in {"http", "https"}:
        request = urllib.request.Request(url, headers={"User-Agent": "tocsin", "Accept-Encoding": "identity"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=_DOWNLOAD_TIMEOUT_SECONDS) as answer:  # noqa: S310
                return _spool(cast("IO[bytes]", answer), name)
        except OSError as error:
            raise SourceError(f"cannot fetch {url}: {error}") from None
    if scheme == "s3":
        from pyarrow import fs

        try:
            s3, key = fs.FileSystem.from_uri(url)
            with s3.open_input_stream(key, compression=None) as answer:
                return _spool(cast("IO[bytes]", answer), name)
        except (OSError, pa.ArrowException) as error:
            raise SourceError(f"cannot fetch {url}: {error}") from None
    raise SourceError(
        f"cannot read {scheme}:// addresses; http, https and s3 are known. For a database give query= as well."
    )


def _blocks(source: Input) -> Iterator[bytes | Fault]:
    """Yield the file's unpacked bytes; an archive that ends early or is damaged ends the stream with a Fault."""
    if source.compression == "gzip":
        yield from _gunzip(source.path)
        return
    try:
        with cast("Any", pa.OSFile(str(source.path), "rb")) as raw:
            stream = pa.CompressedInputStream(raw, "zstd") if source.compression == "zstd" else raw
            while block := stream.read(_READ_BYTES * 4):
                yield block
    except (OSError, pa.ArrowException) as error:
        yield Fault(f"{source.compression or 'file'} stream is damaged or ends early: {error}")


def _gunzip(path: Path) -> Iterator[bytes | Fault]:
    """Unpack quickly; at damage, unpack once more with care, to get every byte before it."""
    delivered = 0
    for item in _members(path, fast_zlib):
        if isinstance(item, bytes):
            delivered += len(item)
        elif item.reason == _DAMAGED:
            yield from _after(_members(path, zlib), delivered)
            return
        yield item


def _after(items: Iterator[bytes | Fault], skip_bytes: int) -> Iterator[bytes | Fault]:
    for item in items:
        if isinstance(item, bytes):
            rest = item[skip_bytes:]
            skip_bytes -= len(item) - len(rest)
            if rest:
                yield rest
        else:
            yield Fault("gzip stream is damaged" + item.value.decode()) if item.reason == _DAMAGED else item


def _members(path: Path, library: Any) -> Iterator[bytes | Fault]:
    """Unpack the members of a gzip file one after another."""
    read_bytes, members = 0, 0
    unpack: Any = None
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            read_bytes += len(block)
            while block:
                if unpack is None:
                    if members and not block.strip(b"\0"):
                        break  # zero padding between members, as tape and some uploaders write it
                    unpack = library.decompressobj(wbits=31)
                spare = unpack.copy() if library is zlib else None
                try:
                    data = unpack.decompress(block)
                except library.error as error:
                    if spare is not None:
                        yield _until_damage(spare, block)
                    yield Fault(_DAMAGED, f" near byte {read_bytes:,}: {error}".encode())
                    return
                block = unpack.unused_data if unpack.eof else b""
                if unpack.eof:
                    unpack, members = None, members + 1
                if data:
                    yield data
    if unpack is not None:
        yield Fault(f"gzip stream ends early, after {read_bytes:,} bytes: the file is cut short")


_DAMAGED: Final = "gzip stream is damaged"


def _until_damage(unpack: Any, block: bytes) -> bytes:
    out = bytearray()
    for n in range(len(block)):
        try:
            out += unpack.decompress(block[n : n + 1])
        except zlib.error:
            break
    return bytes(out)


def chunked(source: Input, chunk_bytes: int) -> Iterator[Chunk | Fault]:
    """Cut the stream into chunks that end at a newline, in this thread; a line longer than MAX_LINE_BYTES is thrown away and told."""
    held: list[bytes] = []
    held_bytes = 0
    skipping = b""  # the beginning of an over-long line whose end has not come yet
    fault: Fault | None = None
    for block in _blocks(source):
        if isinstance(block, Fault):
            fault = block
            break
        if skipping:
            end = block.find(b"\n")
            if end < 0:
                continue
            yield Fault(f"line is longer than {MAX_LINE_BYTES:,} bytes", skipping, line_lost=True)
            skipping, block = b"", block[end + 1 :]  # noqa: PLW2901
        held.append(block)
        held_bytes += len(block)
        if held_bytes < chunk_bytes:
            continue
        data = b"".join(held)
        cut = data.rfind(b"\n") + 1
        if cut:
            yield Chunk(data[:cut])
        held, held_bytes = [data[cut:]], len(data) - cut
        if held_bytes > MAX_LINE_BYTES:
            skipping, held, held_bytes = data[cut : cut + 200], [], 0
    if skipping:
        yield Fault(f"line is longer than {MAX_LINE_BYTES:,} bytes", skipping, line_lost=True)
    yield Chunk(b"".join(held), last=True, torn=fault is not None)
    if fault is not None:
        yield fault


def chunks(source: Input, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Chunk | Fault]:
    """Yield a text file's chunks of whole lines, read and unpacked in a thread a few chunks ahead.

    The last chunk has ``last=True`` and may lack its newline; memory is bounded by a few chunks and one longest line.
    """
    return ahead(lambda: chunked(source, chunk_bytes))


def ahead(make: Callable[[], Iterator[T]], depth: int = _QUEUE_CHUNKS) -> Iterator[T]:
    """Run an iterator in a thread, at most `depth` items ahead; its error is raised here, and leaving early stops it.

    >>> list(ahead(lambda: iter([1, 2, 3])))
    [1, 2, 3]
    """
    items: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(item: tuple[str, Any]) -> bool:
        while not stop.is_set():
            try:
                items.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in make():
                if not put(("item", item)):
                    return
        except BaseException as error:  # noqa: BLE001  (it is raised again in the reader's thread)
            put(("error", error))
        else:
            put(("end", None))

    worker = threading.Thread(target=work, name="tocsin-read-ahead", daemon=True)
    worker.start()
    try:
        while True:
            what, item = items.get()
            if what == "error":
                raise item
            if what == "end":
                return
            yield item
    finally:
        stop.set()
        worker.join()


def first_bytes(source: Input, limit: int) -> bytes:
    """Return up to `limit` unpacked bytes from the start of a file, whatever its state."""
    head = b""
    for block in _blocks(source):
        if isinstance(block, Fault):
            break
        head += block
        if len(head) >= limit:
            break
    return head[:limit]
