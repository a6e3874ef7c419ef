"""tritonclient over HTTP."""

from collections.abc import Iterator

import numpy as np
import pytest
from samples import SAMPLES, same
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException


@pytest.fixture(scope="module")
def client(http: str) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(http.removeprefix("http://"), concurrency=4) as client:
        yield client


def given(name: str, values: np.ndarray, datatype: str, *, binary: bool = True) -> InferInput:
    tensor = InferInput(name, values.shape, datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


def column(name: str, *values: float) -> InferInput:
    return given(name, np.array(values, np.float32).reshape(-1, 1), "FP32")


def scaled(client: InferenceServerClient, *values: float, **options: object) -> InferResult:
    return client.infer("scaler", [column("x", *values)], **options)


def version_of(result: InferResult) -> str:
    return result.get_response()["model_version"]


def test_the_server_is_live_and_ready(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()


def test_a_model_and_each_of_its_versions_is_ready(client: InferenceServerClient) -> None:
    assert client.is_model_ready("scaler")
    assert client.is_model_ready("scaler", "2")
    assert not client.is_model_ready("scaler", "9")
    assert not client.is_model_ready("nobody")


def test_the_server_names_its_extensions(client: InferenceServerClient) -> None:
    found = client.get_server_metadata()
    assert found["name"] == "driftloop"
    wanted = {"binary_tensor_data", "model_repository", "statistics", "model_configuration"}
    assert wanted <= set(found["extensions"])


def test_metadata_tells_a_model_s_versions_and_tensors(client: InferenceServerClient) -> None:
    found = client.get_model_metadata("scaler")
    assert found["versions"] == ["1", "2"]
    assert found["platform"] == "onnx_onnxv1"
    assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}]
    assert found["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}]
    assert client.get_model_metadata("scaler", "2")["name"] == "scaler"


@pytest.mark.parametrize("answered_binary", [False, True], ids=["json-out", "binary-out"])
@pytest.mark.parametrize("sent_binary", [False, True], ids=["json-in", "binary-in"])
def test_every_datatype_comes_back_as_it_was_sent(
    client: InferenceServerClient, sent_binary: bool, answered_binary: bool
) -> None:
    inputs = [given(name, values, name, binary=sent_binary) for name, values in SAMPLES.items()]
    outputs = [InferRequestedOutput(f"{n}.out", binary_data=answered_binary) for n in SAMPLES]
    result = client.infer("identity", inputs, outputs=outputs)
    wrong = [name for name in SAMPLES if not same(name, result.as_numpy(f"{name}.out"))]
    assert wrong == []


def test_each_input_and_output_has_its_own_form(client: InferenceServerClient) -> None:
    inputs = [
        given(name, values, name, binary=number % 2 == 0)
        for number, (name, values) in enumerate(SAMPLES.items())
    ]
    outputs = [
        InferRequestedOutput(f"{name}.out", binary_data=number % 3 == 0)
        for number, name in enumerate(SAMPLES)
    ]
    result = client.infer("identity", inputs, outputs=outputs)
    assert all(same(name, result.as_numpy(f"{name}.out")) for name in SAMPLES)


def test_texts_that_a_graph_makes_are_answered(client: InferenceServerClient) -> None:
    digits = given("digit", np.array([[3], [7]], np.int64), "INT64")
    for outputs in (None, [InferRequestedOutput("word", binary_data=False)]):
        words = client.infer("words", [digits], outputs=outputs).as_numpy("word").ravel()
        assert [w.decode() if isinstance(w, bytes) else w for w in words] == ["drüben", "viele"]


def test_only_the_outputs_asked_for_are_answered(client: InferenceServerClient) -> None:
    inputs = [column("b", 3.0), column("a", 2.0)]
    result = client.infer("pair", inputs, outputs=[InferRequestedOutput("product")])
    assert [output["name"] for output in result.get_response()["outputs"]] == ["product"]
    assert result.as_numpy("product").tolist() == [[6.0]]
    everything = client.infer("pair", inputs)
    assert everything.as_numpy("sum").tolist() == [[5.0]]
    assert everything.as_numpy("product").tolist() == [[6.0]]


def test_a_model_with_replicas_of_its_own_is_asked_alike(client: InferenceServerClient) -> None:
    assert client.is_model_ready("alone")
    inputs = [column("a", 2.0, 4.0), column("b", 3.0, 5.0)]
    result = client.infer("alone", inputs, request_id="7")
    assert result.as_numpy("product").tolist() == [[6.0], [20.0]]
    with pytest.raises(InferenceServerException, match="'b' is missing"):
        client.infer("alone", inputs[:1])


def test_an_id_comes_back(client: InferenceServerClient) -> None:
    assert scaled(client, 1.0, request_id="order 17 €").get_response()["id"] == "order 17 €"
    assert "id" not in scaled(client, 1.0).get_response()


def test_a_version_can_be_named(client: InferenceServerClient) -> None:
    for version, factor in (("1", 2.0), ("2", 3.0)):
        result = scaled(client, 1.0, 2.0, model_version=version)
        assert version_of(result) == version
        assert result.as_numpy("y").tolist() == [[factor], [2 * factor]]


def test_a_routing_key_always_meets_the_same_version(client: InferenceServerClient) -> None:
    keys = [f"customer-{number}" for number in range(40)]
    rounds = [
        [version_of(scaled(client, 1.0, headers={"x-routing-key": key})) for key in keys]
        for _ in range(3)
    ]
    assert rounds[0] == rounds[1] == rounds[2]
    assert set(rounds[0]) == {"1", "2"}


def test_a_repeated_prediction_id_is_answered_by_the_same_version(
    client: InferenceServerClient,
) -> None:
    headers = {"x-prediction-id": "one-and-only"}
    versions = {version_of(scaled(client, 1.0, headers=headers)) for _ in range(20)}
    assert len(versions) == 1


def test_calls_may_overlap(client: InferenceServerClient) -> None:
    calls = [client.async_infer("scaler", [column("x", n)], model_version="1") for n in range(50)]
    answers = [call.get_result().as_numpy("y")[0, 0] for call in calls]
    assert answers == [2.0 * n for n in range(50)]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_the_body_may_be_compressed(client: InferenceServerClient, algorithm: str) -> None:
    values = [1.0] * 1000
    answer = scaled(client, *values, request_compression_algorithm=algorithm)
    assert len(answer.as_numpy("y")) == 1000


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ([column("z", 1.0)], "z"),
        ([given("x", np.array([[1]], np.int64), "INT64")], "FP32"),
        ([given("x", np.ones((1, 2), np.float32), "FP32")], "shape"),
        ([column("x", 1.0), column("x", 1.0)], "twice"),
    ],
    ids=["unknown input", "datatype", "shape", "twice"],
)
def test_what_is_wrong_with_a_request_is_told(
    client: InferenceServerClient, inputs: list[InferInput], names: str
) -> None:
    with pytest.raises(InferenceServerException, match=names) as refused:
        client.infer("scaler", inputs)
    assert refused.value.status() == "400"


@pytest.mark.parametrize(("model", "version"), [("nobody", ""), ("scaler", "9"), ("scaler", "x")])
def test_what_does_not_exist_is_not_found(
    client: InferenceServerClient, model: str, version: str
) -> None:
    for ask in (
        lambda: client.infer(model, [column("x", 1.0)], model_version=version),
        lambda: client.get_model_metadata(model, version),
    ):
        with pytest.raises(InferenceServerException, match=version or model) as refused:
            ask()
        assert refused.value.status() == "404"


def test_the_repository_lists_every_version(client: InferenceServerClient) -> None:
    index = client.get_model_repository_index()
    ready = {(m["name"], m["version"]) for m in index if m["state"] == "READY"}
    assert {("pair", "1"), ("scaler", "1"), ("scaler", "2")} <= ready


def test_a_model_is_unloaded_and_loaded_again(client: InferenceServerClient) -> None:
    client.unload_model("words")
    digits = given("digit", np.array([[1]], np.int64), "INT64")
    try:
        assert not client.is_model_ready("words")
        states = {m["name"]: m["state"] for m in client.get_model_repository_index()}
        assert states["words"] == "UNAVAILABLE"
        with pytest.raises(InferenceServerException, match="words"):
            client.infer("words", [digits])
        assert client.is_server_ready()
    finally:
        client.load_model("words")
    assert client.is_model_ready("words")
    assert client.infer("words", [digits]).as_numpy("word")[0, 0] == b"eins"


def test_statistics_count_answers(client: InferenceServerClient) -> None:
    def counted() -> dict[str, int]:
        (model,) = client.get_inference_statistics("pair", "1")["model_stats"]
        return {
            "inferences": model["inference_count"],
            "requests": model["inference_stats"]["success"]["count"],
        }

    before = counted()
    client.infer("pair", [column("a", 1.0, 2.0, 3.0), column("b", 1.0, 2.0, 3.0)])
    after = counted()
    assert after["inferences"] - before["inferences"] == 3
    assert after["requests"] - before["requests"] == 1
    names = {m["name"] for m in client.get_inference_statistics()["model_stats"]}
    assert {"pair", "scaler"} <= names


def test_a_configuration_tells_the_tensors(client: InferenceServerClient) -> None:
    found = client.get_model_config("pair")
    assert found["name"] == "pair"
    assert [(t["name"], t["data_type"]) for t in found["input"]] == [
        ("a", "TYPE_FP32"),
        ("b", "TYPE_FP32"),
    ]
    assert {t["name"] for t in found["output"]} == {"sum", "product"}
