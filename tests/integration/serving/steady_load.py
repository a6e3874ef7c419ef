"""Clients that ask without a pause, and never ask twice for the same."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException

import grpc
import orjson
from serving_stack import Stack, eventually

from driftloop_serving.inference.grpc_protocol import open_inference_pb2 as pb

BODY = orjson.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}]})
URL = "/v2/models/m/infer"
PATIENCE_S = 120.0
"""Longer than a replica's start on a busy machine."""


@dataclass
class Tally:
    answered: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, failure: str | None) -> None:
        with self.lock:
            if failure is None:
                self.answered += 1
            else:
                self.failures[failure] += 1


def answered(count: int, *tallies: Tally) -> None:
    """Wait until each has had `count` more answers."""
    wanted = [tally.answered + count for tally in tallies]
    eventually(
        lambda: [tally.answered for tally in tallies],
        lambda found: all(a >= b for a, b in zip(found, wanted, strict=True)),
    )


@contextmanager
def steady_load(stack: Stack, keeping: int = 2, opening: int = 1) -> Iterator[tuple[Tally, Tally]]:
    """`keeping` clients keep their connection until they are told `connection: close`; `opening`
    ones open one for each request. Yields what each kind was answered."""
    kept, opened = Tally(), Tally()
    stop = threading.Event()
    port = stack.settings.serving.port
    clients = [
        *(threading.Thread(target=_ask, args=(port, stop, kept, True)) for _ in range(keeping)),
        *(threading.Thread(target=_ask, args=(port, stop, opened, False)) for _ in range(opening)),
    ]
    for client in clients:
        client.start()
    try:
        yield kept, opened
    finally:
        stop.set()
        for client in clients:
            client.join()


@contextmanager
def steady_calls(stack: Stack, clients: int = 2) -> Iterator[Tally]:
    """As `steady_load`, over gRPC: each client keeps a channel of its own."""
    tally, stop = Tally(), threading.Event()
    address = f"127.0.0.1:{stack.settings.serving.grpc_port}"
    threads = [threading.Thread(target=_call, args=(address, stop, tally)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield tally
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _call(address: str, stop: threading.Event, tally: Tally) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1]}
    request = pb.ModelInferRequest(
        model_name="m", inputs=[tensor], raw_input_contents=[b"\0\0\x80\x3f"]
    )
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
        # Else an attempt to connect ends after 20 s, as those of real clients do.
        ("grpc.min_reconnect_backoff_ms", int(PATIENCE_S * 1000)),
    ]
    with grpc.insecure_channel(address, options) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        while not stop.is_set():
            try:
                infer(request, timeout=PATIENCE_S)
            except grpc.RpcError as error:
                tally.add(f"{error.code().name}: {error.details()}")
            else:
                tally.add(None)
            stop.wait(0.002)


def _ask(port: int, stop: threading.Event, tally: Tally, keep: bool) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    while not stop.is_set():
        try:
            # http.client closes and opens anew by itself where it was told `connection: close`.
            connection.request("POST", URL, BODY, {} if keep else {"Connection": "close"})
            answer = connection.getresponse()
            answer.read()
        except (HTTPException, OSError) as error:
            tally.add(type(error).__name__)
            connection.close()
            continue
        tally.add(None if answer.status == 200 else str(answer.status))
        stop.wait(0.002)  # two cores serve, ask and start replicas
