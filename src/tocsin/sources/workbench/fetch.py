"""One fetch: the export, the list of alerts, then evidence and vendor alerts of each, into a folder that can be resumed.

Enters: a transport that is logged in (or will be), a range of time, a folder. Leaves: `Fetched`. Layer: sources.

What is here already and still has its hash is not asked for again. An alert that cannot be had is an entry in the list
of errors; a token that is no longer accepted stops everything, with all that came so far kept.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tocsin.errors import WorkbenchAuthError, WorkbenchError
from tocsin.sources.workbench import client
from tocsin.sources.workbench.export import instant, survey
from tocsin.sources.workbench.fetched import ALERTS, DETAILS, EXPORT, Fetched, FetchError, fetched_of
from tocsin.sources.workbench.transport import TOO_MANY, LinkError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable

    from tocsin.sources.workbench.kept import Kept, Row
    from tocsin.sources.workbench.transport import Clock, Transport

    Progress = Callable[[str, int, int | None], None]
    """Told what is being fetched, how many are here, and how many there will be (None: not known yet)."""

BATCH: Final = 100
GIVE_UP_AFTER: Final = 20
NOTABLE_SKEW_SECONDS: Final = 60.0
RELATIONS: Final = ("evidence", "vendor_alerts")


@dataclass
class Fetching:
    """The state of one fetch."""

    transport: Transport
    kept: Kept
    low: dt.datetime
    high: dt.datetime
    clock: Clock
    progress: Progress
    workers: int
    errors: list[FetchError] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    troubles_in_a_row: int = 0

    def run(self, *, evidence: bool) -> Fetched:
        """Fetch what is not here yet."""
        ids = self._export()
        if evidence:
            alerts = self._list()
            self._details(list(dict.fromkeys([*ids, *alerts])), alerts)
        return self._finish(evidence=evidence)

    # ---- three stages

    def _export(self) -> tuple[str, ...]:
        """Have the export, and return the ids it names."""
        self.progress("export", 0, None)
        if not self.kept.holds(EXPORT):
            facts: Row = {"asked_at": client.utc(self.clock())}
            with self.kept.raw(EXPORT, facts) as file:
                source = client.download_export(self.transport, self.low, self.high, file)
                found = survey(file, self.low, self.high)
                facts |= found.to_dict() | {"path": source.path, "refused": source.refused}
        else:
            with (self.kept.folder / EXPORT).open("rb") as file:
                found = survey(file, self.low, self.high)
        self.counts |= {f"export_{name}": n for name, n in asdict(found.counts).items()} | {
            "export_alerts": len(found.ids)
        }
        entry = self.kept.files[EXPORT]
        if entry["refused"]:
            self.notes.append(f"the export came from {entry['path']}; there is none at {', '.join(entry['refused'])}")
        if found.missing:
            self.notes.append(f"the export lacks columns: {', '.join(found.missing)}")
        self.progress("export", found.counts.rows, found.counts.rows)
        return found.ids

    def _list(self) -> dict[str, Row]:
        """Have the list of alerts, page by page, and return those inside the range: id -> links of what hangs on it."""
        state = self.kept.manifest.setdefault("list", {"pages": 0, "next": None, "complete": False, "total": None})
        sound = all(self.kept.holds(_numbered(ALERTS, n)) for n in range(1, state["pages"] + 1))
        stuck = state["pages"] and not state["complete"] and state["next"] is None
        if stuck or not sound:  # where a page was lost, the links that led on from it are of no use
            self.kept.drop(ALERTS)
            state |= {"pages": 0, "next": None, "complete": False}
        if not state["complete"]:
            try:
                self._read_pages(state)
            except WorkbenchAuthError:
                raise
            except WorkbenchError as error:
                self._note(error, "", "list")
                if isinstance(error, LinkError):  # to go on from there would lead nowhere the next time as well
                    state["next"] = None
        return self._listed(state["pages"])

    def _read_pages(self, state: Row) -> None:
        link, query = (state["next"], ()) if state["next"] else (client.ALERTS, client.between(self.low, self.high))
        for page in client.pages(self.transport, link, query):
            state["pages"] += 1
            state |= {"next": page.next, "complete": page.next is None, "total": page.total}
            self.kept.write_rows(
                _numbered(ALERTS, state["pages"]), page.resources, {"asked_at": client.utc(self.clock())}
            )
            self.progress("alerts", (state["pages"] - 1) * client.PAGE_ROWS + len(page.resources), page.total)

    def _listed(self, page_count: int) -> dict[str, Row]:
        found: dict[str, Row] = {}
        listed = outside = 0
        for n in range(1, page_count + 1):
            for resource in self.kept.rows(_numbered(ALERTS, n)):
                listed += 1
                moment = instant(str((resource.get("attributes") or {}).get("created_at")))
                if moment is not None and not self.low <= moment < self.high:
                    outside += 1
                elif isinstance(resource.get("id"), str):
                    found[resource["id"]] = {r: client.related(resource, resource["id"], r) for r in RELATIONS}
        self.counts |= {"listed": listed, "listed_outside": outside, "listed_alerts": len(found)}
        return found

    def _details(self, ids: list[str], links: dict[str, Row]) -> None:
        """Have evidence and vendor alerts of these alerts, in batches that become one file each."""
        have, not_asked = 0, 0
        stop = threading.Event()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="workbench")
        try:
            for start in range(0, len(ids), BATCH):
                name, batch = _numbered(DETAILS, start // BATCH + 1), ids[start : start + BATCH]
                rows = {row["id"]: row for row in self.kept.rows(name)}
                missing = [i for i in batch if i not in rows]
                if missing and not stop.is_set():
                    try:
                        self._ask(pool, missing, links, rows, stop, (have, len(ids)))
                    finally:
                        if any(i in rows for i in missing):
                            kept = [rows[i] for i in batch if i in rows]
                            self.kept.write_rows(name, kept, {"asked_at": client.utc(self.clock())})
                have += sum(i in rows for i in batch)
                not_asked += sum(i not in rows and i not in self.failed for i in batch)
                self.progress("evidence", have, len(ids))
        finally:
            self.transport.halt()  # whoever still waits for another attempt need not
            pool.shutdown(wait=True, cancel_futures=True)
            self.transport.resume()
        self.counts |= {"alerts": len(ids), "detailed": have, "not_asked": not_asked}

    def _ask(
        self, pool: ThreadPoolExecutor, ids: Iterable[str], links: dict[str, Row], rows: dict[str, Row],
        stop: threading.Event, done: tuple[int, int],
    ) -> None:  # fmt: skip
        waiting = {pool.submit(self._one, i, links.get(i), stop): i for i in ids}
        try:
            for n, future in enumerate(as_completed(waiting), start=1):
                alert_id = waiting[future]
                try:
                    row = future.result()
                except WorkbenchAuthError:
                    raise
                except _DetailError as error:
                    self._note(error.cause, alert_id, error.what)
                    if self.troubles_in_a_row >= GIVE_UP_AFTER and not stop.is_set():
                        stop.set()
                        self.notes.append(
                            f"stopped after {GIVE_UP_AFTER} alerts in a row could not be had; run the same command later"
                        )
                    continue
                if row is not None:
                    rows[alert_id] = row
                    self.troubles_in_a_row = 0
                self.progress("evidence", done[0] + n, done[1])
        finally:
            stop_now = [future for future in waiting if not future.done()]
            for future in stop_now:
                future.cancel()

    def _one(self, alert_id: str, links: Row | None, stop: threading.Event) -> Row | None:
        """Return one alert's evidence and vendor alerts; None: it was not asked for. Runs in a thread of the pool."""
        row: Row = {"id": alert_id}
        what = "alert"
        failed: WorkbenchError | None = None
        if stop.is_set():
            return None
        try:
            if links is None:
                row["alert"] = client.read_document(self.transport, client.alert_path(alert_id))["data"]
                links = {r: client.related(row["alert"], alert_id, r) for r in RELATIONS}
            for what in RELATIONS:
                pages = client.pages(self.transport, links[what])
                row[what] = [resource for page in pages for resource in page.resources]
        except WorkbenchAuthError:
            self.transport.halt()  # here, not where the result is read: until then another alert would be asked for
            raise
        except WorkbenchError as error:
            failed = error
        if failed is not None:
            raise _DetailError(what, failed)
        return row

    # ---- what is left

    def _note(self, error: WorkbenchError, alert_id: str, what: str) -> None:
        self.errors.append(FetchError(alert_id, what, str(error), error.attempts, error.status))
        self.failed.add(alert_id)
        trouble = error.status is None or error.status == TOO_MANY or error.status >= 500
        self.troubles_in_a_row = self.troubles_in_a_row + 1 if trouble else 0

    def _finish(self, *, evidence: bool) -> Fetched:
        skew = self.transport.skew
        manifest = self.kept.manifest
        if skew is not None:
            manifest["skew"] = asdict(skew)
            if abs(skew.seconds) > NOTABLE_SKEW_SECONDS:
                ahead = "ahead of" if skew.seconds > 0 else "behind"
                self.notes.append(f"the server's clock is {abs(skew.seconds):,.0f} s {ahead} ours")
        asked_at = instant(self.kept.files[EXPORT]["asked_at"])
        if asked_at is not None and asked_at < self.high:
            self.notes.append(
                "the range had not ended when it was asked for; a later fetch into another folder will hold more"
            )
        self.errors.sort(key=lambda error: (error.alert_id, error.what))
        self.counts["errors"] = len(self.errors)
        manifest |= {
            "with_evidence": evidence,
            "complete": not self.errors and not self.counts.get("not_asked"),
            "counts": self.counts, "errors": [asdict(error) for error in self.errors], "notes": self.notes,
        }  # fmt: skip
        self.kept.save()
        return fetched_of(self.kept.folder, manifest)


class _DetailError(Exception):
    """Which part of an alert could not be had, and why; it never leaves this module."""

    def __init__(self, what: str, cause: WorkbenchError) -> None:
        super().__init__(what)
        self.what, self.cause = what, cause


def _numbered(name: str, n: int) -> str:
    return f"{name}/{n:06}.jsonl.gz"


def silent(_stage: str, _done: int, _total: int | None) -> Any:
    """Tell nobody how far it is."""
