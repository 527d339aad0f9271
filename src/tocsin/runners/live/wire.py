"""A connection to an address that was looked at first, and one request over it that ends in time.

Enters: an address as the settings give it. Leaves: a status, the seconds to wait, the beginning of what was said. The host
is resolved here and the very number that was checked is connected to, so nobody can answer the second question otherwise
(DNS rebinding); no proxy of the environment is used, no redirect followed. Layer: runners.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import io
import ipaddress
import select
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx2

from tocsin.errors import SettingsError
from tocsin.runners.live.delivery import NotNowError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address
    Resolve = Callable[..., list[Any]]
    """As `socket.getaddrinfo`."""

MOST_BODY_BYTES: Final = 64 << 10
_MOST_ANSWER_BYTES: Final = 128 << 10  # with its headers
_KEPT_SECONDS: Final = 30.0
"""A connection is not used for longer, so that a name that moves is followed."""
_TRANSLATED: Final = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said."""

    status: int
    retry_after: str | None
    text: str


def why_refused(text: str, *, allow_private: bool = False) -> str:
    """Return why nothing is sent to an address, or the empty text.

    allow_private: addresses of this machine and of networks that are not public are taken.

    >>> why_refused("93.184.216.34"), why_refused("169.254.169.254"), why_refused("::ffff:10.0.0.1")
    ('', 'it is link-local', 'it is private')
    """
    address = _inner(ipaddress.ip_address(text))
    if address.is_multicast:
        return "it is multicast"
    if address.is_unspecified:
        return "it is no address of anything"
    kinds = ("loopback", address.is_loopback), ("link-local", address.is_link_local)
    private = next((name for name, holds in kinds if holds), "private" if _is_private(address) else "")
    if private:
        return "" if allow_private else f"it is {private}"
    return "" if address.is_global and not address.is_reserved else "it is reserved"


def _is_private(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        return address in ipaddress.ip_network("fc00::/7") or address.is_site_local
    return any(
        address in ipaddress.ip_network(net)
        for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
    )


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def checked_url(text: str, where: str, *, allow_private: bool) -> httpx2.URL:
    """Return the address of a receiver.

    Raises:
        SettingsError: It cannot be used. The message shows no more of it than its host: the rest is often a secret.
    """
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError):
        raise SettingsError(f"{where}: the url is no address; write one like https://soc.example/alerts") from None
    if url.userinfo:
        raise SettingsError(f"{where}: the url holds a user or password; name a secret with secret_env or secret_file.")
    schemes = ("https", "http") if allow_private else ("https",)
    if url.scheme not in schemes or not url.host or not 0 < (url.port or 443) < 1 << 16:
        raise SettingsError(
            f"{where}: the url must be https, with a host. http is for private addresses: allow_private = true"
        )
    with contextlib.suppress(socket.gaierror, UnicodeError):  # a name; numbers in any spelling are judged at once
        numbers = socket.getaddrinfo(url.raw_host.decode(), None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        for address in {str(n[4][0]) for n in numbers}:
            if why := why_refused(address, allow_private=allow_private):
                raise SettingsError(
                    f"{where}: nothing is sent to {url.host}: {why}. To send it there, set allow_private = true."
                )
    return url


class Wire:
    """Requests to one address, one after the other, each over by a deadline.

    Args:
        url: A checked one.
        timeout_seconds: For all of a request and its answer, from connecting on.
        allow_private: Whether the address may be of a private network; over http it must be.
        resolve: Asked for the addresses of the host; None: `socket.getaddrinfo`.
        context: How certificates are verified; None: with the authorities this machine trusts.
    """

    def __init__(
        self, url: httpx2.URL, timeout_seconds: float, *, allow_private: bool, resolve: Resolve | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        self._url, self._timeout_seconds, self._allow_private = url, timeout_seconds, allow_private
        self._resolve: Resolve = resolve or socket.getaddrinfo
        self._secure = url.scheme == "https"
        self._context = (context or ssl.create_default_context()) if self._secure else None
        self._socket: socket.socket | None = None
        self._deadline = self._made = 0.0
        self._interrupted = False

    @property
    def name(self) -> str:
        """Scheme, host and port; the path may be a secret."""
        return f"{self._url.scheme}://{self._url.netloc.decode()}"

    def post(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a request and return the answer, whatever its status.

        Raises:
            NotNowError: There was none in time, or nothing was sent because of where it would have gone.
        """
        self._deadline = time.monotonic() + self._timeout_seconds
        try:
            self._connect()
            self._send(headers, body)
            return self._receive()
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            self.close()
            raise NotNowError(f"{self.name}: {self._reason(error)}") from None
        except BaseException:
            self.close()
            raise

    def interrupt(self) -> None:
        """End the request that is under way, from another thread, and refuse others."""
        self._interrupted = True
        if (held := self._socket) is not None:
            with contextlib.suppress(OSError, ValueError):
                socket.socket.shutdown(held, socket.SHUT_RDWR)  # not TLS's: that is the other thread's

    def close(self) -> None:
        """Close the connection."""
        held, self._socket = self._socket, None
        if held is not None:
            held.close()

    def remaining_seconds(self) -> float:
        """Return what is left of the request's time.

        Raises:
            TimeoutError: Nothing.
        """
        left = self._deadline - time.monotonic()
        if left <= 0 or self._interrupted:
            raise TimeoutError
        return left

    def _reason(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self._timeout_seconds:g} s"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted ({error.verify_message})"
        if isinstance(error, socket.gaierror | UnicodeError):
            return "the name is not known"
        if isinstance(error, http.client.HTTPException):
            return "what it answers is not HTTP"
        return f"no connection ({getattr(error, 'strerror', None) or type(error).__name__})"

    def _connect(self) -> None:
        if self._socket is not None:
            used = time.monotonic() - self._made > _KEPT_SECONDS or select.select([self._socket], [], [], 0)[0]
            if not used:  # nothing to read: it was not closed meanwhile
                return
            self.close()
        addresses = self._addresses()
        for number, (family, target) in enumerate(addresses, 1):
            held = socket.socket(family, socket.SOCK_STREAM)
            self._socket = held
            try:
                held.settimeout(self.remaining_seconds() / (len(addresses) - number + 1))
                held.connect(target)
                break
            except OSError:
                self.close()
                if number == len(addresses):
                    raise
        self._made = time.monotonic()
        held.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:
            self._socket = secured = self._context.wrap_socket(
                held, server_hostname=self._url.raw_host.decode(), do_handshake_on_connect=False
            )
            secured.settimeout(self.remaining_seconds())
            secured.do_handshake()

    def _addresses(self) -> list[tuple[int, Any]]:
        """Return where the host is, if all of it is where something may be sent."""
        port = self._url.port or (443 if self._secure else 80)
        found = self._resolve(self._url.raw_host.decode(), port, type=socket.SOCK_STREAM)
        for *_, target in found:
            why = why_refused(target[0], allow_private=self._allow_private)
            if not why and not self._secure and not why_refused(target[0]):
                why = "it is public, and http would show the alerts to everybody between; write https"
            if why:
                raise NotNowError(f"{self.name}: nothing is sent to {target[0]}: {why}.")
        return [(family, target) for family, *_, target in found]

    def _send(self, headers: Mapping[str, str], body: bytes) -> None:
        assert self._socket is not None
        told = {"Host": self._url.netloc.decode(), **headers, "Content-Length": str(len(body))}
        lines = (f"POST {self._url.raw_path.decode()} HTTP/1.1", *(f"{k}: {v}" for k, v in told.items()), "", "")
        self._socket.settimeout(self.remaining_seconds())
        self._socket.sendall("\r\n".join(lines).encode("ascii") + body)

    def _receive(self) -> Answer:
        assert self._socket is not None
        source = _Readable(self, self._socket)
        response = http.client.HTTPResponse(source, method="POST")  # type: ignore[arg-type]
        with contextlib.closing(response):
            response.begin()
            source.may_end = True
            text, whole = b"", False
            with contextlib.suppress(OSError, http.client.HTTPException):  # the status is what counts, and it is there
                text = response.read(MOST_BODY_BYTES)
                whole = response.isclosed() or not response.read(1)
            if response.will_close or not whole:
                self.close()
            return Answer(response.status, response.headers.get("retry-after"), text.decode("utf-8", "replace"))


class _Readable(io.RawIOBase):
    """An answer as it arrives: no longer than allowed, and not after the deadline, however slowly its bytes drip."""

    def __init__(self, wire: Wire, connected: socket.socket) -> None:
        self._wire, self._connected, self._left = wire, connected, _MOST_ANSWER_BYTES
        self.may_end = False
        """Whether the headers are there; http.client takes them for whole wherever they end."""

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connected.settimeout(self._wire.remaining_seconds())
        some = memoryview(buffer)[: self._left]
        if not some:
            raise OSError("it answers without end")
        got = self._connected.recv_into(some)
        if not got and not self.may_end:
            raise ConnectionResetError(errno.ECONNRESET, "it was closed before the answer was there")
        self._left -= got
        return got
