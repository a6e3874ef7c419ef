"""Identifies addresses of this machine, and exempts them from proxies."""

import ipaddress
from collections.abc import MutableMapping

LOOPBACK = ("localhost", "127.0.0.1", "::1", "127.0.0.0/8")
"""In the syntax of `no_proxy`. Libraries support different forms, so all are listed."""


def is_loopback(host: str) -> bool:
    """Whether a name or IP address (IPv6 with or without brackets) is a loopback address."""
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
    """Add loopback to `no_proxy`, for our processes and the libraries that they use. Existing
    entries are kept, in both spellings, because some libraries read only one."""
    said = [
        host.strip()
        for name in ("no_proxy", "NO_PROXY")
        for host in environ.get(name, "").split(",")
        if host.strip()
    ]
    if "*" not in said:
        environ["no_proxy"] = environ["NO_PROXY"] = ",".join(dict.fromkeys([*said, *LOOPBACK]))
