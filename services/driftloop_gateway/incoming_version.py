"""What reading an archive gives, whichever kind its model is of."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from driftloop_contracts.model import Deployment, ModelSpec
from driftloop_contracts.signature import Signature


@dataclass(frozen=True, slots=True)
class IncomingVersion:
    """What is to be registered. `folder`: its files. `base`: the version whose weights it goes
    with, if it is an adapter."""

    spec: ModelSpec
    folder: Path
    signature: Signature
    base: int | None = None


class Reader(Protocol):
    def __call__(
        self,
        document: dict[str, Any],
        folder: Path,
        current: Deployment | None,
        cache: Path,
        roots: Sequence[str],
    ) -> IncomingVersion:
        """The checked version. `document`: `model.json`; `folder`: where the archive was unpacked;
        `current`: what serves under its name; `cache`: an empty folder for what must be fetched;
        `roots`: URI prefixes that weights may come from. Raises Rejected."""
