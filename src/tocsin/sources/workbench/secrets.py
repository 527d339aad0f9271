"""Who asks the Workbench, and how that stays unsaid.

Enters: the environment, the keyring, a prompt. Leaves: `ApiKey` or `Login`, whose secrets show themselves to nobody but
the one line that sends them. Layer: sources.

Environment: ``TOCSIN_WORKBENCH_API_KEY``, or ``TOCSIN_WORKBENCH_USER``, ``TOCSIN_WORKBENCH_PASSWORD`` and
``TOCSIN_WORKBENCH_CODE`` (the one-time code). A keyring holds API keys only, one for each address.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from tocsin.errors import WorkbenchAuthError, WorkbenchError
from tocsin.sources.workbench.addresses import checked_base

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Ask = Callable[[str, bool], str]
    """Asks a person: (what for, whether the answer must not be seen) -> the answer."""

VARIABLE: Final = "TOCSIN_WORKBENCH_"
SERVICE: Final = "tocsin-workbench"
TRUSTED_PRIORITY: Final = 1  # keyring's own line between a place that guards secrets and one that merely holds them
HIDDEN: Final = "Secret(...)"


class Secret:
    """A text that is shown nowhere: not by repr, str or format, not by pickle or JSON, and not by `vars`.

    >>> key = Secret("hunter2")
    >>> key, str(key), f"{key:>20}".strip(), key.reveal()
    (Secret(...), 'Secret(...)', 'Secret(...)', 'hunter2')
    """

    __slots__ = ("__reveal",)

    def __init__(self, text: str | Secret) -> None:
        held = text.reveal() if isinstance(text, Secret) else text

        def reveal() -> str:
            return held

        self.__reveal = reveal  # a closure, so that no attribute holds the text

    def reveal(self) -> str:
        """Return the text; for the line that sends it."""
        return self.__reveal()

    def __repr__(self) -> str:
        return HIDDEN

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return HIDDEN

    def __bool__(self) -> bool:
        return bool(self.reveal())

    def __eq__(self, other: object) -> bool:
        import hmac

        return isinstance(other, Secret) and hmac.compare_digest(self.reveal().encode(), other.reveal().encode())

    __hash__ = None  # type: ignore[assignment]

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a Secret is not written anywhere; hand over where it can be found instead")


@dataclass(frozen=True)
class ApiKey:
    """A bearer token that needs no login."""

    key: Secret

    def __post_init__(self) -> None:
        """Take a plain text as well, and refuse what cannot be sent in a header."""
        object.__setattr__(self, "key", _sendable(self.key, "the API key"))


@dataclass(frozen=True)
class Login:
    """A person: user, password, and a one-time code of the second factor."""

    user: str
    password: Secret
    code: Secret

    def __post_init__(self) -> None:
        """Take plain texts as well."""
        object.__setattr__(self, "password", Secret(self.password))
        object.__setattr__(self, "code", _sendable(self.code, "the one-time code"))


Credentials = ApiKey | Login


def _sendable(text: str | Secret, what: str) -> Secret:
    """Return a secret without blanks around it. A header takes visible ASCII only, and whoever refuses it would quote it."""
    secret = Secret(Secret(text).reveal().strip())
    if not secret:
        raise WorkbenchAuthError(f"{what} is empty; {_HOW}")
    if not all("!" <= c <= "~" for c in secret.reveal()):
        raise WorkbenchAuthError(
            f"{what} holds characters that cannot be sent (blanks, line ends, no ASCII): copy it again"
        )
    return secret


_HOW: Final = (
    f"set {VARIABLE}API_KEY, or {VARIABLE}USER, {VARIABLE}PASSWORD and {VARIABLE}CODE; or store an API key in the keyring "
    "by `tocsin workbench login --store`"
)


def find_credentials(
    url: str, environ: Mapping[str, str], *, ask: Ask | None = None, keyring: bool = True
) -> tuple[Credentials, str]:
    """Return who asks, and where that was found: environment, keyring, or prompt, in this order.

    Args:
        url: The address of the Workbench; a key in the keyring belongs to one address.
        environ: The environment, such as `os.environ`.
        ask: Asks a person; None where there is nobody to ask.
        keyring: False: the keyring is not looked into.

    Raises:
        WorkbenchAuthError: Nothing was found, and nobody could be asked; the message says what to set.

    >>> find_credentials("https://wb.example", {"TOCSIN_WORKBENCH_API_KEY": "k-1"})
    (ApiKey(key=Secret(...)), 'environment')
    """
    if key := environ.get(VARIABLE + "API_KEY"):
        return ApiKey(Secret(key)), "environment"
    user, password, code = (environ.get(VARIABLE + name, "") for name in ("USER", "PASSWORD", "CODE"))
    if user and password and code:
        return Login(user, Secret(password), Secret(code)), "environment"
    if keyring and not user and (stored := stored_api_key(url)):
        return ApiKey(stored), "keyring"
    if ask is None:
        raise WorkbenchAuthError(f"nobody is known at {url}: {_HOW}")
    user = user or ask("User", False)
    secret = Secret(password or ask("Password", True))
    return Login(user, secret, Secret(code or ask("One-time code", True))), "prompt"


def _account(url: str) -> str:
    """Return an address as the keyring names it, however it was typed."""
    return str(checked_base(url)).rstrip("/")


def stored_api_key(url: str) -> Secret | None:
    """Return the key that the keyring holds for an address; None without a keyring, or without a key in it."""
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return None
    try:
        found = keyring.get_password(SERVICE, _account(url))
    except KeyringError:
        return None
    return Secret(found) if found else None


def store_api_key(url: str, key: Secret) -> str:
    """Put a key into the keyring of the system and return its name.

    Raises:
        WorkbenchError: There is no keyring, it refused, or it is one that keeps its secrets in a plain file.
    """
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        keyring = None  # type: ignore[assignment]
    if keyring is None:
        raise WorkbenchError(
            "there is no keyring here: install tocsin[keyring], or set TOCSIN_WORKBENCH_API_KEY instead"
        )
    backend = keyring.get_keyring()
    # A chain stores with its first link.
    guard: Any = next(iter(getattr(backend, "backends", ())), backend)
    if guard.priority < TRUSTED_PRIORITY:
        raise WorkbenchError(
            f"the only keyring here is {guard.name}, which does not guard what it is given; the key was not stored. "
            "Start the keyring of the desktop, or set TOCSIN_WORKBENCH_API_KEY instead"
        )
    refused = False
    try:
        keyring.set_password(SERVICE, _account(url), key.reveal())
    except KeyringError:
        refused = True
    if refused:
        raise WorkbenchError(f"the keyring {guard.name} refused to store the key; unlock it and try again")
    return str(guard.name)
