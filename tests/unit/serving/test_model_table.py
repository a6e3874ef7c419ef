from pathlib import Path
from typing import Any

import pytest

from driftloop_contracts.errors import NotFound, RetryLater, Unavailable
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_onnx import BackendOptions, Loaded, signature_of
from driftloop_onnx import load as really_load
from driftloop_serving.batching.model_table import ModelTable, reload


class Loader:
    """Loads graphs, and records the options."""

    def __init__(self) -> None:
        self.asked: list[BackendOptions] = []

    def __call__(self, path: str, options: BackendOptions) -> Loaded:
        self.asked.append(options)
        return really_load(path, options)


@pytest.fixture
def load() -> Loader:
    return Loader()


def deployment(
    scaler: Path,
    split: TrafficSplit,
    *versions: int,
    gone: tuple[int, ...] = (),
    loaded: bool = True,
    **options: Any,
) -> Deployment:
    signature = signature_of(scaler)
    served = tuple(
        ServedVersion(v, str(scaler / "gone" if v in gone else scaler), signature) for v in versions
    )
    spec = ModelSpec("m", options={"onnx": options})
    return Deployment(spec, served, split, loaded=loaded)


def test_the_split_chooses_and_says_which_arm(scaler: Path) -> None:
    table = reload(ModelTable(), [deployment(scaler, TrafficSplit(1, 2, 0.5), 1, 2)])
    chosen = [table.choose("m", None, b"%d" % key, "")[0] for key in range(50)]
    assert {(c.arm, c.version) for c in chosen} == {("stable", 1), ("canary", 2)}
    assert table.choose("m", "2", b"", "")[0].arm == "pinned"


def test_what_is_chosen_says_how_it_may_be_run(scaler: Path) -> None:
    options = {"max_batch_rows": 7, "max_queue_delay_ms": 2}
    table = reload(ModelTable(), [deployment(scaler, TrafficSplit(1), 1, **options)])
    chosen = table.choose("m", None, b"", "")[0]
    assert (chosen.batchable, chosen.max_batch_rows, chosen.max_queue_delay_s) == (True, 7, 0.002)
    assert (chosen.one_shape, chosen.signature) == (True, signature_of(scaler))


def test_arms_and_versions_have_queues_of_their_own_and_one_keeps_its_own(scaler: Path) -> None:
    table = reload(ModelTable(), [deployment(scaler, TrafficSplit(1, 2, 0.5), 1, 2)])
    pinned = table.choose("m", "1", b"", "")[0].graph_key
    stable = table.choose("m", None, b"0", "")[0].graph_key
    assert pinned != stable
    assert table.choose("m", "1", b"", "")[0].graph_key is pinned


def test_what_stays_is_not_loaded_again(scaler: Path, load: Loader) -> None:
    before = reload(ModelTable(), [deployment(scaler, TrafficSplit(1), 1)], load)
    after = reload(before, [deployment(scaler, TrafficSplit(1, 2, 0.1), 1, 2)], load)
    assert len(load.asked) == 2
    assert after.models["m"].versions[1] is before.models["m"].versions[1]
    assert before.models["m"].versions.keys() == {1}


def test_other_options_load_it_again(scaler: Path, load: Loader) -> None:
    before = reload(ModelTable(), [deployment(scaler, TrafficSplit(1), 1)], load)
    reload(before, [deployment(scaler, TrafficSplit(1), 1, threads=2)], load)
    assert [options.threads for options in load.asked] == [1, 2]


def test_a_version_that_fails_to_load_keeps_no_other_from_serving(scaler: Path) -> None:
    table = reload(ModelTable(), [deployment(scaler, TrafficSplit(1, 2, 1.0), 1, 2, gone=(2,))])
    assert "no model file" in table.models["m"].failed[2]
    chosen = table.choose("m", None, b"", "")[0]
    assert (chosen.arm, chosen.version) == ("stable", 1)
    with pytest.raises(RetryLater, match="version 2 of model 'm' is not loaded"):
        table.choose("m", "2", b"", "")[0]
    assert table.ready


def test_without_its_stable_version_a_model_is_not_ready(scaler: Path) -> None:
    table = reload(ModelTable(), [deployment(scaler, TrafficSplit(1), 1, 2, gone=(1,))])
    assert not table.ready
    assert table.choose("m", "2", b"", "")[0].version == 2


def test_a_loader_that_breaks_tells_clients_nothing_of_its_inside(scaler: Path) -> None:
    def broken(path: str, options: BackendOptions) -> Loaded:
        raise RuntimeError("secret path /var/x")

    table = reload(ModelTable(), [deployment(scaler, TrafficSplit(1), 1)], broken)
    assert "secret" not in table.models["m"].failed[1]


def test_a_provider_that_is_not_installed_is_a_failure_of_that_model_only(scaler: Path) -> None:
    wanted = deployment(scaler, TrafficSplit(1), 1, providers=["cuda"])
    table = reload(ModelTable(), [wanted])
    assert "onnxruntime-gpu" in table.models["m"].failed[1]


def test_an_unloaded_model_holds_nothing_and_harms_no_readiness(scaler: Path) -> None:
    table = reload(ModelTable(), [deployment(scaler, TrafficSplit(1), 1)])
    table = reload(table, [deployment(scaler, TrafficSplit(1), 1, loaded=False)])
    assert table.models["m"].versions == {}
    assert table.ready
    with pytest.raises(Unavailable, match="model 'm' is unloaded"):
        table.choose("m", None, b"", "")[0]


@pytest.mark.parametrize(
    "version", ["9", "x", "-1", "", "01x", "¹", "1\n", "0" * 20 + "1", "1" * 5000]
)
def test_an_unknown_version_is_not_found(scaler: Path, version: str) -> None:
    table = reload(ModelTable(), [deployment(scaler, TrafficSplit(1), 1)])
    with pytest.raises(NotFound, match="unknown version"):
        table.choose("m", version, b"", "")


def test_an_unknown_model_is_not_found_and_the_known_ones_are_named(scaler: Path) -> None:
    table = reload(ModelTable(), [deployment(scaler, TrafficSplit(1), 1)])
    with pytest.raises(NotFound, match="unknown model 'n'; known: m"):
        table.choose("n", None, b"", "")


def test_a_deployment_written_before_models_could_be_unloaded_is_loaded(scaler: Path) -> None:
    document = deployment(scaler, TrafficSplit(1), 1, loaded=False).to_dict()
    assert not Deployment.from_dict(document).loaded
    del document["loaded"]
    assert Deployment.from_dict(document).loaded
