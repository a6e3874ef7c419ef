from typing import Any

import onnxruntime as ort
import pytest

from driftloop_contracts.errors import Rejected
from driftloop_onnx import BackendOptions, parse_options, require_providers


def test_a_spec_without_options_gets_the_defaults() -> None:
    assert parse_options({}) == parse_options({"onnx": {}}) == BackendOptions()


def test_what_is_given_is_taken() -> None:
    given = {"providers": ["cpu"], "threads": 2, "max_queue_delay_ms": 2, "cpus": 1}
    options = parse_options({"onnx": given, "inputs": {}})
    assert (options.providers, options.threads) == (("cpu",), 2)
    assert (options.max_queue_delay_ms, options.cpus) == (2.0, 1.0)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "options.onnx must be a mapping"),
        ({"thread": 1}, "there is no option onnx.thread; did you mean onnx.threads?"),
        ({"threads": 0}, "option onnx.threads: Input should be greater than or equal to 1"),
        ({"threads": True}, "option onnx.threads: Input should be a valid integer"),
        ({"memory_limit_mb": 1.5}, "option onnx.memory_limit_mb: Input should be a valid integer"),
        ({"graph_optimization": "some"}, "'disabled', 'basic', 'extended' or 'all'"),
        ({"placement": "elsewhere"}, "option onnx.placement: Input should be 'shared' or 'own'"),
        ({"max_queue_delay_ms": -1}, "option onnx.max_queue_delay_ms"),
        ({"providers": []}, "option onnx.providers: name at least one"),
        ({"providers": ["gpu"]}, "'cpu', 'cuda', 'tensorrt' or 'openvino'"),
    ],
)
def test_a_bad_option_is_refused_with_its_name(given: Any, says: str) -> None:
    with pytest.raises(Rejected) as refused:
        parse_options({"onnx": given})
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("provider", "package"),
    [
        ("cuda", "onnxruntime-gpu"),
        ("tensorrt", "onnxruntime-gpu"),
        ("openvino", "onnxruntime-openvino"),
    ],
)
def test_a_provider_that_is_not_installed_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, provider: str, package: str
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(Rejected, match=f"has no {provider}; install the package {package} "):
        require_providers(parse_options({"onnx": {"providers": [provider, "cpu"]}}))
