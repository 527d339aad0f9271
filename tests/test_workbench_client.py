"""The client of the Workbench against its stand-in: what is fetched, what is kept, and what becomes of every fault."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import json
import stat
import threading
import zoneinfo
from pathlib import Path

import pytest
from workbench_example import ALERTS, IDS, INSIDE, NOW, SINCE, UNTIL, ZONE, created, files_of, person

from tocsin.calendars import CalendarError
from tocsin.sources.workbench import ApiKey, Workbench, WorkbenchAuthError, WorkbenchError, open_fetched, span
from tocsin.sources.workbench import fetch as fetching
from tocsin.sources.workbench.export import survey
from tocsin.sources.workbench.transport import LONGEST_WAIT_SECONDS
from tocsin.testing.workbench import EXPORTS, Fault, StandIn, example_alerts

pytest_plugins = ["workbench_fixtures"]

DETAIL_REQUESTS = 2 * len(IDS)


# ---- logging in


def test_a_login_takes_two_steps_and_is_proven_by_one_call(server: StandIn, connect) -> None:
    assert connect(person(server)).login() == len(ALERTS)
    assert [(s.method, s.headers.get("x-expelinc-otp")) for s in server.seen] == [
        ("POST", None),
        ("POST", server.otp),
        ("GET", None),
    ]
    assert [bool(s.authorization) for s in server.seen] == [False, False, True]


def test_an_api_key_needs_no_login_and_is_proven_by_the_same_call(server: StandIn, connect) -> None:
    assert connect(ApiKey(f" {server.api_key}\n")).login() == len(ALERTS)
    assert [s.path for s in server.seen] == ["/api/v2/expel_alerts"]


def test_without_a_second_factor_the_first_step_is_enough(connect) -> None:
    with StandIn(ALERTS, needs_otp=False) as plain:
        assert connect(person(plain), url=plain.url).login() == len(ALERTS)
        assert plain.count("login", "POST") == 1


@pytest.mark.parametrize("wrong", [{"user": "eve"}, {"password": "no"}, {"code": "000000"}], ids=str)
def test_whoever_is_refused_is_told_so_and_is_not_tried_again(
    server: StandIn, connect, naps: list[float], wrong
) -> None:
    with pytest.raises(WorkbenchAuthError, match=r"refused the login.*fresh one-time code"):
        connect(person(server, **wrong)).login()
    assert (server.count("login", "POST"), naps) == (2, [])


def test_a_wrong_key_and_nobody_at_all_are_refused(connect, server: StandIn) -> None:
    with pytest.raises(WorkbenchAuthError, match=r"401.*log in again"):
        connect(ApiKey("guessed")).login()
    with pytest.raises(WorkbenchAuthError, match="nobody is given"):
        Workbench(server.url).login()


@pytest.mark.parametrize(
    "fault", [Fault(kind="html"), Fault(kind="empty"), Fault(kind="odd-json", status=404)], ids=lambda f: f.kind
)
def test_an_address_that_is_no_workbench_is_said_to_be_none(server: StandIn, connect, fault: Fault) -> None:
    server.fail(fault)
    with pytest.raises(WorkbenchError, match="Is this the address of a Workbench"):
        connect(person(server)).login()


# ---- what is fetched and kept


def test_everything_inside_the_local_dates_is_kept_as_the_service_has_it(server: StandIn, fetch) -> None:
    fetched = fetch()
    assert 20 < len(INSIDE) < len(ALERTS)
    assert {r["id"]: r["attributes"] for r in fetched.alert_rows()} == {a["id"]: a["attributes"] for a in INSIDE}
    for row, alert in zip(fetched.detail_rows(), INSIDE, strict=True):
        assert row["id"] == alert["id"]
        assert [e["attributes"] for e in row["evidence"]] == alert["evidence"]
        assert [v["attributes"] for v in row["vendor_alerts"]] == alert["vendor_alerts"]
    asked = next(s for s in server.seen if s.path == EXPORTS[0])
    assert dict(asked.query) == {"filter[from]": "2026-10-03T06:00:00Z", "filter[to]": "2026-10-13T06:00:00Z"}
    assert fetched.export.read_bytes() == server.answer(asked).body
    assert fetched.complete
    assert not fetched.errors
    assert fetched.counts["alerts"] == fetched.counts["detailed"] == fetched.counts["export_inside"] == len(INSIDE)


def test_an_alert_costs_two_requests_and_a_page_of_the_list_one(server: StandIn, fetch) -> None:
    fetch()
    # one proves the key, one is the export, one the list; the notebook's way would take three an alert
    assert len(server.seen) == 3 + DETAIL_REQUESTS


def test_every_page_is_read_of_the_list_and_of_what_hangs_on_an_alert(connect, tmp_path: Path) -> None:
    many = [a | {"evidence": [{"evidence_type": "URL", "evidence": f"u{i}"} for i in range(7)]} for a in INSIDE]
    with StandIn(many, page_size=3) as small:
        fetched = connect(url=small.url).fetch(SINCE, UNTIL, ZONE, into=tmp_path / "raw")
    assert [r["id"] for r in fetched.alert_rows()] == IDS
    assert all(
        [e["attributes"]["evidence"] for e in row["evidence"]] == [f"u{i}" for i in range(7)]
        for row in fetched.detail_rows()
    )


def test_without_evidence_only_the_export_is_asked_for_and_evidence_can_follow(server: StandIn, fetch) -> None:
    first = fetch(evidence=False)
    assert first.complete
    assert not first.details
    assert len(server.seen) == 2
    assert fetch().counts["detailed"] == len(IDS)
    assert server.count("export") == 1


@pytest.mark.parametrize(
    ("since", "until", "zone", "hours"),
    [
        ("2026-03-08", "2026-03-09", "America/Denver", 23), ("2026-11-01", "2026-11-02", "America/Denver", 25),
        ("2026-10-04", "2026-10-05", "Australia/Lord_Howe", 23.5), ("2011-12-29", "2011-12-31", "Pacific/Apia", 24),
        ("2026-10-01", "2026-10-02", "Asia/Kathmandu", 24),
    ],
)  # fmt: skip
def test_local_dates_become_instants_that_clock_changes_cannot_fool(
    since: str, until: str, zone: str, hours: float
) -> None:
    low, high = span(since, until, zone)
    assert (high - low) / dt.timedelta(hours=1) == hours
    assert low.astimezone(zoneinfo.ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M") == f"{since} 00:00"


@pytest.mark.parametrize(
    ("since", "until", "zone", "says"),
    [
        ("2026-10-02", "2026-10-02", "UTC", "later than since"), ("2026-10-03", "2026-10-02", "UTC", "later than since"),
        ("yesterday", "2026-10-02", "UTC", "since: 'yesterday' is no date"), ("2026-10-01", "2026-13-02", "UTC", "until"),
        ("2026-10-01", "2026-10-02", "America/Denber", "Did you mean"),
    ],
)  # fmt: skip
def test_dates_and_zones_that_are_none_are_refused_before_anything_is_sent(
    server: StandIn, fetch, since, until, zone, says
) -> None:
    with pytest.raises((WorkbenchError, CalendarError), match=says):
        fetch(since=since, until=until, zone=zone)
    assert not server.seen


EDGES = ("2026-10-03T05:59:59.999Z", "2026-10-03T06:00:00.000Z", "2026-10-13T05:59:59.999Z", "2026-10-13T06:00:00.000Z")


class Careless(StandIn):
    """Sends the rows of all days, whatever was asked for, and one whose time nobody can read."""

    def _export(self, query):
        return super()._export((("filter[from]", "2000-01-01"), ("filter[to]", "2100-01-01")))

    def _list(self, seen):
        import dataclasses

        return super()._list(dataclasses.replace(seen, query=tuple(q for q in seen.query if "filter" not in q[0])))


def test_rows_outside_the_range_are_counted_on_both_sides_kept_and_not_asked_for(connect, tmp_path: Path) -> None:
    odd = INSIDE[0] | {"id": "odd", "csv": INSIDE[0]["csv"] | {"Insert At (T3)": "soon", "Expel Alert ID": "odd"}}
    edges = {
        at: INSIDE[0]
        | {"id": at, "csv": {"Expel Alert ID": at, "Insert At (T3)": at}, "attributes": {"created_at": at}}
        for at in EDGES
    }
    with Careless([*ALERTS, odd, *edges.values()]) as server:
        fetched = connect(url=server.url).fetch(SINCE, UNTIL, ZONE, into=tmp_path / "raw")
    low, high = span(SINCE, UNTIL, ZONE)
    before, after = 1 + sum(created(a) < low for a in ALERTS), 1 + sum(created(a) >= high for a in ALERTS)
    assert (fetched.counts["export_before"], fetched.counts["export_after"]) == (before, after)
    assert fetched.counts["export_unreadable_time"] == 1
    assert fetched.counts["listed_outside"] == before + after
    assert {r["id"] for r in fetched.detail_rows()} == {*IDS, "odd", *EDGES[1:3]}
    assert fetched.export.read_text().count("\n") == len(ALERTS) + 6


class Forgetful(StandIn):
    """Lists no alerts, though it has them."""

    def _list(self, seen):
        return self._paged(seen, [])


def test_an_alert_that_only_the_export_names_is_read_by_its_id(connect, tmp_path: Path) -> None:
    with Forgetful(ALERTS) as server:
        fetched = connect(url=server.url).fetch(SINCE, UNTIL, ZONE, into=tmp_path / "raw")
    assert [r["alert"]["attributes"] for r in fetched.detail_rows()] == [a["attributes"] for a in INSIDE]


@pytest.mark.parametrize(
    "alert_id", ["../../auth/v0/login", "x?filter[from]=1", "#", "/", "//evil.example", "%2e%2e", "\u00fc \u202e"]
)
def test_an_id_cannot_lead_to_another_path(connect, tmp_path: Path, alert_id: str) -> None:
    evil = INSIDE[0] | {"id": "x", "csv": INSIDE[0]["csv"] | {"Expel Alert ID": alert_id}}
    with Forgetful([evil]) as server:
        fetched = connect(url=server.url).fetch(SINCE, UNTIL, ZONE, into=tmp_path / "raw")
        asked = server.seen[-1]
    assert (asked.path.rpartition("/")[0], asked.query) == ("/api/v2/expel_alerts", ())
    assert [(e.alert_id, e.what, e.status) for e in fetched.errors] == [(alert_id, "alert", 404)]
    assert set(files_of(tmp_path)) == {"raw/export.csv", "raw/manifest.json", "raw/alerts/000001.jsonl.gz"}


def test_nothing_in_the_range_is_a_fetch_of_nothing(fetch) -> None:
    fetched = fetch(since="2020-01-01", until="2020-01-02")
    assert fetched.complete
    assert fetched.counts["export_rows"] == fetched.counts["alerts"] == 0
    assert fetched.details == ()


def test_the_manifest_vouches_for_every_file_and_only_the_owner_can_read_them(fetch) -> None:
    fetched = fetch()
    manifest = json.loads(fetched.manifest.read_text())
    held = files_of(fetched.folder)
    assert set(held) == {*manifest["files"], "manifest.json"}
    for name, entry in manifest["files"].items():
        assert entry["sha256"] == hashlib.sha256(held[name]).hexdigest()
        assert entry["bytes"] == len(held[name])
    for path in [fetched.folder, *fetched.folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert manifest["files"]["export.csv"]["path"] == EXPORTS[0]
    assert open_fetched(fetched.folder) == fetched


def test_two_fetches_of_the_same_give_the_same_bytes(fetch) -> None:
    assert files_of(fetch("one").folder) == files_of(fetch("two", concurrency=1).folder)


def test_progress_tells_the_stages_in_order_and_ends_at_the_total(fetch) -> None:
    told: list[tuple[str, int, int | None]] = []
    fetch(progress=lambda *step: told.append(step))
    assert [stage for stage, _ in itertools.groupby(told, key=lambda step: step[0])] == ["export", "alerts", "evidence"]
    assert told[-1] == ("evidence", len(IDS), len(IDS))


# ---- the two paths of the export, and what is no CSV


def test_the_documented_path_is_tried_first_and_the_other_one_when_it_is_gone(connect, tmp_path: Path) -> None:
    with StandIn(ALERTS, exports=EXPORTS[1:]) as moved:
        fetched = connect(url=moved.url).fetch(SINCE, UNTIL, ZONE, into=tmp_path / "raw", evidence=False)
        assert [s.path for s in moved.seen if "metrics" in s.path] == list(EXPORTS)
    assert any(f"came from {EXPORTS[1]}; there is none at {EXPORTS[0]}" in note for note in fetched.notes)


def test_without_either_path_the_error_names_both(connect, tmp_path: Path) -> None:
    with StandIn(ALERTS, exports=()) as bare, pytest.raises(WorkbenchError, match=" or ".join(EXPORTS)):
        connect(url=bare.url).fetch(SINCE, UNTIL, ZONE, into=tmp_path / "raw")


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(kind="html", path="export"), "HTML"), (Fault(kind="empty", path="export"), "an empty body"),
        (Fault(kind="odd-json", status=200, path="export"), "JSON instead of CSV"),
        (Fault(kind="not-json", status=403, path="export"), "403.*a page for browsers"), (Fault(status=403, path="export"), "403"),
    ],
    ids=lambda value: f"{value.kind} {value.status}" if isinstance(value, Fault) else "",
)  # fmt: skip
def test_what_is_no_csv_is_an_error_that_says_what_came_and_nothing_of_it_is_kept(
    server: StandIn, fetch, tmp_path, fault, says
) -> None:
    server.fail(fault)
    with pytest.raises(WorkbenchError, match=says):
        fetch()
    assert not files_of(tmp_path / "raw")


def test_an_export_that_ends_within_a_row_is_not_kept(tmp_path: Path) -> None:
    whole = b"Expel Alert ID,Insert At (T3),Severity\n" + b"a,2026-10-04T00:00:00Z,LOW\n" * 3
    low, high = span("2026-10-04", "2026-10-05", "UTC")

    def held(data: bytes):
        path = tmp_path / "export.csv"
        path.write_bytes(data)
        with path.open("rb") as file:
            return survey(file, low, high)

    assert held(whole).counts.inside == 3
    assert held(whole.rstrip()).counts.inside == 3
    assert held(b"\xef\xbb\xbf" + whole).columns[0] == "Expel Alert ID"
    assert held(whole + b"\x85\xff,2026-10-04T01:00:00Z,\xe2\x80\xa8x\n").counts.inside == 4
    assert "Alert Status" in held(whole).missing
    for cut in (whole[:-6], whole[: len(whole) - 20]):
        with pytest.raises(WorkbenchError, match=r"ends in the middle of row \d"):
            held(cut)


def test_columns_that_the_notebook_reads_and_the_export_lacks_are_noted(connect, tmp_path: Path) -> None:
    class Renamed(StandIn):
        def _export(self, query):
            import dataclasses

            right = super()._export(query)
            return dataclasses.replace(right, body=right.body.replace(b"Time Last Closed (T6)", b"Closed"))

    with Renamed(ALERTS) as server:
        fetched = connect(url=server.url).fetch(SINCE, UNTIL, ZONE, into=tmp_path / "raw", evidence=False)
    assert fetched.notes[0] == "the export lacks columns: Time Last Closed (T6)"


# ---- trouble that passes, and trouble that stays


def test_the_wait_that_a_busy_service_asks_for_is_kept_to(server: StandIn, fetch, naps: list[float]) -> None:
    server.fail(Fault(status=429, path="export", times=2, retry_after="7"))
    later = (NOW + dt.timedelta(seconds=90)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    server.fail(Fault(status=503, path="export", times=1, retry_after=later))
    assert fetch(evidence=False).complete
    assert naps == [7.0, 7.0, 90.0]


def test_a_wait_that_is_too_long_ends_the_fetch_at_once_and_says_when_to_return(
    server: StandIn, fetch, naps: list[float]
) -> None:
    server.fail(Fault(status=429, path="export", retry_after="7200"))
    with pytest.raises(WorkbenchError, match=r"asked again in 7,200 s.*what has come is kept") as raised:
        fetch()
    assert (naps, raised.value.attempts, raised.value.status) == ([], 1, 429)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_trouble_that_passes_is_waited_out_ever_longer(server: StandIn, fetch, naps: list[float], status: int) -> None:
    server.fail(Fault(status=status, path="export", times=4))
    assert fetch(evidence=False).complete
    assert [2**i <= nap <= 1.25 * 2**i for i, nap in enumerate(naps)] == [True] * 4


def test_trouble_that_stays_is_given_up_after_so_many_attempts(server: StandIn, fetch, naps: list[float]) -> None:
    server.fail(Fault(kind="not-json", status=500, path="export"))
    with pytest.raises(WorkbenchError, match=r"status 500 .asked 9 times.*run the same command again later") as raised:
        fetch(attempts=9)
    assert (raised.value.attempts, server.count("export")) == (9, 9)
    assert max(naps) <= 1.25 * LONGEST_WAIT_SECONDS


def test_half_an_answer_is_asked_for_again_and_never_kept(server: StandIn, fetch, tmp_path: Path) -> None:
    right = files_of(fetch("right").folder)
    for path in ("export", "expel_alerts", "/evidence", "/vendor_alerts"):
        server.fail(Fault(kind="cut", path=path, times=1))
    assert files_of(fetch("cut").folder) == right
    server.fail(Fault(kind="cut", path="export"))
    with pytest.raises(WorkbenchError, match=r"closed in the middle of the answer .asked 2 times"):
        fetch("never", attempts=2)
    assert not files_of(tmp_path / "never")


def test_a_server_that_does_not_answer_is_given_up_after_the_time_allowed(server: StandIn, fetch) -> None:
    server.fail(Fault(kind="hang", path="export"))
    with pytest.raises(WorkbenchError, match=r"no answer within 0.1 s .asked 2 times"):
        fetch(timeout_seconds=0.1, attempts=2)


def test_a_port_at_which_nobody_listens_is_said_to_be_one(connect, naps: list[float]) -> None:
    with StandIn() as gone:
        url = gone.url
    with pytest.raises(WorkbenchError, match=r"no connection.*look at the address") as raised:
        connect(url=url, attempts=3).login()
    assert (raised.value.status, len(naps)) == (None, 2)


@pytest.mark.parametrize("kind", ["status", "not-json", "odd-json"])
def test_an_error_in_any_shape_is_an_error(server: StandIn, fetch, kind) -> None:
    server.fail(Fault(kind=kind, status=418 if kind != "status" else 400, path="export"))
    with pytest.raises(WorkbenchError, match=r"418|400"):
        fetch()


# ---- one alert, and all of them


def test_one_alert_that_cannot_be_had_is_an_error_beside_the_others_and_is_asked_for_again(
    server: StandIn, fetch
) -> None:
    bad, worse, hidden = IDS[3], IDS[5], IDS[9]
    server.fail(Fault(status=500, path=f"{bad}/evidence"))
    server.fail(Fault(kind="html", path=f"{worse}/vendor_alerts"))
    server.fail(Fault(status=403, path=f"{hidden}/evidence"))
    fetched = fetch(attempts=2)
    assert {(e.alert_id, e.what, e.attempts, e.status) for e in fetched.errors} == {
        (bad, "evidence", 2, 500), (worse, "vendor_alerts", 1, 200), (hidden, "evidence", 1, 403),
    }  # fmt: skip
    assert [r["id"] for r in fetched.detail_rows()] == [i for i in IDS if i not in {bad, worse, hidden}]
    assert not fetched.complete
    server.faults.clear()
    server.seen.clear()
    again = fetch()
    assert again.complete
    assert [r["id"] for r in again.detail_rows()] == IDS
    assert {s.path.split("/")[4] for s in server.seen if s.path.count("/") > 3} == {bad, worse, hidden} | {"export"} - {
        "export"
    }
    server.seen.clear()
    assert fetch() == again
    assert not server.seen, "a complete folder asks for nothing, not even who we are"


def test_a_service_that_is_down_for_good_is_not_asked_for_every_alert(
    fetch, connect, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(fetching, "GIVE_UP_AFTER", 5)
    monkeypatch.setattr(fetching, "BATCH", 10)
    with StandIn(example_alerts(80, seed=2)) as server:
        server.fail(Fault(status=429, path="/evidence", after=3))
        fetched = connect(url=server.url, attempts=2, concurrency=2).fetch(
            "2026-10-01", "2026-10-20", "UTC", into=tmp_path / "raw"
        )
        assert server.count("/evidence") < 30
    counts = fetched.counts
    assert counts["detailed"] + counts["errors"] + counts["not_asked"] == 80
    assert counts["errors"] >= 5
    assert any("stopped after 5 alerts in a row" in note for note in fetched.notes)


def test_a_session_that_ends_stops_everything_and_what_came_is_not_asked_for_again(
    server: StandIn, fetch, monkeypatch
) -> None:
    monkeypatch.setattr(fetching, "BATCH", 10)
    right = {n: d for n, d in files_of(fetch("right").folder).items() if n != "manifest.json"}
    for after in (0, 1, 2, 7, 21, 40, DETAIL_REQUESTS - 1):
        server.seen.clear()
        server.fail(Fault(status=401, path="expel_alerts/", after=after))
        with pytest.raises(WorkbenchAuthError, match="log in again; what has come is kept"):
            fetch(f"cut-{after}", concurrency=1)
        assert server.count("expel_alerts/") == after + 1, "after a 401 nothing more is asked"
        server.faults.clear()
        fetched = fetch(f"cut-{after}")
        assert {n: d for n, d in files_of(fetched.folder).items() if n != "manifest.json"} == right
        assert server.count("export") == 1
        # Only the alert that was being asked for when the session ended is begun again.
        assert server.count("expel_alerts/") <= DETAIL_REQUESTS + 2


def test_a_key_press_stops_it_and_what_came_is_kept(server: StandIn, fetch, tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, _total: int | None) -> None:
        if stage == "evidence" and done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(progress=interrupt, concurrency=2)
    assert not [n for n in files_of(tmp_path / "raw") if n.endswith(".part")]
    kept = {r["id"] for r in open_fetched(tmp_path / "raw").detail_rows()}
    assert len(kept) >= 10
    server.seen.clear()
    assert fetch().complete
    assert not kept & {s.path.split("/")[4] for s in server.seen if s.path.count("/") > 4}


def test_a_page_of_the_list_that_came_is_not_asked_for_again(connect, tmp_path: Path) -> None:
    with StandIn(ALERTS, page_size=10) as small:
        small.fail(Fault(status=500, path="/api/v2/expel_alerts", after=3))  # the proof of the key, and two pages
        broken = connect(url=small.url, attempts=1).fetch(SINCE, UNTIL, ZONE, into=tmp_path / "raw")
        assert ("", "list") in {(e.alert_id, e.what) for e in broken.errors}
        small.faults.clear()
        small.seen.clear()
        again = connect(url=small.url).fetch(SINCE, UNTIL, ZONE, into=tmp_path / "raw")
        pages = [dict(s.query) for s in small.seen if s.path == "/api/v2/expel_alerts" and "sort" in dict(s.query)]
        assert again.complete
        assert pages[0]["page[offset]"] == "20"
        assert [r["id"] for r in again.alert_rows()] == IDS


def test_a_file_that_was_changed_is_noticed_and_asked_for_again(server: StandIn, fetch) -> None:
    fetched = fetch()
    right = files_of(fetched.folder)
    for path in (fetched.details[0], fetched.alerts[0], fetched.export):
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(WorkbenchError, match="is not what was fetched"):
            open_fetched(fetched.folder)
        assert fetch().complete
        assert files_of(fetched.folder) == right


def test_a_folder_of_another_fetch_or_of_somebody_else_is_left_alone(fetch, tmp_path: Path) -> None:
    fetch(evidence=False)
    with pytest.raises(WorkbenchError, match=r"another fetch: until 2026-10-13 .asked now: 2026-10-14"):
        fetch(until="2026-10-14")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("ten years of work")
    with pytest.raises(WorkbenchError, match="name a new or an empty folder"):
        fetch("mine")
    (tmp_path / "raw" / "manifest.json").write_text("{")
    with pytest.raises(WorkbenchError, match="damaged"):
        fetch()
    with pytest.raises(WorkbenchError, match="makes such a folder"):
        open_fetched(tmp_path / "nowhere")


def test_no_more_requests_are_under_way_than_allowed(connect, tmp_path: Path) -> None:
    lock, now, most = threading.Lock(), 0, 0

    class Counting(StandIn):
        def answer(self, seen):
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            reply = super().answer(seen)
            with lock:
                now -= 1
            return reply

    with Counting(ALERTS) as server:
        connect(url=server.url, concurrency=3).fetch(SINCE, UNTIL, ZONE, into=tmp_path / "raw")
    assert 1 <= most <= 3


def test_pages_that_lead_in_a_circle_end_and_the_rest_comes(server: StandIn, fetch) -> None:
    server.fail(Fault(kind="next-again", path="/api/v2/expel_alerts", times=2, after=1))
    server.fail(Fault(kind="next-again", path=f"{IDS[0]}/evidence"))
    fetched = fetch()
    assert {(e.alert_id, e.what) for e in fetched.errors} == {("", "list"), (IDS[0], "evidence")}
    assert all("in a circle" in e.message for e in fetched.errors)
    assert fetched.counts["detailed"] == len(IDS) - 1
    server.faults.clear()
    assert fetch().complete
    assert [r["id"] for r in fetch().alert_rows()] == IDS


# ---- clocks


@pytest.mark.parametrize("ahead_seconds", [-3600, 0, 300])
def test_a_server_whose_clock_is_wrong_is_measured_and_noted(connect, tmp_path: Path, ahead_seconds: int) -> None:
    with StandIn(ALERTS, now=lambda: NOW + dt.timedelta(seconds=ahead_seconds)) as server:
        fetched = connect(url=server.url).fetch(SINCE, UNTIL, ZONE, into=tmp_path / "raw", evidence=False)
    assert fetched.skew is not None
    assert abs(fetched.skew.seconds - ahead_seconds) <= fetched.skew.uncertainty_seconds == 0.5
    assert json.loads(fetched.manifest.read_text())["skew"]["seconds"] == fetched.skew.seconds
    assert any("clock" in note for note in fetched.notes) == (abs(ahead_seconds) > 60)


def test_a_range_that_has_not_ended_is_noted(fetch) -> None:
    fetched = fetch(since="2026-11-01", until="2026-11-21", evidence=False)
    assert any("had not ended" in note for note in fetched.notes)
