"""The HTTP features common to all listeners, apart from their routes."""

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from driftloop_http.content_encoding import ContentDecoding
from driftloop_http.methods import Methods

EXPOSED = ("x-prediction-id", "x-model-version", "inference-header-content-length", "retry-after")
"""Response headers that a page's script may read."""
CORS_KEPT_S = 600


def speak_http(
    app: FastAPI,
    *,
    body_limit_bytes: int,
    streamed: frozenset[str] = frozenset(),
    origins: Sequence[str] = (),
) -> None:
    """Add encoded bodies, HEAD and OPTIONS to an application, and CORS for pages of `origins` (off
    if empty). `streamed`: the paths whose handlers limit the body size themselves."""
    app.add_middleware(ContentDecoding, limit_bytes=body_limit_bytes, streamed=streamed)
    app.add_middleware(Methods)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
            max_age=CORS_KEPT_S,
        )
