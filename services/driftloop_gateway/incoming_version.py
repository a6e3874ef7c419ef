"""What reading an archive gives, whichever kind its model is of."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from driftloop_contracts.errors import Rejected, shown
from driftloop_contracts.model import Deployment, ModelSpec
from driftloop_contracts.signature import Signature
from driftloop_settings import Settings

SPEC_FILE = "model.json"


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
        settings: Settings,
    ) -> IncomingVersion:
        """The checked version. `document`: `model.json`; `folder`: where the archive was unpacked;
        `current`: what serves under its name; `cache`: an empty folder for what must be fetched;
        `settings`: with the limits of what is taken in. Raises Rejected."""


def only_holds(folder: Path, is_known: Callable[[str], bool], known: str) -> None:
    """Raises Rejected if an unpacked archive holds a file that nobody asks for. `is_known`: of a
    path in the archive; `known`: the same for people."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and name != SPEC_FILE and not is_known(name):
            raise Rejected(
                f"the archive holds {shown(name)}; it may only hold {SPEC_FILE} and {known}"
            )
