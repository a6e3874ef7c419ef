"""Decides who may call. Pages of other sites, open in a browser on this machine, must not.

A browser sends requests of such pages even to loopback: under the page's own host name if that
resolves to this machine (DNS rebinding), or with the page's `Origin`. Programs send no `Origin`,
and use the host name or address that they were given.
"""

from collections.abc import Collection

from driftloop_contracts.errors import Forbidden
from driftloop_contracts.loopback import is_address, is_loopback
from driftloop_settings import Settings

REMEMBERED = 1_024


class Callers:
    """Checks the headers Host and Origin.

    names: host names of the stack, in addition to loopback. origins: the origins of other sites'
    pages that may call, such as `https://app.example`. is_open: whether the port listens beyond
    loopback, so that any IP address (but no other name) is accepted as this machine's.
    """

    def __init__(
        self, names: Collection[str] = (), *, origins: Collection[str] = (), is_open: bool = False
    ) -> None:
        self._names = frozenset(name.lower() for name in names)
        self._origins = frozenset(origin.lower().encode() for origin in origins)
        self._is_open = is_open
        # Only HTTP/1.0 requests, which browsers do not send, lack a Host.
        self._known: dict[bytes | None, Forbidden | None] = {None: None}

    @classmethod
    def of(cls, settings: Settings) -> "Callers":
        control = settings.control
        return cls(control.hosts, origins=control.cors_origins, is_open=control.insecure)

    @property
    def has_pages(self) -> bool:
        """Whether pages of other sites may call at all."""
        return bool(self._origins)

    def refusal(self, host: bytes | None, origin: bytes | None) -> Forbidden | None:
        """Return why a request with these headers is refused; None if it is accepted."""
        try:
            refused = self._known[host]
        except KeyError:
            refused = self._look_at(host or b"")
        return refused if refused is not None or origin is None else self._cross_site(host, origin)

    def _look_at(self, host: bytes) -> Forbidden | None:
        name = _without_port(host.decode("latin-1").lower())
        known = is_loopback(name) or name in self._names or (self._is_open and is_address(name))
        refused = None if known else Forbidden(
            f"{name[:100]!r} is not a name of this stack; control.hosts adds one"
        )  # fmt: skip
        if len(self._known) < REMEMBERED:  # bounded, because clients choose them
            self._known[host] = refused
        return refused

    def _cross_site(self, host: bytes | None, origin: bytes) -> Forbidden | None:
        origin = origin.lower()
        same = host is not None and origin.partition(b"://")[2] == host.lower()
        if same or origin in self._origins or b"*" in self._origins:
            return None
        return Forbidden(f"pages of {origin.decode('latin-1')[:100]!r} may not call this stack")


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
