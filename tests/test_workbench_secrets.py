"""Where the token of the Workbench goes, and that no secret is seen anywhere else."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import json
import logging
import pickle
import sys
import traceback
import types
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.errors
import pytest
from workbench_example import ALERTS, NOW, SINCE, UNTIL, ZONE, files_of, person

from tocsin.errors import TocsinError
from tocsin.faces.commands import workbench as command
from tocsin.sources.workbench import (
    ApiKey,
    Login,
    Secret,
    Workbench,
    WorkbenchAuthError,
    WorkbenchError,
    find_credentials,
    store_api_key,
    stored_api_key,
)
from tocsin.sources.workbench.transport import LinkError, Transport
from tocsin.testing.workbench import EXPORTS, Fault, StandIn

pytest_plugins = ["cli_fixtures", "workbench_fixtures"]


# ---- where the token goes


def test_links_to_another_host_are_not_followed_and_the_token_stays_here(
    server: StandIn, stranger: StandIn, fetch
) -> None:
    server.fail(Fault(kind="next-elsewhere", path="expel_alerts", location=stranger.url, after=1))
    fetched = fetch()
    assert not stranger.seen
    assert {e.what for e in fetched.errors} == {"list", "evidence"}
    assert all("which is not" in e.message and "nothing was sent there" in e.message for e in fetched.errors)


@pytest.mark.parametrize("path", ["export", "/api/v2/expel_alerts"])
def test_redirects_to_another_host_are_not_followed(server: StandIn, stranger: StandIn, fetch, path: str) -> None:
    server.fail(Fault(kind="redirect", path=path, location=f"{stranger.url}{EXPORTS[0]}"))
    with pytest.raises(WorkbenchError, match=r"redirect.*which is not"):
        fetch()
    assert not stranger.seen


def test_a_login_is_not_redirected_anywhere(server: StandIn, stranger: StandIn, connect) -> None:
    server.fail(Fault(kind="redirect", location=f"{stranger.url}/auth/v0/login"))
    with pytest.raises(WorkbenchError, match="answered 302 without a token"):
        connect(person(server)).login()
    assert not stranger.seen


def test_redirects_on_the_same_host_are_followed_but_not_without_end(server: StandIn, fetch) -> None:
    server.fail(
        Fault(
            kind="redirect",
            path=EXPORTS[0],
            times=1,
            location=f"{EXPORTS[1]}?filter[from]=2026-10-03&filter[to]=2026-10-04",
        )
    )
    assert fetch("once", evidence=False).complete
    server.fail(Fault(kind="redirect", path="export", location=EXPORTS[0]))
    with pytest.raises(WorkbenchError, match="without end"):
        fetch("for ever")
    server.faults.clear()
    server.fail(Fault(kind="redirect", path="export", location=""))
    with pytest.raises(WorkbenchError, match="leads nowhere"):
        fetch("nowhere")


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/api", "//evil.example/api", "http://workbench.example/api", "https://workbench.example:444/api",
        "https://workbench.example@evil.example/", "https://u:p@workbench.example/api", "https://workbench.example.evil.example/",
        "\\\\evil.example\\api", "https:\\\\evil.example/api", "ftp://workbench.example/", "javascript:alert(1)", "https://[::1",
        "HTTPS://EVIL.example", "https://workbench.example\t.evil.example/", "https://evil.example#@workbench.example/", "https://x\ny/",
    ],
)  # fmt: skip
def test_only_the_same_scheme_host_and_port_is_the_same_place(link: str) -> None:
    transport = Transport("https://workbench.example", clock=lambda: NOW)
    with contextlib.closing(transport), contextlib.suppress(LinkError):
        target = transport.own(link, said_by="links.next")
        # Some are read as paths; what matters is where the parser that opens the connection would go.
        assert (target.scheme, target.host, target.port, target.userinfo) == ("https", "workbench.example", None, b"")


@pytest.mark.parametrize(
    "link", ["/api", "api", "?x=1", "https://workbench.example/a", "https://WORKBENCH.example:443/a"]
)
def test_the_same_place_is_known_however_it_is_written(link: str) -> None:
    transport = Transport("workbench.example", clock=lambda: NOW)
    assert transport.own(link, said_by="it").host == "workbench.example"
    transport.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://workbench.example", "in the clear; write https://"), ("ftp://workbench.example", "is no address"), ("", "is no address"),
        ("https://ada:pw@workbench.example", "without them"), ("https://", "is no address"), ("http://[::2]", "in the clear"),
    ],
)  # fmt: skip
def test_addresses_that_would_give_the_token_away_are_refused(url: str, says: str) -> None:
    with pytest.raises(TocsinError, match=says) as raised:
        Transport(url, clock=lambda: NOW)
    assert "pw" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1", "https://workbench.example/a/page?x#y"]
)
def test_https_everywhere_and_http_to_this_machine_are_addresses(url: str) -> None:
    transport = Transport(url, clock=lambda: NOW)
    assert transport.origin == url.partition("/a/")[0]
    transport.close()


# ---- a secret shows itself to nobody

PASSWORD, CODE, KEY = "canary-p%ss word/+&=", "canary-135790", "canary-key-2468"


def test_a_secret_is_hidden_from_every_way_of_showing_a_value() -> None:
    secret = Secret(KEY)
    shown = [
        repr(secret), str(secret), f"{secret}", f"{secret!r:>30}", format(secret, "s"), "%s %r" % (secret, secret), repr([secret]),  # noqa: UP031
        repr(ApiKey(secret)), repr(Login("ada", PASSWORD, CODE)), repr(dataclasses.asdict(ApiKey(secret))), repr(copy.deepcopy(secret)),
        json.dumps({"k": secret}, default=str), repr(dir(secret)), repr(getattr(secret, "__dict__", "")), secret.__doc__,
        repr([getattr(secret, name, "") for name in dir(secret)]),
    ]  # fmt: skip
    assert not [text for text in shown if "canary" in text]
    for write in (pickle.dumps, copy.copy and json.dumps, lambda s: pickle.dumps(ApiKey(s))):
        with pytest.raises(TypeError) as raised:
            write(secret)
        assert "canary" not in str(raised.value)
    assert secret.reveal() == KEY
    assert secret == Secret(KEY) != Secret(CODE)
    assert copy.deepcopy(secret).reveal() == KEY
    assert bool(Secret("")) is False


@pytest.mark.parametrize("text", ["canary\nx", "canary x", "canary\u00e9", "canary\x00", "", "  "])
def test_what_cannot_be_sent_is_refused_without_being_quoted(text: str) -> None:
    for make in (lambda: ApiKey(Secret(text)), lambda: Login("ada", Secret("p"), Secret(text))):
        with pytest.raises(WorkbenchAuthError, match=r"is empty|cannot be sent") as raised:
            make()
        assert "canary" not in str(raised.value)


def everything_about(error: BaseException) -> str:
    """Whatever a log, a debugger or a notebook could show of an error: its chain, and the variables of every frame."""
    parts, todo, seen = [], [error], set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        parts += [repr(one), str(one), repr(one.args), repr(vars(one)), *getattr(one, "__notes__", [])]
        parts += traceback.TracebackException.from_exception(one, capture_locals=True).format()
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if "site-packages" not in frame.f_code.co_filename and "/tests/" not in frame.f_code.co_filename:
                parts += [f"{name}={value!r}" for name, value in frame.f_locals.items()]
        todo += [one.__cause__, one.__context__]
    return "\n".join(parts)


CANARIES = ("canary", "stand-in-session")
ELSEWHERE = "https://evil.example"
FAULTS = (
    None, Fault("echo", status=400), Fault("echo", "export", status=401), Fault("echo", "/evidence", after=5, status=401),
    Fault("echo", "login", after=1, status=403), Fault("echo", "login", status=429), Fault("echo", "export", status=500),
    Fault("echo", "/evidence", status=500), Fault("html"), Fault("hang", "export"), Fault("cut"), Fault("cut", "login", after=1),
    Fault("not-json", "/vendor_alerts", status=502), Fault("odd-json", status=404), Fault("redirect", "export", location=ELSEWHERE),
    Fault("next-elsewhere", "expel_alerts", location=ELSEWHERE),
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.kind} {f.status} {f.path}" if f else "all is well")
@pytest.mark.parametrize("by", ["login", "api key"])
def test_no_secret_is_in_any_error_file_log_address_or_value(
    fault: Fault | None,
    by: str,
    tmp_path: Path,
    naps,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    found = []
    with StandIn(ALERTS[:12], password=PASSWORD, otp=CODE, api_key=KEY) as server:
        if fault is not None:
            server.fail(dataclasses.replace(fault))
        who = person(server) if by == "login" else ApiKey(KEY)
        connection = Workbench(
            server.url, who, sleep=naps.append, attempts=2, timeout_seconds=0.1 if fault and fault.kind == "hang" else 5
        )
        fetched, error = None, None
        try:
            fetched = connection.fetch("2026-10-01", "2026-10-20", ZONE, into=tmp_path / "raw")
        except WorkbenchError as raised:
            error = raised
        if error is not None:
            found.append(everything_about(error))
        assert error is None or (error.__cause__, error.__context__) == (None, None)
        connection.close()
        found += [
            repr(connection),
            repr(vars(connection)),
            repr(vars(connection._transport)),
            repr(fetched),
            repr(fetched and fetched.to_dict()),
        ]
        assert not [s for s in server.seen if any(c in f"{s.path}{s.query}" for c in CANARIES)]
        sent = " ".join(f"{s.authorization}{s.body}{s.headers}" for s in server.seen)
        assert "canary" in sent, "without a secret that is really sent this would prove nothing"
    found += [caplog.text, *(repr(vars(record)) for record in caplog.records), *capsys.readouterr()]
    found += [f"{name}{data!r}" for name, data in files_of(tmp_path).items()]
    import gzip

    found += [gzip.decompress(data).decode() for name, data in files_of(tmp_path).items() if name.endswith(".gz")]
    written = [c for c in CANARIES for text in found if c in text]
    assert not written


# ---- where credentials are found


class Held(keyring.backend.KeyringBackend):
    """A keyring in memory, of as much trust as a test gives it."""

    priority = 5

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[tuple[str, str], str] = {}
        self.locked = False

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.locked:
            raise keyring.errors.KeyringLocked("locked canary")
        self.held[service, username] = password

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise keyring.errors.KeyringLocked("locked canary")
        return self.held.get((service, username))

    def delete_password(self, service: str, username: str) -> None:
        del self.held[service, username]


@pytest.fixture
def ring() -> Iterator[Held]:
    before, ring = keyring.get_keyring(), Held()
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)


URL = "https://workbench.example"
ENVIRONMENT = {"TOCSIN_WORKBENCH_USER": "ada", "TOCSIN_WORKBENCH_PASSWORD": PASSWORD, "TOCSIN_WORKBENCH_CODE": CODE}


def test_credentials_come_from_the_environment_then_the_keyring_then_a_person(ring: Held) -> None:
    asked: list[tuple[str, bool]] = []

    def ask(what: str, hidden: bool) -> str:
        asked.append((what, hidden))
        return f"typed-{len(asked)}"

    assert find_credentials(URL, {"TOCSIN_WORKBENCH_API_KEY": KEY} | ENVIRONMENT, ask=ask) == (
        ApiKey(KEY),
        "environment",
    )
    assert find_credentials(URL, ENVIRONMENT, ask=ask) == (Login("ada", PASSWORD, CODE), "environment")
    assert asked == []
    assert find_credentials(URL, {}, ask=ask) == (Login("typed-1", "typed-2", "typed-3"), "prompt")
    assert asked == [("User", False), ("Password", True), ("One-time code", True)]
    assert store_api_key("workbench.example", Secret(KEY)) == ring.name
    assert find_credentials(URL + "/", {}, ask=ask) == (ApiKey(KEY), "keyring")
    assert find_credentials("https://other.example", {}, ask=ask)[1] == "prompt", "a key belongs to one address"
    partly = {k: v for k, v in ENVIRONMENT.items() if not k.endswith("CODE")}
    assert find_credentials(URL, partly, ask=ask) == (Login("ada", PASSWORD, "typed-7"), "prompt")


def test_where_nobody_can_be_asked_the_error_says_what_to_set(ring: Held) -> None:
    with pytest.raises(WorkbenchAuthError, match="set TOCSIN_WORKBENCH_API_KEY, or TOCSIN_WORKBENCH_USER"):
        find_credentials(URL, {})
    ring.locked = True
    with pytest.raises(WorkbenchAuthError, match="nobody is known"):
        find_credentials(URL, {})
    with pytest.raises(WorkbenchError, match="refused to store the key") as raised:
        store_api_key(URL, Secret(KEY))
    assert "canary" not in str(raised.value)
    assert raised.value.__context__ is None, "the keyring's own error may quote what it was given"


def test_a_keyring_that_keeps_its_secrets_in_a_plain_file_is_given_none(ring: Held) -> None:
    ring.__class__ = type("Plain", (Held,), {"priority": 0.5})
    with pytest.raises(WorkbenchError, match="does not guard what it is given; the key was not stored"):
        store_api_key(URL, Secret(KEY))
    chain = types.SimpleNamespace(backends=[ring], priority=10, name="chain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyring, "get_keyring", lambda: chain)
        with pytest.raises(WorkbenchError, match="does not guard"):
            store_api_key(URL, Secret(KEY))
    assert ring.held == {}


def test_without_the_package_keyring_everything_else_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert stored_api_key(URL) is None
    with pytest.raises(WorkbenchError, match=r"install tocsin\[keyring\]"):
        store_api_key(URL, Secret(KEY))


# ---- the command line


@pytest.fixture
def shell(server: StandIn, ring: Held, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    server.api_key = KEY
    for name in ("API_KEY", "USER", "PASSWORD", "CODE"):
        monkeypatch.delenv(f"TOCSIN_WORKBENCH_{name}", raising=False)
    monkeypatch.setenv("TOCSIN_WORKBENCH_URL", server.url)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    return monkeypatch


def test_login_says_who_where_and_how_many_alerts_and_never_the_key(tocsin, shell, server: StandIn) -> None:
    shell.setenv("TOCSIN_WORKBENCH_API_KEY", KEY)
    done = tocsin("workbench", "login")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"Logged in at {server.url} by api key from the environment; {len(ALERTS)} alerts to be seen\n"
    document = tocsin("workbench", "login", "--json").json
    assert (document["alerts"], document["stored_in"], document["found_in"]) == (len(ALERTS), None, "environment")
    shell.setenv("TOCSIN_WORKBENCH_API_KEY", "canary-wrong")
    wrong = tocsin("workbench", "login")
    assert wrong.code == 3
    assert "401" in wrong.err
    assert "canary" not in done.out + wrong.err + wrong.out + json.dumps(document)


def test_login_stores_an_api_key_that_works_in_the_keyring_and_fetch_finds_it(
    tocsin, shell, ring: Held, server, tmp_path: Path
) -> None:
    assert tocsin("workbench", "login", "--store").code == 3, "there is no key yet"
    shell.setenv("TOCSIN_WORKBENCH_API_KEY", KEY)
    done = tocsin("workbench", "login", "--store")
    assert "The API key is in the keyring" in done.out
    assert ring.held == {("tocsin-workbench", server.url): KEY}
    shell.delenv("TOCSIN_WORKBENCH_API_KEY")
    done = tocsin("workbench", "fetch", tmp_path / "raw", "--since", SINCE, "--until", UNTIL, "--no-evidence")
    assert done.code == 0
    assert "canary" not in done.out + done.err + repr(files_of(tmp_path))


def test_a_key_that_is_refused_and_a_password_are_not_stored(tocsin, shell, ring: Held, server: StandIn) -> None:
    shell.setenv("TOCSIN_WORKBENCH_API_KEY", "canary-wrong")
    assert tocsin("workbench", "login", "--store").code == 3
    shell.delenv("TOCSIN_WORKBENCH_API_KEY")
    for name, value in {"USER": server.user, "PASSWORD": server.password, "CODE": server.otp}.items():
        shell.setenv(f"TOCSIN_WORKBENCH_{name}", value)
    done = tocsin("workbench", "login", "--store")
    assert (done.code, ring.held) == (3, {})
    assert "only an API key is stored" in done.err


def test_a_person_at_a_terminal_is_asked_and_what_is_secret_is_not_echoed(tocsin, shell, server: StandIn) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    hidden = iter([server.password, server.otp])
    shell.setattr(sys, "stdin", Terminal(f"{server.user}\n"))
    shell.setattr("getpass.getpass", lambda _prompt, _stream: next(hidden))
    done = tocsin("workbench", "login")
    assert "by login from the prompt" in done.out
    assert done.err == "User: "
    shell.setattr("getpass.getpass", lambda _prompt, _stream: KEY)
    assert command._api_key_to_store(server.url) == (ApiKey(KEY), "prompt")


def test_fetch_prints_what_came_and_what_did_not_and_its_exit_code_says_which(
    tocsin, shell, server: StandIn, tmp_path: Path
) -> None:
    shell.setenv("TOCSIN_WORKBENCH_API_KEY", KEY)
    arguments = ["workbench", "fetch", tmp_path / "raw", "--since", SINCE, "--until", UNTIL, "--zone", ZONE]
    bad = next(a["id"] for a in ALERTS if a["attributes"]["created_at"] > "2026-10-05")
    server.fail(Fault(status=404, path=f"{bad}/evidence"))
    done = tocsin(*arguments)
    assert done.code == 1
    assert "1 could not be had" in done.out
    assert f"  {bad} evidence: {server.url}/api/v2/expel_alerts/{bad}/evidence: 404" in done.out
    assert "not complete: the same command asks for what is missing" in done.out
    server.faults.clear()
    again = tocsin(*arguments)
    assert again.code == 0
    assert "is complete" in again.out
    assert "2026-10-03T06:00:00Z until before 2026-10-13T06:00:00Z" in again.out
    document = tocsin(*arguments, "--json").json
    assert document["complete"] is True
    assert document["counts"]["errors"] == 0
    assert tocsin(*arguments[:-2], "--zone", "America/Denber").code == 3
    assert "canary" not in done.out + done.err + again.out + again.err + json.dumps(document)


def test_a_retry_says_nothing_on_stdout(tocsin, shell, server: StandIn, tmp_path: Path) -> None:
    shell.setenv("TOCSIN_WORKBENCH_API_KEY", KEY)
    server.fail(Fault(status=429, path="export", times=1, retry_after="0"))
    done = tocsin("workbench", "fetch", tmp_path / "raw", "--since", SINCE, "--until", UNTIL, "--no-evidence", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["complete"]
