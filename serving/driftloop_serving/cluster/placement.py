"""Decides which replicas hold a model: the shared ones, dedicated ones (option `onnx.placement`),
or engines. A language model has one engine application for each version with full weights."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from driftloop_contracts.errors import Rejected
from driftloop_contracts.kind import LANGUAGE, TABULAR, ModelKind
from driftloop_contracts.model import Deployment
from driftloop_contracts.replica import LoadedVersions, ReplicaReport
from driftloop_onnx import BackendOptions, parse_options
from driftloop_serving.replicas.application import (
    SHARED_APPLICATION,
    engine_application,
    own_application,
)
from driftloop_serving.replicas.replica_config import (
    EngineConfig,
    RemoteModel,
    ReplicaConfig,
    fingerprint,
)
from driftloop_vllm.options import LanguageOptions, process_environment
from driftloop_vllm.options import parse_options as parse_language_options

ENGINE_KEY = "DRIFTLOOP_ENGINE"
"""An environment variable that identifies an engine's start options. When it changes, Serve
replaces the replica, starting the new one before the old one ends."""


@dataclass(frozen=True, slots=True)
class OwnReplicas:
    """The Serve application of one model or one engine. `cpus` and `gpus`: what Ray reserves for
    each replica; `environment`: additional variables of its process."""

    application: str
    replicas: int
    cpus: float
    user_config: ReplicaConfig | EngineConfig
    build: Literal["build_own", "build_engine"] = "build_own"
    gpus: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Placement:
    """`shared`: the `user_config` of the replicas that receive requests."""

    shared: ReplicaConfig
    own: tuple[OwnReplicas, ...] = ()

    @property
    def models(self) -> frozenset[str]:
        """The names of the models that are answered for."""
        here = {deployment.model.name for deployment in self.shared.deployments}
        return frozenset(here | {remote.deployment.model.name for remote in self.shared.remote})


@dataclass(frozen=True, slots=True)
class KindPlacement:
    """The placement of models of one kind. applications: the Serve applications that hold a
    deployment. own: the dedicated ones among them. remote: what the replicas that receive requests
    know about it."""

    applications: Callable[[Deployment], tuple[str, ...]]
    own: Callable[[Deployment], list[OwnReplicas]]
    remote: Callable[[Deployment, LoadedVersions], RemoteModel]


def place(deployments: Iterable[Deployment], loaded: Mapping[str, LoadedVersions]) -> Placement:
    """Assign deployments to replicas. `loaded`: for each model, the versions held by its replicas,
    so that the shared replicas can answer for a model held elsewhere."""
    here: list[Deployment] = []
    remote: list[RemoteModel] = []
    own: list[OwnReplicas] = []
    for deployment in deployments:
        if applications_of(deployment) == (SHARED_APPLICATION,):
            here.append(deployment)
            continue
        kind = placement_of(deployment)
        remote.append(kind.remote(deployment, loaded.get(deployment.model.name, LoadedVersions())))
        own += kind.own(deployment)
    return Placement(ReplicaConfig(tuple(here), tuple(remote)), tuple(own))


def has_applied(wanted: Placement, running: Iterable[tuple[str, ReplicaReport]]) -> bool:
    """Return whether all replicas that receive requests have applied the placement. `running`: the
    application and the report of each replica that answers."""
    config = fingerprint(wanted.shared.to_dict())
    return all(report.config == config for where, report in running if where == SHARED_APPLICATION)


def placement_of(deployment: Deployment) -> KindPlacement:
    return PLACEMENTS[deployment.model.kind]


def applications_of(deployment: Deployment) -> tuple[str, ...]:
    """Return the Serve applications whose replicas hold the model."""
    return placement_of(deployment).applications(deployment)


def _graph_applications(deployment: Deployment) -> tuple[str, ...]:
    """Return the application. An unloaded model is held by no replica; the shared ones answer for
    it."""
    if deployment.loaded and options_of(deployment).placement == "own":
        return (own_application(deployment.model.name),)
    return (SHARED_APPLICATION,)


def _graph_replicas(deployment: Deployment) -> list[OwnReplicas]:
    options, config = options_of(deployment), ReplicaConfig((deployment,))
    application = own_application(deployment.model.name)
    return [OwnReplicas(application, options.replicas, options.cpus, config)]


def _graph_remote(deployment: Deployment, known: LoadedVersions) -> RemoteModel:
    return RemoteModel(deployment, known.held)


def _engine_applications(deployment: Deployment) -> tuple[str, ...]:
    name = deployment.model.name
    return tuple(engine_application(name, base) for base in bases_of(deployment))


def _engine_remote(deployment: Deployment, known: LoadedVersions) -> RemoteModel:
    return RemoteModel(deployment, known.held, known.addresses, known.failed)


def _engines(deployment: Deployment) -> list[OwnReplicas]:
    options = language_options_of(deployment)
    return [
        OwnReplicas(
            engine_application(deployment.model.name, base),
            options.replicas,
            options.cpus,
            EngineConfig(deployment, base),
            "build_engine",
            options.gpus_wanted,
            process_environment(options) | {ENGINE_KEY: _started_with(deployment, base, options)},
        )
        for base in bases_of(deployment)
    ]


PLACEMENTS: Mapping[ModelKind, KindPlacement] = {
    TABULAR: KindPlacement(_graph_applications, _graph_replicas, _graph_remote),
    LANGUAGE: KindPlacement(_engine_applications, _engines, _engine_remote),
}


def bases_of(deployment: Deployment) -> list[int]:
    """Return the versions whose weights engines hold, ascending; none for an unloaded model."""
    if not deployment.loaded:
        return []
    return sorted({v.version if v.base is None else v.base for v in deployment.versions})


def _started_with(deployment: Deployment, base: int, options: LanguageOptions) -> str:
    served = deployment.version(base)
    what = repr((served.path if served else None, sorted(asdict(options.engine).items())))
    return hashlib.sha256(what.encode()).hexdigest()[:16]


def options_of(deployment: Deployment) -> BackendOptions:
    """Return the model's options, or the defaults if they are invalid: the replica reports the
    reason."""
    try:
        return parse_options(deployment.model.options)
    except Rejected:
        return BackendOptions()


def language_options_of(deployment: Deployment) -> LanguageOptions:
    """The same for a language model."""
    try:
        return parse_language_options(deployment.model.options)
    except Rejected:
        return LanguageOptions()
