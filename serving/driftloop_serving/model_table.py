"""The versions that a replica holds, and which one answers a request."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from driftloop_contracts.errors import NotFound, RetryLater
from driftloop_contracts.model import Arm, Deployment
from driftloop_onnx import OnnxModel
from driftloop_serving.rules import InputRule, parse_rules

Load = Callable[[str], OnnxModel]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Who answers: the arm, the version's number and its graph, and the model's input rules."""

    arm: Arm
    version: int
    model: OnnxModel
    rules: Mapping[str, InputRule]


@dataclass(frozen=True, slots=True)
class Served:
    deployment: Deployment
    versions: Mapping[int, OnnxModel]
    failed: Mapping[int, str] = field(default_factory=dict)
    """Versions that could not be loaded, and why."""
    rules: Mapping[str, InputRule] = field(default_factory=dict)


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

    def choose(self, model: str, pinned: str | None, routing_key: bytes) -> Chosen:
        """Raises NotFound for an unknown model or version, RetryLater for one that is not loaded."""
        served = self.served(model)
        if pinned is None:
            arm, version = served.deployment.split.arm(routing_key)
        else:
            arm, version = "pinned", self.pinned(served, pinned)
        graph = served.versions.get(version)
        if graph is None:
            stable = served.versions.get(served.deployment.split.stable)
            if arm != "canary" or stable is None:
                raise RetryLater(f"version {version} of model {model!r} is not loaded")
            # A canary that this replica cannot load must not cost an answer.
            return Chosen("stable", served.deployment.split.stable, stable, served.rules)
        return Chosen(arm, version, graph, served.rules)

    @staticmethod
    def pinned(served: Served, version: str) -> int:
        name = served.deployment.model.name
        known = sorted(v.version for v in served.deployment.versions)
        if not version.isdecimal() or int(version) not in known:
            raise NotFound(f"unknown version {version!r} of model {name!r}; known: {known}")
        return int(version)

    @property
    def ready(self) -> bool:
        """Whether every model's stable version is loaded."""
        return all(s.deployment.split.stable in s.versions for s in self.models.values())


def reload(table: ModelTable, deployments: Iterable[Deployment], load: Load) -> ModelTable:
    """The table for these deployments; graphs that stay are kept, new ones loaded with `load`.

    A version that fails to load is noted and does not keep the others from serving.
    """
    models = {}
    for deployment in deployments:
        name = deployment.model.name
        before = table.models.get(name)
        old = {v.version: v for v in before.deployment.versions} if before else {}
        versions: dict[int, OnnxModel] = {}
        failed: dict[int, str] = {}
        for wanted in deployment.versions:
            if before and old.get(wanted.version) == wanted and wanted.version in before.versions:
                versions[wanted.version] = before.versions[wanted.version]
                continue
            try:
                versions[wanted.version] = load(wanted.path)
            except Exception as error:
                failed[wanted.version] = str(error)
        rules = parse_rules(deployment.model.options)
        models[name] = Served(deployment, versions, failed, rules)
    return ModelTable(models)
