"""`tocsin ask`: questions beside rules, each answered by a definition, a table, and a page with a chart.

Enters: the commands' arguments. Leaves: a table on stdout (or one JSON document), a page, a file. Layer: faces.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from tocsin.faces.answers import ANSWER, SPAN_SINCE, AnswerOptions, SpanSince, Where, put, where_of
from tocsin.faces.options import (
    LOOKING_UP,
    READING,
    ReferenceOptions,
    Several,
    Source,
    SourceOptions,
    UsageError,
    gaps_of,
    instant,
    load_detections,
    pick,
)

if TYPE_CHECKING:
    from tocsin.detection import Detection
    from tocsin.measures import Measure

By = Annotated[str, Parameter(help="The column that says whom a row is about.", metavar="COLUMN")]
Column = Annotated[str, Parameter(help="The column that is asked about.", metavar="COLUMN")]
Gap = Annotated[
    tuple[str, ...], Several, Parameter(help="Times in which the source was not covered.", metavar="START..END")
]
Local = Annotated[str, Parameter(help="Zone whose clock and days count, such as Europe/Berlin.", metavar="ZONE")]
Rule = Annotated[str | None, Parameter(help="Id of a rule, of --rules or of those that ship.", metavar="ID")]
Rules = Annotated[
    tuple[str, ...],
    Several,
    Parameter(help="Rule files to look the rule up in. A rule file is code.", metavar="FILE.py"),
]
ask = App(
    name="ask",
    help="Ask about a log: distributions, rankings, changes, places, hours. Each answer says what its numbers mean.",
)


def _command(name: str, example: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    return ask.command(name=name, help_epilogue=f"Example:\n  tocsin ask {name} {example}")


@_command("describe", "mail.jsonl.gz --columns nr_recipients --html recipients.html")
def describe(
    source: Source, /, *, columns: Annotated[tuple[str, ...], Several, Parameter(help="Only these columns.")] = (),
    reading: SourceOptions = READING, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Show for each column how many values it has, its mean, quantiles, extremes and commonest value."""
    from tocsin import questions

    return put("ask describe", source, reading, None, answer, lambda e, _r: questions.describe(e, columns or None))


@_command("histogram", "mail.jsonl.gz --column nr_recipients --html recipients.html")
def histogram(
    source: Source, /, *, column: Column,
    limit: Annotated[float, Parameter(help="The quantile that makes the limit of a stateless rule; 0 for none.")] = 0.999,
    where: Where = (), reading: SourceOptions = READING, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Show how a numeric column is distributed, and the limit that its history suggests for a stateless rule."""
    from tocsin import questions

    return put(
        "ask histogram", source, reading, None, answer,
        lambda e, _r: questions.histogram(e, column, limit=limit or None, on=where_of(where)),
    )  # fmt: skip


@_command("top", "mail.jsonl.gz --column user_id --n 20")
def top(
    source: Source, /, *, column: Column, n: Annotated[int, Parameter(help="How many values.")] = 10,
    where: Where = (), reading: SourceOptions = READING, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Count the values of a column and show the commonest; of lists, their items."""
    from tocsin import questions

    return put("ask top", source, reading, None, answer, lambda e, _r: questions.top(e, column, n, on=where_of(where)))


@_command("series", "mail.jsonl.gz --entity ann --rule mail.volume-vs-self --html ann.html")
def series(
    source: Source, /, *, entity: Annotated[str, Parameter(help="The entity: a value of the rule's entity column.")],
    rule: Rule = None, rules: Rules = (),
    column: Annotated[str | None, Parameter(help="Without a rule: sum this column instead of counting events.", metavar="COLUMN")] = None,
    per: Annotated[str, Parameter(help="Without a rule: 1h, 1d, 1w or 1mo.")] = "1d",
    by: By = "user_id", local: Local = "UTC", where: Where = (), gap: Gap = (), span: SpanSince = SPAN_SINCE,
    reading: SourceOptions = READING, looking_up: ReferenceOptions = LOOKING_UP, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Show one entity over time as a rule saw it: values, running baseline with its band, and where it fired."""
    from tocsin.measures import Count, Sum
    from tocsin.questions.timelines import series as run
    from tocsin.questions.timelines import volume_rule

    if rule is not None and (column is not None or where):
        raise UsageError("--column and --where make a rule of their own: leave them out, or leave --rule out.")
    if rule is not None:
        detection = rule_of(rule, rules)
    else:
        measure: Measure = Sum(column, per=per, zone=local) if column else Count(per=per, zone=local)
        detection = volume_rule(measure, on=where_of(where), entity=by)
    since, until, gaps = instant(span.since, "--since"), instant(span.until, "--until"), gaps_of(gap)
    return put(
        "ask series", source, reading, looking_up, answer,
        lambda e, r: run(e, entity, detection, r, since=since, until=until, gaps=gaps),
    )  # fmt: skip


@_command("population", "mail.jsonl.gz --rule mail.rate-vs-population --at 2026-03-02")
def population(
    source: Source, /, *, rule: Rule = "mail.rate-vs-population", rules: Rules = (),
    at: Annotated[str | None, Parameter(help="A moment of the window; default: the last that was over.", metavar="TIME")] = None,
    gap: Gap = (), reading: SourceOptions = READING, looking_up: ReferenceOptions = LOOKING_UP, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Show everybody in one window of a rule, with the limits that held there."""
    from tocsin import questions

    detection, moment, gaps = rule_of(rule or "", rules), instant(at, "--at"), gaps_of(gap)
    return put(
        "ask population", source, reading, looking_up, answer,
        lambda e, r: questions.population(e, detection, r, at=moment, gaps=gaps),
    )  # fmt: skip


@_command("outside", "logins.jsonl.gz --geo geo.csv.gz --countries US CA")
def outside(
    source: Source, /, *,
    countries: Annotated[tuple[str, ...], Several, Parameter(help="Country codes that are inside.", metavar="CODE")] = ("US",),
    by: By = "user_id", reading: SourceOptions = READING, looking_up: ReferenceOptions = LOOKING_UP, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Show who had an event outside some countries, and who never did. Needs --geo."""
    from tocsin import questions

    return put(
        "ask outside", source, reading, looking_up, answer, lambda e, r: questions.outside(e, r, countries, by=by)
    )


@_command("travellers", "logins.jsonl.gz --geo geo.csv.gz --never-outside US --html travel.html")
def travellers(
    source: Source, /, *,
    never_outside: Annotated[
        tuple[str, ...], Several, Parameter(help="Only who was never outside these countries; ALL for everybody.", metavar="CODE")
    ] = ("US",),
    n: Annotated[int, Parameter(help="How many.")] = 10,
    uncertainty_km: Annotated[float, Parameter(help="Kilometres taken off each distance; 0 for the plain rate of travel.")] = 100,
    by: By = "user_id", reading: SourceOptions = READING, looking_up: ReferenceOptions = LOOKING_UP, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Rank who travels fastest between consecutive events. Needs --geo with places."""
    from tocsin import questions

    stayed = () if never_outside == ("ALL",) else never_outside
    return put(
        "ask travellers", source, reading, looking_up, answer,
        lambda e, r: questions.fastest_travellers(e, r, never_outside=stayed, n=n, by=by, uncertainty_km=uncertainty_km),
    )  # fmt: skip


@_command("map", "logins.jsonl.gz --geo geo.csv.gz --html map.html")
def world_map(
    source: Source, /, *, by: By = "user_id", where: Where = (),
    reading: SourceOptions = READING, looking_up: ReferenceOptions = LOOKING_UP, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Count events by the place of their source address, for a map. Needs --geo with places."""
    from tocsin import questions

    return put(
        "ask map",
        source,
        reading,
        looking_up,
        answer,
        lambda e, r: questions.world_map(e, r, by=by, on=where_of(where)),
    )


@_command("changes", "mail.jsonl.gz --column nr_attachments --split 2026-03-15")
def changes(
    source: Source, /, *,
    column: Annotated[str, Parameter(help='Summed: numbers or lengths of lists; "" counts events.', metavar="COLUMN")] = "nr_attachments",
    split: Annotated[str | None, Parameter(help="The first day after; default: the middle.", metavar="TIME")] = None,
    n: Annotated[int, Parameter(help="How many.")] = 3,
    per: Annotated[str, Parameter(help="1h, 1d, 1w or 1mo.")] = "1d",
    by: By = "user_id", local: Local = "UTC", where: Where = (), gap: Gap = (),
    reading: SourceOptions = READING, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Rank who changed most after a date, with Welch's test, adjusted for many tests, and against everybody's drift."""
    from tocsin import questions

    at, gaps = instant(split, "--split"), gaps_of(gap)
    return put(
        "ask changes", source, reading, None, answer,
        lambda e, _r: questions.largest_changes(
            e, column, per=per, split=at, zone=local, by=by, n=n, on=where_of(where), gaps=gaps
        ),
    )  # fmt: skip


@_command("change-points", "mail.jsonl.gz --local Europe/Berlin --html levels.html")
def change_points(
    source: Source, /, *, local: Local = "UTC",
    method: Annotated[str, Parameter(help="counts (the default), level, cusum, binseg or notebook.")] = "counts",
    where: Where = (), gap: Gap = (), reading: SourceOptions = READING, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Find the days on which the number of events a day changed for good, and by how much."""
    from tocsin import questions

    gaps = gaps_of(gap)
    return put(
        "ask change-points", source, reading, None, answer,
        lambda e, _r: questions.change_points(e, zone=local, on=where_of(where), method=method, gaps=gaps),
    )  # fmt: skip


@_command("poisson", "mail.jsonl.gz --column nr_recipients --where kind=mail")
def poisson(
    source: Source, /, *, column: Column = "nr_recipients", by: By = "user_id",
    way: Annotated[str, Parameter(help="What is known of values below 1: means, truncated or clamped.")] = "means",
    at_least: Annotated[int, Parameter(help="Leave out who has fewer values.")] = 10,
    where: Where = (), reading: SourceOptions = READING, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Estimate the Poisson parameter behind everybody's own mean, with interval and goodness of fit."""
    from tocsin import questions

    return put(
        "ask poisson", source, reading, None, answer,
        lambda e, _r: questions.poisson_parameter(e, column, by=by, on=where_of(where), at_least=at_least, way=way),
    )  # fmt: skip


@_command("hours", "mail.jsonl.gz --local America/Denver --html hours.html")
def hours(
    source: Source, /, *, local: Local = "UTC", by: By = "user_id",
    seed: Annotated[int, Parameter(help="Of the permutations: the same seed gives the same p-values.")] = 0,
    where: Where = (), reading: SourceOptions = READING, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Find who shifted their daily hours, on which day, and by how much."""
    from tocsin import questions

    return put(
        "ask hours", source, reading, None, answer,
        lambda e, _r: questions.shifted_hours(e, local, by=by, on=where_of(where), seed=seed),
    )  # fmt: skip


def rule_of(rule: str, files: tuple[str, ...]) -> "Detection":
    """Return the rule with this id."""
    from pathlib import Path

    (detection,) = pick(load_detections(tuple(Path(f) for f in files)), (rule,))
    return detection
