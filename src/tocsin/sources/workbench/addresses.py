"""Addresses of a service: which may be asked at all, and when two of them are the same place.

Enters: what was typed or linked. Leaves: parsed addresses, by the parser that also opens the connection. Layer: sources.
"""

from __future__ import annotations

import ipaddress

import httpx2

from tocsin.errors import WorkbenchError


def checked_base(url: str) -> httpx2.URL:
    """Return the address of a service: https, or http to this machine, and nothing secret in it.

    Raises:
        WorkbenchError: It is none of these.

    >>> str(checked_base("workbench.example/some/page")), str(checked_base("http://127.0.0.1:8000"))
    ('https://workbench.example/', 'http://127.0.0.1:8000/')
    """
    try:
        base = httpx2.URL(url if "://" in url else f"https://{url}")
    except (httpx2.InvalidURL, ValueError):
        base = None
    if base is None or base.scheme not in {"https", "http"} or not base.host:
        raise WorkbenchError(f"{short(url)} is no address; write one like https://workbench.expel.io")
    if base.userinfo:
        raise WorkbenchError("the address holds a user or password; give it without them, and credentials apart")
    if base.scheme == "http" and not _is_this_machine(base.host):
        raise WorkbenchError(f"http://{base.host} would carry the token in the clear; write https://{base.host}")
    return base.copy_with(path="/", query=None, fragment=None)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def origin_of(url: httpx2.URL) -> tuple[str, str, int | None]:
    """Return scheme, host and port: what makes two links lead to the same place."""
    return url.scheme, url.host, url.port or {"https": 443, "http": 80}.get(url.scheme)


def shown_path(url: httpx2.URL) -> str:
    """Return path and query, for a message."""
    return short(url.raw_path.decode("ascii", "replace"))


def short(text: str, limit: int = 300) -> str:
    """Return a text of somebody else's as one short line."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
