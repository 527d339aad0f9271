"""Snapshots: the state of a running engine on disk, so that it can go on after whatever happened.

Enters: states with the number they had come to. Leaves: folders of Arrow files, and the newest state that is whole.
Layer: engine.

A snapshot is full, or a delta that holds what changed since the one before. It appears whole or not at all, several full
ones are kept with their deltas, and every one is proved before it is used: its files by their checksums, each array by
the digest that it had in the running engine. What is damaged is passed over for the one before, and said.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from tocsin.durable import OWNER_ONLY, sync_folder
from tocsin.engine.changes import Changes
from tocsin.engine.manifests import (
    DELTA,
    FULL,
    PARTS_FILE,
    DamagedError,
    Manifest,
    chain_of,
    file_check,
    name_of,
    parsed,
    read_manifest,
    verify_files,
    write_manifest,
)
from tocsin.engine.parts import Assembled, PartsFile, PartsHeld, write_rows
from tocsin.engine.saved import UNREADABLE
from tocsin.engine.workers import beside
from tocsin.errors import StateError
from tocsin.kernels.blocks import NO_HASHES, as_bytes, compare, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tocsin.engine.core import Engine, State
    from tocsin.engine.parts import Row
    from tocsin.kernels.blocks import Hashes

T = TypeVar("T")
OWNER_FOLDER = 0o700
_PART, _GONE = ".part-", ".gone-"


class Written(NamedTuple):
    """A snapshot that is on disk: its number, ``full`` or ``delta``, its bytes, and how many rows of parts it has."""

    number: int
    kind: str
    bytes: int
    rows: int


@dataclass(frozen=True)
class Found:
    """A snapshot that is whole, the caller's facts in it, and what was passed over for it."""

    number: int
    facts: dict[str, Any]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Restored(Found):
    """A snapshot with its state."""

    state: State = field(kw_only=True)


@dataclass(frozen=True)
class Captured:
    """What a snapshot will hold, out of reach of the steps to come. ``base``: the name of the one it follows."""

    number: int
    kind: str
    base: str | None
    rules: str
    facts: dict[str, Any]
    parts: dict[str, int | None]
    rows: list[Row]

    @property
    def name(self) -> str:
        """The name of its folder."""
        return name_of(self.number, self.kind)


class Snapshots:
    """The snapshots in a folder. One process writes to it; ``capture`` and ``write`` may be called in two threads.

    keep: how many full ones stay, each with its deltas. full_every: after how many snapshots the next is full.

    A full one that follows others is put together from them in ``write``, and is proved to be what the live state was, so
    that its capture costs no more than that of a delta.
    """

    def __init__(self, folder: str | os.PathLike[str], *, keep: int = 3, full_every: int = 20) -> None:
        """Look at nothing yet; the folder is made with the first snapshot."""
        self.folder, self.keep, self.full_every = Path(folder), max(keep, 1), max(full_every, 1)
        self._changes = Changes()
        self._last: tuple[int, str] | None = None  # number and name of the last that was captured
        self._since_full = 0
        self._chain: list[Manifest] = []  # the last that was written and all it rests on
        self._failed = False
        self._sound: set[int] = set()
        self._passed_over: set[str] = set()

    # ------------------------------------------------------------------------------------------------------- writing
    def save(self, state: State, number: int, facts: Mapping[str, Any]) -> Written:
        """Write a snapshot; ``capture`` and ``write`` in one, without a copy of what is written whole.

        Raises:
            OSError: The disk is full, or there is no right to write. All earlier ones are as they were.
        """
        return self.write(self.capture(state, number, facts, copy=False))

    def capture(self, state: State, number: int, facts: Mapping[str, Any], *, copy: bool = True) -> Captured:
        """Take what has changed since the last capture: quick, and the state may go on as soon as it is done.

        ``number`` says how far the state has come (that of the last batch); ``facts``: anything that JSON can hold.
        ``copy=False``: write it before the state goes on.

        Raises:
            StateError: There is a snapshot of that number, or of a later one.
        """
        if self._last is not None and number <= self._last[0]:
            raise StateError(
                f"{self.folder}: the last snapshot is number {self._last[0]}; one numbered {number} cannot follow it."
            )
        if self._failed or self._last is None:
            self._changes, base = Changes(), None
        else:
            base = self._last[1]
        kind = FULL if base is None or self._since_full + 1 >= self.full_every else DELTA
        self._failed = True  # until everything is taken
        rows, parts = self._changes.take(state, number, copy=copy)
        self._failed = False
        self._since_full = 0 if kind == FULL else self._since_full + 1
        captured = Captured(number, kind, base, state.rules, json.loads(json.dumps(dict(facts))), parts, rows)
        self._last = number, captured.name
        return captured

    def write(self, captured: Captured) -> Written:
        """Write what was captured, in the order of captures. Once it returns, the snapshot stays.

        Raises:
            OSError: The disk is full, or there is no right to write. All earlier ones are as they were, and the next
                capture takes everything.
            StateError: The one before was not written, or was damaged since.
        """
        temporary = self.folder / f"{_PART}{captured.name}"
        try:
            base = self._base(captured)
            self.folder.mkdir(mode=OWNER_FOLDER, parents=True, exist_ok=True)
            self._sweep()
            temporary.mkdir(mode=OWNER_FOLDER)
            merge = captured.kind == FULL and base is not None
            rows = self._merged(captured) if merge else captured.rows
            n = _write_file(temporary / PARTS_FILE, rows, captured)
            manifest = self._manifest(captured, None if captured.kind == FULL else base, temporary)
            write_manifest(temporary, manifest)
            self._remove(captured.name)  # one that was found damaged, of the same name
            temporary.rename(self.folder / captured.name)
            sync_folder(self.folder)
        except BaseException:
            self._failed = True
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        self._chain = [manifest] if captured.kind == FULL else [*self._chain, manifest]
        self._passed_over.discard(captured.name)
        self._prune(captured.number)
        size = sum(path.stat().st_size for path in (self.folder / captured.name).iterdir())
        return Written(captured.number, captured.kind, size, n)

    def _base(self, captured: Captured) -> Manifest | None:
        later = [
            name for name in self._names() if name >= name_of(captured.number, "") and name not in self._passed_over
        ]
        if later:
            raise StateError(
                f"{self.folder}: holds the snapshot {later[0]}, which {captured.name} does not follow. Go on from it."
            )
        if captured.base is None:
            return None
        if not self._chain or self._chain[-1].name != captured.base:
            raise StateError(
                f"{self.folder}: the snapshot {captured.base}, which {captured.name} follows, was not written. Capture again."
            )
        return self._chain[-1]

    def _manifest(self, captured: Captured, base: Manifest | None, folder: Path) -> Manifest:
        path = folder / PARTS_FILE
        files = {PARTS_FILE: (path.stat().st_size, file_check(path))}
        rests_on = (base.name, base.check) if base else None
        return Manifest(captured.number, captured.kind, rests_on, captured.rules, captured.facts, captured.parts, files)

    def _merged(self, captured: Captured) -> Iterator[Row]:
        """Yield every part as the snapshots on disk and what was captured say, proved by the digests of the live state."""
        try:
            for manifest in self._chain:
                verify_files(self.folder / manifest.name, manifest)
            files = [PartsFile(self.folder / m.name / PARTS_FILE) for m in self._chain]
            parts = Assembled([*files, PartsHeld(captured.rows)])
            for name, digest in captured.parts.items():
                row = parts.whole(name)
                if digest is not None:
                    _prove(name, digest_of(row.data), digest)
                yield row
        except (DamagedError, *UNREADABLE) as error:
            raise StateError(
                f"{self.folder}: the snapshots before {captured.name} were damaged since ({error})."
            ) from error

    def _prune(self, number: int) -> None:
        """Remove what is older than the full ones that are kept, and what was passed over."""
        names = [name for name in self._names() if name not in self._passed_over]
        full = [name for name in names if name <= name_of(number, FULL) and name.endswith(FULL)]
        for name in self._passed_over | {name for name in names if name < full[-self.keep :][0]}:
            self._remove(name)
        self._passed_over = set()

    def _remove(self, name: str) -> None:
        """Remove a snapshot: it is gone at once, also for whoever looks while its files are removed."""
        gone = self.folder / f"{_GONE}{name}"
        if (self.folder / name).exists():
            (self.folder / name).rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what a process left behind that was stopped."""
        for path in self.folder.iterdir():
            if path.name.startswith((_PART, _GONE)):
                shutil.rmtree(path, ignore_errors=True)

    # ------------------------------------------------------------------------------------------------------- reading
    def peek(self) -> Found | None:
        """Return the newest snapshot that is whole, without its state; None where there is none.

        Raises:
            StateError: There are some, and none is whole.
        """
        return self._first_whole(lambda chain, notes: Found(chain[-1].number, chain[-1].facts, notes))

    def newest(self, engine: Engine) -> Restored | None:
        """Return the newest state that is whole, and go on from there; None where there is no snapshot.

        Raises:
            StateError: It is of other rules; or there are snapshots, and none is whole.
        """
        return self._first_whole(partial(self._restored, engine))

    def _first_whole(self, use: Callable[[list[Manifest], list[str]], T]) -> T | None:
        """Return what ``use`` makes of the newest snapshot that nothing is wrong with, given what was passed over for it."""
        wrong: dict[str, list[str]] = {}
        for name in reversed(self._names()):
            said = [f"{what}; passed over {', '.join(names)} for {name}" for what, names in wrong.items()]
            try:
                found = use(chain_of(self.folder, name, self._sound), said)
            except DamagedError as error:
                wrong.setdefault(str(error), []).append(name)
                continue
            self._passed_over = {n for names in wrong.values() for n in names}
            return found
        if wrong:
            raise StateError(
                f"{self.folder}: no snapshot can be used. {'. '.join(wrong)}. Put back a copy, or start with an empty state folder."
            )
        return None

    def _restored(self, engine: Engine, chain: list[Manifest], notes: list[str]) -> Restored:
        last = chain[-1]
        if last.rules != engine.rules:
            raise StateError(
                f"{self.folder / last.name}: written by other rules, time settings or another key. "
                "Start with those that wrote it, or give another state folder."
            )
        try:
            state, self._changes = self._load(engine, chain)
        except UNREADABLE as error:
            raise DamagedError(f"{self.folder / last.name}: cannot be put together ({error})") from error
        self._chain, self._since_full = chain, len(chain) - 1
        self._last, self._failed = (last.number, last.name), False
        return Restored(last.number, last.facts, notes, state=state)

    def oldest_kept(self) -> Found | None:
        """Return the oldest full snapshot: whatever lies before its number is not needed any more."""
        for name in self._names():
            try:
                manifest = read_manifest(self.folder / name)
            except DamagedError:
                continue
            if manifest.kind == FULL:
                return Found(manifest.number, manifest.facts)
        return None

    def _names(self) -> list[str]:
        """The snapshots in the folder, the oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(path.name for path in self.folder.iterdir() if parsed(path.name))

    def _load(self, engine: Engine, chain: list[Manifest]) -> tuple[State, Changes]:
        parts = Assembled([PartsFile(self.folder / m.name / PARTS_FILE) for m in chain])
        wanted = chain[-1].parts
        if missing := sorted(wanted.keys() - set(parts.names())):
            raise DamagedError(f"the part {missing[0]} is missing")
        largest_first = [name for name in parts.names() if name in wanted]
        coming = {n: beside(parts.n_blocks(n), partial(_proved, parts, n, wanted[n])) for n in largest_first}
        got = {name: result() for name, result in coming.items()}
        hashes = {name: known for name, (_, known) in got.items() if known is not None}
        return Changes.restored(engine, {name: x for name, (x, _) in got.items()}, hashes)


def _write_file(path: Path, rows: Iterable[Row], captured: Captured) -> int:
    """Write rows to a new file that stays; return how many."""
    n = 0

    def counted() -> Iterator[Row]:
        nonlocal n
        for row in rows:
            n += 1
            yield row

    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, OWNER_ONLY), "wb") as file:
        write_rows(file, counted(), {"format": "tocsin-snapshot-parts", "snapshot": captured.name})
        file.flush()
        os.fsync(file.fileno())
    return n


def _proved(parts: Assembled, name: str, digest: int | None) -> tuple[Any, Hashes | None]:
    """Return a part, and the hashes of its blocks where it is an array whose digest is known."""
    x = parts.get(name)
    if digest is None:
        return x, None
    hashes, _, found = compare(as_bytes(x), NO_HASHES)
    _prove(name, found, digest)
    return x, hashes


def _prove(name: str, found: int, digest: int) -> None:
    if found != digest:
        raise DamagedError(f"the part {name} is not what it was in the running engine (digest)")
