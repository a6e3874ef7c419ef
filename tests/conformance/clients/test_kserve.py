"""KServe's Python clients, REST (v2 and v1) and gRPC."""

from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest
from kserve import (
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    InferResponse,
    RESTConfig,
)
from samples import SAMPLES, same

TYPED = {name: values for name, values in SAMPLES.items() if name != "FP16"}


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def rest() -> AsyncIterator[InferenceRESTClient]:
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        yield client


@pytest.fixture
async def v1() -> AsyncIterator[InferenceRESTClient]:
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        yield client


@pytest.fixture
async def rpc(grpc: str) -> AsyncIterator[InferenceGRPCClient]:
    async with InferenceGRPCClient(grpc) as client:
        yield client


def request(
    model: str,
    samples: dict[str, np.ndarray],
    datatypes: dict[str, str] | None = None,
    *,
    binary: bool,
    **options: object,
) -> InferRequest:
    inputs = []
    for name, values in samples.items():
        datatype = (datatypes or {}).get(name, name)
        tensor = InferInput(name, list(values.shape), datatype)
        tensor.set_data_from_numpy(values, binary_data=binary)
        inputs.append(tensor)
    return InferRequest(model, inputs, **options)


def pair(*, binary: bool = False, **options: object) -> InferRequest:
    columns = {"a": np.float32([[2.0]]), "b": np.float32([[3.0]])}
    return request("pair", columns, {"a": "FP32", "b": "FP32"}, binary=binary, **options)


def wrong(answer: InferResponse, samples: dict[str, np.ndarray]) -> list[str]:
    outputs = {output.name: output.as_numpy() for output in answer.outputs}
    return [name for name in samples if not same(name, outputs[f"{name}.out"])]


async def test_the_server_and_its_models_are_ready(rest: InferenceRESTClient, http: str) -> None:
    assert await rest.is_server_live(http)
    assert await rest.is_server_ready(http)
    assert await rest.is_model_ready(http, "pair")
    assert not await rest.is_model_ready(http, "nobody")


async def test_json_is_answered_in_json(rest: InferenceRESTClient, http: str) -> None:
    answer = await rest.infer(http, request("typed", TYPED, binary=False), model_name="typed")
    assert wrong(answer, TYPED) == []


async def test_binary_inputs_and_outputs_come_back(rest: InferenceRESTClient, http: str) -> None:
    for parameters in (None, {"binary_data_output": True}):
        asked = request("identity", SAMPLES, binary=True, parameters=parameters)
        answer = await rest.infer(http, asked, model_name="identity")
        # kserve keeps a binary FP16 answer as a list, and makes no array of it again.
        assert wrong(answer, TYPED) == []


async def test_an_answer_s_headers_name_its_prediction(
    rest: InferenceRESTClient, http: str
) -> None:
    headers: dict[str, str] = {}
    await rest.infer(http, pair(), model_name="pair", response_headers=headers)
    assert headers["x-model-version"] == "1"
    assert len(headers["x-prediction-id"]) == 36


async def test_an_id_comes_back(rest: InferenceRESTClient, http: str) -> None:
    answer = await rest.infer(http, pair(request_id="a-1"), model_name="pair")
    assert answer.id == "a-1"


async def test_an_error_s_sentence_reaches_the_user(rest: InferenceRESTClient, http: str) -> None:
    asked = request("pair", {"a": np.float32([[2.0]])}, {"a": "FP32"}, binary=False)
    with pytest.raises(httpx.HTTPStatusError, match="'b' is missing"):
        await rest.infer(http, asked, model_name="pair")
    with pytest.raises(httpx.HTTPStatusError, match="nobody"):
        await rest.infer(http, pair(), model_name="nobody")


async def test_v1_instances_get_predictions(v1: InferenceRESTClient, http: str) -> None:
    assert await v1.is_model_ready(http, "pair")
    data = {"instances": [{"a": 2.0, "b": 3.0}, {"a": 1.0, "b": 1.0}]}
    answer = await v1.infer(http, data, model_name="pair")
    assert answer["predictions"] == [
        {"sum": [5.0], "product": [6.0]},
        {"sum": [2.0], "product": [1.0]},
    ]
    scaled = await v1.infer(http, {"instances": [1.0, 2.0]}, model_name="scaler")
    assert scaled["predictions"] in ([[2.0], [4.0]], [[3.0], [6.0]])


async def test_v1_errors_have_their_sentence(v1: InferenceRESTClient, http: str) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="instances"):
        await v1.infer(http, {"rows": []}, model_name="pair")


async def test_grpc_tells_who_is_ready(rpc: InferenceGRPCClient) -> None:
    assert await rpc.is_server_live()
    assert await rpc.is_server_ready()
    assert await rpc.is_model_ready("pair")


async def test_grpc_answers_typed_tensors(rpc: InferenceGRPCClient) -> None:
    # The client writes numpy arrays raw; lists go typed.
    inputs = [
        InferInput(name, list(values.shape), name, values.ravel().tolist())
        for name, values in TYPED.items()
    ]
    assert wrong(await rpc.infer(InferRequest("typed", inputs)), TYPED) == []


async def test_grpc_answers_raw_tensors(rpc: InferenceGRPCClient) -> None:
    assert wrong(await rpc.infer(request("identity", SAMPLES, binary=True)), SAMPLES) == []
