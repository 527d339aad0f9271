"""Who may push events: a bearer token, where it is found, and how guessing it is slowed down.

Enters: the door's settings, the environment, an Authorization header. Leaves: an address to listen on, or a verdict.
Layer: faces. Only a digest of the token is kept, so no error, log or dump can show it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from tocsin.errors import SettingsError
from tocsin.runners.live.private import owners_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tocsin.runners.live.settings import Door

LEAST_TOKEN: Final = 16
MOST_FAILURES, FAILURE_SECONDS, MOST_CLIENTS = 20, 60.0, 1000
_MAKE: Final = "`openssl rand -hex 32` makes one."


class Gate:
    """Lets in who has the token. Who fails too often in a minute waits; the right token passes all the same.

    Args:
        token: The token, or None where everybody on this machine may push.
        clock: Seconds that only grow, such as `time.monotonic`.

    >>> gate = Gate("0123456789abcdef", lambda: 0.0)
    >>> gate.check("Bearer 0123456789abcdef", "192.0.2.1"), gate.check("Bearer guess", "192.0.2.1"), gate.check(None, "192.0.2.1")
    (200, 401, 401)
    """

    def __init__(self, token: str | None, clock: Callable[[], float]) -> None:
        self._digest = None if token is None else _digest(token)
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()

    @property
    def open(self) -> bool:
        """Whether no token is asked for."""
        return self._digest is None

    def check(self, authorization: str | None, client: str) -> int:
        """Return 200, 401 (no token, or a wrong one) or 429 (too many of these from this client)."""
        if self._digest is None:
            return 200
        scheme, _, token = (authorization or "").partition(" ")
        if hmac.compare_digest(_digest(token.strip()), self._digest) and scheme.lower() == "bearer":
            return 200
        now = self._clock()
        since, count = self._failures.pop(client, (now, 0))
        if now - since >= FAILURE_SECONDS:
            since, count = now, 0
        self._failures[client] = (since, count + 1)
        if len(self._failures) > MOST_CLIENTS:
            self._failures.popitem(last=False)
        return 401 if count < MOST_FAILURES else 429


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def read_token(settings: Door, environ: Mapping[str, str]) -> str | None:
    """Return the token that the settings point to; None where they point nowhere.

    Raises:
        SettingsError: It is not there, too short, or lies in a file that others may read.
    """
    if settings.token_env is not None and settings.token_file is not None:
        raise SettingsError("http: give token_env or token_file, not both.")
    if settings.token_env is not None:
        token = environ.get(settings.token_env, "")
        where = f"http.token_env: the environment variable {settings.token_env}"
        if not token:
            raise SettingsError(f"{where} is not set. Put the token there. {_MAKE}")
    elif settings.token_file is not None:
        token = owners_text(settings.token_file, "http.token_file")
        where = f"http.token_file: {settings.token_file}"
    else:
        return None
    token = token.strip()
    if len(token) < LEAST_TOKEN:
        raise SettingsError(f"{where} holds a token of fewer than {LEAST_TOKEN} characters. {_MAKE}")
    if not all("!" <= c <= "~" for c in token):
        raise SettingsError(f"{where} holds characters that no header can carry (blanks, line ends, no ASCII). {_MAKE}")
    return token


def listening_socket(listen: str, *, guarded: bool) -> socket.socket:
    """Return a socket that is bound to an address such as ``127.0.0.1:8080``, ``[::1]:8080`` or ``localhost:0``.

    Args:
        listen: The address; port 0 takes one that is free.
        guarded: Whether a token is asked for. Without one, only this machine may reach the door.

    Raises:
        SettingsError: It is no address, not to be had, or open to other machines without a token.
    """
    host, port = _host_and_port(listen)
    try:
        # The address that is judged is the one that is bound: a name is looked up once.
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise SettingsError(f"http.listen: {listen!r}: there is no address {host!r}. Try 127.0.0.1:{port}.") from None
    if not guarded and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise SettingsError(
            f"http.listen: {listen!r} is reachable from other machines, so events need a token: "
            f"set http.token_env or http.token_file, or listen on 127.0.0.1:{port}. {_MAKE}"
        )
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise SettingsError(f"http.listen: {listen!r}: {error.strerror}. Port 0 takes one that is free.") from None
    return bound


def _host_and_port(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare and bare == host) or not port.isdecimal() or int(port) > 65_535:
        raise SettingsError(f"http.listen: {listen!r} is no address and port. Write 127.0.0.1:8080 or [::1]:8080.")
    return bare, int(port)


def names_this_machine(host: str | None) -> bool:
    """Tell whether a Host header names this machine itself: a page elsewhere cannot make a browser say so.

    >>> [names_this_machine(h) for h in ("127.0.0.1:80", "[::1]:80", "localhost", "evil.example:80", None)]
    [True, True, True, False, False]
    """
    if not host:
        return False
    bare: Any = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    if bare.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False
