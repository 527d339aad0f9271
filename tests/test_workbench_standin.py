"""The stand-in of the Workbench, judged by the service's real client, `pyexclient`, and by the notebook's own calls."""

from __future__ import annotations

import csv
import datetime as dt
import io
import warnings
from collections.abc import Iterator

import pytest
import requests

from tocsin.testing.workbench import EXPORTS, Fault, StandIn, example_alerts

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pyexclient
    from pyexclient.workbench import gt, limit, sort, window

ALERTS = example_alerts(60, seed=3)


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn(ALERTS) as running:
        yield running


@pytest.fixture
def client(server: StandIn) -> pyexclient.WorkbenchClient:
    return pyexclient.WorkbenchClient(server.url, username=server.user, password=server.password, mfa_code=server.otp)


def test_the_real_client_logs_in_by_two_steps_and_its_token_is_accepted(server: StandIn, client) -> None:
    assert [one.headers.get("x-expelinc-otp") for one in server.seen] == [None, server.otp]
    assert all("grant_type=password" in one.body for one in server.seen)
    assert client.expel_alerts.count() == len(ALERTS)
    assert server.seen[-1].authorization == client.token
    assert client.token.startswith("Bearer ")


def test_the_real_client_may_bring_an_api_key_instead(server: StandIn) -> None:
    client = pyexclient.WorkbenchClient(server.url, token=server.api_key)
    assert client.expel_alerts.count() == len(ALERTS)
    assert server.count("login", "POST") == 0


@pytest.mark.parametrize("wrong", [{"password": "no"}, {"mfa_code": "000000"}, {"username": "eve"}], ids=str)
def test_a_wrong_login_is_refused_at_the_second_step(server: StandIn, wrong: dict[str, str]) -> None:
    right = {"username": server.user, "password": server.password, "mfa_code": server.otp}
    with pytest.raises(requests.HTTPError, match="Invalid user, password or code"):
        pyexclient.WorkbenchClient(server.url, **(right | wrong))
    assert server.count("login", "POST") == 2


def test_without_a_token_and_after_the_session_ended_nothing_is_told(server: StandIn, client) -> None:
    with pytest.raises(requests.HTTPError, match="expired"):
        pyexclient.WorkbenchClient(server.url, token="guessed").expel_alerts.get(id=ALERTS[0]["id"])
    server.end_sessions()
    with pytest.raises(requests.HTTPError, match="expired"):
        client.expel_alerts.get(id=ALERTS[0]["id"])


def test_an_alert_has_its_attributes_and_leads_to_its_evidence_and_vendor_alerts(client) -> None:
    for alert in ALERTS[:10]:
        found = client.expel_alerts.get(id=alert["id"])
        assert found.id == alert["id"]
        assert found.expel_severity == alert["csv"]["Severity"]
        assert [(e.evidence_type, e.evidence) for e in found.evidence] == [
            (e["evidence_type"], e["evidence"]) for e in alert["evidence"]
        ]
        assert [v.evidence_summary for v in found.vendor_alerts] == [
            v["evidence_summary"] for v in alert["vendor_alerts"]
        ]


def test_an_alert_that_is_not_there_is_an_error_of_the_real_client(client) -> None:
    with pytest.raises(requests.HTTPError, match="No such alert"):
        client.expel_alerts.get(id="nobody")


def test_a_search_is_filtered_sorted_and_paged_until_the_end(server: StandIn, client) -> None:
    start, end = dt.datetime(2026, 10, 3, tzinfo=dt.UTC), dt.datetime(2026, 10, 9, tzinfo=dt.UTC)
    inside = [a["id"] for a in ALERTS if start < dt.datetime.fromisoformat(a["attributes"]["created_at"]) < end]
    found = client.expel_alerts.search(limit(7), created_at=window(start.isoformat(), end.isoformat()))
    assert found.count() == len(inside) > 14
    before = server.count("expel_alerts")
    assert [a.id for a in found] == inside
    assert server.count("expel_alerts") - before == -(-len(inside) // 7) - 1  # the first page was there already
    later = client.expel_alerts.search(
        sort("created_at", "desc"), created_at=gt(start.isoformat()), expel_severity="LOW"
    )
    ids = [a.id for a in later]
    assert ids == [a["id"] for a in reversed(ALERTS) if a["csv"]["Severity"] == "LOW" and a["id"] in ids]
    assert ids


@pytest.mark.parametrize("path", EXPORTS)
def test_the_notebooks_own_request_gives_the_rows_of_its_range_in_csv(client, path: str) -> None:
    start, end = "2026-10-03T00:00:00", "2026-10-09T00:00:00"
    answer = client.request("get", f"{path}?filter[from]={start}Z&filter[to]={end}Z")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [r["Expel Alert ID"] for r in rows] == [
        a["id"] for a in ALERTS if f"{start}.000Z" <= a["csv"]["Insert At (T3)"] < f"{end}.000Z"
    ]
    assert rows == [a["csv"] for a in ALERTS if a["id"] in {r["Expel Alert ID"] for r in rows}]


def test_the_export_has_every_column_that_the_notebook_reads(client) -> None:
    read = {
        "Expel Alert ID", "Severity", "Alert Status", "Investigation ID", "Investigation Type", "First Investigated At",
        "Expel Vendor Tech Name", "Insert At (T3)", "First Assigned To User At (T4)", "First Assigned User (T4 Assignee)",
        "First Assigned User Name (T4 Assignee)", "Time Promoted To Incident", "Time First Investigative Action (T5a)",
        "Time First Remediation Action (T5b)", "Time First Closed (T60)", "Time Last Closed (T6)", "First Assigned To Org At",
    }  # fmt: skip
    text = client.request("get", f"{EXPORTS[0]}?filter[from]=2026-10-01T00:00:00Z&filter[to]=2026-10-01T00:00:00Z").text
    assert read < set(text.strip().split(","))
    assert text.count("\n") == 1


def test_a_range_that_nobody_can_read_is_refused_with_a_reason(client) -> None:
    with pytest.raises(requests.HTTPError, match="must be times"):
        client.request("get", f"{EXPORTS[0]}?filter[from]=yesterday")


def test_the_example_alerts_show_every_course_an_alert_can_take() -> None:
    rows = [a["csv"] for a in example_alerts(400, seed=0)]
    assert {r["Alert Status"] for r in rows} == {"NEW", "IN_PROGRESS", "CLOSED"}
    assert {r["Severity"] for r in rows} == {"CRITICAL", "HIGH", "MEDIUM", "LOW", "TESTING", "TUNING"}
    assert {r["Investigation Type"] for r in rows} == {"", "Investigation", "Incident"}
    assert "PHISHING_SIMULATION" in {r["Close Reason"] for r in rows}
    assert any(r["Time Last Closed (T6)"] > r["Time First Closed (T60)"] > "" for r in rows), "none was reopened"
    assert any(not r["First Assigned To User At (T4)"] and r["Time First Closed (T60)"] for r in rows), "no automation"
    assert len({r["Investigation ID"] for r in rows}) < sum(r["Investigation ID"] > "" for r in rows), "no case has two"
    assert example_alerts(5, seed=1) != example_alerts(5, seed=2)


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        (Fault(status=403), 403, '"errors"'), (Fault(status=429, retry_after="7"), 429, '"errors"'),
        (Fault(kind="not-json", status=502), 502, "<!doctype"), (Fault(kind="html"), 200, "<!doctype"),
        (Fault(kind="empty"), 200, ""), (Fault(kind="redirect", location="http://elsewhere.invalid/"), 302, ""),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)  # fmt: skip
def test_a_fault_is_what_it_says_and_ends_when_it_says(server: StandIn, fault: Fault, status: int, body: str) -> None:
    fault.times = 1
    server.fail(fault)
    ask = {"url": f"{server.url}/api/v2/expel_alerts", "headers": {"Authorization": f"Bearer {server.api_key}"}}
    spoilt = requests.get(**ask, allow_redirects=False, timeout=5)
    assert (spoilt.status_code, spoilt.headers.get("Retry-After")) == (status, fault.retry_after)
    assert spoilt.text.startswith(body) if body.startswith("<") else body in spoilt.text
    assert requests.get(**ask, timeout=5).status_code == 200


def test_a_cut_connection_and_a_server_that_hangs_reach_the_client_as_such(server: StandIn) -> None:
    ask = {"url": f"{server.url}/api/v2/expel_alerts", "headers": {"Authorization": f"Bearer {server.api_key}"}}
    server.fail(Fault(kind="cut", times=1))
    server.fail(Fault(kind="hang", times=1))
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(**ask, timeout=5)
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.get(**ask, timeout=0.1)


def test_the_real_client_sends_its_token_wherever_links_next_leads_which_is_what_ours_must_not(server: StandIn) -> None:
    with StandIn(ALERTS) as stranger:
        server.fail(Fault(kind="next-elsewhere", times=1, location=stranger.url))
        client = pyexclient.WorkbenchClient(server.url, token=server.api_key)
        assert len(list(client.expel_alerts.search(limit(50)))) > 50
        assert stranger.seen[0].authorization == f"Bearer {server.api_key}"


def test_the_servers_clock_can_be_wrong() -> None:
    with StandIn(now=lambda: dt.datetime(2031, 1, 2, 3, 4, 5, tzinfo=dt.UTC)) as wrong:
        assert requests.get(wrong.url, timeout=5).headers["Date"] == "Thu, 02 Jan 2031 03:04:05 GMT"
