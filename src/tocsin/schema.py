"""The standard columns of an event: name, type, unit, meaning, and what ECS and OCSF call them.

Enters: nothing. Leaves: `STANDARD` (name -> Column), `KINDS` (the value kinds a mapping may name) and the name look-ups
that propose a mapping. A file may carry any other column; it is kept with its own type. Layer: ground floor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping

TIME: Final = pl.Datetime("us", "UTC")

KINDS: Final[Mapping[str, pl.DataType]] = MappingProxyType(
    {
        "text": pl.String(),
        "int": pl.Int64(),
        "float": pl.Float64(),
        "bool": pl.Boolean(),
        "time": TIME,
        "address": pl.String(),
        "list": pl.List(pl.String),
    }
)
"""The kinds of value a mapping may ask for, and the Polars type each is stored as."""


@dataclass(frozen=True, slots=True)
class Column:
    """One standard column of an event.

    Attributes:
        name: The column's name in a batch.
        kind: One of `KINDS`.
        unit: Unit of the numbers, or what the strings are.
        meaning: One sentence.
        ecs: The field's name in the Elastic Common Schema, or "" where it has none.
        ocsf: The attribute's path in the Open Cybersecurity Schema Framework, or "".
        aliases: Other names it goes by in common logs, lower case (used only to propose a mapping).
    """

    name: str
    kind: str
    unit: str
    meaning: str
    ecs: str = ""
    ocsf: str = ""
    aliases: tuple[str, ...] = field(default=())

    @property
    def dtype(self) -> pl.DataType:
        """The Polars type of the column.

        >>> STANDARD["nr_recipients"].dtype
        Int64
        """
        return KINDS[self.kind]


_COLUMNS: Final = (
    Column(
        "event_id",
        "text",
        "id, unique within a source",
        "Identifies the event; made from source and record position when absent.",
        "event.id",
        "metadata.uid",
        ("id", "eventid", "uuid", "uid", "record_id", "correlation_id", "messagetraceid"),
    ),
    Column(
        "timestamp",
        "time",
        "UTC, microseconds",
        "When it happened. The only required column.",
        "@timestamp",
        "time",
        (
            "time",
            "ts",
            "datetime",
            "date_time",
            "date",
            "event_time",
            "eventtime",
            "createddatetime",
            "created_at",
            "received",
            "origin_timestamp_utc",
            "date_time_utc",
            "timegenerated",
            "_time",
        ),
    ),
    Column(
        "received_at",
        "time",
        "UTC, microseconds",
        "When the event reached the collector; bounds how far in the future `timestamp` may be.",
        "event.ingested",
        "metadata.logged_time",
        ("ingested_at", "ingest_time", "logged_at", "ingestiontime"),
    ),
    Column(
        "partition",
        "text",
        "name",
        "The replayable sub-stream the event came in; lateness is judged within it.",
        "",
        "",
        ("shard", "kafka_partition"),
    ),
    Column(
        "source",
        "text",
        "name",
        "The log the event is from; ids are unique within it.",
        "event.dataset",
        "metadata.log_name",
        ("dataset", "log_source", "sourcetype"),
    ),
    Column(
        "kind",
        "text",
        "word",
        "What happened: mail, login, delivery, connect, ...",
        "event.action",
        "activity_name",
        ("type", "event_type", "eventtype", "action", "operation", "category", "eventname"),
    ),
    Column(
        "user_id",
        "text",
        "id",
        "The account that acted.",
        "user.id",
        "actor.user.uid",
        (
            "user",
            "username",
            "user_name",
            "account",
            "sender",
            "from",
            "sender_address",
            "senderaddress",
            "userprincipalname",
            "user.name",
            "actor.user.name",
            "login",
            "email",
        ),
    ),
    Column(
        "src_ip",
        "address",
        "IPv4 or IPv6",
        "Where it came from.",
        "source.ip",
        "src_endpoint.ip",
        (
            "ip",
            "client",
            "ipaddress",
            "ip_address",
            "client_ip",
            "clientip",
            "remote_addr",
            "source_ip",
            "sourceip",
            "sourceipaddress",
            "fromip",
            "original_client_ip",
            "client.ip",
            "srcip",
            "src",
        ),
    ),
    Column(
        "dst_ip",
        "address",
        "IPv4 or IPv6",
        "Where it went: relay, server, peer.",
        "destination.ip",
        "dst_endpoint.ip",
        ("relay_ip", "server_ip", "dest_ip", "destination_ip", "destip", "dstip", "toip", "dst", "server.ip"),
    ),
    Column(
        "nr_recipients",
        "int",
        "recipients",
        "Number of recipients of a message.",
        "",
        "",
        ("recipients", "nrcpt", "recipient_count", "recipientcount", "num_recipients", "rcpt_count"),
    ),
    Column(
        "attachments",
        "list",
        "file names",
        "Names of the attached files.",
        "email.attachments.file.name",
        "email.files.name",
        ("attachment", "attachment_names", "files", "filenames"),
    ),
    Column(
        "nr_attachments",
        "int",
        "files",
        "Number of attached files; derived from `attachments` when absent.",
        "",
        "",
        ("attachment_count", "num_attachments", "attachmentcount"),
    ),
    Column(
        "outcome",
        "text",
        "success | failure | unknown",
        "How it ended.",
        "event.outcome",
        "status",
        ("result", "status", "resulttype", "recipient_status"),
    ),
    Column(
        "size_bytes",
        "int",
        "bytes",
        "Size of the message or transfer.",
        "",
        "email.size",
        ("size", "bytes", "total_bytes", "message_size"),
    ),
    Column(
        "subject",
        "text",
        "free text of the sender",
        "Subject line of a message.",
        "email.subject",
        "email.subject",
        ("message_subject",),
    ),
    Column(
        "message_id",
        "text",
        "id chosen by the sender",
        "Message-ID header of a message.",
        "email.message_id",
        "email.message_uid",
        ("messageid", "message-id", "internetmessageid"),
    ),
    Column(
        "user_agent",
        "text",
        "free text of the client",
        "What the client says it is.",
        "user_agent.original",
        "http_request.user_agent",
        ("useragent", "agent"),
    ),
    Column(
        "device_id",
        "text",
        "id",
        "The device it was done with.",
        "device.id",
        "device.uid",
        ("deviceid", "device", "device_uid"),
    ),
)

STANDARD: Final[Mapping[str, Column]] = MappingProxyType({c.name: c for c in _COLUMNS})
"""The standard columns by name, in the order a batch shows them."""

REQUIRED: Final = ("timestamp",)
ALWAYS: Final = ("event_id", "timestamp", "received_at", "partition", "source")
"""The columns every batch carries where the source has them, asked for or not."""


def standard_name(name: str) -> str | None:
    """Return the standard column that `name` is another word for (ECS, OCSF or a common alias), else None.

    >>> standard_name("source.ip"), standard_name("ClientIP"), standard_name("colour")
    ('src_ip', 'src_ip', None)
    """
    wanted = name.strip().lower()
    squeezed = wanted.replace("_", "").replace("-", "").replace(" ", "")
    for column in _COLUMNS:
        if wanted in {column.name, column.ecs, column.ocsf}:
            return column.name
    for column in _COLUMNS:
        if wanted in column.aliases or squeezed in {column.name.replace("_", ""), *column.aliases}:
            return column.name
    return None


def schema_markdown() -> str:
    """Return the table of standard columns as Markdown (the one in docs/events.md is checked against it).

    >>> schema_markdown().splitlines()[0]
    '| column | type | unit | meaning | ECS | OCSF |'
    """
    lines = ["| column | type | unit | meaning | ECS | OCSF |", "|---|---|---|---|---|---|"]
    for c in _COLUMNS:
        dtype = str(c.dtype).replace("time_unit=", "").replace("time_zone=", "")
        unit = c.unit.replace("|", "or")
        ecs, ocsf = (f"`{name}`" if name else "-" for name in (c.ecs, c.ocsf))
        lines.append(f"| `{c.name}` | {dtype} | {unit} | {c.meaning} | {ecs} | {ocsf} |")
    return "\n".join(lines)
