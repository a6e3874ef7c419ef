"""Which replicas hold a model: the shared ones, its own (option `onnx.placement`), or engines (a
language model), one application for each of its versions with weights of its own."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from driftloop_contracts.errors import Rejected
from driftloop_contracts.kind import LANGUAGE, TABULAR, ModelKind
from driftloop_contracts.model import Deployment
from driftloop_onnx import BackendOptions, parse_options
from driftloop_serving.replicas.application import (
    SHARED_APPLICATION,
    engine_application,
    own_application,
)
from driftloop_vllm.options import LanguageOptions, process_environment
from driftloop_vllm.options import parse_options as parse_language_options

Record = dict[str, Any]
ENGINE_KEY = "DRIFTLOOP_ENGINE"
"""Stands in an engine's environment for what it was started with: Serve replaces a replica whose
environment changes, the new one before the old one ends."""


@dataclass(frozen=True, slots=True)
class OwnReplicas:
    """The Serve application of one model, or of one engine. `cpus` and `gpus`: what Ray sets apart
    for each replica; `environment`: what its process must find, beside what all do."""

    application: str
    replicas: int
    cpus: float
    user_config: Record
    build: Literal["build_own", "build_engine"] = "build_own"
    gpus: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Placement:
    """`shared`: the user configuration of the replicas that take requests."""

    shared: Record
    own: tuple[OwnReplicas, ...] = ()


@dataclass(frozen=True, slots=True)
class KindPlacement:
    """Where models of one kind are held. applications: the Serve applications of a deployment; own:
    those of them that are its own; reported: what the clients of such a model are told of its
    replicas beside the versions that they hold."""

    applications: Callable[[Deployment], tuple[str, ...]]
    own: Callable[[Deployment], list[OwnReplicas]]
    reported: tuple[str, ...] = ()


def place(deployments: Iterable[Deployment], held: Mapping[str, Record]) -> Placement:
    """`held`: of each model, the report of its replicas (`loaded`): the versions they all hold and,
    of a language model, the engines' `addresses` by version and why versions `failed`. The shared
    replicas tell it to the clients of a model that is held elsewhere."""
    here: list[Record] = []
    remote: list[Record] = []
    own: list[OwnReplicas] = []
    for deployment in deployments:
        document, kind = deployment.to_dict(), placement_of(deployment)
        if applications_of(deployment) == (SHARED_APPLICATION,):
            here.append(document)
            continue
        known = held.get(deployment.model.name, {})
        told = {key: known.get(key, {}) for key in kind.reported}
        remote.append({"deployment": document, "held": sorted(known.get("held", ())), **told})
        own += kind.own(deployment)
    return Placement({"deployments": here, "remote": remote}, tuple(own))


def placement_of(deployment: Deployment) -> KindPlacement:
    return PLACEMENTS[deployment.model.kind]


def applications_of(deployment: Deployment) -> tuple[str, ...]:
    """The Serve applications whose replicas hold the model."""
    return placement_of(deployment).applications(deployment)


def _graph_applications(deployment: Deployment) -> tuple[str, ...]:
    """An unloaded model is held by nobody, and the shared replicas say so."""
    if deployment.loaded and options_of(deployment).placement == "own":
        return (own_application(deployment.model.name),)
    return (SHARED_APPLICATION,)


def _graph_replicas(deployment: Deployment) -> list[OwnReplicas]:
    options, config = options_of(deployment), {"deployments": [deployment.to_dict()]}
    application = own_application(deployment.model.name)
    return [OwnReplicas(application, options.replicas, options.cpus, config)]


def _engine_applications(deployment: Deployment) -> tuple[str, ...]:
    name = deployment.model.name
    return tuple(engine_application(name, base) for base in bases_of(deployment))


def _engines(deployment: Deployment) -> list[OwnReplicas]:
    options, document = language_options_of(deployment), deployment.to_dict()
    return [
        OwnReplicas(
            engine_application(deployment.model.name, base),
            options.replicas,
            options.cpus,
            {"deployment": document, "base": base},
            "build_engine",
            options.gpus_wanted,
            process_environment(options) | {ENGINE_KEY: _started_with(deployment, base, options)},
        )
        for base in bases_of(deployment)
    ]


PLACEMENTS: Mapping[ModelKind, KindPlacement] = {
    TABULAR: KindPlacement(_graph_applications, _graph_replicas),
    LANGUAGE: KindPlacement(_engine_applications, _engines, reported=("addresses", "failed")),
}


def bases_of(deployment: Deployment) -> list[int]:
    """The versions whose weights engines hold, ascending; none of an unloaded model."""
    if not deployment.loaded:
        return []
    return sorted({v.version if v.base is None else v.base for v in deployment.versions})


def _started_with(deployment: Deployment, base: int, options: LanguageOptions) -> str:
    served = deployment.version(base)
    what = repr((served.path if served else None, sorted(asdict(options.engine).items())))
    return hashlib.sha256(what.encode()).hexdigest()[:16]


def options_of(deployment: Deployment) -> BackendOptions:
    """The defaults for options that are wrong: the replica that is to load the model says why."""
    try:
        return parse_options(deployment.model.options)
    except Rejected:
        return BackendOptions()


def language_options_of(deployment: Deployment) -> LanguageOptions:
    """The same of a language model."""
    try:
        return parse_language_options(deployment.model.options)
    except Rejected:
        return LanguageOptions()
