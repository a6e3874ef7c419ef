"""How a candidate of each kind of model answers in the shadow, and what its answers are compared
by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from driftloop_artifacts import Files
from driftloop_contracts.kind import LANGUAGE, TABULAR, ModelKind
from driftloop_contracts.model import ModelSpec
from driftloop_onnx import parse_options
from driftloop_rollout.language_shadow import conversations_compared, opened
from driftloop_rollout.machine import Rollout
from driftloop_rollout.margins import Margins
from driftloop_rollout.shadow_graph import ShadowGraph
from driftloop_rollout.shadow_plan import Compared
from driftloop_rollout.shadow_process import Limits, ShadowProcess
from driftloop_settings import Settings
from driftloop_store.store import Store


@dataclass(frozen=True, slots=True)
class KindShadow:
    """compared: by what, with the margins of a rollout; raises Rejected if nothing compares them.
    opened: what answers; raises Rejected. most_deaths: how often it may end before that is harm."""

    compared: Callable[[ModelSpec, Settings, Store, Margins], Compared]
    opened: Callable[[Rollout, ModelSpec, Settings, Store, Files], ShadowGraph]
    most_deaths: int


def _by_labels(_spec: ModelSpec, settings: Settings, _store: Store, _margins: Margins) -> Compared:
    return Compared(settings.rollout.shadow_rows)


def _process(
    rollout: Rollout, spec: ModelSpec, settings: Settings, _store: Store, files: Files
) -> ShadowGraph:
    limits = Limits(memory_bytes=settings.rollout.shadow_memory_bytes)
    return ShadowProcess(rollout.candidate, parse_options(spec.options), limits, files)


SHADOWS: Mapping[ModelKind, KindShadow] = {
    TABULAR: KindShadow(_by_labels, _process, most_deaths=3),
    # An engine that ends takes the answers of the champion with it.
    LANGUAGE: KindShadow(conversations_compared, opened, most_deaths=1),
}
