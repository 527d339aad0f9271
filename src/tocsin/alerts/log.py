"""Alerts: the log itself. Findings and histories go in; the history as it is, was, or was known comes out.

Enters: a path or URL and a clock. Leaves: `Alerts`, whose answers are `lifecycle.History` values. Layer: alerts. The wall
clock is read here, where no other is given, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import polars as pl

from tocsin.alerts.grouping import Grouping, raised_by
from tocsin.alerts.reading import caveat_rows, count_after, last_alert, load, newest_first, raised_after, resolve
from tocsin.alerts.triage import Triage, word_of
from tocsin.lifecycle import JOURNAL_KINDS, History, LifecycleError, fit_frame
from tocsin.lifecycle.frames import TIME
from tocsin.lifecycle.history import check_time
from tocsin.lifecycle.words import SEVERITIES, STATES, check_word
from tocsin.store import Store, append, read
from tocsin.store.rows import among, read_known
from tocsin.store.schema import TABLES

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection

    from sqlalchemy.engine import Connection

KNOWN = ("finding_id", "alert_id", "time", "window_end", "score", "peak_score")
"""What has to be known of findings that are there already."""


@dataclass(frozen=True)
class Added:
    """What an addition changed: rows that are new, and those that were there already.

    suppressed: new findings that an allow-list entry covers; they are kept and raise no alert. peaks: higher scores of known findings.
    """

    alerts: int = 0
    findings: int = 0
    known: int = 0
    suppressed: int = 0
    peaks: int = 0
    activities: int = 0
    journal: int = 0


def wall_clock() -> datetime:
    """Return the time it is."""
    return datetime.now(UTC)


class Alerts(Triage):
    """The alert log at a path (SQLite) or URL (PostgreSQL); it is made where there is none.

    clock: returns the time it is, aware; what is written is recorded then. grouping: which findings are one alert. create: False
    refuses to make a new log.

    Any number of programs may have it open. One writes at a time, the others wait; readers wait for nobody.

    >>> import tempfile
    >>> when = datetime(2026, 1, 5, 9, tzinfo=UTC)
    >>> found = pl.DataFrame({"finding_id": ["f1"], "detection_id": ["mail.exe"], "entity": ["ann"], "time": [when]})
    >>> with tempfile.TemporaryDirectory() as folder, Alerts(f"{folder}/soc.db", clock=lambda: when) as log:
    ...     first, again = log.add(found), log.add(found)
    ...     alert = log.alerts()["alert_id"].item()
    ...     _ = log.close(alert, "known sender", verdict="benign_true_positive", actor="bob")
    ...     print(first.alerts, again.alerts, log.alerts()["state"].item())
    1 0 closed
    """

    def __init__(
        self,
        where: str | os.PathLike[str],
        *,
        clock: Callable[[], datetime] = wall_clock,
        grouping: Grouping | None = None,
        create: bool = True,
    ) -> None:
        self._store = Store(where, create=create)
        self._clock = clock
        self.grouping = grouping or Grouping()

    def __repr__(self) -> str:
        """Name the log; never its password."""
        return f"Alerts({self._store.name!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        """Close the connections to the database."""
        self._store.close()

    # What goes in

    def add(
        self,
        findings: pl.DataFrame,
        source: str = "live",
        *,
        peaks: pl.DataFrame | None = None,
        at: datetime | None = None,
    ) -> Added:
        """Write findings down, and the alerts they raise; adding them again changes nothing.

        An alert's row is written with its first finding (of several at once, the earliest) and never changed. Findings with
        ``suppressed_by`` are kept without an alert: they are rows of ``history().findings`` whose ``alert_id`` is null.

        Args:
            findings: As the engine writes them.
            source: "live", or "backtest": then an alert was created when its finding happened, and not when it was written down.
            peaks: ``finding_id`` and ``peak_score``: higher scores that windows of earlier findings reached since.
            at: When live alerts are raised; left out, the time it is.
        """
        framed = fit_frame(findings, "finding").sort("time", "finding_id")
        with self._store.writing() as connection:
            now = self._clock()
            known = self._known_findings(connection, framed, peaks)
            fresh = framed.join(known, on="finding_id", how="anti").unique(
                "finding_id", keep="first", maintain_order=True
            )
            raised_at = pl.col("time") if source == "backtest" else pl.lit(at or now, TIME)
            grouped = self.grouping.of(fresh.drop("alert_id")).with_columns(
                pl.lit(now, TIME).alias("recorded_at"),
                raised_at.alias("created_at"),
                pl.lit(source).alias("source_of_alert"),
            )
            alerts = append(connection, "alert", raised_by(grouped))
            covered = pl.col("suppressed_by").is_not_null()
            kept = grouped.with_columns(pl.when(~covered).then("alert_id").alias("alert_id")).select(framed.columns)
            written = append(connection, "finding", kept)
            told = pl.concat(
                [p.select("finding_id", "peak_score") for p in (framed, *([] if peaks is None else [peaks]))]
            )
            nothing_rose = known.is_empty() and peaks is None and kept["peak_score"].eq_missing(kept["score"]).all()
            everything = pl.concat([known, kept.select(known.columns)])
            higher = 0 if nothing_rose else self._raise_peaks(connection, everything, told, source, at or now, now)
            suppressed = kept.filter(covered).height
            return Added(alerts, written, framed.height - written, suppressed, higher)

    def _known_findings(
        self, connection: Connection, findings: pl.DataFrame, peaks: pl.DataFrame | None
    ) -> pl.DataFrame:
        ids = pl.concat([f["finding_id"] for f in (findings, *([] if peaks is None else [peaks]))]).unique()
        return read_known(connection, "finding", ids, KNOWN)

    def _raise_peaks(
        self, connection: Connection, known: pl.DataFrame, told: pl.DataFrame, source: str, at: datetime, now: datetime
    ) -> int:
        """Write a `peak` for each finding whose window reached further than is known; further is away from its own score."""
        table = TABLES["activity"].c
        ids = known["alert_id"].drop_nulls().unique()
        earlier = read(
            connection,
            "activity",
            table.type == "peak",
            among(table.alert_id, ids, connection.dialect.name),
            only=("value", "number"),
        )
        said = earlier.select(finding_id="value", said="number").group_by("finding_id").agg("said")
        far = (pl.col("told") - pl.col("score")).abs()
        reached = pl.max_horizontal(
            (pl.col("peak_score") - pl.col("score")).abs(),
            (pl.col("said") - pl.col("score")).list.eval(pl.element().abs()).list.max(),
        ).fill_null(0)
        new = (
            told.rename({"peak_score": "told"})
            .join(known.filter(pl.col("alert_id").is_not_null()), on="finding_id", how="inner")
            .join(said, on="finding_id", how="left")
            .filter(far > reached)
            .sort("finding_id", far)
            .unique("finding_id", keep="last", maintain_order=True)
        )
        rows = new.select(
            "alert_id", type=pl.lit("peak"), value="finding_id", number="told", actor=pl.lit("engine"), actor_kind=pl.lit("system"),
            at=pl.coalesce("window_end", "time") if source == "backtest" else pl.lit(at, TIME), recorded_at=pl.lit(now, TIME),
        )  # fmt: skip
        return append(connection, "activity", fit_frame(rows, "activity"))

    def import_history(self, history: History, source: str | None = None) -> Added:
        """Write down what a history says; what is there already stays as it is.

        source: a name for rows that say nothing better than "import". Rows without ``recorded_at`` are learnt now; others keep theirs,
        so that a copy of a log answers as the log did.

        Raises:
            LifecycleError: An activity or finding belongs to an alert that neither the history nor the log has.
        """
        with self._store.writing() as connection:
            self._check_alerts(connection, history)
            now = pl.lit(self._clock(), TIME)
            framed = {
                name: fit_frame(frame, name).with_columns(pl.col("recorded_at").fill_null(now))
                for name, frame in zip(("alert", "activity", "finding", "journal"), history.frames(), strict=True)
            }
            told = caveat_rows(history).with_columns(now.alias("recorded_at"))
            framed["journal"] = pl.concat([framed["journal"], told])
            if source is not None:
                unnamed = pl.col("source") == "import"
                framed["alert"] = framed["alert"].with_columns(
                    pl.when(unnamed).then(pl.lit(source)).otherwise("source").alias("source")
                )
            new = {name: append(connection, name, frame) for name, frame in framed.items()}
        given = framed["alert"].height + framed["finding"].height + framed["activity"].height + framed["journal"].height
        return Added(
            new["alert"], new["finding"], given - sum(new.values()), activities=new["activity"], journal=new["journal"]
        )  # fmt: skip

    def _check_alerts(self, connection: Connection, history: History) -> None:
        named = pl.concat([history.activities["alert_id"], history.findings["alert_id"].drop_nulls()]).unique()
        strange = named.filter(~named.is_in(history.alerts["alert_id"].implode()))
        if strange.len():
            there = read(connection, "alert", among(TABLES["alert"].c.alert_id, strange, connection.dialect.name))
            strange = strange.filter(~strange.is_in(there["alert_id"].implode()))
        if strange.len():
            raise LifecycleError(
                f"{strange.len():,} alerts have activities or findings but are neither in this history nor in the log,"
                f" such as {strange[0]}. Import the alerts first, or with them."
            )

    def journal(self, rows: pl.DataFrame) -> int:
        """Write down what was true around the alerts (`lifecycle.JOURNAL`); return how many rows are new.

        Raises:
            LifecycleError: A kind that the journal does not know, or a missing column.
        """
        framed = fit_frame(rows, "journal")
        for kind in framed["kind"].unique().to_list():
            check_word(kind, JOURNAL_KINDS, "kind of journal row")
        with self._store.writing() as connection:
            return append(
                connection, "journal", framed.with_columns(pl.col("recorded_at").fill_null(pl.lit(self._clock(), TIME)))
            )

    # What comes out

    def history(self) -> History:
        """Return all there is."""
        with self._store.reading() as connection:
            return load(connection)

    def as_of(self, when: datetime) -> History:
        """Return the history as it truly was at a time: what had happened by then, whenever it was learnt."""
        check_time(when)
        with self._store.reading() as connection:
            return load(connection, happened_by=when).as_of(when)

    def as_known_at(self, when: datetime) -> History:
        """Return the history as it was known at a time: what had happened and had been written down by then."""
        check_time(when)
        with self._store.reading() as connection:
            return load(connection, happened_by=when, recorded_by=when).as_of(when)

    def show(self, alert: str) -> History:
        """Return the history of one alert, seen now; ``alert`` is its id, or as much of its beginning as is unique."""
        with self._store.reading() as connection:
            return self._seen_now(load(connection, alert_ids=pl.Series([resolve(connection, alert)])))

    def alerts(
        self,
        *,
        state: str | None = None,
        severity: str | None = None,
        rule: str | None = None,
        assignee: str | None = None,
        limit: int | None = None,
    ) -> pl.DataFrame:
        """Return alerts as they stand now, one row each as in ``History.current``, those learnt last first.

        severity: as it is now. limit: the most rows; no more of the log is read than they need.

        Raises:
            NonsenseError: No such state or severity.
        """
        wanted: dict[str, Any] = {
            "state": None if state is None else word_of(state, STATES, "state"),
            "severity_now": None if severity is None else word_of(severity, SEVERITIES, "severity"),
            "rule_id": rule,
            "assignee": assignee,
        }
        found: list[pl.DataFrame] = []
        with self._store.reading() as connection:
            for part in newest_first(connection, rule=rule):
                rows = self._seen_now(part).current
                found.append(rows.filter(*(pl.col(c) == v for c, v in wanted.items() if v is not None)).reverse())
                if limit is not None and sum(f.height for f in found) >= limit:
                    break
        rows = (
            pl.concat(found)
            if found
            else History.of(pl.DataFrame(schema={"alert_id": pl.String, "created_at": TIME})).current
        )
        return rows.drop("alert").head(limit) if limit is not None else rows.drop("alert")

    def raised_after(self, seq: int, limit: int, source: str = "live") -> pl.DataFrame:
        """Return the first ``limit`` alerts of a source whose row number is higher, in the order they were learnt.

        Row numbers grow and are never used again; one writer at a time has them, so none appears below one that was seen. Whoever
        keeps the last ``seq`` he dealt with misses nothing.

        Returns:
            ``seq``, the columns of ``lifecycle.ALERT``, and ``evidence``, that of the finding which raised it.
        """
        with self._store.reading() as connection:
            return raised_after(connection, seq, limit, source)

    def count_after(self, seq: int, source: str = "live", severities: Collection[str] = SEVERITIES) -> int:
        """Return how many alerts of a source have a higher row number than ``seq``."""
        with self._store.reading() as connection:
            return count_after(connection, seq, source, severities)

    def last_seq(self) -> int:
        """Return the highest row number of an alert, of any source; 0 in an empty log."""
        return self.last()[0]

    def last(self) -> tuple[int, str | None]:
        """Return the row number and id of the alert learnt last: (0, None) in an empty log."""
        with self._store.reading() as connection:
            return last_alert(connection) or (0, None)

    def seq_of(self, alert_id: str) -> int | None:
        """Return the row number of an alert, or None where the log has no such one."""
        with self._store.reading() as connection:
            found = last_alert(connection, alert_id)
        return None if found is None else found[0]

    def _seen_now(self, history: History) -> History:
        """Return the history seen now, or at its newest row where that is later (a replay of a time to come)."""
        return replace(history, at=max(t for t in (history.seen_at, self._clock()) if t is not None))
