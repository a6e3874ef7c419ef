"""Finds the weights that champion and candidate share, and the champion's adapter."""

from pathlib import Path

from driftloop_contracts.errors import NotFound
from driftloop_contracts.language import BASE_CONFIG
from driftloop_contracts.model import Deployment, ServedVersion
from driftloop_registry.port import Registry
from driftloop_retrain.record.pinning import or_later


def base_of(deployment: Deployment, champion: ServedVersion, registry: Registry) -> ServedVersion:
    """Return the version that contains the weights. Raises NotFound."""
    number = champion.base
    if number is None:
        return champion
    served = deployment.version(number)
    if served is not None:
        return served
    return or_later("the registry", lambda: registry.version(deployment.model.name, number).served)


def weights_of(version: ServedVersion, file: str = BASE_CONFIG) -> Path:
    """Return the version's folder on this machine. Raises NotFound if it lacks the file."""
    folder = Path(version.path)
    if not (folder / file).is_file():
        raise NotFound(
            f"version {version.version} has no {file} in {version.path!r} on this machine: "
            "fine-tuning needs its folder at the same path here"
        )
    return folder
