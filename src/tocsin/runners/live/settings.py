"""Settings of a running engine: one TOML file, checked before anything is opened.

Enters: a TOML file, or values from the command line. Leaves: `Settings`. Secrets never stand in it, only the names of
environment variables and files that hold them. Layer: runners.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tocsin.calendars import duration_us
from tocsin.errors import SettingsError, TocsinError, did_you_mean

SHIPPED_GEO = "country"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        try:
            duration_us(value)
        except TocsinError as error:
            raise ValueError(str(error)) from None
    return value


Duration = Annotated[str, Field(description='such as "90s", "1h" or "7d"')]


class Common(_Model):
    """What every source has: its name, and how its records are read.

    mapping: a TOML file or the name of a shipped mapping; None recognises one by the first records. zone, year: of times
    that name none.
    """

    name: str = Field(pattern=_NAME)
    mapping: str | None = None
    zone: str | None = None
    year: int | None = None


class FileSource(Common):
    """A growing file of JSON lines. start: where to begin when there is no saved position."""

    kind: Literal["file"]
    path: Path
    start: Literal["beginning", "end"] = "beginning"
    follow: bool = True


class FolderSource(Common):
    """A folder into which whole files are dropped (JSONL, CSV, Parquet, log lines, packed or not)."""

    kind: Literal["folder"]
    path: Path
    pattern: str = "*"
    settle_seconds: float = Field(default=2.0, ge=0)
    """A file counts as whole once it has not changed for this long; a file renamed into place needs none."""
    follow: bool = True


class StdinSource(Common):
    """Standard input, JSON lines; written to the spool before anything else."""

    kind: Literal["stdin"]


class HttpSource(Common):
    """Events pushed to ``POST /events`` (with several such sources ``POST /events/NAME``); acknowledged once spooled."""

    kind: Literal["http"]


class KafkaSource(Common):
    """A topic. Secrets come from the environment variables or files that are named here.

    options: anything else librdkafka knows, such as "socket.keepalive.enable"; no secrets.
    """

    kind: Literal["kafka"]
    brokers: str
    topic: str
    group: str = "tocsin"
    start: Literal["beginning", "end"] = "beginning"
    security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    user_env: str | None = None
    password_env: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    options: dict[str, str | int | bool] = {}


SourceSettings = Annotated[
    FileSource | FolderSource | StdinSource | HttpSource | KafkaSource, Field(discriminator="kind")
]


class Rules(_Model):
    """files: rule files; none means the rules that ship. A file that changes is loaded again while the engine runs."""

    files: tuple[Path, ...] = ()
    check_seconds: float = Field(default=2.0, gt=0)


class ReferenceFiles(_Model):
    """What events are looked up in; files that change are loaded again while the engine runs."""

    geo: str | None = None
    networks: Path | None = None
    threats: tuple[Path, ...] = ()
    assets: tuple[Path, ...] = ()
    allow: tuple[Path, ...] = ()


class Batches(_Model):
    """How large a batch may be, and how long its first event waits for others."""

    rows: int = Field(default=10_000, ge=1, le=1_000_000)
    bytes: int = Field(default=16 << 20, ge=1 << 16)
    linger_ms: float = Field(default=10.0, ge=0, le=10_000)


class Times(_Model):
    """lateness, dedup_horizon, future_skew: as for the engine. idle_after: a partition silent for so long holds none back."""

    lateness: Duration = "1h"
    dedup_horizon: Duration = "7d"
    future_skew: Duration = "10m"
    idle_after: Duration = "5m"

    _check = field_validator("lateness", "dedup_horizon", "future_skew", "idle_after")(_duration)


class SnapshotSettings(_Model):
    """every_seconds: how often state is saved; a full one after ``full_every - 1`` deltas; ``keep`` full ones are kept."""

    every_seconds: float = Field(default=30.0, gt=0)
    full_every: int = Field(default=20, ge=1)
    keep: int = Field(default=3, ge=2)


class Tables(_Model):
    """publish: write closed windows and fitted tables at window boundaries. keep_days: how long they are kept."""

    publish: bool = False
    keep_days: int = Field(default=400, ge=1)


class Door(_Model):
    """The HTTP door: where it listens, whose token it wants, how much it takes.

    metrics: whether ``GET /metrics`` and ``GET /health`` are served (they need no token, and show no event).
    """

    listen: str | None = None
    token_env: str | None = None
    token_file: Path | None = None
    max_body_bytes: int = Field(default=32 << 20, ge=1024)
    max_event_bytes: int = Field(default=1 << 20, ge=1024)
    max_spool_bytes: int = Field(default=10 << 30, ge=1 << 20)
    metrics: bool = True


class JsonlOutput(_Model):
    """New alerts, appended to a file of JSON lines."""

    kind: Literal["jsonl"]
    name: str = Field(default="jsonl", pattern=_NAME)
    path: Path


class WebhookOutput(_Model):
    """New alerts, posted one by one; signed where a secret is named. Private addresses are refused unless allowed.

    secret_env, secret_file: one secret, or several with spaces or line ends between them while they are being changed.
    """

    kind: Literal["webhook"]
    name: str = Field(default="webhook", pattern=_NAME)
    url: str = Field(repr=False)  # of many services the address itself is a secret
    secret_env: str | None = None
    secret_file: Path | None = None
    timeout_seconds: float = Field(default=10.0, gt=0, le=120)
    allow_private: bool = False
    min_severity: Literal["informational", "low", "medium", "high", "critical"] = "informational"


OutputSettings = Annotated[JsonlOutput | WebhookOutput, Field(discriminator="kind")]


class Settings(_Model):
    """All of it.

    shadow: score and count, but write no alert. keep_scores: keep every event's score in the state folder, for proofs.
    """

    state: Path
    log: str | None = None
    shadow: bool = False
    keep_scores: bool = False
    sources: tuple[SourceSettings, ...] = Field(min_length=1)
    rules: Rules = Rules()
    references: ReferenceFiles = ReferenceFiles()
    batches: Batches = Batches()
    times: Times = Times()
    snapshots: SnapshotSettings = SnapshotSettings()
    tables: Tables = Tables()
    http: Door = Door()
    outputs: tuple[OutputSettings, ...] = ()
    dead_letter_days: int = Field(default=30, ge=1)

    @field_validator("sources", "outputs")
    @classmethod
    def _names_differ(cls, found: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [x.name for x in found]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"the name {twice[0]!r} is given twice; names are unique")
        return found


_PLAIN = {
    "extra_forbidden": "there is no such setting",
    "missing": "this has to be said",
    "path_type": "this has to be a path, in quotes",
    "string_type": "this has to be text, in quotes",
}


def load_settings(path: Path) -> Settings:
    """Return the settings in a TOML file; paths in it are relative to its folder.

    Raises:
        SettingsError: It cannot be read, or something in it is wrong: the message names the place.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(
            f"{path}: {error.strerror}. Give a settings file, or sources on the command line."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not a TOML file: {error}") from None
    return make_settings(document, str(path), path.parent)


def make_settings(document: dict[str, Any], where: str, folder: Path) -> Settings:
    """Return checked settings; relative paths are taken from ``folder``."""
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(p) for p in first["loc"]) or "settings"
        hint = did_you_mean(str(first["loc"][-1]), _all_names()) if first["type"] == "extra_forbidden" else ""
        said = _PLAIN.get(first["type"], first["msg"].removeprefix("Value error, ")).rstrip(".")
        raise SettingsError(f"{where}: {place}: {said}.{hint}") from None
    rooted: Settings = _rooted(settings, folder)
    return rooted


def once(settings: Settings) -> Settings:
    """Return the settings with every source read to its present end instead of followed.

    Raises:
        SettingsError: A source has no end.
    """
    endless = [s.name for s in settings.sources if isinstance(s, HttpSource | KafkaSource)]
    if endless:
        raise SettingsError(f"{endless[0]}: such a source has no end; leave --once and --finish out.")
    read = [s.model_copy(update={"follow": False}) if "follow" in type(s).model_fields else s for s in settings.sources]
    return settings.model_copy(update={"sources": tuple(read)})


def _all_names() -> set[str]:
    found: set[str] = set()
    models: list[type[_Model]] = [
        Settings,
        FileSource,
        FolderSource,
        StdinSource,
        HttpSource,
        KafkaSource,
        Rules,
        ReferenceFiles,
        Batches,
        Times,
        SnapshotSettings,
        Tables,
        Door,
        JsonlOutput,
        WebhookOutput,
    ]
    for model in models:
        found |= set(model.model_fields)
    return found


def _rooted(model: Any, folder: Path) -> Any:
    """Return the settings with every relative path taken from the folder."""
    changes: dict[str, Any] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, Path) and not value.is_absolute():
            changes[name] = folder / value
        elif name == "geo" and isinstance(value, str) and value != SHIPPED_GEO:
            changes[name] = str(folder / value)
        elif isinstance(value, _Model):
            changes[name] = _rooted(value, folder)
        elif isinstance(value, tuple):
            changes[name] = tuple(
                _rooted(v, folder) if isinstance(v, _Model) else folder / v if isinstance(v, Path) else v for v in value
            )
    return model.model_copy(update=changes)
