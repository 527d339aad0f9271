"""`tocsin metrics`: the numbers a SOC is run by, each with its definition.

Enters: an alert log and what is asked of it. Leaves: a table on stdout (or one JSON document), a page, a file. Layer: faces.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from tocsin.errors import SourceError, TocsinError
from tocsin.faces import export
from tocsin.faces.answers import ANSWER, AnswerOptions, check, print_answer, write_answer
from tocsin.faces.logs import LOG, SCOPE, LogOptions, ScopeOptions, open_metrics
from tocsin.faces.options import Flag, Several, UsageError
from tocsin.faces.terminal import new_console, safe, spinner

if TYPE_CHECKING:
    from pathlib import Path

    from tocsin.answers import Answer
    from tocsin.metrics import Metrics

Clock = Annotated[str, Parameter(help="A clock that ships, or a TOML file of clocks.", metavar="NAME|FILE")]
By = Annotated[
    Literal["severity", "rule", "vendor", "assignee", "all"], Parameter(help="What the alerts are grouped by.")
]
Names = Annotated[bool, Flag, Parameter(help="Show single people; without it only all of them together.")]
metrics = App(
    name="metrics",
    help="Measure a SOC by its alert log: volume, hours, response, staffing, rules. Each answer says what its numbers mean.",
)


def _command(name: str, example: str = "") -> Callable[[Callable[..., int]], Callable[..., int]]:
    line = " ".join(f"tocsin metrics {name} --log soc.db {example}".split())
    return metrics.command(name=name, help_epilogue=f"Example:\n  {line}")


def put(
    name: str, log: LogOptions, scope: ScopeOptions, options: AnswerOptions, ask: "Callable[[Metrics], Answer]"
) -> int:
    """Open the log, put the question, show the answer."""
    check(options)
    try:
        with spinner("reading the alert log"):
            answer = ask(open_metrics(log, scope))
    except SourceError:
        raise
    except TocsinError as error:
        raise UsageError(str(error)) from None
    write_answer(answer, options)
    if options.json:
        files: dict[str, Path | None] = {"html": options.html, "out": options.out}
        export.print_json(f"metrics {name}", {"files": files, "answer": answer.to_dict()})
        return 0
    console = new_console()
    print_answer(console, answer, options.rows, 10)
    for path in (options.html, options.out):
        if path:
            console.print(f"written to {safe(path)}", soft_wrap=True)
    return 0


@_command("overview", "--since 2026-10-01 --until 2026-11-01 --zone America/Denver")
def overview(
    *, notebook: Annotated[bool, Flag, Parameter(help="Show what the SOC notebook's cell would say, and why it differs.")] = False,
    log: LogOptions = LOG, scope: ScopeOptions = SCOPE, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Count alerts, those that needed nothing, those still undecided, investigations, incidents and notifications."""
    return put("overview", log, scope, answer, lambda m: m.overview(notebook=notebook))


@_command("funnel", "--since 2026-11-09 --until 2026-11-16")
def funnel(*, log: LogOptions = LOG, scope: ScopeOptions = SCOPE, answer: AnswerOptions = ANSWER) -> int:
    """Follow events to findings, alerts, triage, investigations and incidents."""
    return put("funnel", log, scope, answer, lambda m: m.funnel())


@_command("arrivals", "--zone Europe/Berlin --html arrivals.html")
def arrivals(
    *, value: Annotated[Literal["rate", "count"], Parameter(help="What the chart shows.")] = "rate",
    log: LogOptions = LOG, scope: ScopeOptions = SCOPE, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Show when alerts arrive, by weekday and hour, per hour in which one could have been seen."""
    return put("arrivals", log, scope, answer, lambda m: m.arrivals(value=value))


@_command("hours", '--zone America/Denver --hours "Mon-Fri 08:00-18:00" --holidays US')
def hours(*, log: LogOptions = LOG, scope: ScopeOptions = SCOPE, answer: AnswerOptions = ANSWER) -> int:
    """Show how much arrives in and outside of working hours, beside the share of hours that these are."""
    return put("hours", log, scope, answer, lambda m: m.on_off_hours())


@_command("response", "--by rule --clock first-action")
def response(
    *, clock: Clock = "first-action", by: By = "severity", names: Names = False,
    log: LogOptions = LOG, scope: ScopeOptions = SCOPE, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Show how long until something happens, waiting alerts counted as waiting: median, p90, p99 with intervals."""
    group = None if by == "all" else by
    return put("response", log, scope, answer, lambda m: m.response(clock=clock, by=group, names=names))


@_command("slo", "--target critical=15 high=30 medium=120")
def slo(
    *, target: Annotated[tuple[str, ...], Several, Parameter(help="Minutes by severity.", metavar="SEVERITY=MINUTES")] = (),
    clock: Clock = "first-action", by: By = "severity", names: Names = False,
    log: LogOptions = LOG, scope: ScopeOptions = SCOPE, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Show which share of alerts met its target, with its interval, and which missed it, and why."""
    aims, group = targets_of(target), None if by == "all" else by
    return put("slo", log, scope, answer, lambda m: m.slo(targets=aims, clock=clock, by=group, names=names))


@_command("assets", "--kind user --top 20")
def assets(
    *, kind: Annotated[Literal["host", "user", "os", "src_ip", "dst_ip"] | None, Parameter(help="Only this kind.")] = None,
    top: Annotated[int, Parameter(help="How many of each kind; all others are counted together.")] = 10,
    log: LogOptions = LOG, scope: ScopeOptions = SCOPE, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Show which hosts, users, systems and addresses occur in most alerts, and on how many days each came back."""
    return put("assets", log, scope, answer, lambda m: m.top_assets(kind=kind, top=top))


@_command("changes", "--by rule --html changes.html")
def changes(
    *, by: Annotated[Literal["severity", "rule", "all"], Parameter(help="One series for each, or for all together.")] = "all",
    method: Annotated[Literal["counts", "cusum", "binseg", "notebook"], Parameter(help="How changes are found.")] = "counts",
    log: LogOptions = LOG, scope: ScopeOptions = SCOPE, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Find when the number of alerts a day changed, by how much, and what may be behind it."""
    group = None if by == "all" else by
    return put("changes", log, scope, answer, lambda m: m.change_points(by=group, method=method))


@_command("staffing", "--target-minutes 30 --target-share 0.9 --handling-minutes 12")
def staffing(
    *, handling_minutes: Annotated[float | None, Parameter(help="Work on one alert; left out: as the log says.")] = None,
    target_minutes: Annotated[float, Parameter(help="Within how long work begins.")] = 30.0,
    target_share: Annotated[float, Parameter(help="For which share of alerts.")] = 0.9,
    productive_share: Annotated[float, Parameter(help="Of a shift, what goes to alerts.")] = 0.7,
    block_hours: Annotated[int, Parameter(help="Hours that share one rate: 1, 2, 3, 4, 6, 8, 12 or 24.")] = 1,
    log: LogOptions = LOG, scope: ScopeOptions = SCOPE, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Show how many analysts each hour of the week needs (Erlang C: optimistic where alerts come in bursts)."""
    return put(
        "staffing", log, scope, answer,
        lambda m: m.staffing(
            handling_minutes=handling_minutes, target_minutes=target_minutes, target_share=target_share,
            productive_share=productive_share, block_hours=block_hours,
        ),
    )  # fmt: skip


@_command("rules", "--since 2026-11-09 --until 2026-11-16")
def rules(
    *, versions: Annotated[bool, Flag, Parameter(help="A row for each version of a rule.")] = False,
    log: LogOptions = LOG, scope: ScopeOptions = SCOPE, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Show what each rule costs and brings: alerts, minutes, precision, escalations, waste."""
    return put("rules", log, scope, answer, lambda m: m.rules(versions=versions))


@_command("backlog", "--every 1h")
def backlog(
    *, every: Annotated[Literal["1h", "1d"], Parameter(help="How often the queue is looked at.")] = "1d",
    log: LogOptions = LOG, scope: ScopeOptions = SCOPE, answer: AnswerOptions = ANSWER,
) -> int:  # fmt: skip
    """Show how many alerts waited, and how old they were, over time."""
    return put("backlog", log, scope, answer, lambda m: m.backlog(every=every))


@_command("reopened")
def reopened(*, log: LogOptions = LOG, scope: ScopeOptions = SCOPE, answer: AnswerOptions = ANSWER) -> int:
    """Show how many closed alerts were opened again, by rule."""
    return put("reopened", log, scope, answer, lambda m: m.reopened())


@_command("coverage")
def coverage(*, log: LogOptions = LOG, scope: ScopeOptions = SCOPE, answer: AnswerOptions = ANSWER) -> int:
    """Show when which feed delivered: no data is never zero."""
    return put("coverage", log, scope, answer, lambda m: m.coverage())


def targets_of(texts: tuple[str, ...]) -> dict[str, float] | None:
    """Return targets written as SEVERITY=MINUTES; None where there are none.

    >>> targets_of(("critical=15", "high=30"))
    {'critical': 15.0, 'high': 30.0}
    """
    found = {}
    for text in texts:
        severity, mark, minutes = text.partition("=")
        try:
            found[severity] = float(minutes)
        except ValueError:
            mark = ""
        if not mark:
            raise UsageError(f"--target: {text!r} is no target; write high=30.")
    return found or None
