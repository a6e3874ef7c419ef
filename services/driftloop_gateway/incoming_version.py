"""The result of reading a model archive, independent of the model's kind."""

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
    """A version to register. `folder`: its files. `base`: for an adapter, the version of its
    base. `judged_by`: the objective that was chosen for it and why, if its spec names none."""

    spec: ModelSpec
    folder: Path
    signature: Signature
    base: int | None = None
    judged_by: str = ""


class Reader(Protocol):
    def __call__(
        self,
        document: dict[str, Any],
        folder: Path,
        current: Deployment | None,
        cache: Path,
        settings: Settings,
    ) -> IncomingVersion:
        """Check the archive and return its version. `document`: `model.json`; `folder`: where the
        archive was unpacked; `current`: the deployment with the same name; `cache`: an empty folder
        for fetched files; `settings`: with the limits. Raises Rejected."""


def only_holds(folder: Path, is_known: Callable[[str], bool], known: str) -> None:
    """Raises Rejected if the unpacked archive contains an unexpected file. `is_known`: checks a
    path in the archive; `known`: a description for the message."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and name != SPEC_FILE and not is_known(name):
            raise Rejected(
                f"the archive contains {shown(name)}; it may only contain {SPEC_FILE} and {known}"
            )
