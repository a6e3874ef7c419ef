"""Which replicas hold a model: the shared ones, its own (option `onnx.placement`), or engines (a
language model), one application for each of its versions with weights of its own."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from driftloop_contracts.errors import Rejected
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


def place(deployments: Iterable[Deployment], held: Mapping[str, Record]) -> Placement:
    """`held`: of each model, the report of its replicas (`loaded`): the versions they all hold and,
    of a language model, the engines' `addresses` by version and why versions `failed`. The shared
    replicas tell it to the clients of a model that is held elsewhere."""
    here: list[Record] = []
    remote: list[Record] = []
    own: list[OwnReplicas] = []
    for deployment in deployments:
        document = deployment.to_dict()
        name = deployment.model.name
        if applications_of(deployment) == (SHARED_APPLICATION,):
            here.append(document)
            continue
        known = held.get(name, {})
        entry: Record = {"deployment": document, "held": sorted(known.get("held", ()))}
        if deployment.model.runtime == "vllm":
            entry |= {key: known.get(key, {}) for key in ("addresses", "failed")}
            own += _engines(deployment, document)
        else:
            options = options_of(deployment)
            config = {"deployments": [document]}
            own.append(OwnReplicas(own_application(name), options.replicas, options.cpus, config))
        remote.append(entry)
    return Placement({"deployments": here, "remote": remote}, tuple(own))


def _engines(deployment: Deployment, document: Record) -> list[OwnReplicas]:
    options = language_options_of(deployment)
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


def bases_of(deployment: Deployment) -> list[int]:
    """The versions whose weights engines hold, ascending; none of an unloaded model."""
    if not deployment.loaded:
        return []
    return sorted({v.version if v.base is None else v.base for v in deployment.versions})


def _started_with(deployment: Deployment, base: int, options: LanguageOptions) -> str:
    served = deployment.version(base)
    what = repr((served.path if served else None, sorted(asdict(options.engine).items())))
    return hashlib.sha256(what.encode()).hexdigest()[:16]


def applications_of(deployment: Deployment) -> tuple[str, ...]:
    """The Serve applications whose replicas hold the model. An unloaded one is held by nobody, and
    the shared ones say so."""
    name = deployment.model.name
    if deployment.model.runtime == "vllm":
        return tuple(engine_application(name, base) for base in bases_of(deployment))
    if deployment.loaded and options_of(deployment).placement == "own":
        return (own_application(name),)
    return (SHARED_APPLICATION,)


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
