"""Recognises the URLs of infer requests, and the model that they name."""

import re

from driftloop_serving.inference.infer_call import Codec
from driftloop_serving.inference.v1_codec import V1
from driftloop_serving.inference.v2_codec import V2

ROUTES_KEPT = 1024

_URLS: tuple[tuple[re.Pattern[bytes], Codec], ...] = (
    (re.compile(rb"^/v2/models/([^/?%]+)(?:/versions/([^/?%]+))?/infer(?:\?.*)?$"), V2),
    (re.compile(rb"^/v1/models/([^/?%:]+)(?:/versions/([^/?%:]+))?:predict(?:\?.*)?$"), V1),
)

Route = tuple[Codec, str, str | None]
"""The protocol, the model, and the version (None if the URL does not name one)."""


class InferRoutes:
    """Finds the route of a URL, caching at most `kept` URLs because clients choose them."""

    def __init__(self, kept: int = ROUTES_KEPT) -> None:
        self._kept = kept
        self._known: dict[bytes, Route] = {}

    def find(self, url: bytes) -> Route | None:
        """Return the route of a URL; None if it is not an infer request or is percent-encoded (the
        application decodes those)."""
        known = self._known.get(url)
        if known is None:
            known = _route(url)
            if known is not None and len(self._known) < self._kept:
                self._known[url] = known
        return known


def _route(url: bytes) -> Route | None:
    for pattern, codec in _URLS:
        found = pattern.match(url)
        if found:
            model, version = found[1], found[2]
            return codec, model.decode("latin-1"), version.decode("latin-1") if version else None
    return None
