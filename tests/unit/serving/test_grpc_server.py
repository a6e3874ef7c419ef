"""The gRPC service over a real socket, with the batcher and the HTTP application behind it."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from kept_spans import PARENT, TRACE_ID, Kept

from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_onnx import signature_of
from driftloop_serving.batching.batcher import Batcher
from driftloop_serving.batching.model_table import ModelTable, Served, reload
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.grpc import grpc_server
from driftloop_serving.http.rest_api import make_rest_api
from driftloop_serving.inference.call_traces import CallTracing
from driftloop_serving.inference.grpc_protocol import open_inference_pb2 as pb
from driftloop_serving.metrics.meter import ReplicaMeter
from driftloop_serving.metrics.meter_files import Load, MeterFiles
from driftloop_serving.ports.open_port import OpenPort
from driftloop_settings import Settings, load_settings
from driftloop_store import open_store
from driftloop_telemetry import Tracing

BODY_LIMIT = 100_000


class World:
    """The parts of a replica with the model `m`, version 1: y = 2 · x."""

    def __init__(self, folder: Path, scaler: Path, in_flight_limit: int) -> None:
        sets = [f"serving.body_limit_bytes={BODY_LIMIT}"]
        self.settings: Settings = load_settings(sets, state_dir=folder, environ={})
        spool = SpoolWriter(self.settings.spool_dir, "replica", self.settings.capture)
        meter = ReplicaMeter()
        self.spans = Kept()
        self.batcher = Batcher(
            spool, meter, in_flight_limit=in_flight_limit, tracing=CallTracing(Tracing(self.spans))
        )
        counts = MeterFiles(
            folder / "metrics", self.settings.spool_dir, spool.replica, meter, lambda: Load(0, 0.0)
        )
        self.application = make_rest_api(
            self.batcher,
            spool,
            counts,
            lambda: open_store(self.settings.store_url),
            body_limit_bytes=BODY_LIMIT,
        )
        served = ServedVersion(1, str(scaler), signature_of(scaler))
        wanted = [Deployment(ModelSpec("m"), (served,), TrafficSplit(1))]
        self.batcher.table = reload(self.batcher.table, wanted)


class Raw(bytes):
    def SerializeToString(self) -> bytes:
        return bytes(self)


class Client:
    def __init__(self, port: int) -> None:
        self.port = port
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")

    async def __call__(
        self, name: str, request: Any, metadata: tuple[tuple[str, str], ...] = ()
    ) -> tuple[Any, dict[str, str]]:
        """Return the answer and the initial metadata. Raises grpc.aio.AioRpcError."""
        answer = getattr(pb, f"{name}Response", pb.ServerLiveResponse)
        ask = self._channel.unary_unary(
            f"/inference.GRPCInferenceService/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        call = ask(request, metadata=metadata, timeout=120)
        return await call, dict(await call.initial_metadata())

    async def refused(self, name: str, request: Any, **options: Any) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self(name, request, **options)
        return error.value

    async def close(self) -> None:
        await self._channel.close()


@asynccontextmanager
async def serving(world: World) -> AsyncIterator[Client]:
    port = OpenPort(socket.create_server(("127.0.0.1", 0)))
    number = port.number
    server = await grpc_server.start(world.batcher, world.application, world.settings, port)
    client = Client(number)
    yield client
    await client.close()
    await server.stop(0.05)


@pytest.fixture
async def client(tmp_path: Path, scaler: Path) -> AsyncIterator[Client]:
    async with serving(World(tmp_path, scaler, 16)) as client:
        yield client


def infer(*values: float, **changes: Any) -> pb.ModelInferRequest:
    contents = {"fp32_contents": values}
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(values), 1], "contents": contents}
    return pb.ModelInferRequest(**{"model_name": "m", "inputs": [tensor], **changes})


async def test_an_answer_names_its_prediction_and_version(client: Client) -> None:
    answer, metadata = await client("ModelInfer", infer(1.0, 2.0, id="7"))
    assert list(answer.outputs[0].contents.fp32_contents) == [2.0, 4.0]
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "1", "7")
    assert metadata["x-model-version"] == "1"
    assert metadata["x-prediction-id"] == answer.parameters["prediction_id"].string_param


async def test_a_call_is_in_the_trace_of_its_metadata(tmp_path: Path, scaler: Path) -> None:
    world = World(tmp_path, scaler, 16)
    async with serving(world) as client:
        _, metadata = await client("ModelInfer", infer(1.0), metadata=(("traceparent", PARENT),))
    (span,) = world.spans.spans
    assert span.context.trace_id == TRACE_ID
    assert span.attributes["driftloop.prediction.id"] == metadata["x-prediction-id"]


async def test_what_a_page_in_a_browser_can_send_is_no_call(client: Client) -> None:
    """A browser speaks HTTP/2 with TLS only, so that `:authority` needs no check (ADR 32)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    body = infer(1.0).SerializeToString()
    head = (
        "POST /inference.GRPCInferenceService/ModelInfer HTTP/1.1\r\nhost: evil.example\r\n"
        f"content-type: application/grpc\r\ncontent-length: {5 + len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + b"\0" + len(body).to_bytes(4, "big") + body)
    answered = await asyncio.wait_for(reader.read(), 120)
    assert b"HTTP/1.1 2" not in answered
    assert b"grpc-status" not in answered
    writer.close()


async def test_a_retry_under_the_client_s_own_id_is_the_same_prediction(client: Client) -> None:
    mine = (("x-prediction-id", "mine"),)
    first, metadata = await client("ModelInfer", infer(1.0), metadata=mine)
    again, _ = await client("ModelInfer", infer(5.0), metadata=mine)
    assert metadata["x-prediction-id"] == "mine"
    assert first == again


@pytest.mark.parametrize(
    ("request_", "code", "names"),
    [
        (infer(1.0, inputs=[]), grpc.StatusCode.INVALID_ARGUMENT, "'x'"),
        (infer(1.0, model_name="nobody"), grpc.StatusCode.NOT_FOUND, "nobody"),
        (infer(1.0, model_version="9"), grpc.StatusCode.NOT_FOUND, "'9'"),
        (infer(*[1.0] * BODY_LIMIT), grpc.StatusCode.RESOURCE_EXHAUSTED, "larger"),
    ],
    ids=["input", "model", "version", "size"],
)
async def test_an_error_has_a_code_and_a_sentence(
    client: Client, request_: pb.ModelInferRequest, code: grpc.StatusCode, names: str
) -> None:
    error = await client.refused("ModelInfer", request_)
    assert error.code() is code
    assert names in error.details()


@pytest.mark.parametrize("body", [b"\xff\xfe", b"\x0a\x02\xff\xfe"], ids=["cut", "no UTF-8"])
async def test_bytes_that_are_no_message_are_refused(client: Client, body: bytes) -> None:
    error = await client.refused("ModelInfer", Raw(body))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "malformed inference.ModelInferRequest"


async def test_a_prediction_id_that_cannot_be_one_is_refused(client: Client) -> None:
    error = await client.refused(
        "ModelInfer", infer(1.0), metadata=(("x-prediction-id", "with blanks"),)
    )
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_busy_replica_says_when_to_come_back(tmp_path: Path, scaler: Path) -> None:
    async with serving(World(tmp_path, scaler, in_flight_limit=0)) as client:
        error = await client.refused("ModelInfer", infer(1.0))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert ("retry-after", "1") in [tuple(item) for item in error.trailing_metadata()]


async def test_readiness_is_told_for_server_and_model(client: Client) -> None:
    assert (await client("ServerLive", pb.ServerLiveRequest()))[0].live
    assert (await client("ServerReady", pb.ServerReadyRequest()))[0].ready
    for version in ("", "1"):
        asked = pb.ModelReadyRequest(name="m", version=version)
        assert (await client("ModelReady", asked))[0].ready
    for asked in (pb.ModelReadyRequest(name="a/b"), pb.ModelReadyRequest(name="m", version="9")):
        assert not (await client("ModelReady", asked))[0].ready


async def test_what_is_not_ready_is_an_answer(tmp_path: Path, scaler: Path) -> None:
    world = World(tmp_path, scaler, 16)
    (served,) = world.batcher.table.models.values()
    broken = ServedVersion(1, str(tmp_path), served.deployment.versions[0].signature)
    wanted = [Deployment(ModelSpec("m"), (broken,), TrafficSplit(1))]
    world.batcher.table = reload(world.batcher.table, wanted)
    async with serving(world) as client:
        assert not (await client("ServerReady", pb.ServerReadyRequest()))[0].ready
        assert not (await client("ModelReady", pb.ModelReadyRequest(name="m")))[0].ready
        error = await client.refused("ModelInfer", infer(1.0))
    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_metadata_configuration_statistics_and_index_are_those_of_rest(
    client: Client,
) -> None:
    await client("ModelInfer", infer(1.0, 2.0, 3.0))
    server, _ = await client("ServerMetadata", pb.ServerMetadataRequest())
    assert server.name == "driftloop"
    model, _ = await client("ModelMetadata", pb.ModelMetadataRequest(name="m"))
    assert [(t.name, t.datatype, list(t.shape)) for t in model.inputs] == [("x", "FP32", [-1, 1])]
    config, _ = await client("ModelConfig", pb.ModelConfigRequest(name="m"))
    assert config.config.input[0].data_type == pb.TYPE_FP32
    stats, _ = await client("ModelStatistics", pb.ModelStatisticsRequest(name="m", version="1"))
    assert stats.model_stats[0].inference_count == 3
    index, _ = await client("RepositoryIndex", pb.RepositoryIndexRequest())
    assert [(m.name, m.version, m.state) for m in index.models] == [("m", "1", "READY")]


async def test_a_client_that_leaves_does_not_disturb_the_others(client: Client) -> None:
    calls = [asyncio.create_task(client("ModelInfer", infer(float(n)))) for n in range(10)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    kept = [answer for answer in answers if isinstance(answer, tuple)]
    assert len(kept) >= 5
    assert (await client("ServerLive", pb.ServerLiveRequest()))[0].live


async def test_a_call_under_way_is_answered_when_the_server_stops(
    tmp_path: Path, scaler: Path
) -> None:
    world = World(tmp_path, scaler, 16)
    port = OpenPort(socket.create_server(("127.0.0.1", 0)))
    number = port.number
    server = await grpc_server.start(world.batcher, world.application, world.settings, port)
    client = Client(number)
    call = asyncio.create_task(client("ModelInfer", infer(3.0)))
    while world.batcher.in_flight == 0:
        await asyncio.sleep(0)
    await server.stop(10.0)
    answer, _ = await call
    await client.close()
    assert list(answer.outputs[0].contents.fp32_contents) == [6.0]


async def test_a_call_that_is_not_offered_is_unimplemented(client: Client) -> None:
    error = await client.refused("LogSettings", pb.ServerLiveRequest())
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_what_nobody_foresaw_is_found_in_the_log_by_its_id(
    tmp_path: Path, scaler: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world, broken = World(tmp_path, scaler, 16), cast(Served, "no entry")
    world.batcher.table = ModelTable({"m": broken})
    async with serving(world) as client:
        for name, request in (
            ("ModelInfer", infer(1.0)),
            ("ModelMetadata", pb.ModelMetadataRequest(name="m")),
        ):
            refused = await client.refused(name, request)
            assert refused.code() is grpc.StatusCode.INTERNAL
            found = re.fullmatch(r"internal error (\w{12}): .*", refused.details() or "")
            assert found is not None
            said = capsys.readouterr()
            assert found[1] in said.out + said.err
