"""`tocsin alerts assign`, `close`, `verdict` and the like: what was done with an alert, said on the command line.

Enters: the command's arguments. Leaves: a line that says how the alert stands now, or one JSON document. Layer: faces.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter
from rich.text import Text

from tocsin.faces import export
from tocsin.faces.options import instant
from tocsin.faces.said import SAID, AlertId, Reason, SaidOptions, in_commands, open_log, said
from tocsin.faces.terminal import new_console, safe

if TYPE_CHECKING:
    from tocsin.alerts import Alerts


def _do(command: str, alert: str, options: SaidOptions, say: "Callable[[Alerts, dict[str, Any]], str]") -> int:
    """Say something about an alert, and tell how it stands then."""
    told = said(options)
    with open_log(options.log) as log, in_commands():
        before = log.show(alert).activities["key"] if options.once else ()
        key = say(log, told)
        row = log.show(alert).current.row(0, named=True)
    already = key in before
    if options.json:
        stands = {
            name: row[name] for name in ("alert_id", "state", "verdict", "assignee", "severity_now", "merged_into")
        }
        export.print_json(f"alerts {command}", {"key": key, "already": already, "alert": stands})
        return 0
    words = [safe(row["state"]), safe(row["verdict"])] + ([f"with {safe(row['assignee'])}"] if row["assignee"] else [])
    console = new_console()
    console.print(Text.assemble((safe(row["alert_id"]), "bold"), f" {', '.join(words)}"), soft_wrap=True)
    if already:
        console.print(
            f"{command} was already said under --once {safe(options.once)}: nothing was written", soft_wrap=True
        )
    return 0


def assign(alert: AlertId, to: Annotated[str, Parameter(name="WHOM")], /, *, options: SaidOptions = SAID) -> int:
    """Give an alert to somebody."""
    return _do("assign", alert, options, lambda log, who: log.assign(alert, to, **who))


def unassign(alert: AlertId, /, *, options: SaidOptions = SAID) -> int:
    """Take an alert from whoever has it."""
    return _do("unassign", alert, options, lambda log, who: log.unassign(alert, **who))


def start(alert: AlertId, /, *, options: SaidOptions = SAID) -> int:
    """Begin to work on an alert."""
    return _do("start", alert, options, lambda log, who: log.start(alert, **who))


def stop(
    alert: AlertId,
    /,
    *,
    why: Annotated[str | None, Parameter(help="Why the work pauses.", metavar="TEXT")] = None,
    minutes: Annotated[float | None, Parameter(help="Minutes of work, where they were measured.")] = None,
    options: SaidOptions = SAID,
) -> int:
    """End or interrupt the work on an alert."""
    return _do("stop", alert, options, lambda log, who: log.stop(alert, why, minutes=minutes, **who))


def hold(
    alert: AlertId,
    whom: Annotated[str, Parameter(name="WHOM", help="Whom it waits for.")],
    /,
    *,
    options: SaidOptions = SAID,
) -> int:
    """Let an alert wait for somebody."""
    return _do("hold", alert, options, lambda log, who: log.hold(alert, whom, **who))


def resume(alert: AlertId, /, *, options: SaidOptions = SAID) -> int:
    """End the wait of an alert."""
    return _do("resume", alert, options, lambda log, who: log.resume(alert, **who))


def escalate(
    alert: AlertId, investigation: Annotated[str, Parameter(name="INVESTIGATION")], /, *, options: SaidOptions = SAID
) -> int:
    """Make an alert part of an investigation."""
    return _do("escalate", alert, options, lambda log, who: log.escalate(alert, investigation, **who))


def promote(
    alert: AlertId, incident: Annotated[str, Parameter(name="INCIDENT")], /, *, options: SaidOptions = SAID
) -> int:
    """Make an alert part of an incident."""
    return _do("promote", alert, options, lambda log, who: log.promote(alert, incident, **who))


def verdict(
    alert: AlertId,
    verdict: Annotated[
        str, Parameter(name="VERDICT", help="Such as true_positive, benign_true_positive, false_positive.")
    ],
    /,
    *,
    reason: Reason,
    options: SaidOptions = SAID,
) -> int:
    """Decide what an alert was."""
    return _do("verdict", alert, options, lambda log, who: log.verdict(alert, verdict, reason, **who))


def close(
    alert: AlertId,
    /,
    *,
    reason: Reason,
    verdict: Annotated[str | None, Parameter(help="Decide what it was at the same time.")] = None,
    options: SaidOptions = SAID,
) -> int:
    """Close an alert, with a verdict or without."""
    return _do("close", alert, options, lambda log, who: log.close(alert, reason, verdict=verdict, **who))


def reopen(alert: AlertId, /, *, reason: Reason, options: SaidOptions = SAID) -> int:
    """Open a closed alert again."""
    return _do("reopen", alert, options, lambda log, who: log.reopen(alert, reason, **who))


def severity(
    alert: AlertId,
    severity: Annotated[str, Parameter(name="SEVERITY")],
    /,
    *,
    reason: Reason,
    options: SaidOptions = SAID,
) -> int:
    """Change how bad an alert would be."""
    return _do("severity", alert, options, lambda log, who: log.severity(alert, severity, reason, **who))


def suppress(
    alert: AlertId,
    /,
    *,
    reason: Reason,
    until: Annotated[
        str | None, Parameter(help="When it comes back by itself. Default: never.", metavar="TIME")
    ] = None,
    options: SaidOptions = SAID,
) -> int:
    """Keep an alert out of triage, until a time or for good."""
    when = instant(until, "--until")
    return _do("suppress", alert, options, lambda log, who: log.suppress(alert, reason, until=when, **who))


def unsuppress(alert: AlertId, /, *, reason: Reason, options: SaidOptions = SAID) -> int:
    """Bring a suppressed alert back."""
    return _do("unsuppress", alert, options, lambda log, who: log.unsuppress(alert, reason, **who))


def merge(
    alert: AlertId,
    into: Annotated[str, Parameter(name="INTO", help="The alert that goes on.")],
    /,
    *,
    reason: Reason,
    options: SaidOptions = SAID,
) -> int:
    """Let another alert go on in this one's place."""
    return _do("merge", alert, options, lambda log, who: log.merge(alert, into, reason, **who))


def comment(alert: AlertId, text: Annotated[str, Parameter(name="TEXT")], /, *, options: SaidOptions = SAID) -> int:
    """Say something about an alert."""
    return _do("comment", alert, options, lambda log, who: log.comment(alert, text, **who))


def correct(
    alert: AlertId,
    key: Annotated[
        str, Parameter(name="KEY", help="Of the activity, as `tocsin alerts show` prints it, or the beginning of it.")
    ],
    /,
    *,
    reason: Reason,
    value: Annotated[str | None, Parameter(help="What its value should have been, such as a verdict.")] = None,
    options: SaidOptions = SAID,
) -> int:
    """Say that an activity did not happen, or happened with another value or (--at) at another time.

    The wrong row stays, with a retraction beside it: what was believed in between can still be asked.
    """

    def say(log: "Alerts", who: dict[str, Any]) -> str:
        changes = {"at": who.get("at"), "value": value}
        return log.correct(key, reason, actor=who["actor"], **{k: v for k, v in changes.items() if v is not None})

    return _do("correct", alert, options, say)


VERBS: Final[tuple[tuple[Callable[..., int], str], ...]] = (
    (assign, "assign 4f2a ann --actor bob --log soc.db"),
    (unassign, "unassign 4f2a --actor bob"),
    (start, "start 4f2a --actor ann"),
    (stop, "stop 4f2a --minutes 12 --actor ann"),
    (hold, "hold 4f2a 'the user' --actor ann"),
    (resume, "resume 4f2a --actor ann"),
    (escalate, "escalate 4f2a INV-17 --actor ann"),
    (promote, "promote 4f2a INC-3 --actor ann"),
    (verdict, "verdict 4f2a false_positive --reason 'a scanner of ours' --actor ann"),
    (close, "close 4f2a --verdict false_positive --reason 'a scanner of ours' --actor ann"),
    (reopen, "reopen 4f2a --reason 'it came back' --actor ann"),
    (severity, "severity 4f2a high --reason 'an administrator' --actor ann"),
    (suppress, "suppress 4f2a --until 2026-12-01 --reason 'known, mended in December' --actor ann"),
    (unsuppress, "unsuppress 4f2a --reason 'not mended after all' --actor ann"),
    (merge, "merge 4f2a 91c0 --reason 'the same wave' --actor ann"),
    (comment, "comment 4f2a 'asked the user' --actor ann"),
    (correct, "correct 4f2a 8a32cf568c45 --value true_positive --reason 'misread' --actor ann"),
)
"""The commands, each with an example."""
