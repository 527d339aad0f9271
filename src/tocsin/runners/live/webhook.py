"""Alerts posted to a receiver one by one, signed, until it says that it has them.

Enters: settings, alerts. Leaves: requests; "not now" or "never this one" where the receiver does not take an alert. Secrets
are read when they are used, and shown nowhere. Layer: runners.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import TYPE_CHECKING, Final

from tocsin.errors import SettingsError
from tocsin.runners.live.delivery import NotNowError, RefusedError
from tocsin.runners.live.private import owners_text
from tocsin.runners.live.wire import Wire, checked_url
from tocsin.sources.workbench.secrets import Secret
from tocsin.sources.workbench.transport import asked_wait_seconds

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from tocsin.runners.live.delivery import Told
    from tocsin.runners.live.settings import WebhookOutput
    from tocsin.runners.live.wire import Answer, Resolve

LEAST_SECRET_CHARACTERS: Final = 16
_TRY_AGAIN: Final = (408, 429)
_SHOWN_CHARACTERS: Final = 500


def signature(secret: Secret, timestamp: str, body: bytes) -> str:
    """Return what ``Tocsin-Signature`` says for one secret.

    >>> signature(Secret("0123456789abcdef"), "1767603600", b"{}")
    'v1=720234bda6a751b8a483e8020d12f9a1fad351dc02a553282574eda1f8f87945'
    """
    return f"v1={hmac.new(secret.reveal().encode(), timestamp.encode() + b'.' + body, hashlib.sha256).hexdigest()}"


class Webhook:
    """A receiver of alerts.

    Args:
        settings: Where and how.
        clock: The time, for timestamps and for waits that are asked for as dates.
        resolve: Asked for the addresses of the host; None: `socket.getaddrinfo`.
        context: How certificates are verified; None: with the authorities this machine trusts.

    Raises:
        SettingsError: The address cannot be used, or a secret that is named is not there.
    """

    at_once = 1

    def __init__(
        self, settings: WebhookOutput, clock: Callable[[], datetime], *, resolve: Resolve | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        self._where, self._clock = f"outputs.{settings.name}", clock
        self._variable, self._file = settings.secret_env, settings.secret_file
        url = checked_url(settings.url, self._where, allow_private=settings.allow_private)
        self._wire = Wire(
            url, settings.timeout_seconds, allow_private=settings.allow_private, resolve=resolve, context=context
        )
        self._secrets()

    def __repr__(self) -> str:
        return f"Webhook({self._wire.name!r})"

    def deliver(self, alerts: Sequence[Told]) -> None:
        """Post each alert.

        Raises:
            NotNowError: No answer, a failure of the receiver's, or one that leads elsewhere.
            RefusedError: The receiver refuses the alert as it is.
        """
        for alert in alerts:
            answer = self._wire.post(self._headers(alert), alert.body)
            self._judge(answer)

    def interrupt(self) -> None:
        """End the request under way."""
        self._wire.interrupt()

    def close(self) -> None:
        """Close the connection."""
        self._wire.close()

    def _headers(self, alert: Told) -> dict[str, str]:
        timestamp = str(int(self._clock().timestamp()))
        try:
            signed = ",".join(signature(secret, timestamp, alert.body) for secret in self._secrets())
        except SettingsError as error:  # it was there when the run began
            raise NotNowError(str(error)) from None
        return {
            "User-Agent": "tocsin",
            "Content-Type": "application/json",
            "Idempotency-Key": alert.alert_id,
            "Tocsin-Timestamp": timestamp,
            **({"Tocsin-Signature": signed} if signed else {}),
        }

    def _judge(self, answer: Answer) -> None:
        status = answer.status
        if 200 <= status < 300:
            return
        said = f"{self._wire.name}: it answers {status}"
        if 400 <= status < 500 and status not in _TRY_AGAIN:
            raise RefusedError(said, answer.text[:_SHOWN_CHARACTERS])
        if 300 <= status < 400:
            raise NotNowError(f"{said}: it is elsewhere. Redirects are not followed; give its new address as url.")
        raise NotNowError(said, asked_wait_seconds(answer.retry_after, self._clock()))

    def _secrets(self) -> list[Secret]:
        """Return the secrets to sign with: none, one, or several while they are being changed."""
        found: list[Secret] = []
        if self._variable is not None:
            found += _words(
                os.environ.get(self._variable, ""), f"{self._where}: the environment variable {self._variable}"
            )
        if self._file is not None:
            found += _words(owners_text(self._file, self._where), f"{self._where}: {self._file}")
        return found


def _words(text: str, where: str) -> list[Secret]:
    words = text.split()
    if not words or min(map(len, words)) < LEAST_SECRET_CHARACTERS:
        raise SettingsError(f"{where} holds no secret of {LEAST_SECRET_CHARACTERS} characters or more.")
    return [Secret(word) for word in words]
