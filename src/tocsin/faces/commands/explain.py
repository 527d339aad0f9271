"""`tocsin explain`: why a finding fired, with the events and the history behind it.

Enters: a finding's id, the file of findings, the source. Leaves: a sentence and tables, or one JSON document. Layer: faces.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tocsin.errors import SourceError
from tocsin.faces.answers import AnswerOptions, put
from tocsin.faces.options import (
    LOOKING_UP,
    READING,
    ReferenceOptions,
    Several,
    Source,
    SourceOptions,
    UsageError,
    gaps_of,
    load_detections,
)

if TYPE_CHECKING:
    import polars as pl

FORMATS = (".parquet", ".jsonl")
MORE_ROWS = 20
ANSWER = AnswerOptions(rows=60)


def explain(
    finding: Annotated[
        str, Parameter(name="FINDING", help="The finding's id, or as much of its beginning as is unique.")
    ],
    source: Source,
    /,
    *,
    findings: Annotated[
        Path, Parameter(help="The findings, as `tocsin backtest --out` wrote them: .parquet or .jsonl.", metavar="FILE")
    ],
    reading: SourceOptions = READING,
    looking_up: ReferenceOptions = LOOKING_UP,
    rules: Annotated[
        tuple[Path, ...],
        Several,
        Parameter(help="The rule files of the backtest. A rule file is code.", metavar="FILE.py"),
    ] = (),
    gap: Annotated[
        tuple[str, ...], Several, Parameter(help="Times in which the source was not covered.", metavar="START..END")
    ] = (),
    answer: AnswerOptions = ANSWER,
) -> int:
    """Say why a finding fired: one sentence, its evidence, the contributing events, the entity's nearest history.

    Give the source, reference data and rules of the backtest. Its rule is run once more, up to the finding.
    """
    from tocsin.questions.explanation import explain as run
    from tocsin.questions.explanation import find

    gaps, detections = gaps_of(gap), load_detections(rules)
    row = find(read_findings(findings), finding)
    return put(
        "explain",
        source,
        reading,
        looking_up,
        answer,
        lambda e, r: run(row, e, r, detections, gaps=gaps),
        more_rows=MORE_ROWS,
    )


def read_findings(path: Path) -> "pl.DataFrame":
    """Return a file of findings with the types they were written with.

    Raises:
        UsageError: Another format.
        SourceError: The file cannot be read as one.
    """
    import polars as pl

    from tocsin.engine.findings import SCHEMA

    if path.suffix.lower() not in FORMATS:
        raise UsageError(
            f"{path}: explain reads {' or '.join(FORMATS)}; in CSV, values that look like formulas are changed."
        )
    try:
        frame = (
            pl.read_parquet(path)
            if path.suffix.lower() == ".parquet"
            else pl.read_ndjson(path, infer_schema_length=None)
        )
    except pl.exceptions.PolarsError as error:
        raise SourceError(f"{path} is no file of findings: {error}") from error
    casts = []
    for name, dtype in SCHEMA.items():
        if name in frame.columns and frame.schema[name] != dtype:
            if dtype == pl.Datetime("us", "UTC") and frame.schema[name] == pl.String:
                casts.append(pl.col(name).str.to_datetime(time_unit="us", time_zone="UTC"))
            else:
                casts.append(pl.col(name).cast(dtype))
    return frame.with_columns(casts)
