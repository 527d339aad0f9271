"""`tocsin dead-letters`: the records that a run set aside: look at them, mend them, send them again.

Enters: the command's arguments, a state folder. Leaves: tables on stdout, files, records in the spool that the run follows.
Layer: faces.
"""

import base64
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from rich.table import Table
from rich.text import Text

from tocsin.faces import export
from tocsin.faces.options import Flag, UsageError
from tocsin.faces.said import AsJson
from tocsin.faces.terminal import Column, Trimmed, make_table, moment, new_console, number, numeric, safe, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.runners.live.deadletters import DeadLetters, Kept

FAILED = 1
STATE_VARIABLE = "TOCSIN_STATE"
SHOWN_CHARS = 20_000
_TOGETHER = 500
_STATES = ("waiting", "resent", "dropped", "any")
dead_letters = App(name="dead-letters", help="Records that a run could not take: list, show, mend and send them again.")

State = Annotated[
    Path | None,
    Parameter(name="--state", env_var=STATE_VARIABLE, help="The state folder of the run.", metavar="FOLDER"),
]
Key = Annotated[str, Parameter(name="KEY", help="The keys of letters, or their unique beginnings.")]
All = Annotated[bool, Flag, Parameter(name="--all", help="All that wait.")]


@Parameter(name="*")
@dataclass(frozen=True)
class Which:
    """Which letters."""

    source: Annotated[str | None, Parameter(help="Only letters of this source.", metavar="NAME")] = None
    reason: Annotated[str | None, Parameter(help="Only letters in whose reason this stands.", metavar="TEXT")] = None


ANY = Which()
_LISTED = [
    Column("key", "letter", style="bold", least=12),
    Column("noted_at", "noted", moment, rank=1),
    Column("source", "source", rank=3),
    Column("partition", "partition", least=8, rank=5),
    Column("column", "column", rank=2),
    Column("reason", "reason", least=24),
    Column("state", "state", rank=4),
]
_LATE = [
    Column("event_id", "event", style="bold", least=12),
    Column("timestamp", "happened", moment),
    numeric("late_by_seconds", "late by s", number),
    Column("source", "source", rank=1),
    Column("partition", "partition", least=8, rank=2),
    Column("noted_at", "noted", moment, rank=3),
]


@contextmanager
def _opened(state: Path | None) -> "Iterator[DeadLetters]":
    from datetime import UTC, datetime

    from tocsin.runners.live.deadletters import DeadLetters
    from tocsin.runners.live.folder import StateFolder

    letters = DeadLetters(
        StateFolder(_folder(state)).dead_letters, keep_days=1, clock=lambda: datetime.now(UTC), create=False
    )
    try:
        yield letters
    finally:
        letters.close()


def _folder(state: Path | None) -> Path:
    if state is None:
        raise UsageError(f"Which state folder? Say --state FOLDER, or set {STATE_VARIABLE}.")
    return state


@dead_letters.command(
    name="list",
    help_epilogue="Examples:\n  tocsin dead-letters list --state state/\n  tocsin dead-letters list --reason 'not a time' --json",
)
def list_letters(
    *,
    state: State = None,
    which: Which = ANY,
    status: Annotated[str, Parameter(help="Letters that are waiting, resent, dropped, or any.")] = "waiting",
    late: Annotated[bool, Flag, Parameter(help="List the events that came too late instead.")] = False,
    limit: Annotated[int, Parameter(help="The most to show.")] = 50,
    json: AsJson = False,
) -> int:
    """List letters, the latest first, and how many there are for each reason."""
    if limit < 1:
        raise UsageError("--limit: at least one is shown.")
    with _opened(state) as letters:
        counts, reasons = letters.counts(), letters.reasons()
        if late:
            rows = letters.late(limit=limit).to_dicts()
        else:
            found = letters.letters(state=_status(status), source=which.source, reason=which.reason, limit=limit)
            rows = [_row(k) for k in found]
    if json:
        told = [{"source": s, "reason": r, "letters": n} for s, r, n in reasons]
        export.print_json("dead-letters list", {"counts": counts, "reasons": told, "late" if late else "letters": rows})
        return 0
    console = new_console()
    console.print(
        Text(
            f"{whole(counts['waiting'])} waiting of {whole(counts['letters'])} letters, {whole(counts['late'])} late events;"
            f" gone by age or for want of room: {whole(counts['letters_gone'])} and {whole(counts['late_gone'])}"
        )
    )
    if rows:
        console.print(make_table(rows, _LATE if late else _LISTED, console.width))
    if len(rows) == limit:
        console.print(Text(f"the first {whole(limit)}; --limit shows more", style="dim"))
    if reasons and not late and len(rows) > 1:
        shown = [{"source": s, "reason": r, "letters": n} for s, r, n in reasons[:10]]
        console.print()
        columns = [
            Column("reason", "reason", least=24),
            Column("source", "source", rank=1),
            numeric("letters", "letters"),
        ]
        console.print(make_table(shown, columns, console.width, "What is waiting, by reason"))
    return 0


@dead_letters.command(help_epilogue="Example:\n  tocsin dead-letters show mail:1204 --state state/")
def show(
    key: Annotated[str, Parameter(name="KEY", help="The letter's key, or its unique beginning.")],
    /,
    *,
    state: State = None,
    json: AsJson = False,
) -> int:
    """Show a letter: what is wrong, and the record as it came."""
    with _opened(state) as letters:
        kept = letters.get(key)
    if json:
        export.print_json("dead-letters show", {"letter": _row(kept) | _record(kept), "cannot_be_sent": kept.trouble})
        return 0
    console = new_console()
    facts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True, style="bold")
    facts.add_column(overflow="fold")
    told = {
        "letter": safe(kept.key, None),
        "reason": safe(kept.reason),
        "column": safe(kept.column) if kept.column else "-",
        "source": f"{safe(kept.source)}, {safe(kept.partition)}",
        "noted": moment(kept.noted_at),
        "state": kept.state if kept.changed_at is None else f"{kept.state}, {moment(kept.changed_at)}",
        "record": f"{whole(len(kept.record))} bytes" if kept.whole else f"its first {whole(len(kept.record))} bytes",
        "send again": "as it is" if not kept.trouble else f"with --record FILE ({safe(kept.trouble)})",
    }
    for word, text in told.items():
        facts.add_row(Text(word), Text(text))
    console.print(Trimmed(facts))
    console.print()
    console.print(Text(safe(kept.record.decode("utf-8", "backslashreplace"), SHOWN_CHARS)), soft_wrap=True)
    return 0


@dead_letters.command(
    name="export",
    help_epilogue="Example:\n  tocsin dead-letters export letters.jsonl --state state/ --reason 'not a time'",
)
def export_letters(
    file: Annotated[Path, Parameter(name="FILE", help="A .jsonl, .csv or .parquet file.")],
    /,
    *,
    state: State = None,
    which: Which = ANY,
    status: Annotated[str, Parameter(help="Letters that are waiting, resent, dropped, or any.")] = "waiting",
    json: AsJson = False,
) -> int:
    """Write letters with their records to a file. A record that is no text also stands there in base64."""
    import polars as pl

    export.check_target(file)
    with _opened(state) as letters:
        found = letters.letters(state=_status(status), source=which.source, reason=which.reason)
        rows = [_row(k) | _record(k) for k in found]
    text = dict.fromkeys(("key", "source", "partition", "column", "reason", "state"), pl.String())
    times = dict.fromkeys(("noted_at", "changed_at"), pl.Datetime("us", "UTC"))
    record: dict[str, Any] = {"whole": pl.Boolean(), "record": pl.String(), "record_base64": pl.String()}
    export.write_frame(pl.DataFrame(rows, schema=text | times | record), file)
    return _told(json, "export", {"file": file, "letters": len(rows)}, f"{whole(len(rows))} letters in {file}")


@dead_letters.command(
    help_epilogue="Examples:\n  tocsin dead-letters resend mail:1204 --record mended.json --state state/\n"
    "  tocsin dead-letters resend --all --reason 'not a time' --state state/"
)
def resend(
    *keys: Key,
    state: State = None,
    record: Annotated[
        Path | None, Parameter(help="Send this JSON object in place of the only letter named.", metavar="FILE")
    ] = None,
    again: Annotated[bool, Flag, Parameter(help="Also letters that were sent again before.")] = False,
    all_of_them: All = False,
    which: Which = ANY,
    json: AsJson = False,
) -> int:
    """Send letters to the run again: as they are, after the mapping was mended, or mended themselves.

    They reach the run at once if it is there, else when it starts. A letter is sent once: what has no id of its own would count twice.
    """
    from tocsin.runners.live.deadletters import RESENT
    from tocsin.runners.live.folder import StateFolder
    from tocsin.sources.live.spool import Spool

    if record is not None and len(keys) != 1:
        raise UsageError("--record: name the one letter that it mends.")
    mended = None if record is None else record.read_bytes()
    sent, refused = 0, []
    with _opened(state) as letters:
        chosen = _chosen(letters, keys, which, all_of_them=all_of_them)
        spool = Spool(StateFolder(_folder(state)).spool / RESENT)
        try:
            while some := list(islice(chosen, _TOGETHER)):
                before = [] if again else [k for k in some if k.state == RESENT]
                refused += [(k.key, f"it was sent again {_when(k)}; --again sends it once more") for k in before]
                some = [k for k in some if k not in before]
                failed = letters.resend(some, spool, record=mended)
                refused += [(k.key, k.trouble) for k in failed]
                sent += len(some) - len(failed)
        finally:
            spool.close()
    body = {"sent": sent, "refused": [{"key": k, "why": why} for k, why in refused]}
    lines = [f"{whole(sent)} sent again"]
    if refused:
        lines.append(f"{whole(len(refused))} not sent; what cannot be read has to be mended with --record FILE:")
        lines += [f"  {safe(k)}: {safe(why)}" for k, why in refused[:10]]
    return _told(json, "resend", body, "\n".join(lines)) or (FAILED if refused else 0)


@dead_letters.command(
    help_epilogue="Examples:\n  tocsin dead-letters drop mail:1204 --state state/\n  tocsin dead-letters drop --all --source web"
)
def drop(
    *keys: Key,
    state: State = None,
    all_of_them: All = False,
    which: Which = ANY,
    json: AsJson = False,
) -> int:
    """Say that nothing will be done about letters. They stay in the file until they are too old."""
    with _opened(state) as letters:
        chosen = [k.key for k in _chosen(letters, keys, which, all_of_them=all_of_them)]
        dropped = letters.drop(chosen)
    return _told(json, "drop", {"dropped": dropped}, f"{whole(dropped)} dropped")


def _chosen(letters: "DeadLetters", keys: tuple[str, ...], which: Which, *, all_of_them: bool) -> "Iterator[Kept]":
    if bool(keys) == all_of_them:
        raise UsageError("Name letters by their keys, or say --all (with --reason or --source for some of them).")
    if keys:
        return iter([letters.get(key) for key in keys])
    return letters.letters(source=which.source, reason=which.reason)


def _when(kept: "Kept") -> str:
    return f"{kept.changed_at:%Y-%m-%d %H:%M} UTC" if kept.changed_at else "before"


def _status(status: str) -> str | None:
    if status not in _STATES:
        from tocsin.errors import did_you_mean

        raise UsageError(f"--status: one of {', '.join(_STATES)}.{did_you_mean(status, _STATES)}")
    return None if status == "any" else status


def _row(kept: "Kept") -> dict[str, Any]:
    names = ("key", "source", "partition", "column", "reason", "noted_at", "state", "changed_at", "whole")
    return {name: getattr(kept, name) for name in names}


def _record(kept: "Kept") -> dict[str, str | None]:
    text = kept.record.decode("utf-8", "backslashreplace")
    exact = text.encode("utf-8") == kept.record
    return {"record": text, "record_base64": None if exact else base64.b64encode(kept.record).decode()}


def _told(json: bool, command: str, body: dict[str, Any], words: str) -> int:
    if json:
        export.print_json(f"dead-letters {command}", body)
    else:
        new_console().print(Text(words))
    return 0
