"""`tocsin run`: follow sources, apply the rules as events arrive, write findings into the alert log.

Enters: a settings file, or a source and options. Leaves: exit code 0 after a clean stop. Layer: faces.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tocsin.faces.options import LOOKING_UP, Flag, ReferenceOptions, Several, UsageError

if TYPE_CHECKING:
    from tocsin.faces.live.door import Door
    from tocsin.runners.live.build import Engine
    from tocsin.runners.live.live import Live
    from tocsin.runners.live.settings import Settings

SWITCH_SECONDS = 0.0005
SIMPLE = "events"
"""The name of the source where one is given on the command line."""


def run(
    source: Annotated[
        str,
        Parameter(
            name="SETTINGS|SOURCE",
            allow_leading_hyphen=True,
            help='A settings file (.toml); or one source: a growing file of JSON lines, a folder, "-" for stdin, "http" for events'
            " that are pushed to --listen, or kafka://BROKERS/TOPIC.",
        ),
    ],
    /,
    *,
    state: Annotated[
        Path | None, Parameter(help="The state folder; it is made where there is none.", metavar="FOLDER")
    ] = None,
    log: Annotated[str | None, Parameter(help="The alert log: a file, or postgresql://...", metavar="FILE|URL")] = None,
    rules: Annotated[
        tuple[Path, ...],
        Several,
        Parameter(help="Rule files to run instead of the rules that ship. A rule file is code.", metavar="FILE.py"),
    ] = (),
    looking_up: ReferenceOptions = LOOKING_UP,
    map: Annotated[  # noqa: A002
        str | None, Parameter(help="Mapping: a TOML file or a shipped name.", metavar="FILE|NAME")
    ] = None,
    zone: Annotated[str | None, Parameter(help="Time zone of times that name none.")] = None,
    listen: Annotated[
        str | None,
        Parameter(help="Where to serve POST /events, GET /metrics and GET /health.", metavar="ADDRESS:PORT"),
    ] = None,
    shadow: Annotated[bool, Flag, Parameter(help="Score and count, but write no alert.")] = False,
    once: Annotated[bool, Flag, Parameter(help="Stop when everything that is there now has been read.")] = False,
    finish: Annotated[
        bool,
        Flag,
        Parameter(
            help="As --once, and nothing will ever follow: release what still waits. The state folder is then finished."
        ),
    ] = False,
    keep_scores: Annotated[
        bool, Flag, Parameter(help="Keep every event's score in the state folder, for proofs.")
    ] = False,
    accept_loss: Annotated[
        bool, Flag, Parameter(help="Go on although records that have to be read again are gone.")
    ] = False,
) -> int:
    """Run the rules on a stream: what a replay of the same events finds, found as they arrive.

    Everything the engine knows is in the state folder; it may be killed at any moment and started again, and neither loses
    a finding nor writes one twice. SIGTERM and Ctrl-C end it cleanly. `tocsin status` shows how it does.
    """
    _suit_small_batches()
    typed: dict[str, Any] = {
        "state": state, "log": log, "rules": rules, "looking_up": looking_up, "map": map, "zone": zone, "listen": listen,
        "shadow": shadow, "once": once or finish, "keep_scores": keep_scores,
    }  # fmt: skip
    settings = _from_file(Path(source), typed) if source.endswith(".toml") else _from_options(source, typed)
    return _run(settings, accept_loss=accept_loss, finish=finish)


def _suit_small_batches() -> None:
    """Let each thread of the engine do its own work, and hand over soon.

    Its batches are small: what Polars gives to a pool comes back later than it would have been done (a step of 60 events took
    twice as long), and a thread that wants the interpreter back after every query waits five milliseconds for it by default.
    Polars reads its setting when it is loaded, so nothing that needs it may be imported before; who sets it himself has his way.
    """
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    sys.setswitchinterval(SWITCH_SECONDS)


def _from_file(path: Path, typed: dict[str, Any]) -> "Settings":
    """Return the settings of a file; on the command line only what changes from start to start may be said besides."""
    from tocsin.runners.live.settings import load_settings, once

    elsewhere = {
        "rules": "rules.files",
        "map": "mapping of a source",
        "zone": "zone of a source",
        "listen": "http.listen",
    }
    for option, place in elsewhere.items():
        if typed[option]:
            raise UsageError(f"--{option}: say it in {path} ({place}).")
    if typed["looking_up"] != LOOKING_UP:
        raise UsageError(f"Reference data is named in {path}, under [references].")
    settings = load_settings(path)
    said = {"state": typed["state"], "log": typed["log"]}
    said |= {name: True for name in ("shadow", "keep_scores") if typed[name]}
    settings = settings.model_copy(update={k: v for k, v in said.items() if v is not None})
    return once(settings) if typed["once"] else settings


def _from_options(source: str, typed: dict[str, Any]) -> "Settings":
    from tocsin.runners.live.settings import make_settings

    if typed["state"] is None:
        raise UsageError("Where shall the state be kept? Say --state FOLDER.")
    if typed["log"] is None and not typed["shadow"]:
        raise UsageError("Where shall alerts go? Say --log soc.db, or --shadow to write none.")
    looking_up: ReferenceOptions = typed["looking_up"]
    document: dict[str, Any] = {
        "state": typed["state"], "log": typed["log"], "shadow": typed["shadow"], "keep_scores": typed["keep_scores"],
        "sources": [_source(source, once=typed["once"]) | {"mapping": typed["map"], "zone": typed["zone"]}],
        "rules": {"files": typed["rules"]},
        "references": {
            "geo": looking_up.geo, "networks": looking_up.networks, "threats": looking_up.threats, "assets": looking_up.assets,
            "allow": looking_up.allow,
        },
        "http": {"listen": typed["listen"]},
    }  # fmt: skip
    return make_settings(document, "the command line", Path.cwd())


def _source(text: str, *, once: bool) -> dict[str, Any]:
    """Return the settings of a source that was typed.

    >>> _source("mail.jsonl", once=False)
    {'kind': 'file', 'name': 'mail', 'path': 'mail.jsonl', 'follow': True}
    >>> _source("kafka://broker:9092/mail", once=False)
    {'kind': 'kafka', 'name': 'mail', 'brokers': 'broker:9092', 'topic': 'mail'}
    """
    if text == "-":
        return {"kind": "stdin", "name": "stdin"}
    if text == "http":
        return {"kind": "http", "name": SIMPLE}
    if text.startswith("kafka://"):
        brokers, _, topic = text.removeprefix("kafka://").partition("/")
        if not brokers or not topic:
            raise UsageError(f"{text}: write kafka://BROKERS/TOPIC, such as kafka://broker:9092/mail.")
        return {"kind": "kafka", "name": _name(topic), "brokers": brokers, "topic": topic}
    path = Path(text)
    kind = "folder" if path.is_dir() else "file"
    return {"kind": kind, "name": _name(path.name), "path": text, "follow": not once}


def _name(text: str) -> str:
    """Return a source's name from a file's, as `tocsin backtest` names it: so ids of events agree."""
    from tocsin.sources.files import stem

    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in stem(text)).lstrip("._-")
    return kept[:64] or SIMPLE


def _run(settings: "Settings", *, accept_loss: bool, finish: bool) -> int:
    from tocsin import __version__
    from tocsin.faces.live.logging import set_up_logging
    from tocsin.runners.live.build import build
    from tocsin.runners.live.folder import StateFolder
    from tocsin.runners.live.meters import Meters

    set_up_logging()
    log = logging.getLogger("tocsin.live")
    folder = StateFolder(settings.state).lock()
    try:
        meters = Meters(__version__, os.getpid(), clock())
        engine = build(settings, folder, meters, clock=clock, accept_loss=accept_loss, finish=finish)
        door = _open_door(settings, engine)
        restore = _stop_on_signals(engine.live)
        try:
            facts = {"state": str(settings.state), "sources": ", ".join(s.name for s in settings.sources)}
            log.info("started", extra={"fields": facts})
            engine.run()
            log.info("stopped", extra={"fields": {"entries": engine.live.number}})
        finally:
            restore()
            if door is not None:
                door.stop()
    finally:
        folder.unlock()
    return 0


def _open_door(settings: "Settings", engine: "Engine") -> "Door | None":
    """Open the HTTP door where the settings name an address.

    Raises:
        UsageError: The web packages are not installed, or events are to be pushed but no address is named.
    """
    if settings.http.listen is None:
        if engine.parts.doors:
            raise UsageError(
                "Events are pushed to an address: say --listen 127.0.0.1:8700, or http.listen in the settings."
            )
        return None
    try:
        from tocsin.faces.live.door import Door
    except ImportError:
        raise UsageError("Listening needs the packages of tocsin[live]: pip install 'tocsin[live]'") from None
    return Door(settings.http, engine.parts.doors, lambda: engine.live.status, clock=clock).start()


def _stop_on_signals(live: "Live") -> Callable[[], None]:
    """Let SIGTERM and Ctrl-C end the run cleanly, a second Ctrl-C at once; return what puts the signals back."""
    asked = threading.Event()

    def stop(number: int, _frame: object) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt(signal.Signals(number).name)
        asked.set()
        live.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore


def clock() -> datetime:
    """Return the time it is."""
    return datetime.now(UTC)
