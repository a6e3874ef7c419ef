"""tritonclient over gRPC."""

from collections.abc import Iterator
from concurrent.futures import Future

import grpc as grpc_library
import numpy as np
import pytest
from samples import SAMPLES, same
from tritonclient.grpc import (
    InferenceServerClient,
    InferInput,
    InferRequestedOutput,
    InferResult,
    service_pb2,
    service_pb2_grpc,
)
from tritonclient.utils import InferenceServerException


@pytest.fixture(scope="module")
def client(grpc: str) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(grpc) as client:
        yield client


@pytest.fixture(scope="module")
def stub(grpc: str) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    """What lies under tritonclient: it shows a call's metadata and sends whatever it is given."""
    with grpc_library.insecure_channel(grpc) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def given(name: str, values: np.ndarray, datatype: str) -> InferInput:
    tensor = InferInput(name, values.shape, datatype)
    tensor.set_data_from_numpy(values)
    return tensor


def column(name: str, *values: float) -> InferInput:
    return given(name, np.array(values, np.float32).reshape(-1, 1), "FP32")


def scaled(client: InferenceServerClient, *values: float, **options: object) -> InferResult:
    return client.infer("scaler", [column("x", *values)], **options)


def typed(**changes: object) -> service_pb2.ModelInferRequest:
    """A request for the scaler with typed contents."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 1]}
    request = {"model_name": "scaler", "model_version": "1"}
    for key, value in changes.items():
        (tensor if key in tensor else request)[key] = value
    contents = {"fp32_contents": [1.0, 2.0]}
    return service_pb2.ModelInferRequest(**request, inputs=[{**tensor, "contents": contents}])


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
    assert found.name == "driftloop"
    assert {"model_repository", "statistics"} <= set(found.extensions)


def test_metadata_tells_a_model_s_versions_and_tensors(client: InferenceServerClient) -> None:
    found = client.get_model_metadata("scaler", as_json=True)
    assert found["versions"] == ["1", "2"]
    assert found["platform"] == "onnx_onnxv1"
    assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "1"]}]


def test_every_datatype_comes_back_as_it_was_sent(client: InferenceServerClient) -> None:
    inputs = [given(name, values, name) for name, values in SAMPLES.items()]
    result = client.infer("identity", inputs)
    wrong = [name for name in SAMPLES if not same(name, result.as_numpy(f"{name}.out"))]
    assert wrong == []


def test_only_the_outputs_asked_for_are_answered(client: InferenceServerClient) -> None:
    inputs = [column("b", 3.0), column("a", 2.0)]
    result = client.infer("pair", inputs, outputs=[InferRequestedOutput("product")])
    assert [output.name for output in result.get_response().outputs] == ["product"]
    assert result.as_numpy("product").tolist() == [[6.0]]


def test_texts_that_a_graph_makes_are_answered(client: InferenceServerClient) -> None:
    digits = given("digit", np.array([[3], [7]], np.int64), "INT64")
    words = client.infer("words", [digits]).as_numpy("word").ravel()
    assert [word.decode() for word in words] == ["drüben", "viele"]


def test_a_model_with_replicas_of_its_own_is_asked_alike(client: InferenceServerClient) -> None:
    assert client.is_model_ready("alone")
    inputs = [column("a", 2.0, 4.0), column("b", 3.0, 5.0)]
    result = client.infer("alone", inputs, request_id="7")
    assert result.as_numpy("product").tolist() == [[6.0], [20.0]]
    with pytest.raises(InferenceServerException, match="'b' is missing"):
        client.infer("alone", inputs[:1])


def test_an_id_comes_back(client: InferenceServerClient) -> None:
    assert scaled(client, 1.0, request_id="order 17 €").get_response().id == "order 17 €"


def test_a_version_can_be_named(client: InferenceServerClient) -> None:
    for version, factor in (("1", 2.0), ("2", 3.0)):
        result = scaled(client, 1.0, model_version=version)
        assert result.get_response().model_version == version
        assert result.as_numpy("y").tolist() == [[factor]]


def test_a_routing_key_always_meets_the_same_version(client: InferenceServerClient) -> None:
    def version(key: str) -> str:
        result = scaled(client, 1.0, headers={"x-routing-key": key})
        return str(result.get_response().model_version)

    keys = [f"customer-{number}" for number in range(40)]
    rounds = [[version(key) for key in keys] for _ in range(3)]
    assert rounds[0] == rounds[1] == rounds[2]
    assert set(rounds[0]) == {"1", "2"}


def test_an_answer_names_its_prediction_and_version(
    client: InferenceServerClient, stub: service_pb2_grpc.GRPCInferenceServiceStub
) -> None:
    answer, call = stub.ModelInfer.with_call(typed(), metadata=[("x-prediction-id", "mine-1")])
    metadata = dict(call.initial_metadata())
    assert metadata["x-prediction-id"] == "mine-1"
    assert metadata["x-model-version"] == answer.model_version == "1"
    parameters = scaled(client, 1.0).get_response().parameters
    assert len(parameters["prediction_id"].string_param) == 36


def test_typed_contents_get_typed_answers(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    answer = stub.ModelInfer(typed())
    assert list(answer.outputs[0].contents.fp32_contents) == [2.0, 4.0]
    assert not answer.raw_output_contents


def test_calls_may_overlap(client: InferenceServerClient) -> None:
    calls: list[Future[InferResult]] = []
    for number in range(50):
        future: Future[InferResult] = Future()
        calls.append(future)
        client.async_infer(
            "scaler",
            [column("x", number)],
            lambda result, error, f=future: (
                f.set_exception(error) if error else f.set_result(result)
            ),
            model_version="1",
        )
    answers = [call.result(30).as_numpy("y")[0, 0] for call in calls]
    assert answers == [2.0 * n for n in range(50)]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_messages_may_be_compressed(client: InferenceServerClient, algorithm: str) -> None:
    values = [1.0] * 1000
    assert len(scaled(client, *values, compression_algorithm=algorithm).as_numpy("y")) == 1000


def test_a_deadline_is_kept(client: InferenceServerClient) -> None:
    large = given("x", np.ones((1 << 21, 1), np.float32), "FP32")
    with pytest.raises(InferenceServerException, match="Deadline"):
        client.infer("scaler", [large], client_timeout=0.001)
    assert scaled(client, 1.0, client_timeout=30.0).as_numpy("y").size == 1


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        (typed(name="z"), "z"),
        (typed(datatype="INT64"), "FP32"),
        (typed(shape=[3, 1]), "3 values"),
        (typed(shape=[-1, 1]), "shape"),
        (typed(raw_input_contents=[b"1234"]), "8 bytes"),
        (typed(raw_input_contents=[b"12345678", b""]), "2 buffers"),
        (typed(outputs=[{"name": "nothing"}]), "nothing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_a_request_is_told(
    stub: service_pb2_grpc.GRPCInferenceServiceStub,
    request_: service_pb2.ModelInferRequest,
    names: str,
) -> None:
    with pytest.raises(grpc_library.RpcError) as refused:
        stub.ModelInfer(request_)
    assert refused.value.code() is grpc_library.StatusCode.INVALID_ARGUMENT
    assert names in refused.value.details()


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
        assert refused.value.status() == "StatusCode.NOT_FOUND"


def test_a_message_over_the_limit_is_refused(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as refused:
        client.infer("scaler", [given("x", np.ones((5 << 20, 1), np.float32), "FP32")])
    assert refused.value.status() == "StatusCode.RESOURCE_EXHAUSTED"


def test_a_call_that_is_not_offered_says_so(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as refused:
        client.get_log_settings()
    assert refused.value.status() == "StatusCode.UNIMPLEMENTED"


def test_the_repository_lists_every_version(client: InferenceServerClient) -> None:
    index = client.get_model_repository_index().models
    ready = {(m.name, m.version) for m in index if m.state == "READY"}
    assert {("pair", "1"), ("scaler", "1"), ("scaler", "2")} <= ready


def test_a_model_is_unloaded_and_loaded_again(client: InferenceServerClient) -> None:
    client.unload_model("words")
    try:
        assert not client.is_model_ready("words")
    finally:
        client.load_model("words")
    assert client.is_model_ready("words")


def test_statistics_count_answers(client: InferenceServerClient) -> None:
    def counted() -> int:
        (model,) = client.get_inference_statistics("pair", "1").model_stats
        return int(model.inference_count)

    before = counted()
    client.infer("pair", [column("a", 1.0, 2.0, 3.0), column("b", 1.0, 2.0, 3.0)])
    assert counted() - before == 3


def test_a_configuration_tells_the_tensors(client: InferenceServerClient) -> None:
    config = client.get_model_config("pair", as_json=True)["config"]
    assert config["name"] == "pair"
    assert [(t["name"], t["data_type"]) for t in config["input"]] == [
        ("a", "TYPE_FP32"),
        ("b", "TYPE_FP32"),
    ]
