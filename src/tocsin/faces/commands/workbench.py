"""`tocsin workbench login` and `tocsin workbench fetch`: the alert history of Expel Workbench as raw files.

Enters: an address, dates, a folder; credentials from the environment, the keyring or a prompt, never from the command
line, where every user of the machine can read them. Leaves: a folder and what came into it. Layer: faces.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console

from tocsin.faces import export
from tocsin.faces.options import Flag
from tocsin.faces.terminal import Column, make_table, new_console, numeric, safe, spinner, whole

if TYPE_CHECKING:
    from tocsin.sources.workbench import Credentials, Fetched, Workbench

workbench = App(name="workbench", help="Alert history from Expel Workbench.")
FAILED = 1
SHOWN_ERRORS = 10

Url = Annotated[
    str | None,
    Parameter(help="Address. Default: TOCSIN_WORKBENCH_URL, or https://workbench.expel.io.", metavar="URL"),
]
_WHO = (
    "Credentials come from TOCSIN_WORKBENCH_API_KEY, or TOCSIN_WORKBENCH_USER, TOCSIN_WORKBENCH_PASSWORD and "
    "TOCSIN_WORKBENCH_CODE; else from the keyring; else you are asked."
)


@workbench.command(help_epilogue=f"{_WHO}\n\nExamples:\n  tocsin workbench login\n  tocsin workbench login --store")
def login(
    *,
    url: Url = None,
    store: Annotated[bool, Flag, Parameter(help="Put the API key into the keyring, never into a file.")] = False,
    json: Annotated[bool, Flag, Parameter(help="Print one JSON document and nothing else.")] = False,
) -> int:
    """Check the credentials by one call that needs them."""
    from tocsin.sources.workbench import ApiKey, Workbench, WorkbenchError, store_api_key

    address = _address(url)
    who, found_in = _api_key_to_store(address) if store else _who(address)
    with Workbench(address, who) as connection:
        alerts, at = connection.login(), connection.url
        skew = connection.skew.seconds if connection.skew else None
    stored_in = None
    if store:
        if not isinstance(who, ApiKey):
            raise WorkbenchError("only an API key is stored; a password and a one-time code are not")
        stored_in = store_api_key(at, who.key)
    facts = {"url": at, "credentials": "api key" if isinstance(who, ApiKey) else "login", "found_in": found_in}
    if json:
        export.print_json("workbench login", {**facts, "alerts": alerts, "stored_in": stored_in, "skew_seconds": skew})
        return 0
    console = new_console()
    console.print(
        f"Logged in at {safe(at)} by {facts['credentials']} from the {found_in}; {whole(alerts)} alerts to be seen"
    )
    if stored_in is not None:
        console.print(f"The API key is in the keyring ({safe(stored_in)})")
    return 0


@workbench.command(
    help_epilogue=f"{_WHO}\n\nThe same command goes on where the last one stopped. Exit code 1: something could not be had.\n\n"
    "Example:\n  tocsin workbench fetch october/ --since 2026-10-01 --until 2026-11-01 --zone America/Denver"
)
def fetch(
    folder: Annotated[Path, Parameter(name="FOLDER", help="Where the raw files are kept; made if it is not there.")],
    /,
    *,
    since: Annotated[str, Parameter(help="First local date.", metavar="DATE")],
    until: Annotated[str, Parameter(help="The local date after the last.", metavar="DATE")],
    zone: Annotated[str, Parameter(help="IANA time zone of these dates, such as America/Denver.")] = "UTC",
    evidence: Annotated[
        bool, Parameter(negative="--no-evidence", help="Read evidence and vendor alerts: two requests an alert.")
    ] = True,
    url: Url = None,
    json: Annotated[bool, Flag, Parameter(help="Print one JSON document and nothing else.")] = False,
) -> int:
    """Fetch the alerts created from one local date until before another, as the service sends them."""
    from tocsin.sources.workbench import Workbench

    address = _address(url)
    with Workbench(address, _who(address)[0]) as connection, _progress(connection) as progress:
        fetched = connection.fetch(since, until, zone, into=folder, evidence=evidence, progress=progress)
    if json:
        export.print_json("workbench fetch", fetched.to_dict())
    else:
        _show(new_console(), fetched)
    return 0 if fetched.complete else FAILED


def _address(url: str | None) -> str:
    from tocsin.sources.workbench import DEFAULT_URL

    return url or os.environ.get("TOCSIN_WORKBENCH_URL") or DEFAULT_URL


def _ask() -> "Callable[[str, bool], str] | None":
    """Return how to ask the person at the terminal; None where there is none."""
    if sys.stdin is None or not sys.stdin.isatty():
        return None
    import getpass

    def ask(what: str, hidden: bool) -> str:
        if hidden:
            return getpass.getpass(f"{what}: ", sys.stderr)
        print(f"{what}: ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip()

    return ask


def _who(address: str) -> "tuple[Credentials, str]":
    from tocsin.sources.workbench import find_credentials

    return find_credentials(address, os.environ, ask=_ask())


def _api_key_to_store(address: str) -> "tuple[Credentials, str]":
    """Return the API key of the environment, or ask for it: what is in the keyring already need not be stored."""
    from tocsin.sources.workbench import ApiKey, Secret, find_credentials

    ask = _ask()
    if ask is None or os.environ.get("TOCSIN_WORKBENCH_API_KEY"):
        return find_credentials(address, os.environ, keyring=False)
    return ApiKey(Secret(ask("API key", True))), "prompt"


@contextlib.contextmanager
def _progress(connection: "Workbench") -> Iterator[Callable[[str, int, int | None], None]]:
    # A service under load is told on one line of its own, not once for each attempt.
    import stamina

    stamina.instrumentation.set_on_retry_hooks([])
    with spinner(f"fetching from {connection.url}") as tell:
        yield lambda stage, done, total: tell(f"{stage} {whole(done)}" + (f" of {whole(total)}" if total else ""))


def _show(console: Console, fetched: "Fetched") -> None:
    asked, counts = fetched.asked, fetched.counts
    console.print(f"{safe(asked['url'])}: {asked['since']} until before {asked['until']} in {asked['zone']}")
    console.print(f"as instants: {asked['from']} until before {asked['to']}")
    rows: list[dict[str, Any]] = [
        {
            "what": "export",
            "rows": counts["export_rows"],
            "outside": counts["export_before"] + counts["export_after"],
            "files": 1,
        }
    ]
    if "listed" in counts:
        rows += [
            {
                "what": "alerts",
                "rows": counts["listed"],
                "outside": counts["listed_outside"],
                "files": len(fetched.alerts),
            },
            {"what": "evidence and vendor alerts", "rows": counts["detailed"], "files": len(fetched.details)},
        ]
    columns = [
        Column("what", "what"), numeric("rows", "rows"), numeric("outside", "outside the range"), numeric("files", "files"),
    ]  # fmt: skip
    console.print(make_table(rows, columns, console.width))
    for note in fetched.notes:
        console.print(f"note: {safe(note, 1000)}", soft_wrap=True)
    if fetched.errors:
        console.print(
            f"{whole(len(fetched.errors))} could not be had, {whole(counts.get('not_asked', 0))} were not asked for:"
        )
        for error in fetched.errors[:SHOWN_ERRORS]:
            console.print(f"  {safe(error.alert_id or 'all')} {error.what}: {safe(error.message, 500)}", soft_wrap=True)
        if len(fetched.errors) > SHOWN_ERRORS:
            console.print(f"  ... the others stand in {safe(fetched.manifest)}")
    state = "complete" if fetched.complete else "not complete: the same command asks for what is missing"
    console.print(f"{safe(fetched.folder)} is {state}", soft_wrap=True)
