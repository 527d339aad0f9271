"""From settings to the parts of a running engine: sources, spools, rules, outputs.

Enters: settings and a locked state folder. Leaves: `Parts`. Secrets are read here, from the environment and from files that
are their owner's alone. Layer: runners.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tocsin.errors import SettingsError
from tocsin.runners.live.deadletters import DeadLetters
from tocsin.runners.live.live import Live
from tocsin.runners.live.outputs import Outputs
from tocsin.runners.live.private import private_text
from tocsin.runners.live.settings import FileSource, FolderSource, HttpSource, KafkaSource, StdinSource
from tocsin.sources.live.folder import DropFolder
from tocsin.sources.live.spool import Spool
from tocsin.sources.live.spooled import SpoolSource
from tocsin.sources.live.stdin import StdinSpooler
from tocsin.sources.live.tail import FileTail
from tocsin.sources.mapping import check_zone, load_mapping

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tocsin.runners.live.folder import StateFolder
    from tocsin.runners.live.meters import Meters
    from tocsin.runners.live.settings import Settings
    from tocsin.sources.live import LiveSource

DELIVER_SECONDS = 30.0
"""How long an engine whose input has ended waits for its outputs."""
RESENT = "resent"
"""The spool of dead letters that were mended and sent again; no source may have this name."""


@dataclass
class Parts:
    """The sources of an engine, and the spools that its HTTP door writes to, by source."""

    sources: list[LiveSource] = field(default_factory=list)
    doors: dict[str, Spool] = field(default_factory=dict)
    spoolers: list[StdinSpooler] = field(default_factory=list)


def build_sources(settings: Settings, folder: StateFolder, clock: Callable[[], datetime]) -> Parts:
    """Return the sources of the settings, none of them opened.

    Raises:
        SettingsError: A secret is missing, or lies open to others.
    """
    parts = Parts()
    for asked in settings.sources:
        check_zone(asked.zone, f"{asked.name}: zone")
        if asked.mapping is not None:
            load_mapping(asked.mapping)  # a mistake in it is told at once, not when records come
        if asked.name == RESENT:
            raise SettingsError(f"sources: the name {RESENT!r} is taken; call the source something else.")
        parts.sources.append(_source(asked, settings, folder, clock, parts))
    parts.sources.append(SpoolSource(RESENT, Spool(folder.spool / RESENT), finished=lambda: True))
    return parts


def _source(
    asked: Any, settings: Settings, folder: StateFolder, clock: Callable[[], datetime], parts: Parts
) -> LiveSource:
    if isinstance(asked, FileSource):
        return FileTail(asked.name, asked.path, start=asked.start, follow=asked.follow)
    if isinstance(asked, FolderSource):
        return DropFolder(
            asked.name, asked.path, pattern=asked.pattern, settle_seconds=asked.settle_seconds, follow=asked.follow,
            clock=lambda: clock().timestamp(), mapping=None if asked.mapping is None else load_mapping(asked.mapping),
        )  # fmt: skip
    if isinstance(asked, KafkaSource):
        return _kafka(asked)
    spool = Spool(folder.spool / asked.name, max_bytes=settings.http.max_spool_bytes)
    if isinstance(asked, StdinSource):
        spooler = StdinSpooler(sys.stdin.buffer, spool, clock)
        parts.spoolers.append(spooler)
        return SpoolSource(asked.name, spool, finished=lambda: spooler.finished)
    assert isinstance(asked, HttpSource)
    parts.doors[asked.name] = spool
    return SpoolSource(asked.name, spool)


def _kafka(asked: KafkaSource) -> LiveSource:
    from tocsin.sources.live.kafka import KafkaTopic

    return KafkaTopic(
        asked.name, brokers=asked.brokers, topic=asked.topic, group=asked.group, start=asked.start, security=asked.security,
        sasl_mechanism=asked.sasl_mechanism, user=private_text(asked.user_env, None, f"{asked.name}.user"),
        password=private_text(asked.password_env, asked.password_file, f"{asked.name}.password"),
        ca_file=asked.ca_file, certificate_file=asked.certificate_file, key_file=asked.key_file, options=asked.options,
    )  # fmt: skip


@dataclass
class Engine:
    """All parts of a run, put together."""

    live: Live
    parts: Parts
    outputs: Outputs

    def run(self) -> None:
        """Start everything that runs beside the engine, run it, and stop everything again."""
        self.outputs.start()
        for spooler in self.parts.spoolers:
            spooler.start()
        try:
            self.live.run()
            self._deliver()
        finally:
            for spooler in self.parts.spoolers:
                spooler.stop()
            self.outputs.stop()

    def _deliver(self) -> None:
        """Let the outputs take what was raised last: where the input has ended, there may be no next start."""
        until = time.monotonic() + DELIVER_SECONDS
        while not self.live.told_to_stop and time.monotonic() < until and not self.outputs.settle(0.1):
            pass


def build(
    settings: Settings,
    folder: StateFolder,
    meters: Meters,
    *,
    clock: Callable[[], datetime],
    accept_loss: bool = False,
    finish: bool = False,
) -> Engine:
    """Return an engine that is ready to run over a locked state folder."""
    _check_log(settings)
    parts = build_sources(settings, folder, clock)
    letters = DeadLetters(folder.dead_letters, keep_days=settings.dead_letter_days, clock=clock)
    asked = () if settings.shadow or settings.log is None else settings.outputs

    def tell(words: str) -> None:
        live.trouble(words)

    outputs = Outputs(settings.log or "", asked, folder.path / "outputs", clock, tell=tell)
    live = Live(
        settings, folder, parts.sources, letters, meters, clock=clock, outputs=outputs, accept_loss=accept_loss, finish=finish
    )  # fmt: skip
    return Engine(live, parts, outputs)


def _check_log(settings: Settings) -> None:
    """Refuse an alert log that cannot be: a file in no folder. A database that is away now may come back."""
    log = settings.log
    if log is None and not settings.shadow:
        raise SettingsError("log: say where alerts go, such as soc.db; or shadow = true, to write none.")
    if log is not None and "://" not in log and not Path(log).absolute().parent.is_dir():
        raise SettingsError(f"log: {log}: there is no folder {Path(log).absolute().parent}. Make it first.")
