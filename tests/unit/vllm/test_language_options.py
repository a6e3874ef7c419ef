"""Options of a language model, and the environment of its engine."""

import pytest

from driftloop_contracts.errors import Rejected
from driftloop_vllm.fetch import local_folder
from driftloop_vllm.options import parse_options, process_environment


def test_options_of_other_parts_are_left_alone() -> None:
    options = parse_options({"engine": {"max_model_len": 512}, "replicas": 2, "capture": {}})
    assert options.engine.arguments()["max_model_len"] == 512
    assert options.replicas == 2


def test_without_adapters_vllm_is_told_nothing_of_them() -> None:
    arguments = parse_options({"engine": {"enable_lora": False}}).engine.arguments()
    assert not [name for name in arguments if name.startswith("max_lora")]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"engine": {"max_len": 3}}, "did you mean engine.max_model_len"),
        ({"engine": {"max_model_len": "long"}}, "engine.max_model_len"),
        ({"engine": {"max_lora_rank": 3}}, "engine.max_lora_rank"),
        ({"engine": {"trust_remote_code": True}}, "no option engine.trust_remote_code"),
        ({"engine": []}, "mapping"),
        ({"replicas": 0}, "replicas"),
        ({"cpus": True}, "cpus"),
        ({"gpus": -1}, "gpus"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], why: str) -> None:
    with pytest.raises(Rejected, match=why):
        parse_options(options)


def test_an_engine_asks_nothing_of_the_internet() -> None:
    environment = process_environment(parse_options({}))
    assert environment["HF_HUB_OFFLINE"] == environment["VLLM_NO_USAGE_STATS"] == "1"


@pytest.mark.parametrize(
    "uri", ["s3://other/model", "s3://bucket-2/model", "s3://bucket/../other/model", "http://x/y"]
)
def test_weights_are_fetched_only_from_the_allowed_roots(uri: str, tmp_path) -> None:
    with pytest.raises(Rejected, match=r"llm\.roots"):
        local_folder(uri, tmp_path, ["s3://bucket/", "/models"])
