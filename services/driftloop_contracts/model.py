"""Models, their versions, and the traffic split between them."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from struct import Struct
from typing import Any, Literal

from driftloop_contracts.errors import Rejected, shown
from driftloop_contracts.kind import ModelKind, Runtime, Task, kind_of
from driftloop_contracts.objective import (
    Objective,
    in_words,
    parse_guardrails,
    parse_objectives,
)
from driftloop_contracts.signature import Signature

Arm = Literal["stable", "canary", "pinned"]
"""The side of the split that answered; `pinned` if the caller named a version."""

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
RESERVED = frozenset({"stats"})
"""Names that collide with a URL of the serving port: `/v2/models/stats`."""


def check_new_name(name: str) -> None:
    """Raises Rejected for a model name that not every URL could reach. Models that an earlier
    release accepted under such a name are still served."""
    if name in RESERVED:
        raise Rejected(f"model name {name!r} is reserved for a URL of the serving port")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a team says of its model.

    runtime: what serves it, which gives its kind: ONNX Runtime, or vLLM (a language model,
    `driftloop_contracts.language`). task and output: how a label compares with a prediction;
    `output` names the tensor that holds the predicted class (classification) or value (regression).
    `task` None: no labels are judged. Under `generation` a label is not what the output should have
    been but how good it was, 0 to 1.
    recipe: how it is retrained, `module:attribute` or a built-in's name; None: never.
    slices: parts of the rows that are judged one by one: an input column, each value of which is a
    slice, or a name and a condition, {"new_customers": "tenure < 3"}.
    objective, guardrails: what is worse (`driftloop_contracts.objective`); None: the error of a
    class or value, or the rating. further: decisive objectives beside the first. classes: in the
    order of the model's probabilities.
    policy: the model's own values of settings, by section and key
    (`driftloop_settings.Settings.for_model`).
    labels_depend_on_answer: whether the label of a row would be another one had the model answered
    otherwise, as with a recommendation: then a label says nothing of a version that did not answer.
    """

    name: str
    task: Task | None = None
    output: str | None = None
    recipe: str | None = None
    slices: tuple[str | dict[str, str], ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    runtime: Runtime = "onnx"
    policy: dict[str, Any] = field(default_factory=dict)
    objective: Objective | None = None
    guardrails: tuple[Objective, ...] = ()
    classes: tuple[str, ...] = ()
    labels_depend_on_answer: bool = False
    further: tuple[Objective, ...] = ()

    def __post_init__(self) -> None:
        if not NAME.match(self.name):
            raise Rejected(
                f"model name {self.name!r}: use letters, digits, '_', '.', '-', at most 64"
            )
        if not isinstance(self.policy, dict):
            raise Rejected(
                "`policy` must be a mapping of sections, such as {rollout: {steps: [1]}}"
            )
        if not isinstance(self.labels_depend_on_answer, bool):
            raise Rejected("`labels_depend_on_answer` must be true or false")
        tasks = self.kind.tasks
        if self.task not in (None, *tasks):
            raise Rejected(
                f"task {self.task!r}: for {self.runtime} it must be {' or '.join(tasks)}"
            )
        if self.task and not self.output:
            raise Rejected(f"model {self.name!r} has a task: name its `output` tensor too")
        for said in self.judged_by:
            # Of several labelled outputs, one may be a class and another a value.
            fitting = (None, *tasks) if said.label is not None else (None, self.task)
            if self.task is None or said.kind.task not in fitting:
                fits = said.kind.task or "a model with a `task`"
                raise Rejected(
                    f"metric {said.metric!r} is for {fits}; model {self.name!r} has "
                    f"{'the task ' + self.task if self.task else 'no `task`'}"
                )
        self._check_labels()
        _check_slices(self.slices)

    def _check_labels(self) -> None:
        """Labels are values or mappings: Raises Rejected if some metrics read the one and some the
        other."""
        names = [guard.name for guard in (*self.further, *self.guardrails)]
        for guard in self.guardrails:
            if names.count(guard.name) > 1:
                raise Rejected(f"`guardrails`: {guard.name!r} is an objective too")
        if not self.labels:
            return
        if self.objective is None:
            raise Rejected(
                f"`guardrails` compare the label {self.labels[0]!r}: say an `objective` with the "
                "`label` that it compares, too"
            )
        if plain := [said.metric for said in self.judged_by if said.label is None]:
            raise Rejected(
                f"metric {plain[0]!r}: say which `label` it compares, as others do "
                f"({', '.join(self.labels)})"
            )

    @property
    def kind(self) -> ModelKind:
        return kind_of(self.runtime)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The decisive ones; none: by the task."""
        return (*filter(None, [self.objective]), *self.further)

    @property
    def judged_by(self) -> tuple[Objective, ...]:
        """Objectives and guardrails."""
        return (*self.objectives, *self.guardrails)

    @property
    def judged_in_words(self) -> str:
        """The names of what it is judged by, for people."""
        return in_words(self.objectives, self.guardrails, self.task or "")

    @property
    def labels(self) -> tuple[str, ...]:
        """The keys of its labels, if they are mappings such as {"approve": 1, "amount": 310}; none:
        a label is a value."""
        return tuple(dict.fromkeys(o.label for o in self.judged_by if o.label is not None))

    @property
    def awaited(self) -> tuple[str, ...] | None:
        """The keys of the labels without which a row is not judged, see `labels`; None: it is
        judged by its answer alone."""
        own = self.judged_by and all(said.kind.reads == "answer" for said in self.judged_by)
        return None if own and self.objective is not None else self.labels

    def to_dict(self) -> dict[str, Any]:
        objectives = [one.to_dict() for one in self.objectives]
        return {
            "name": self.name,
            "task": self.task,
            "output": self.output,
            "recipe": self.recipe,
            "slices": list(self.slices),
            "options": self.options,
            "runtime": self.runtime,
            "policy": self.policy,
            **({"objective": objectives if self.further else objectives[0]} if objectives else {}),
            **({"guardrails": [g.to_dict() for g in self.guardrails]} if self.guardrails else {}),
            **({"classes": list(self.classes)} if self.classes else {}),
            **({"labels_depend_on_answer": True} if self.labels_depend_on_answer else {}),
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "ModelSpec":
        if "further" in value:
            raise Rejected("`further`: list several metrics under `objective`")
        found = {**value, "slices": tuple(value.get("slices") or ())}
        if value.get("objective") is not None:
            found["objective"], *further = parse_objectives(value["objective"])
            found["further"] = tuple(further)
        found["guardrails"] = parse_guardrails(value.get("guardrails") or ())
        found["classes"] = tuple(class_name(name) for name in value.get("classes") or ())
        return cls(**found)


def class_name(value: object) -> str:
    """A class as labels name it: a text is its own name, anything else is named as in JSON."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value)


def _check_slices(slices: tuple[str | dict[str, str], ...]) -> None:
    for part in slices:
        named = isinstance(part, dict) and len(part) == 1
        if not isinstance(part, str) and not (
            named and all(isinstance(x, str) for pair in part.items() for x in pair)
        ):
            raise Rejected(
                f"`slices`: {shown(part)} is neither a column nor a name with a condition, such as "
                "{new_customers: tenure < 3}"
            )


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """A version that replicas must hold. `path`: the folder or URI with its `model.onnx`, or with
    the weights of a language model. `base`: the version whose weights this one, a LoRA adapter,
    goes with;
    None: it has weights of its own. `spec`: the spec it was deployed with, which holds once it is
    the stable one; None: a retrain made it, and the model's spec stays."""

    version: int
    path: str
    signature: Signature
    base: int | None = None
    spec: ModelSpec | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "path": self.path,
            "signature": self.signature.to_dict(),
            "base": self.base,
            "spec": self.spec and self.spec.to_dict(),
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "ServedVersion":
        signature = Signature.from_dict(value["signature"])
        spec = ModelSpec.from_dict(value["spec"]) if value.get("spec") else None
        return cls(value["version"], value["path"], signature, value.get("base"), spec)


_DRAW, _POINT = Struct("<qq"), Struct(">Q")


@dataclass(frozen=True, slots=True)
class TrafficSplit:
    """The distribution of requests that name no version. `weight`: the canary's share, 0 to 1.

    A routing key stays on its arm for an epoch of `sticky_s` seconds, counted from `since` (seconds
    since 1970); then all keys are drawn anew. `sticky_s` None: it stays as long as the split has
    the same salt, regardless of `since`.
    """

    stable: int
    canary: int | None = None
    weight: float = 0.0
    salt: str = ""
    since: float = 0.0
    sticky_s: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight <= 1.0:
            raise Rejected(f"split weight {self.weight} is not between 0 and 1")
        if self.canary is None and self.weight:
            raise Rejected("a split with a weight needs a canary")

    def arm(self, routing_key: bytes, now_s: float = 0.0) -> tuple[Arm, int]:
        """Return the arm and version of a key. They are uniform over keys, and equal on all
        replicas within an epoch.

        A key's point on [0, 1) does not depend on the weight, so raising the weight only moves keys
        from stable to canary.
        """
        return self.arm_of(self.key_hash(routing_key), self.epoch(now_s))

    def epoch(self, now_s: float) -> int:
        """Return the number of the epoch, from 0, at a time in seconds since 1970."""
        if self.sticky_s is None:
            return 0
        return max(0, int((now_s - self.since) // self.sticky_s))

    def key_hash(self, routing_key: bytes) -> int:
        """Return the recorded hash of a routing key, from 0 to 2^63; comparable only for the same
        salt."""
        return int.from_bytes(self._hash(routing_key), "big") >> 1

    def arm_of(self, key_hash: int, epoch: int) -> tuple[Arm, int]:
        """Return the arm and version of keys with this hash in this epoch."""
        if self.canary is None or self.weight <= 0.0:
            return "stable", self.stable
        since_ms = 0 if self.sticky_s is None else round(self.since * 1000)
        point = self._hash(key_hash.to_bytes(8, "big"), _DRAW.pack(since_ms, epoch))
        return self._at(point, self.canary)

    def versions_of(self, key_hashes: Sequence[int], epochs: Sequence[int]) -> list[int]:
        """Return the versions that answer keys with these hashes in these epochs [n]: `arm_of` for
        many keys."""
        if self.canary is None or self.weight <= 0.0:
            return [self.stable] * len(key_hashes)
        since_ms = 0 if self.sticky_s is None else round(self.since * 1000)
        draws = {epoch: _DRAW.pack(since_ms, epoch) for epoch in set(epochs)}
        key, below = self.salt.encode()[:64], self.weight * 2**64
        points = (
            blake2b(hashed.to_bytes(8, "big"), digest_size=8, key=key, salt=draws[epoch]).digest()
            for hashed, epoch in zip(key_hashes, epochs, strict=True)
        )
        return [self.canary if _POINT.unpack(p)[0] < below else self.stable for p in points]

    def arm_alone(self, prediction_id: str) -> tuple[Arm, int]:
        """Return the arm and version of a request without a routing key."""
        if self.canary is None or self.weight <= 0.0:
            return "stable", self.stable
        return self._at(self._hash(prediction_id.encode()), self.canary)

    def _hash(self, what: bytes, draw: bytes = b"") -> bytes:
        return blake2b(what, digest_size=8, key=self.salt.encode()[:64], salt=draw).digest()

    def _at(self, point: bytes, canary: int) -> tuple[Arm, int]:
        if int.from_bytes(point, "big") < self.weight * 2**64:
            return "canary", canary
        return "stable", self.stable


@dataclass(frozen=True, slots=True)
class Deployment:
    """The desired serving state of one model. `revision` increases by one with every change.
    `loaded` False: replicas hold none of its versions, but it stays deployed."""

    model: ModelSpec
    versions: tuple[ServedVersion, ...]
    split: TrafficSplit
    revision: int = 0
    loaded: bool = True

    def version(self, version: int) -> ServedVersion | None:
        return next((v for v in self.versions if v.version == version), None)

    def serving(self, served: ServedVersion, split: TrafficSplit) -> "Deployment":
        """With a stable version, and the spec that it was deployed with. The policy is the model's,
        not a version's."""
        spec = served.spec and replace(served.spec, policy=self.model.policy)
        return replace(self.with_version(served), split=split, model=spec or self.model)

    def with_version(self, served: ServedVersion) -> "Deployment":
        kept = tuple(v for v in self.versions if v.version != served.version)
        return replace(self, versions=(*kept, served))

    def to_dict(self) -> dict[str, Any]:
        s = self.split
        return {
            "model": self.model.to_dict(),
            "versions": [v.to_dict() for v in self.versions],
            "split": {
                "stable": s.stable,
                "canary": s.canary,
                "weight": s.weight,
                "salt": s.salt,
                "since": s.since,
                "sticky_s": s.sticky_s,
            },
            "revision": self.revision,
            "loaded": self.loaded,
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Deployment":
        return cls(
            ModelSpec.from_dict(value["model"]),
            tuple(ServedVersion.from_dict(v) for v in value["versions"]),
            TrafficSplit(**value["split"]),
            value["revision"],
            value.get("loaded", True),
        )
