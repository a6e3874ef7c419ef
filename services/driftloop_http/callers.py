"""Who may call: a page of another site, open in a browser on this machine, must not.

A browser sends such a page's requests to loopback too, under the page's own host name once that
name resolves here (DNS rebinding), or with the page's `Origin`. Programs send no `Origin`, and the
name or address that they were given.
"""

from collections.abc import Collection

from driftloop_contracts.errors import Forbidden
from driftloop_settings import Settings
from driftloop_settings.loopback import is_address, is_loopback

REMEMBERED = 1_024


class Callers:
    """`names`: host names that a stack is called by, beside loopback. `origins`: of pages that may
    call from another site, such as `https://app.example`. `is_open`: whether the port listens
    beyond loopback, so that any address (not a name) may be this machine's."""

    def __init__(
        self, names: Collection[str] = (), *, origins: Collection[str] = (), is_open: bool = False
    ) -> None:
        self._names = frozenset(name.lower() for name in names)
        self._origins = frozenset(origin.lower().encode() for origin in origins)
        self._is_open = is_open
        # A request without a Host is of HTTP/1.0, which no browser speaks.
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
        """Why a request with these headers is refused; None if it is not."""
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
        if len(self._known) < REMEMBERED:  # clients choose them
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
