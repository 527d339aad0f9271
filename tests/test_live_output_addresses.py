"""Nothing is sent to an address that the settings did not permit, in whatever way it is written or a name leads there."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from log_rows import START
from receiver import Receiver

from tocsin.errors import SettingsError
from tocsin.runners.live.delivery import NotNowError, Told
from tocsin.runners.live.settings import WebhookOutput
from tocsin.runners.live.webhook import Webhook
from tocsin.runners.live.wire import why_refused

pytest_plugins = ["output_fixtures"]
ALERT = Told(1, "a" * 32, "high", b'{"alert_id":"' + b"a" * 32 + b'"}')
PRIVATE = {
    "127.0.0.1": "loopback", "127.255.255.254": "loopback", "::1": "loopback", "::ffff:127.0.0.1": "loopback",
    "64:ff9b::7f00:1": "loopback", "2002:7f00:1::": "loopback",
    "169.254.169.254": "link-local", "fe80::1": "link-local", "fe80::1%1": "link-local", "::ffff:169.254.169.254": "link-local",
    "64:ff9b::a9fe:a9fe": "link-local", "2002:a9fe:a9fe::1": "link-local",
    "10.0.0.1": "private", "172.16.0.1": "private", "172.31.255.255": "private", "192.168.1.1": "private", "100.64.0.1": "private",
    "fc00::1": "private", "fd12:3456::1": "private", "fd00:ec2::254": "private", "fec0::1": "private", "::ffff:192.168.0.1": "private",
}  # fmt: skip
NEVER = {
    "0.0.0.0": "no address", "::": "no address", "::ffff:0.0.0.0": "no address", "224.0.0.1": "multicast", "239.1.1.1": "multicast",
    "ff02::1": "multicast", "::ffff:224.0.0.1": "multicast", "255.255.255.255": "reserved", "240.0.0.1": "reserved", "0.1.2.3": "reserved",
    "192.0.2.1": "reserved", "198.18.0.1": "reserved", "203.0.113.9": "reserved", "2001:db8::1": "reserved", "::7f00:1": "reserved",
    "2001::1": "reserved", "100::1": "reserved", "64:ff9b:1::a00:1": "reserved", "4000::1": "reserved",
}  # fmt: skip
PUBLIC = [
    "93.184.216.34",
    "172.15.255.255",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]


def settings(url: str, **more: object) -> WebhookOutput:
    return WebhookOutput(kind="webhook", url=url, timeout_seconds=5, **more)


def leads_to(*addresses: str) -> Callable[..., list]:
    """A resolver in whose world every name has these addresses."""

    def resolve(_host: str, port: int, **_: object) -> list:
        return [
            (socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses
        ]

    return resolve


def knows_nothing(*_: object, **__: object) -> list:
    raise socket.gaierror(-2, "Name or service not known")


@pytest.fixture(autouse=True)
def no_connection_but_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every address that a socket is connected to; no other machine is asked for anything."""
    asked: list[str] = []
    connect = socket.socket.connect

    def connect_here(self: socket.socket, target: tuple) -> None:
        asked.append(target[0])
        assert target[0] in ("127.0.0.1", "::1"), target
        connect(self, target)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    return asked


@pytest.mark.parametrize("address", [*PRIVATE, *NEVER, *PUBLIC])
def test_each_address_is_judged_by_what_it_leads_to(address: str) -> None:
    if address in PUBLIC:
        assert why_refused(address) == ""
    elif address in PRIVATE:
        assert why_refused(address) == f"it is {PRIVATE[address]}"
        assert why_refused(address, allow_private=True) == ""
    else:
        assert NEVER[address] in why_refused(address)
        assert NEVER[address] in why_refused(address, allow_private=True)


LOOPBACKS = [
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "0177.0.0.01",
    "127.0.0.1.",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:0:0:1]",
]
METADATA = [
    "169.254.169.254",
    "0xA9FEA9FE",
    "2852039166",
    "025177524776",
    "0xa9.254.0251.254",
    "169.254.43518",
    "[::ffff:a9fe:a9fe]",
    "[fe80::1]",
]


@pytest.mark.parametrize(
    "host", [*LOOPBACKS, *METADATA, "10.1", "[fd00:ec2::254]", "[64:ff9b::a9fe:a9fe]", "0", "0.0.0.0"]
)
def test_an_address_in_numbers_of_any_spelling_is_refused(
    host: str, no_connection_but_to_this_machine: list[str]
) -> None:
    with pytest.raises((SettingsError, NotNowError), match=r"nothing is sent to|name is not known|is no address"):
        Webhook(settings(f"https://{host}/x"), lambda: START, resolve=knows_nothing).deliver([ALERT])
    assert not no_connection_but_to_this_machine


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://soc.example/x?k=hush", "must be https"),
        ("ftp://soc.example/hush", "must be https"),
        ("https:///hush", "must be https"),
        ("https://soc.example:99999/hush", "must be https"),
        ("https://ann:hush@soc.example/", "user or password"),
        ("https://hush@soc.example/", "user or password"),
        ("https://soc.example/\r\nX-Evil: hush", "no address"),
        ("hush", "must be https"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_at_once_and_not_repeated(url: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        Webhook(settings(url), lambda: START)
    assert "hush" not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize(
    "addresses", [["10.0.0.5"], ["93.184.216.34", "127.0.0.1"], ["::1"], ["169.254.169.254"], ["fe80::1%2"]]
)
def test_a_name_of_which_any_address_is_not_public_is_not_connected_to(
    addresses: list[str], no_connection_but_to_this_machine: list[str]
) -> None:
    target = Webhook(settings("https://soc.example/x?k=hush"), lambda: START, resolve=leads_to(*addresses))
    with pytest.raises(NotNowError, match="nothing is sent to") as caught:
        target.deliver([ALERT])
    assert "hush" not in str(caught.value)
    assert not no_connection_but_to_this_machine


def test_the_address_that_was_checked_is_the_one_connected_to_and_the_next_connection_is_checked_again(
    new_receiver: Callable[..., Receiver],
) -> None:
    receiver = new_receiver([(200, {"Connection": "close"}, b""), (200, {"Connection": "close"}, b"")])
    answers = iter([leads_to("127.0.0.1"), leads_to("224.0.0.1")])
    asked: list[str] = []

    def resolve(host: str, port: int, **more: object) -> list:
        asked.append(host)
        return next(answers)(host, port, **more)

    url = receiver.url.replace("127.0.0.1", "soc.example")
    target = Webhook(settings(url, allow_private=True), lambda: START, resolve=resolve)
    target.deliver([ALERT])
    with pytest.raises(NotNowError, match="multicast"):
        target.deliver([ALERT])
    target.close()
    assert asked == ["soc.example"] * 2, "once a connection, and by nobody else"
    assert len(receiver.requests) == 1
    assert receiver.requests[0].headers["host"] == url.split("/")[2]


def test_a_name_that_answers_nothing_or_nonsense_is_tried_again_later() -> None:
    with pytest.raises(NotNowError, match="the name is not known"):
        Webhook(settings("https://soc.example/"), lambda: START, resolve=knows_nothing).deliver([ALERT])


def test_over_http_nothing_is_sent_to_a_public_address_whatever_is_allowed() -> None:
    target = Webhook(settings("http://soc.example/", allow_private=True), lambda: START, resolve=leads_to("8.8.8.8"))
    with pytest.raises(NotNowError, match="http would show the alerts"):
        target.deliver([ALERT])


def test_proxies_of_the_environment_are_not_used(
    monkeypatch: pytest.MonkeyPatch, new_receiver: Callable[..., Receiver]
) -> None:
    receiver = new_receiver()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    target = Webhook(settings(receiver.url, allow_private=True), lambda: START)
    target.deliver([ALERT])
    target.close()
    assert receiver.got == [ALERT.alert_id]


def test_the_next_address_of_a_name_is_tried_where_one_does_not_answer(new_receiver: Callable[..., Receiver]) -> None:
    receiver = new_receiver()
    url = receiver.url.replace("127.0.0.1", "soc.example")
    target = Webhook(settings(url, allow_private=True), lambda: START, resolve=leads_to("::1", "127.0.0.1"))
    target.deliver([ALERT])
    target.close()
    assert receiver.got == [ALERT.alert_id]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of soc.example with its key, signed by itself."""
    path = tmp_path / "soc.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=soc.example"
    more = ["-addext", "subjectAltName=DNS:soc.example", "-keyout", str(path), "-out", str(tmp_path / "cert.pem")]
    subprocess.run(["openssl", *request.split(), *more], check=True, capture_output=True)
    with path.open("ab") as file:
        file.write((tmp_path / "cert.pem").read_bytes())
    return path


@pytest.mark.needs("openssl")
def test_https_names_the_host_verifies_its_certificate_and_goes_to_the_checked_address(
    certificate: Path, new_receiver: Callable[..., Receiver]
) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    named: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: named.append(name)
    receiver = new_receiver(context=server)
    trusting = ssl.create_default_context(cafile=certificate)

    def deliver(host: str, context: ssl.SSLContext | None) -> None:
        url = receiver.url.replace("127.0.0.1", host)
        target = Webhook(
            settings(url, allow_private=True), lambda: START, resolve=leads_to("127.0.0.1"), context=context
        )
        try:
            target.deliver([ALERT, ALERT])
        finally:
            target.close()

    deliver("soc.example", trusting)
    assert (len(receiver.requests), receiver.connections, named) == (2, 1, ["soc.example"])
    for host, context in [("other.example", trusting), ("soc.example", None)]:
        with pytest.raises(NotNowError, match="certificate is not accepted"):
            deliver(host, context)
    assert len(receiver.requests) == 2


@pytest.mark.parametrize("host", ["2130706433", "0xA9FEA9FE", "[::ffff:a9fe:a9fe]"])
def test_numbers_are_refused_when_the_settings_are_read(host: str) -> None:
    with pytest.raises(SettingsError, match="nothing is sent to"):
        Webhook(settings(f"https://{host}/"), lambda: START)
