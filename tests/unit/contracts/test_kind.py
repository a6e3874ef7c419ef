import pytest

from driftloop_contracts.errors import Rejected
from driftloop_contracts.kind import KINDS, LANGUAGE, TABULAR, kind_of
from driftloop_contracts.model import ModelSpec
from driftloop_gateway.intake import READERS
from driftloop_monitoring.state.kind_checks import CHECKS
from driftloop_retrain.job.trainers import TRAINERS, trainer_of
from driftloop_rollout.kind_evidence import EVIDENCE
from driftloop_rollout.observer import MARGINS
from driftloop_serving.cluster.placement import PLACEMENTS
from driftloop_serving.http.rest_api import PLATFORMS


def test_a_spec_says_of_what_kind_its_model_is() -> None:
    assert ModelSpec("loans").kind is TABULAR
    assert ModelSpec("chat", runtime="vllm").kind is LANGUAGE


def test_an_unknown_runtime_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Rejected, match="runtime 'triton': it is onnx or vllm"):
        kind_of("triton")


@pytest.mark.parametrize(
    "table", [READERS, CHECKS, EVIDENCE, MARGINS, PLACEMENTS, PLATFORMS, TRAINERS]
)
def test_each_layer_knows_all_kinds(table: object) -> None:
    assert set(table) == set(KINDS)  # type: ignore[call-overload]


def test_each_kind_is_trained_by_its_trainer() -> None:
    specs = (ModelSpec("loans"), ModelSpec("chat", runtime="vllm"))
    assert [trainer_of(spec).artifact for spec in specs] == ["graph", "adapter"]
