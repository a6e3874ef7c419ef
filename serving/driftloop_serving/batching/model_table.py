"""The model versions that a replica holds, and the choice of the version that answers a request."""

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
from driftloop_contracts.model import Arm, Deployment
from driftloop_contracts.signature import Signature
from driftloop_onnx import BackendOptions, Loaded, parse_options
from driftloop_onnx.graph import Graph
from driftloop_serving.capture.capture_filter import CaptureFilter, capture_filter
from driftloop_settings import CaptureSettings

log = structlog.get_logger()

Load = Callable[[str, BackendOptions], Loaded]
Choice = tuple[Arm, int]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The version chosen to answer a request: its arm, number, graph, and the model's input rules.

    batchable: whether requests may share a run of up to `max_batch_rows` rows, for which a request
    may wait up to `max_queue_delay_s` seconds. one_shape: whether all inputs that fit the signature
    have the same shape, apart from the number of rows. capture: what to leave out of the record.
    beside_canary: whether a traffic split made the choice. graph_key: identifies this graph in this
    arm.
    """

    arm: Arm
    version: int
    model: Graph
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
        """Return the choice for a queue of requests with these inputs. Requests with values for
        optional inputs are not batched, because batching was only verified with the defaults."""
        if len(given) == len(self.signature.inputs):
            return self
        return replace(self, batchable=False)


@dataclass(frozen=True)
class Served:
    """What a replica knows of one model; it holds no versions of an unloaded model."""

    deployment: Deployment
    versions: Mapping[int, Loaded]
    failed: Mapping[int, str] = field(default_factory=dict)
    """Versions that failed to load, with the reason."""
    rules: Mapping[str, InputRule] = field(default_factory=dict)
    remote: frozenset[int] | None = None
    """The versions held by the model's dedicated replicas; None if it has no dedicated replicas, so
    that this replica must hold it."""
    addresses: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """For each version of a language model, the host:port of its engines."""
    capture: CaptureSettings = field(default_factory=CaptureSettings)

    @cached_property
    def is_language_model(self) -> bool:
        """Whether the model is served through OpenAI's API instead of tensors."""
        return self.deployment.model.kind.has_conversations

    @property
    def ready(self) -> bool:
        return self.holds(self.deployment.split.stable)

    def holds(self, version: int) -> bool:
        return version in (self.versions if self.remote is None else self.remote)

    @cached_property
    def choices(self) -> Mapping[Choice, Chosen]:
        """All choices that a request can get. Computed once, because requests are frequent."""
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
                # A canary that cannot be loaded must not fail requests: the stable version answers.
                choices["canary", split.canary] = choices["stable", split.stable]
        return choices

    @cached_property
    def only(self) -> Chosen | None:
        """The version that answers all unpinned requests if there is no canary; None otherwise."""
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
    """All models of a replica. Immutable: a reload creates a new table, and a request keeps the
    table that it started with."""

    models: Mapping[str, Served] = field(default_factory=dict)

    def served(self, model: str) -> Served:
        found = self.models.get(model)
        if found is None:
            known = ", ".join(sorted(self.models)) or "none"
            raise NotFound(f"unknown model {model!r}; known: {known}")
        return found

    def is_remote(self, model: str) -> bool:
        """Whether other replicas hold the model. Raises Rejected for a language model, which does
        not accept tensors."""
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
        """Choose the version that answers, and return it with the hash of the routing key (None if
        the key did not decide).

        Raises NotFound for an unknown model or version, RetryLater for a version that is not loaded
        yet, Unavailable for an unloaded model.
        """
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
        # `int` also accepts digits of other scripts and is slow for long texts.
        if not re.fullmatch("[0-9]{1,18}", version) or int(version) not in known:
            raise NotFound(f"unknown version {version[:40]!r} of model {name!r}; known: {known}")
        return int(version)

    @property
    def ready(self) -> bool:
        """Whether the stable versions of all models that should be loaded are held."""
        return all(s.ready for s in self.models.values() if s.deployment.loaded)


def held_remotely(
    deployment: Deployment,
    held: Iterable[int],
    addresses: Mapping[int, tuple[str, ...]] = MappingProxyType({}),
    failed: Mapping[int, str] = MappingProxyType({}),
) -> Served:
    """Build the entry of a model that is held by dedicated replicas."""
    return Served(deployment, {}, failed, remote=frozenset(held), addresses=addresses)


def reload(
    table: ModelTable,
    deployments: Iterable[Deployment],
    load: Load = driftloop_onnx.load,
    capture: CaptureSettings | None = None,
) -> ModelTable:
    """Build the table for these deployments. Graphs in `table` that have not changed are reused;
    others are loaded with `load`, which may take minutes. A version that fails to load is recorded
    in `failed` and does not affect the others."""
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
            parse_capture(deployment.model.options)  # fail now if a rule is invalid
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
