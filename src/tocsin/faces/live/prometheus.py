"""The status of a running engine as Prometheus wants it: `tocsin_*`, in seconds and bytes.

Enters: the status dict (`tocsin.runners.live.meters`), and what the HTTP door counted. Leaves: the text of `/metrics`.
Layer: faces. Labels whose text comes from outside are escaped, cut, and bounded in number: partitions beyond the first
100 are summed as "other", so nobody who can name a partition can make the page grow.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector, CollectorRegistry

from tocsin.runners.live.meters import FATES
from tocsin.text import escape_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    Status = Mapping[str, Any]
    Samples = Iterable[tuple[tuple[str, ...], float | None]]

MODES: Final = ("recovering", "live", "shadow", "waiting", "stopping", "stopped")
MOST_PARTITIONS: Final = 100
LONGEST_LABEL: Final = 120
OTHER: Final = "other"


def exposition(status: Status | None, door: Status | None = None, accept: str = "") -> tuple[bytes, str]:
    """Return the page and its content type.

    Args:
        status: The engine's status; None: there is none yet, and ``tocsin_up`` is 0.
        door: What the HTTP door counted (`tocsin.faces.live.door.Door.counted`).
        accept: The reader's Accept header; OpenMetrics is spoken to who asks for it.

    >>> page, _ = exposition({"mode": "live", "batches": 3})
    >>> [line for line in page.decode().splitlines() if "batches" in line]
    ['# HELP tocsin_batches_total Batches that were applied.', '# TYPE tocsin_batches_total counter', 'tocsin_batches_total 3.0']
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(status, door))
    if "application/openmetrics-text" in accept:
        page: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return page, openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


class StatusCollector(Collector):
    """The families of one status."""

    def __init__(self, status: Status | None, door: Status | None = None) -> None:
        self._status, self._door = status, door

    def collect(self) -> Iterator[Metric]:
        """Yield every family that has a sample."""
        yield _gauge("up", "Whether the engine has a status to show.", (), [((), float(self._status is not None))])
        families = [] if self._status is None else [*_engine(self._status), *_rules(self._status), *_kept(self._status)]
        families += [] if self._status is None else [*_sources(self._status), *_outputs(self._status)]
        families += [] if self._door is None else _door(self._door)
        yield from (family for family in families if family.samples)


def _engine(status: Status) -> Iterator[Metric]:
    events: Status = status.get("events") or {}
    yield InfoMetricFamily("tocsin_build", "The version that runs.", {"version": label(status.get("version"))})
    yield _gauge(
        "mode", "1 for what the engine does now.", ("mode",), [((m,), float(m == status.get("mode"))) for m in MODES]
    )
    yield _gauge("start_time_seconds", "When the engine started.", (), [((), _seconds(status.get("started_at")))])
    yield _gauge("status_time_seconds", "When this was so.", (), [((), _seconds(status.get("at")))])
    yield _counter("events_read", "Records that were read.", (), [((), events.get("read"))])
    yield _counter("events", "Events by what became of them.", ("fate",), [((f,), events.get(f)) for f in FATES])
    yield _gauge("events_per_second", "Records read a second over the last ten.", (), [((), events.get("per_second"))])
    yield _counter("findings", "Findings of all rules.", (), [((), status.get("findings"))])
    yield _counter("batches", "Batches that were applied.", (), [((), status.get("batches"))])
    yield _latency(status)
    yield _gauge(
        "watermark_timestamp_seconds", "Event time up to which nothing is waited for.", (), [((), _seconds(status.get("watermark")))]
    )  # fmt: skip
    yield _gauge(
        "watermark_lag_seconds", "How far the watermark is behind the clock.", (), [((), status.get("watermark_lag_seconds"))]
    )  # fmt: skip


def _latency(status: Status) -> Metric:
    """Return the time batches take; quantiles are of the last minute, count and sum of the whole run."""
    family = Metric("tocsin_batch_seconds", "Seconds from a batch being cut until its findings are there.", "summary")
    latency: Status = status.get("latency_ms") or {}
    for part, key in (("0.5", "p50"), ("0.99", "p99")):
        if latency.get(key) is not None:
            family.add_sample("tocsin_batch_seconds", {"quantile": part}, latency[key] / 1000)
    for name, total in (("count", status.get("batches")), ("sum", status.get("busy_seconds"))):
        if total is not None:
            family.add_sample(f"tocsin_batch_seconds_{name}", {}, total)
    return family


def _rules(status: Status) -> Iterator[Metric]:
    rules: Sequence[Status] = status.get("rules") or ()
    for key, words in (
        ("events", "Events a rule is about."),
        ("scored", "Events a rule gave a score."),
        ("fired", "Events on which a rule fired."),
        ("findings", "Findings of a rule."),
        ("suppressed", "Findings of a rule that an allow-list suppressed."),
        ("errors", "Events that a rule could not score because it failed."),
    ):
        yield _counter(f"rule_{key}", words, ("rule",), [((label(r["id"]),), r.get(key)) for r in rules])
    yield _counter(
        "rule_unscored", "Events that a rule gave no score, by reason.", ("rule", "reason"),
        [((label(r["id"]), label(why)), n) for r in rules for why, n in (r.get("unscored") or {}).items()],
    )  # fmt: skip
    skipped = [((label(name),), 1.0) for name in status.get("skipped") or ()]
    yield _gauge("rule_skipped", "1 for a rule that does not run.", ("rule",), skipped, max)


def _kept(status: Status) -> Iterator[Metric]:
    state: Status = status.get("state") or {}
    entities = [((label(kind),), n) for kind, n in (state.get("entities") or {}).items()]
    yield _gauge("state_entities", "Entities that are kept, by kind.", ("kind",), entities)
    yield _gauge("state_ids", "Event ids that are remembered.", (), [((), state.get("ids"))])
    yield _gauge("state_waiting_events", "Events that wait for the watermark.", (), [((), state.get("waiting"))])
    yield _gauge("state_bytes", "Size of the state.", (), [((), state.get("bytes"))])
    yield _gauge("dead_letters", "Records that were set aside and wait.", (), [((), status.get("dead_letters"))])
    snapshot: Status = status.get("snapshot") or {}
    taken, now = _seconds(snapshot.get("at")), _seconds(status.get("at"))
    age = None if taken is None or now is None else max(0.0, now - taken)
    yield _gauge("snapshot_timestamp_seconds", "When the newest snapshot was written.", (), [((), taken)])
    yield _gauge("snapshot_age_seconds", "How old the newest snapshot is.", (), [((), age)])
    yield _gauge("snapshot_bytes", "Size of the newest snapshot.", (), [((), snapshot.get("bytes"))])
    yield _gauge("snapshot_write_seconds", "How long writing it took.", (), [((), snapshot.get("seconds"))])


def _sources(status: Status) -> Iterator[Metric]:
    found = [(_partition(told, place), told) for place, told in enumerate(status.get("sources") or ())]
    names = ("source", "partition")
    for unit in ("bytes", "messages"):
        waiting = [(where, told.get("behind")) for where, told in found if told.get("unit") == unit]
        yield _gauge(f"source_behind_{unit}", f"{unit.title()} of a partition not read yet.", names, waiting)
    yield _gauge(
        "partition_watermark_timestamp_seconds", "The watermark of a partition (of others: the least).", names,
        [(where, _seconds(told.get("watermark"))) for where, told in found], min,
    )  # fmt: skip
    idle = [(where, float(bool(told.get("idle")))) for where, told in found]
    yield _gauge("partition_idle", "Partitions that are silent and hold nothing back.", names, idle)


def _partition(told: Status, place: int) -> tuple[str, str]:
    if place >= MOST_PARTITIONS:
        return OTHER, OTHER
    return label(told.get("source")), label(told.get("partition"))


def _outputs(status: Status) -> Iterator[Metric]:
    found = [((label(told.get("name")),), told) for told in status.get("outputs") or ()]
    behind = [(who, told.get("behind")) for who, told in found]
    yield _gauge("output_behind_findings", "Findings an output has not taken yet.", ("output",), behind)
    for key, words in (("delivered", "Findings an output took."), ("failed", "Attempts at an output that failed.")):
        yield _counter(f"output_{key}", words, ("output",), [(who, told.get(key)) for who, told in found])


def _door(door: Status) -> Iterator[Metric]:
    answers = [((str(code),), n) for code, n in sorted(door["answers"].items())]
    yield _counter("http_answers", "Answers of the HTTP door by status code.", ("code",), answers)
    events = [((outcome,), n) for outcome, n in sorted(door["events"].items())]
    yield _counter("http_events", "Events that were pushed, by what became of them.", ("outcome",), events)
    yield _counter("http_received_bytes", "Bytes of bodies as they were sent.", (), [((), door["bytes"])])
    yield _counter(
        "http_spool_refusals",
        "Bodies refused because the spool could not hold them.",
        (),
        [((), door["spool_refusals"])],
    )


def label(text: object) -> str:
    r"""Return a label that nothing can be hidden in; one that is cut ends in a digest, so that two stay two.

    >>> label("mail\x1b[2J"), len(label("x" * 1000))
    ('mail\\x1b[2J', 120)
    """
    shown = escape_terminal(str(text))
    if len(shown) <= LONGEST_LABEL:
        return shown
    return f"{shown[: LONGEST_LABEL - 9]}~{hashlib.sha256(shown.encode()).hexdigest()[:8]}"


def _counter(name: str, words: str, names: tuple[str, ...], samples: Samples) -> Metric:
    return _filled(CounterMetricFamily(f"tocsin_{name}", words, labels=names), samples, _add)


def _gauge(
    name: str, words: str, names: tuple[str, ...], samples: Samples, join: Callable[[float, float], float] | None = None
) -> Metric:  # fmt: skip
    return _filled(GaugeMetricFamily(f"tocsin_{name}", words, labels=names), samples, join or _add)


def _filled(family: Any, samples: Samples, join: Callable[[float, float], float]) -> Metric:
    """Add the samples to a family; those whose labels are equal become one, as Prometheus refuses a page with twins."""
    joined: dict[tuple[str, ...], float] = {}
    for labels, value in samples:
        if value is not None:
            joined[labels] = join(joined[labels], value) if labels in joined else value
    for labels, value in joined.items():
        family.add_metric(labels, value)
    filled: Metric = family
    return filled


def _add(one: float, other: float) -> float:
    return one + other


def _seconds(text: object) -> float | None:
    return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else None
