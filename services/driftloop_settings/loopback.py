"""Which addresses are this machine itself, and that no proxy is asked for them."""

import ipaddress
from collections.abc import MutableMapping

LOOPBACK = ("localhost", "127.0.0.1", "::1", "127.0.0.0/8")
"""In the form of `no_proxy`: libraries differ in what they read of it, so every form is there."""


def is_loopback(host: str) -> bool:
    """Whether a name or an IP address (IPv6 with or without brackets) is this machine alone."""
    name = host.lower().removeprefix("[").removesuffix("]").rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_address(host: str) -> bool:
    """Whether it is an IP address (IPv6 with or without brackets), not a name."""
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def exempt_loopback(environ: MutableMapping[str, str]) -> None:
    """Add this machine to `no_proxy`, for our processes and whatever library they call with. What
    `no_proxy` already says stays, in both spellings, since some libraries read only one."""
    said = [
        host.strip()
        for name in ("no_proxy", "NO_PROXY")
        for host in environ.get(name, "").split(",")
        if host.strip()
    ]
    if "*" not in said:
        environ["no_proxy"] = environ["NO_PROXY"] = ",".join(dict.fromkeys([*said, *LOOPBACK]))
