import pytest

from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_contracts.replica import LoadedVersions
from driftloop_contracts.signature import Signature
from driftloop_serving.batching.model_table import ModelTable, held_remotely
from driftloop_serving.cluster.placement import applications_of, place
from driftloop_serving.replicas.application import SHARED_APPLICATION
from driftloop_serving.replicas.replica_config import RemoteModel, ReplicaConfig


def deployment(name: str, loaded: bool = True, **onnx: object) -> Deployment:
    version = ServedVersion(1, f"/models/{name}", Signature((), ()))
    spec = ModelSpec(name, options={"onnx": onnx})
    return Deployment(spec, (version,), TrafficSplit(1), loaded=loaded)


def test_models_share_replicas_unless_they_ask_for_their_own() -> None:
    models = [
        deployment("a"),
        deployment("b", placement="own", replicas=3, cpus=1.5),
        deployment("c"),
    ]
    placement = place(models, {"b": LoadedVersions(held=(1,))})
    assert placement.shared.deployments == (models[0], models[2])
    assert placement.shared.remote == (RemoteModel(models[1], (1,)),)
    (own,) = placement.own
    assert (own.application, own.replicas, own.cpus) == ("model-b", 3, 1.5)
    assert own.user_config == ReplicaConfig((models[1],))
    assert ReplicaConfig.from_dict(placement.shared.to_dict()) == placement.shared


def test_an_unloaded_model_gives_its_own_replicas_back() -> None:
    model = deployment("b", loaded=False, placement="own")
    assert applications_of(model) == (SHARED_APPLICATION,)
    assert place([model], {}).own == ()


def test_a_model_with_wrong_options_is_left_to_the_shared_replicas_to_refuse() -> None:
    model = deployment("b", placement="own", threads="many")
    assert place([model], {}).shared.deployments == (model,)


@pytest.mark.parametrize(("held", "ready"), [([], False), ([1], True)])
def test_a_model_held_elsewhere_is_ready_when_its_own_replicas_hold_it(
    held: list[int], ready: bool
) -> None:
    table = ModelTable({"b": held_remotely(deployment("b", placement="own"), held)})
    assert table.is_remote("b")
    assert not table.is_remote("a")
    assert table.ready is ready
