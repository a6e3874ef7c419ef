"""Checks that addresses and locations in settings are well-formed, without using the network."""

import re
from ipaddress import AddressValueError, IPv4Address

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_LAKES = ("s3://", "s3a://", "file://")


def host_name(name: str) -> str:
    """Check a host name or IPv4 address. Raises ValueError."""
    if ":" in name:
        raise ValueError(f"{name!r}: give a host name or an IPv4 address, without a port")
    if re.fullmatch(r"[\d.]+", name):
        try:
            IPv4Address(name)
        except AddressValueError as error:
            raise ValueError(f"{name!r} is not an IPv4 address: {error}") from None
    elif len(name) > 253 or not _HOST.fullmatch(name):
        raise ValueError(f"{name!r} is neither a host name nor an IPv4 address")
    return name


def host_port(address: str | None) -> str | None:
    """Check HOST:PORT. Raises ValueError."""
    if address:
        name, colon, port = address.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65_535:
            raise ValueError(f"{address!r} is not HOST:PORT")
        if not re.fullmatch(r"\[[0-9a-fA-F:.]+\]", name):
            host_name(name)
    return address


def ray_cluster(address: str | None) -> str | None:
    """Check HOST:PORT, or `auto` for the cluster of which this machine is a node. Raises
    ValueError, for example for the address of a Ray client."""
    return address if address == "auto" else host_port(address)


def web_origin(origin: str) -> str:
    """Check SCHEME://HOST or SCHEME://HOST:PORT, as a browser sends it, or * for any. Raises
    ValueError."""
    scheme, found, address = origin.partition("://")
    if origin != "*":
        if not found or scheme not in ("http", "https") or not address:
            raise ValueError(f"{origin!r} is not an origin such as https://app.example")
        host_port(address) if ":" in address else host_name(address)
    return origin


def host_ports(addresses: str | None) -> str | None:
    """Check HOST:PORT,HOST:PORT; the ports may be missing. Raises ValueError."""
    for address in addresses.split(",") if addresses else ():
        named = address.strip()
        if not named:
            raise ValueError(f"{addresses!r} is not HOST:PORT,HOST:PORT")
        host_port(named) if ":" in named else host_name(named)
    return addresses


def lake_place(uri: str | None) -> str | None:
    """Check a path, or a URI of a supported lake storage. Raises ValueError for another scheme."""
    if uri and "://" in uri and not uri.startswith(_LAKES):
        raise ValueError(f"{uri!r} is neither a path nor s3://bucket/prefix")
    return uri


def store_url(url: str | None) -> str | None:
    """Check the SQLAlchemy URL of an SQLite or PostgreSQL database. Raises ValueError, without
    showing the URL, which may contain a password."""
    if url and not re.match(r"(sqlite|postgresql)(\+\w+)?:/", url):
        raise ValueError("give sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE")
    return url
