"""A version's signature as tags of the registry, whose values have a length limit.

A short signature is stored as JSON in one tag, as in earlier releases. A long one is compressed and
split into several tags. Listing versions returns their tags, so no further query is needed.
"""

import base64
import json
import zlib
from collections.abc import Mapping

from driftloop_contracts.signature import Signature

TAG = "driftloop.signature"
MAX_CHARS = 50_000
"""The maximum length of a tag's value. MLflow allows 100,000 characters, but some of its databases
only 65,535 bytes."""


def to_tags(signature: Signature, max_chars: int = MAX_CHARS) -> dict[str, str]:
    written = json.dumps(signature.to_dict())
    if len(written) <= max_chars:
        return {TAG: written}
    packed = base64.b85encode(zlib.compress(written.encode())).decode()
    pieces = [packed[at : at + max_chars] for at in range(0, len(packed), max_chars)]
    return {f"{TAG}.{number}": piece for number, piece in enumerate(pieces)}


def from_tags(tags: Mapping[str, str]) -> tuple[Signature, dict[str, str]]:
    """Return the signature and the other tags. Raises KeyError if there is no signature."""
    others = {name: value for name, value in tags.items() if not _is_piece(name)}
    written = tags.get(TAG)
    if written is None:
        count = len(tags) - len(others)
        packed = "".join(tags[f"{TAG}.{number}"] for number in range(max(count, 1)))
        written = zlib.decompress(base64.b85decode(packed)).decode()
    return Signature.from_dict(json.loads(written)), others


def _is_piece(name: str) -> bool:
    return name == TAG or name.startswith(f"{TAG}.")
