"""Assets: which hosts, users, systems and addresses occur in most alerts, and on how many days each came back.

Enters: a scope. Leaves: an `Answer`. Layer: metrics.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import polars as pl

from tocsin.addresses import canonical
from tocsin.answers import Answer
from tocsin.calendars import Calendar
from tocsin.errors import did_you_mean
from tocsin.metrics.coverage import BEFORE_UNKNOWN, known_before
from tocsin.metrics.scope import MetricError
from tocsin.views import Chart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tocsin.lifecycle import History
    from tocsin.metrics.scope import Scope

    Ints = NDArray[np.int64]

KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "host": "hosts",
        "user": "users",
        "os": "operating systems",
        "src_ip": "source addresses",
        "dst_ip": "destination addresses",
    }
)
"""Each kind of asset and its plural."""
SPELT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "host": "host", "hostname": "host", "host_id": "host", "computer": "host", "device": "host", "endpoint": "host",
        "user": "user", "username": "user", "user_id": "user", "user_name": "user", "account": "user", "src_username": "user",
        "dst_username": "user", "os": "os", "operating_system": "os", "src_ip": "src_ip", "source_ip": "src_ip", "dst_ip": "dst_ip",
        "destination_ip": "dst_ip", "dest_ip": "dst_ip",
    }
)  # fmt: skip
"""How sources spell the kinds, in lower case."""
ADDRESS: Final = ("ip", "ip_address", "address", "ipv4", "ipv6")
SOURCE_ROLES: Final = ("src", "source", "attacker", "client")
TARGET_ROLES: Final = ("dst", "dest", "destination", "target", "victim", "server")
NOTHING: Final = ("", "-", "none", "null", "nan", "n/a", "na", "unknown")
"""Texts that name nothing, in lower case."""
COLUMNS: Final[Mapping[str, Any]] = {
    "asset": pl.String, "alerts": pl.Int64, "share": pl.Float64, "days": pl.Int64, "first_seen": pl.Datetime("us", "UTC"),
    "last_seen": pl.Datetime("us", "UTC"), "alerts_before": pl.Int64, "change": pl.Int64,
}  # fmt: skip
OTHER: Final = "(other)"


def top_assets(
    scope: Scope, *, kind: str | None = "host", top: int = 10, short_hosts: bool = False, domains: bool = False
) -> Answer:
    r"""Count in how many alerts each asset of a kind occurs, over all alerts, each asset once an alert.

    ``kind`` is one of `KINDS`; None gives them all in ``more``, hosts first. Case, spaces and a dot at the end say nothing.
    ``short_hosts`` takes a host's name without its domain. Of users the domain (``CORP\ann``, ``ann@corp.example``) is left
    out unless ``domains`` keeps it; the notes say how many names then stand for several accounts. Addresses are in canonical
    form. The entity that an own alert is about is one of its assets.

    Raises:
        MetricError: No such kind, or fewer than one asset asked for.

    >>> from datetime import UTC, datetime
    >>> from tocsin.lifecycle import History
    >>> from tocsin.metrics import Scope
    >>> seen = '[{"kind": "user", "role": null, "value": "%s"}]'
    >>> alerts = {"alert_id": ["a", "b"], "created_at": [datetime(2026, 1, d, tzinfo=UTC) for d in (5, 7)]}
    >>> alerts["observables"] = [seen % r"CORP\\Ann", seen % "ann@corp.example"]
    >>> top_assets(Scope(History.of(pl.DataFrame(alerts))), kind="user").table.select("asset", "alerts", "days").rows()
    [('ann', 2, 2)]
    """
    if kind is not None and kind not in KINDS:
        raise MetricError(
            f"There is no kind of asset {kind!r}.{did_you_mean(kind, KINDS)} There are {', '.join(KINDS)}."
        )
    if top < 1:
        raise MetricError(f"top is the number of assets to name, at least 1; not {top}.")
    seen = _seen(scope.history, short_hosts=short_hosts, domains=domains)
    wanted = list(KINDS) if kind is None else [kind]
    earlier = known_before(scope)
    counted = _counted(scope, earlier, seen)
    answers = [_answer(scope, earlier, seen, counted, name, top) for name in wanted]
    if kind is not None:
        return answers[0]
    first, plurals = answers[0], [KINDS[name] for name in wanted]
    notes = tuple(dict.fromkeys(note for answer in answers for note in answer.notes))
    facts = {plural: answer.facts for plural, answer in zip(plurals, answers, strict=True)}
    return Answer(
        "Which assets occur in most alerts?", first.definition, first.table, notes,
        {plural.capitalize(): answer.table for plural, answer in zip(plurals, answers, strict=True)}, first.chart,
        "" if any(not answer.empty for answer in answers) else "No alert of this span names an asset.", facts,
        n=first.n, as_of=scope.as_of,
    )  # fmt: skip


class Seen(NamedTuple):
    """Which alert names which asset, each pair once, in order of asset.

    alert: rows in ``history.alerts``. asset: rows in ``names``. names: ``kind``, ``asset`` (null: a text that names nothing)
    and ``spellings`` (under how many domains it occurs).
    """

    alert: Ints
    asset: Ints
    names: pl.DataFrame


def _seen(history: History, *, short_hosts: bool, domains: bool) -> Seen:
    """Return which alert names which asset. Each different text is looked at once, however many alerts name it."""
    subject = history.alerts.select("entity_kind", "entity").with_row_index("alert").drop_nulls()
    subject = subject.select("alert", kind="entity_kind", role=pl.lit(None, pl.String), value="entity")
    rows = pl.concat([history.mentions, subject])
    # The columns are told apart beside each other: it is the longest part of the way.
    known = rows.select(pl.col(c).cast(pl.Categorical(pl.Categories.random())) for c in ("kind", "role", "value"))
    which = _kinds(known["kind"], known["role"])
    values, texts = _numbered(known["value"])
    rows, values, which = rows.filter(pl.Series(which >= 0)), values[which >= 0], which[which >= 0]
    pairs = which * len(texts) + values
    present = np.zeros(len(KINDS) * max(len(texts), 1), np.bool_)
    present[pairs] = True
    there = np.flatnonzero(present)
    spelt = pl.DataFrame(
        {
            "kind": pl.Series(list(KINDS)).gather(there // max(len(texts), 1)),
            "value": texts.gather(there % max(len(texts), 1)),
        }
    )
    spelt = _normal(spelt, short_hosts=short_hosts, domains=domains)
    names = spelt.group_by("kind", "asset").agg(pl.col("qualified").n_unique().alias("spellings")).sort("kind", "asset")
    numbers = spelt.join(
        names.with_row_index("number"), on=["kind", "asset"], how="left", nulls_equal=True, maintain_order="left"
    )
    number = np.zeros(present.size, np.int64)
    number[there] = numbers["number"].to_numpy()
    pair = np.sort((number[pairs] << 32) | rows["alert"].to_numpy())
    pair = pair[np.diff(pair, prepend=-1) > 0]
    return Seen(pair & 0xFFFFFFFF, pair >> 32, names)


def _numbered(known: pl.Series) -> tuple[Ints, pl.Series]:
    """Return the number of each row's category, and the texts; null has the number of a text of its own."""
    each = known.drop_nulls().unique()
    texts = pl.DataFrame({"code": each.to_physical(), "text": each.cast(pl.String)}).sort("code")["text"]
    numbers = known.to_physical().cast(pl.Int64).fill_null(len(texts)).to_numpy()
    return numbers, pl.concat([texts, pl.Series([None], dtype=pl.String)])


def _kinds(told: pl.Series, part_of: pl.Series) -> Ints:
    """Return which of `KINDS` each row's kind and role mean; -1 for none of them."""
    (kind, kinds), (role, roles) = _numbered(told), _numbered(part_of)
    word, part = pl.col("kind").str.to_lowercase(), pl.col("role").str.to_lowercase()
    side = (
        pl.when(part.is_in(SOURCE_ROLES)).then(pl.lit("src_ip")).when(part.is_in(TARGET_ROLES)).then(pl.lit("dst_ip"))
    )
    meant = pl.when(word.is_in(ADDRESS)).then(side).otherwise(word.replace_strict(dict(SPELT), default=None))
    every = (
        kinds.alias("kind").to_frame().join(roles.alias("role").to_frame(), how="cross", maintain_order="left_right")
    )
    number = {name: i for i, name in enumerate(KINDS)}
    table = every.select(meant.replace_strict(number, default=-1, return_dtype=pl.Int64)).to_series().fill_null(-1)
    return np.asarray(table.to_numpy()[kind * len(roles) + role], np.int64)


def _normal(spelt: pl.DataFrame, *, short_hosts: bool, domains: bool) -> pl.DataFrame:
    """Return the asset that each text of a kind means (null: nothing), and its text with its domain."""
    text = pl.col("value").str.strip_chars().str.to_lowercase()
    rows = spelt.select("kind", pl.when(~text.is_in(NOTHING)).then(text).alias("text"))
    parsed, text = canonical(rows["text"]), pl.col("text")
    host = text.str.strip_chars_end(".")
    if short_hosts:
        host = pl.when(pl.lit(parsed.is_not_null())).then(host).otherwise(host.str.split(".").list.first())
    bare = text.str.split("\\").list.last().str.split("@").list.first()
    user = text if domains else pl.when(bare != "").then(bare).otherwise(text)
    kind = pl.col("kind")
    asset = (
        pl.when(kind == "host").then(host).when(kind == "user").then(user).when(kind == "os").then(text)
        .otherwise(pl.coalesce(parsed, text))
    )  # fmt: skip
    return rows.select("kind", asset.alias("asset"), text.alias("qualified"))


def _counted(scope: Scope, earlier: Scope | None, seen: Seen) -> pl.DataFrame:
    """Return each asset of the span: alerts, local days, first and last time, and its alerts in the span before."""
    size, created = scope.history.alerts.height, scope.history.alerts["created_at"].dt.epoch("us").to_numpy()
    mine = _inside(scope, size)[seen.alert]
    alert, asset = seen.alert[mine], seen.asset[mine]
    day = Calendar("1d", scope.zone).number(created)[alert] if alert.size else alert
    low = int(day.min()) if day.size else 0
    days = np.sort((asset << 32) | (day - low))
    days = days[np.diff(days, prepend=-1) > 0]
    starts = np.flatnonzero(np.diff(asset, prepend=-1) != 0)
    n = seen.names.height
    before = np.bincount(seen.asset[_inside(earlier, size)[seen.alert]], minlength=n) if earlier is not None else None
    numbers = asset[starts]
    times = created[alert]
    found = pl.DataFrame(
        {
            "number": numbers,
            "alerts": np.diff(starts, append=asset.size),
            "days": np.bincount(days >> 32, minlength=n)[numbers],
            "first_seen": np.minimum.reduceat(times, starts) if starts.size else times,
            "last_seen": np.maximum.reduceat(times, starts) if starts.size else times,
            "alerts_before": pl.Series(before[numbers]) if before is not None else pl.repeat(None, starts.size, dtype=pl.Int64, eager=True),
        }
    )  # fmt: skip
    rows = pl.concat([found, seen.names[numbers]], how="horizontal").with_columns(
        (pl.col("alerts") - pl.col("alerts_before")).alias("change"),
        (pl.col("alerts") / max(scope.alerts.height, 1)).alias("share"),
    )
    cast = [pl.col(name).cast(dtype) for name, dtype in COLUMNS.items()]
    return rows.select("number", "kind", "spellings", *cast).sort(["alerts", "asset"], descending=[True, False])


def _inside(scope: Scope, size: int) -> NDArray[np.bool_]:
    """Return which rows of ``history.alerts`` a scope counts."""
    inside = np.zeros(size, np.bool_)
    inside[scope.alerts["alert"].to_numpy()] = True
    return inside


def _answer(scope: Scope, earlier: Scope | None, seen: Seen, counted: pl.DataFrame, kind: str, top: int) -> Answer:
    plural, size = KINDS[kind], scope.history.alerts.height
    title = f"Which {plural} occur in most alerts?"
    inside, whose = _inside(scope, size), pl.col("asset")
    of_kind = counted.filter(pl.col("kind") == kind, whose.is_not_null())

    def alerts_with(rows: pl.DataFrame) -> int:
        """Return how many alerts of the span name any of these assets."""
        wanted = np.zeros(seen.names.height, np.bool_)
        wanted[rows["number"].to_numpy()] = True
        named = np.zeros(size, np.bool_)
        named[seen.alert[wanted[seen.asset]]] = True
        return int((named & inside).sum())

    total, named, any_ = scope.alerts.height, alerts_with(of_kind), alerts_with(counted.filter(whose.is_not_null()))
    nothing = alerts_with(counted.filter(pl.col("kind") == kind, whose.is_null()))
    table, beyond = of_kind.head(top).select(list(COLUMNS)), of_kind.slice(top)
    if beyond.height:
        rest = alerts_with(beyond)
        last = {"asset": OTHER, "alerts": rest, "share": rest / total}
        last |= {"first_seen": beyond["first_seen"].min(), "last_seen": beyond["last_seen"].max()}
        table = pl.concat([table, pl.DataFrame([last | dict.fromkeys(COLUMNS.keys() - last)], schema=dict(COLUMNS))])
    again = int((of_kind["days"] > 1).sum())
    facts = {
        "distinct": of_kind.height, "alerts": total, "alerts with this kind": named, "alerts with any asset": any_,
        "coverage": named / total if total else None, "on several days": again, "alerts whose text names nothing": nothing,
    }  # fmt: skip
    definition = (
        f"In how many alerts each of the {of_kind.height:,} {plural} occurs, each once an alert; share is of all {total:,} alerts. "
        f"{named:,} alerts ({_percent(named, total)}) name one, {any_:,} ({_percent(any_, total)}) any asset at all; in {nothing:,} a text "
        f"that names nothing was left out. Days are local days with such an alert: {again:,} came back on another day. "
        f"{OTHER} counts the alerts with any of the {beyond.height:,} further ones. {scope.words()}"
    )
    chart = Chart("bars", title, table.select(label="asset", count="alerts"), x="alerts")
    return Answer(
        title, definition, table, _notes(of_kind, kind, earlier), chart=chart,
        empty="" if of_kind.height else f"No alert of this span names one of its {plural}.", facts=facts, n=total, as_of=scope.as_of,
    )  # fmt: skip


def _notes(of_kind: pl.DataFrame, kind: str, earlier: Scope | None) -> tuple[str, ...]:
    notes = [] if earlier is not None else [BEFORE_UNKNOWN]
    several = of_kind.filter(pl.col("spellings") > 1).height
    if kind == "user" and several:
        notes.append(
            f"{several:,} names are spelt with several domains and may be several people; domains=True keeps them apart."
        )
    return tuple(notes)


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
