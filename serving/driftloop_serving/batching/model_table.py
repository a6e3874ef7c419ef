"""The versions that a replica holds, and which one answers a request."""

import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

import structlog

import driftloop_onnx
from driftloop_contracts.capture import parse_capture
from driftloop_contracts.errors import (
    DriftloopError,
    NotFound,
    Rejected,
    RetryLater,
    Unavailable,
)
from driftloop_contracts.input_rules import InputRule, parse_rules
from driftloop_contracts.kind import LANGUAGE
from driftloop_contracts.model import Arm, Deployment
from driftloop_contracts.signature import Signature
from driftloop_onnx import BackendOptions, Loaded, OnnxModel, parse_options
from driftloop_serving.capture.capture_filter import CaptureFilter, capture_filter
from driftloop_settings import CaptureSettings

log = structlog.get_logger()

Load = Callable[[str, BackendOptions], Loaded]
Choice = tuple[Arm, int]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Who answers: the arm, the version's number and its graph, and the model's input rules.

    batchable: whether requests may share a run of up to `max_batch_rows` rows; for its sake a
    request may wait up to `max_queue_delay_s`. one_shape: whether all that fits the signature has
    the same shape but for the rows. capture: what is left out of capture. beside_canary: whether a
    split decided. graph_key: identifies this graph in this arm.
    """

    arm: Arm
    version: int
    model: OnnxModel
    rules: Mapping[str, InputRule]
    batchable: bool
    max_batch_rows: int
    max_queue_delay_s: float
    signature: Signature
    one_shape: bool
    capture: CaptureFilter | None = None
    beside_canary: bool = False
    graph_key: object = field(default_factory=object)

    def for_inputs(self, given: Collection[str]) -> "Chosen":
        """For a queue of requests that give these inputs: those with values for optional ones run
        alone, since the graph was seen to answer each row alone with its own values only."""
        if len(given) == len(self.signature.inputs):
            return self
        return replace(self, batchable=False)


@dataclass(frozen=True)
class Served:
    """What a replica holds of a model: nothing if it is unloaded."""

    deployment: Deployment
    versions: Mapping[int, Loaded]
    failed: Mapping[int, str] = field(default_factory=dict)
    """Versions that could not be loaded, and why."""
    rules: Mapping[str, InputRule] = field(default_factory=dict)
    remote: frozenset[int] | None = None
    """The versions that the model's own replicas hold; None: it has none, this replica is to hold
    it."""
    addresses: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Where the engines of a language model's version answer, as host:port."""
    capture: CaptureSettings = field(default_factory=CaptureSettings)

    @cached_property
    def is_language_model(self) -> bool:
        """Asked through OpenAI's API, and not with tensors."""
        return self.deployment.model.kind is LANGUAGE

    @property
    def ready(self) -> bool:
        return self.holds(self.deployment.split.stable)

    def holds(self, version: int) -> bool:
        return version in (self.versions if self.remote is None else self.remote)

    @cached_property
    def choices(self) -> Mapping[Choice, Chosen]:
        """Made once: a request only looks its own up."""
        split = self.deployment.split
        choices: dict[Choice, Chosen] = {
            ("pinned", version): self._chosen("pinned", version, loaded)
            for version, loaded in self.versions.items()
        }
        stable = self.versions.get(split.stable)
        if stable is not None:
            choices["stable", split.stable] = self._chosen("stable", split.stable, stable)
        if split.canary is not None:
            canary = self.versions.get(split.canary)
            if canary is not None:
                choices["canary", split.canary] = self._chosen("canary", split.canary, canary)
            elif stable is not None:
                # A canary that this replica cannot load must not cost an answer.
                choices["canary", split.canary] = choices["stable", split.stable]
        return choices

    @cached_property
    def only(self) -> Chosen | None:
        """Who answers whatever the routing key, while there is no canary."""
        split = self.deployment.split
        return self.choices.get(("stable", split.stable)) if split.canary is None else None

    def _chosen(self, arm: Arm, version: int, loaded: Loaded) -> Chosen:
        options, signature = loaded.options, loaded.model.signature
        return Chosen(
            arm,
            version,
            loaded.model,
            self.rules,
            loaded.why_not_batched is None,
            options.max_batch_rows,
            options.max_queue_delay_ms / 1e3,
            signature,
            one_shape=not signature.optional
            and all(t.row_shape is not None and -1 not in t.row_shape for t in signature.inputs),
            capture=capture_filter(
                parse_capture(self.deployment.model.options), signature, self.capture
            ),
            beside_canary=self.deployment.split.canary is not None,
        )


@dataclass(frozen=True, slots=True)
class ModelTable:
    """A value: a reload makes a new table, and a request keeps the one it began with."""

    models: Mapping[str, Served] = field(default_factory=dict)

    def served(self, model: str) -> Served:
        found = self.models.get(model)
        if found is None:
            known = ", ".join(sorted(self.models)) or "none"
            raise NotFound(f"unknown model {model!r}; known: {known}")
        return found

    def is_remote(self, model: str) -> bool:
        """Raises Rejected for a language model, which takes no tensors."""
        served = self.models.get(model)
        if served is not None and served.is_language_model:
            raise Rejected(
                f"model {model!r} is a language model; ask it at /v1/chat/completions or "
                f"/v1/completions"
            )
        return served is not None and served.remote is not None

    def choose(
        self, model: str, pinned: str | None, routing_key: bytes | None, prediction_id: str
    ) -> tuple[Chosen, int | None]:
        """Who answers, and the hash of the routing key if that decided it.

        Raises NotFound for an unknown model or version, RetryLater for one that is not loaded
        yet, Unavailable for one that will not be."""
        served = self.served(model)
        if pinned is None and served.only is not None:
            return served.only, None
        split, key_hash = served.deployment.split, None
        if pinned is not None:
            choice: Choice = ("pinned", self.pinned(served, pinned))
        elif routing_key:
            key_hash = split.key_hash(routing_key)
            choice = split.arm_of(key_hash, split.epoch(time.time()))
        else:
            choice = split.arm_alone(prediction_id)
        chosen = served.choices.get(choice)
        if chosen is None:
            if not served.deployment.loaded:
                raise Unavailable(f"model {model!r} is unloaded")
            raise RetryLater(f"version {choice[1]} of model {model!r} is not loaded")
        return chosen, key_hash

    @staticmethod
    def pinned(served: Served, version: str) -> int:
        name = served.deployment.model.name
        known = sorted(v.version for v in served.deployment.versions)
        # Version numbers are short ASCII: `int` also takes other scripts' digits, and is slow for
        # long ones.
        if not re.fullmatch("[0-9]{1,18}", version) or int(version) not in known:
            raise NotFound(f"unknown version {version[:40]!r} of model {name!r}; known: {known}")
        return int(version)

    @property
    def ready(self) -> bool:
        """Whether the stable version of every model that is not unloaded is held."""
        return all(s.ready for s in self.models.values() if s.deployment.loaded)


def held_remotely(
    deployment: Deployment,
    held: Iterable[int],
    addresses: Mapping[int, tuple[str, ...]] = MappingProxyType({}),
    failed: Mapping[int, str] = MappingProxyType({}),
) -> Served:
    """What a replica knows of a model that has replicas of its own."""
    return Served(deployment, {}, failed, remote=frozenset(held), addresses=addresses)


def reload(
    table: ModelTable,
    deployments: Iterable[Deployment],
    load: Load = driftloop_onnx.load,
    capture: CaptureSettings | None = None,
) -> ModelTable:
    """The table for these deployments; graphs that stay are kept, new ones loaded with `load`,
    which may take minutes.

    A version that fails to load is noted and does not keep the others from serving.
    """
    models = {}
    for deployment in deployments:
        before = table.models.get(deployment.model.name)
        rules = parse_rules(deployment.model.options)
        served = _served(deployment, before, rules, load)
        models[deployment.model.name] = replace(served, capture=capture or CaptureSettings())
    return ModelTable(models)


def _served(
    deployment: Deployment, before: Served | None, rules: Mapping[str, InputRule], load: Load
) -> Served:
    versions: dict[int, Loaded] = {}
    failed: dict[int, str] = {}
    for wanted in deployment.versions if deployment.loaded else ():
        try:
            options = parse_options(deployment.model.options)
            parse_capture(deployment.model.options)  # an invalid rule must not go unnoticed
            if before is not None and before.deployment.version(wanted.version) == wanted:
                held = before.versions.get(wanted.version)
                if held is not None and held.options == options:
                    versions[wanted.version] = held
                    continue
            versions[wanted.version] = load(wanted.path, options)
        except DriftloopError as error:
            failed[wanted.version] = str(error)
        except Exception:
            name = deployment.model.name
            log.exception("model.load_broke", model=name, version=wanted.version)
            failed[wanted.version] = "failed to load; see the replica log"
    return Served(deployment, versions, failed, rules)
