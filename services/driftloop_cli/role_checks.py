"""What each role needs on its machine, and whether it reaches it from there."""

import socket
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from driftloop_contracts.clock import system_clock
from driftloop_contracts.errors import DriftloopError
from driftloop_settings import Settings

if TYPE_CHECKING:
    from driftloop_registry.mlflow_registry import MlflowRegistry

T = TypeVar("T")
Check = Callable[[Settings], str]
CLOCKS_S = 5.0
"""How far the machine's clock may be off: labels and windows are compared by their times."""
CONNECT_S = 5.0


def clock(settings: Settings) -> str:
    """Compare the machine's clock with the database's."""
    from driftloop_store import StoreAway, open_store

    try:
        store = open_store(settings.store_url)
        before = system_clock()
        ahead_s = (before - store.now()).total_seconds()
        store.close()
    except StoreAway as error:
        raise DriftloopError(f"the database does not answer: {error.reason}") from error
    if abs(ahead_s) > CLOCKS_S:
        word = "ahead of" if ahead_s > 0 else "behind"
        raise DriftloopError(
            f"this machine's clock is {abs(ahead_s):.0f} s {word} the database's: synchronise both"
        )
    return f"within {CLOCKS_S:g} s of the database's"


def read_artifacts(settings: Settings) -> str:
    """Reach the files that machines share."""
    from driftloop_artifacts import open_artifacts

    artifacts = open_artifacts(settings)
    if artifacts.place is None:
        return "registry.artifacts is not set: versions are folders of one machine"
    with tempfile.TemporaryDirectory() as scratch:
        artifacts.bring("doctor", Path(scratch) / "found")
    return f"{artifacts.place} answers"


def write_artifacts(settings: Settings) -> str:
    """Store a small file among those that machines share, and fetch it."""
    from driftloop_artifacts import open_artifacts

    artifacts = open_artifacts(settings)
    if artifacts.place is None:
        return read_artifacts(settings)
    with tempfile.TemporaryDirectory() as scratch:
        # One for each day: what is there already would not be written again.
        (Path(scratch) / "doctor").write_text(datetime.now(UTC).date().isoformat())
        with artifacts.use(artifacts.put(Path(scratch))):
            return f"{artifacts.place} can be written and read"


def registry(settings: Settings) -> str:
    """Ask the registry for a model."""
    reach_registry(settings, lambda found: found.aliases("doctor"))
    return _place(settings.registry_uri)


def reach_registry(settings: Settings, ask: "Callable[[MlflowRegistry], T]") -> T:
    """Raises DriftloopError, with the place and the first line of what MLflow or its database
    says."""
    from driftloop_registry.mlflow_registry import open_registry

    try:
        server = urlsplit(settings.registry_uri)
        if server.hostname and server.port:  # MLflow tries again for minutes
            socket.create_connection((server.hostname, server.port), CONNECT_S).close()
        return ask(open_registry(settings))
    except DriftloopError:
        raise
    except Exception as error:  # MLflow's and its database driver's have no common base
        raise DriftloopError(f"{_place(settings.registry_uri)}: {_first_line(error)}") from None


def lake(settings: Settings) -> str:
    """List the models in the lake."""
    from driftloop_lake import storage
    from driftloop_lake.layout import PREDICTIONS_FOLDER

    try:
        models = storage.folders(settings.lake_uri, PREDICTIONS_FOLDER)
    except OSError as error:
        raise DriftloopError(f"{settings.lake_uri}: {_first_line(error)}") from None
    return f"{settings.lake_uri}, {len(models)} models"


def written_lake(settings: Settings) -> str:
    """As `lake`; its place must not overwrite what exists."""
    from driftloop_lake.conditional_writes import require_conditional_writes

    require_conditional_writes(settings.lake_uri)
    return lake(settings)


NEEDS: Mapping[str, Mapping[str, Check]] = {
    "serving": {"artifacts": read_artifacts},
    "archiver": {"lake": written_lake},
    "monitor": {"lake": lake, "artifacts": write_artifacts},
    "retrain": {"lake": lake, "registry": registry, "artifacts": write_artifacts},
    "rollout": {"lake": lake, "registry": registry, "artifacts": read_artifacts},
    "gateway": {"lake": lake, "registry": registry, "artifacts": write_artifacts},
}
"""Beside the state directory and, except for `kafka` and `ray`, the store."""
PROGRAMS = ("kafka", "ray")
BROKER = ("kafka", "shipper", "archiver", "monitor", "gateway")
PORTS: Mapping[str, tuple[str, ...]] = {
    "serving": ("serving.port", "serving.grpc_port"),
    "gateway": ("control.port",),
    "kafka": ("kafka.port",),
}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _place(uri: str) -> str:
    """The URI without a password."""
    parts = urlsplit(uri)
    return uri if "@" not in parts.netloc else f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
