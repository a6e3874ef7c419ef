"""Which replicas hold a model: the shared ones, or its own (option `onnx.placement`)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import Deployment
from driftloop_onnx import BackendOptions, parse_options
from driftloop_serving.application import SHARED_APPLICATION, own_application

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OwnReplicas:
    """The Serve application of one model. `cpus`: cores that Ray sets apart for each replica."""

    application: str
    replicas: int
    cpus: float
    user_config: Record


@dataclass(frozen=True, slots=True)
class Placement:
    """`shared`: the user configuration of the replicas that take requests."""

    shared: Record
    own: tuple[OwnReplicas, ...] = ()


def place(deployments: Iterable[Deployment], held: Mapping[str, Sequence[int]]) -> Placement:
    """`held`: the versions that the replicas of a model hold, which the shared ones tell to clients
    of a model that is held elsewhere."""
    here: list[Record] = []
    elsewhere: list[Record] = []
    own: list[OwnReplicas] = []
    for deployment in deployments:
        options = options_of(deployment)
        document = deployment.to_dict()
        if application_of(deployment) == SHARED_APPLICATION:
            here.append(document)
            continue
        name = deployment.model.name
        elsewhere.append({"deployment": document, "held": sorted(held.get(name, ()))})
        own.append(
            OwnReplicas(
                own_application(name), options.replicas, options.cpus, {"deployments": [document]}
            )
        )
    return Placement({"deployments": here, "elsewhere": elsewhere}, tuple(own))


def application_of(deployment: Deployment) -> str:
    """The Serve application whose replicas hold the model. An unloaded one is held by nobody, and the
    shared ones say so."""
    if deployment.loaded and options_of(deployment).placement == "own":
        return own_application(deployment.model.name)
    return SHARED_APPLICATION


def options_of(deployment: Deployment) -> BackendOptions:
    """The defaults for options that are wrong: the replica that is to load the model says why."""
    try:
        return parse_options(deployment.model.options)
    except Rejected:
        return BackendOptions()
