"""Creates all HTTP clients of driftloop.

A stack's own addresses are called directly, regardless of `http_proxy`: a proxy cannot reach this
machine's loopback, and should not see a stack's traffic. Other addresses are called through the
proxy named by the environment.
"""

from typing import Any

import httpx

from driftloop_contracts.loopback import is_loopback


def own_client(**options: Any) -> httpx.Client:
    """Return a client for a stack's own addresses. options: as for httpx.Client."""
    return httpx.Client(trust_env=False, **options)


def own_async_client(**options: Any) -> httpx.AsyncClient:
    """Return an asyncio client for a stack's own addresses."""
    return httpx.AsyncClient(trust_env=False, **options)


def client_for(url: str, **options: Any) -> httpx.Client:
    """Return a client for a URL given by the user, on this machine or elsewhere."""
    return httpx.Client(trust_env=not is_loopback(httpx.URL(url).host), **options)
