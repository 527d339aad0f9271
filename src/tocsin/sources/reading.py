"""How each kind of source is brought to a `Store`: the plan is made from a sample, then every chunk is cleaned and kept.

Enters: the source and the options of `read`. Leaves: a `Result` (store, rejects, counts). Layer: sources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import polars as pl

from tocsin.errors import SourceError
from tocsin.sources import files, parquet, records
from tocsin.sources.clean import Parsed, Plan, Rejects, clean
from tocsin.sources.convert import AS_IS, as_text
from tocsin.sources.mapping import Mapping, recognise
from tocsin.sources.order import Collector, Store
from tocsin.sources.plan import make_plan, raw_kinds

if TYPE_CHECKING:
    from tocsin.sources.events import Options
    from tocsin.sources.files import Input
    from tocsin.sources.jsonl_fast import Fields

_SAMPLE_ROWS: Final = 10_000
_SAMPLE_FILES: Final = 8
_TABLE_ROWS: Final = 500_000
_LARGE_BYTES: Final = 64 << 20
Tick = Callable[[int], None]


@dataclass(slots=True)
class Result:
    """What a reader hands to `Events`."""

    name: str
    store: Store
    rejects: Callable[[], Rejects]
    mapping: Mapping
    recognised: bool
    read: int
    skipped: int


class Reader(Protocol):
    """Brings one source to a store."""

    def read(self) -> Result:
        """Read everything once."""
        ...


def reader_for(source: Any, query: str | None, options: Options) -> Reader:
    """Return the reader for what the user gave.

    Raises:
        SourceError: It is nothing that can be read.
    """
    if query is not None:
        return TableReader("query", _query(source, query), options)
    if isinstance(source, str | Path):
        inputs = files.resolve(source, format=options.format)
        if all(i.format == "parquet" and i.compression is None for i in inputs):
            return ParquetReader(inputs, _source_name(str(source), inputs), options)
        if all(i.format == "excel" for i in inputs):
            return TableReader(files.stem(inputs[0].name), (pl.read_excel(i.path) for i in inputs), options)
        return TextReader(inputs, _source_name(str(source), inputs), options)
    return TableReader("table", _tables(source), options)


def _source_name(given: str, inputs: list[Input]) -> str:
    if len(inputs) == 1:
        return files.stem(inputs[0].name)
    path = Path(given)
    return path.name if path.is_dir() else path.parent.name or "files"


def _query(source: Any, query: str) -> Iterator[pl.DataFrame]:
    if isinstance(source, str):
        yield pl.read_database_uri(query, source)
    else:
        yield from pl.read_database(query, source, iter_batches=True, batch_size=_TABLE_ROWS)


def _tables(source: Any) -> Iterator[pl.DataFrame]:
    if isinstance(source, pl.LazyFrame):
        return iter(source.collect_batches(chunk_size=_TABLE_ROWS, maintain_order=True))
    if isinstance(source, pl.DataFrame):
        frame = source
    elif type(source).__module__.split(".")[0] == "pandas":
        frame = pl.from_pandas(source)
    elif hasattr(source, "__arrow_c_stream__") or type(source).__module__.split(".")[0] == "pyarrow":
        frame = pl.DataFrame(source)
    else:
        raise SourceError(
            f"cannot read events from a {type(source).__name__}; give a path, glob, folder, URL, or a Polars, pandas or Arrow table"
        )
    return iter([frame]) if frame.is_empty() else frame.iter_slices(_TABLE_ROWS)  # no slices would mean no columns


def _mapping_for(fields: list[str], options: Options) -> tuple[Mapping, bool]:
    if options.mapping is not None:
        return options.mapping, False
    found = recognise(fields)
    return (Mapping(), False) if found is None else (found, True)


def _plan(
    mapping: Mapping, kinds: dict[str, str], sample: pl.DataFrame, name: str, options: Options, *, fixed: bool
) -> Plan:
    return make_plan(
        mapping, kinds, sample, name=name, now=options.now, fixed=fixed, zone=options.zone, year=options.year,
        earliest=options.earliest, latest=options.latest,
    )  # fmt: skip


class _Sink:
    """Cleans records into a collector and counts them."""

    def __init__(self, plan: Plan, options: Options) -> None:
        self.plan, self.options = plan, options
        self.rejects = Rejects()
        self.read = self.skipped = 0
        self._collector = Collector(
            by_time=options.by_time, memory_bytes=options.memory_bytes, run_bytes=max(options.memory_bytes // 3, 1)
        )

    def take(self, chunk: list[Parsed], file: str, prefix: str) -> None:
        """Take the pieces of a chunk; their rows go on in the order of their lines."""
        cleaned = [clean(piece, self.plan, file, self.rejects, prefix=prefix) for piece in chunk]
        self.read += sum(len(piece.lines) + len(piece.bad_lines) + piece.skipped for piece in chunk)
        self.skipped += sum(piece.skipped for piece in chunk)
        stop_if_strict(self.rejects, self.options)
        if len(chunk) == 1:
            self._collector.add(cleaned[0].frame)
            return
        lines = [piece.lines.filter(done.accepted) for piece, done in zip(chunk, cleaned, strict=True)]
        whole = pl.concat([done.frame for done in cleaned], how="diagonal")
        self._collector.add(whole.select(pl.all().gather(pl.concat(lines).arg_sort())))

    def result(self, name: str, mapping: Mapping, *, recognised: bool) -> Result:
        return Result(
            name, self._collector.finish(), lambda: self.rejects, mapping, recognised, self.read, self.skipped
        )


def stop_if_strict(rejects: Rejects, options: Options) -> None:
    """Raise SourceError for the first reject when the caller asked for that."""
    if options.strict and (rejects.rows or rejects.cells):
        file, line, column, value, reason, _ = rejects.frame().row(0)
        where = f"{file}, line {line}" + (f", column {column!r}" if column else "")
        raise SourceError(
            f"{where}: {reason}: {value!r} (strict reading stops at the first bad value; without it the row is set aside)"
        )


class TextReader:
    """JSONL, CSV and log lines, packed or not; Parquet among them is read as a table."""

    def __init__(self, inputs: list[Input], name: str, options: Options) -> None:
        self._inputs, self._name, self._options = inputs, name, options

    def read(self) -> Result:
        """Parse every file once."""
        options = self._options
        samples = [self._sample(i) for i in self._inputs[:_SAMPLE_FILES]]
        names = list(dict.fromkeys(name for _, kinds in samples for name in kinds))
        mapping, recognised = _mapping_for(names, options)
        sampled = {n: merge_kinds([kinds[n] for _, kinds in samples if n in kinds]) for n in names}
        frame = one_sample([f for f, _ in samples])
        name = options.name or mapping.name or self._name
        plan = _plan(mapping, sampled, frame, name, options, fixed=all(i.format == "csv" for i in self._inputs))
        fields = records.fields_of(raw_kinds(mapping, sampled), sampled, plan)
        sink = _Sink(plan, options)
        with progress(name, sum(i.size_bytes for i in self._inputs), enabled=options.progress) as tick:
            for source in self._inputs:
                prefix = name if len(self._inputs) == 1 else f"{name}/{source.name}"
                for chunk in self._chunks(source, fields, mapping):
                    sink.take(chunk, source.name, prefix)
                    tick(sum(len(piece.lines) for piece in chunk))
        return sink.result(name, mapping, recognised=recognised)

    def _sample(self, source: Input) -> tuple[pl.DataFrame, dict[str, str]]:
        if source.format == "parquet":
            frame = next((f for _, f in parquet.slices(source.path, rows=_SAMPLE_ROWS)), pl.DataFrame())
            return frame, {n: kind_of_dtype(d) for n, d in frame.schema.items()}
        return records.sample(source, self._options.mapping or Mapping())

    def _chunks(self, source: Input, fields: Fields, mapping: Mapping) -> Iterator[list[Parsed]]:
        if source.format == "parquet":
            yield from ([parquet.parsed(start, frame)] for start, frame in parquet.slices(source.path))
        else:
            yield from records.records(source, fields, mapping, chunk_bytes=self._options.chunk_bytes)


def one_sample(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Return samples of several files in one frame; a column that is a list in one and none in another becomes text.

    >>> one_sample([pl.DataFrame({"x": [["a"]]}), pl.DataFrame({"x": ["b"]})])["x"].to_list()
    ["['a']", 'b']
    """
    types: dict[str, set[pl.DataType]] = {}
    for frame in frames:
        for name, dtype in frame.schema.items():
            types.setdefault(name, set()).add(dtype)
    torn = [name for name, found in types.items() if len(found) > 1 and any(t.is_nested() for t in found)]
    same = [f.with_columns(as_text(f[name]) for name in torn if name in f.columns) for f in frames]
    return pl.concat(same, how="diagonal_relaxed")


def merge_kinds(kinds: list[str]) -> str:
    """Return the kind for a field that files show as these kinds: one for all, numbers as float, else text.

    >>> merge_kinds(["int", "int"]), merge_kinds(["int", "float"]), merge_kinds(["int", "bool"])
    ('int', 'float', 'text')
    """
    if len(set(kinds)) == 1:
        return kinds[0]
    return "float" if set(kinds) == {"int", "float"} else "text"


def kind_of_dtype(dtype: pl.DataType) -> str:
    """Return the kind of a typed column, for a source that has it as text elsewhere."""
    if dtype.is_integer():
        return "int"
    if dtype.is_float():
        return "float"
    if isinstance(dtype, pl.Datetime):
        return "time"
    if isinstance(dtype, pl.List):
        return "list"
    return "bool" if dtype == pl.Boolean else "text"


class TableReader:
    """Frames that are in memory or come one after another."""

    def __init__(self, name: str, frames: Iterator[pl.DataFrame], options: Options) -> None:
        self._name, self._frames, self._options = name, frames, options

    def read(self) -> Result:
        """Clean every frame."""
        options = self._options
        first = next(self._frames, pl.DataFrame())
        mapping, recognised = _mapping_for(first.columns, options)
        name = options.name or mapping.name or self._name
        plan = _plan(mapping, dict.fromkeys(first.columns, AS_IS), first.head(_SAMPLE_ROWS), name, options, fixed=True)
        sink = _Sink(plan, options)
        start = 0
        while True:
            sink.take([parquet.parsed(start, first)], name, name)
            start += len(first)
            following = next(self._frames, None)
            if following is None:
                return sink.result(name, mapping, recognised=recognised)
            first = following


class ParquetReader:
    """Parquet files: kept where they are when in time order, else read once, spilled and sorted."""

    def __init__(self, inputs: list[Input], name: str, options: Options) -> None:
        self._inputs, self._name, self._options = inputs, name, options

    def read(self) -> Result:
        """Read the times of every file, and all rows where they have to be sorted."""
        options = self._options
        schema = self._schema()
        mapping, recognised = _mapping_for(list(schema), options)
        name = options.name or mapping.name or self._name
        sample = next(
            (f for _, f in parquet.slices(self._inputs[0].path, rows=_SAMPLE_ROWS)), pl.DataFrame(schema=schema)
        )
        plan = _plan(mapping, dict.fromkeys(schema, AS_IS), sample, name, options, fixed=True)
        several = len(self._inputs) > 1
        parts = [parquet.Part.of(i.path, i.name, f"{name}/{i.name}" if several else name) for i in self._inputs]
        store = parquet.ParquetStore(
            parts, plan, _types(plan, schema), lambda rejects: stop_if_strict(rejects, options)
        )
        total_bytes = sum(i.size_bytes for i in self._inputs)

        def rejects() -> Rejects:
            with progress(name, total_bytes, enabled=options.progress) as tick:
                return store.verdict(tick).rejects

        kept: Store = store
        if options.by_time:
            for part in parts:
                part.read_times(plan)
            parts.sort(key=_times_of)
            if not _follow(parts):
                with progress(name, total_bytes, enabled=options.progress) as tick:
                    kept = _sorted_copy(store, options, tick)
        if options.strict:
            rejects()
        return Result(name, kept, rejects, mapping, recognised, sum(p.rows for p in parts), 0)

    def _schema(self) -> dict[str, pl.DataType]:
        schema: dict[str, pl.DataType] = {}
        for source in self._inputs:
            try:
                own = pl.read_parquet_schema(source.path)
            except (pl.exceptions.PolarsError, OSError) as error:
                raise SourceError(f"{source.name} is not a readable Parquet file: {error}") from None
            for column, dtype in own.items():
                if schema.setdefault(column, dtype) != dtype:
                    raise SourceError(
                        f"{source.name}: the column {column!r} is {dtype} here and {schema[column]} in the files before it"
                    )
        return schema


def _types(plan: Plan, schema: dict[str, pl.DataType]) -> dict[str, pl.DataType]:
    nothing = Parsed(pl.DataFrame(schema=schema), pl.Series(dtype=pl.Int64))
    return dict(clean(nothing, plan, "", Rejects(), prefix="").frame.schema)


def _times_of(part: parquet.Part) -> tuple[datetime, datetime]:
    never = datetime.max.replace(tzinfo=UTC)
    return (part.low or never, part.high or never)


def _follow(parts: list[parquet.Part]) -> bool:
    times = [_times_of(p) for p in parts]
    return all(p.in_order for p in parts) and all(a[1] <= b[0] for a, b in pairwise(times))


def _sorted_copy(store: parquet.ParquetStore, options: Options, tick: Tick) -> Store:
    collector = Collector(by_time=True, memory_bytes=options.memory_bytes, run_bytes=max(options.memory_bytes // 3, 1))
    collector.add(pl.DataFrame(schema=store.schema))  # its columns stand even where every row is rejected
    for frame in store.batches(list(store.schema), _TABLE_ROWS // 2, None, None):
        collector.add(frame)
        tick(len(frame))
    return collector.finish()


@contextmanager
def progress(name: str, size_bytes: int, *, enabled: bool) -> Iterator[Tick]:
    """Show how many rows have been read, on stderr, while the block runs; small sources stay silent."""
    if not enabled or size_bytes < _LARGE_BYTES:
        yield lambda _rows: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("reading {task.description}"),
        TextColumn("{task.completed:,.0f} rows"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda rows: bar.advance(task, rows)


__all__ = ["ParquetReader", "Result", "TableReader", "TextReader", "reader_for"]
