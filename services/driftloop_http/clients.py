"""The HTTP clients of driftloop: the one place where they are made.

A stack's own addresses are asked directly, whatever `http_proxy` and its kin say: no proxy can
reach this machine's loopback, or should see a stack's traffic. What lies outside is asked through
the proxy that the environment names.
"""

from typing import Any

import httpx

from driftloop_settings.loopback import is_loopback


def own_client(**options: Any) -> httpx.Client:
    """For a stack's own addresses. options: as httpx.Client has them."""
    return httpx.Client(trust_env=False, **options)


def own_async_client(**options: Any) -> httpx.AsyncClient:
    """The same for asyncio."""
    return httpx.AsyncClient(trust_env=False, **options)


def client_for(url: str, **options: Any) -> httpx.Client:
    """For a URL that a user names, which may lie on this machine or outside."""
    return httpx.Client(trust_env=not is_loopback(httpx.URL(url).host), **options)
