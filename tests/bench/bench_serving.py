"""The replica's path (protocol, split, spool before answer) against bare uvicorn + ONNX Runtime.

Both servers run under the same uvicorn on the same graph, a LightGBM of 100 trees over 20 columns given as
one tensor; the client sends one row of JSON, bodies differing. Prints requests per second and the
ratio, capture on. Usage: python tests/bench/bench_serving.py [SECONDS]
"""

import asyncio
import multiprocessing
import socket
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import orjson

COLUMNS = 20
CONCURRENCY = (1, 16)


def write_graph(folder: Path) -> None:
    import lightgbm
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    dice = np.random.default_rng(0)
    x = dice.normal(size=(5_000, COLUMNS)).astype(np.float32)
    model = lightgbm.LGBMClassifier(n_estimators=100, verbose=-1, n_jobs=1).fit(
        x, (x[:, 0] > 0).astype(int)
    )
    graph = convert_lightgbm(
        model,
        initial_types=[("x", FloatTensorType([None, COLUMNS]))],
        zipmap=False,
        target_opset=15,
    )
    (folder / "model.onnx").write_bytes(graph.SerializeToString())


def serve(app: object, port: int) -> None:
    import uvicorn

    uvicorn.run(
        app, host="127.0.0.1", port=port, access_log=False, log_level="error", lifespan="off"
    )


def bare(folder: Path, port: int) -> None:
    from driftloop_onnx import OnnxModel

    model = OnnxModel(folder)

    async def app(scope: dict, receive: object, send: object) -> None:
        message = await receive()
        (tensor,) = orjson.loads(message["body"])["inputs"]
        array = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
        outputs = model.run({"x": array})
        body = orjson.dumps(
            {"outputs": [{"name": n, "data": a.ravel().tolist()} for n, a in outputs.items()]}
        )
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    serve(app, port)


def replica(folder: Path, port: int) -> None:
    from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
    from driftloop_onnx import OnnxModel, signature_of
    from driftloop_serving.app import App
    from driftloop_serving.inference import Inference
    from driftloop_serving.model_table import ModelTable, reload
    from driftloop_serving.spool import SpoolWriter
    from driftloop_settings.settings import CaptureSettings

    spool = SpoolWriter(folder / "spool", "replica", CaptureSettings())
    inference = Inference(spool)
    served = ServedVersion(1, str(folder), signature_of(folder))
    wanted = [Deployment(ModelSpec("m"), (served,), TrafficSplit(1))]
    inference.table = reload(ModelTable(), wanted, OnnxModel)
    serve(App(inference, spool, 1 << 20, 256), port)


async def load(port: int, concurrency: int, seconds: float) -> float:
    """Closed loop: requests per second."""
    dice = np.random.default_rng(1)
    requests = []
    for _ in range(256):
        data = dice.normal(size=COLUMNS).round(6).tolist()
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, COLUMNS], "data": data}
        body = orjson.dumps({"inputs": [tensor]})
        head = f"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        requests.append(head.encode() + body)
    done = 0
    deadline = time.perf_counter() + seconds

    async def client(number: int) -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        n = number
        while time.perf_counter() < deadline:
            writer.write(requests[n % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            done += 1
            n += 1
        writer.close()

    await asyncio.gather(*(client(n) for n in range(concurrency)))
    return done / seconds


def start(target: object, folder: Path) -> tuple[multiprocessing.Process, int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=target, args=(folder, port))
    process.start()
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return process, port
        except OSError:
            time.sleep(0.1)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    rates: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_graph(folder)
        servers = {"bare": start(bare, folder), "replica": start(replica, folder)}
        for _ in range(3):  # alternating, so that both see the same machine
            for concurrency in CONCURRENCY:
                for name, (_, port) in servers.items():
                    rate = asyncio.run(load(port, concurrency, seconds))
                    rates.setdefault((name, concurrency), []).append(rate)
        for process, _ in servers.values():
            process.terminate()
            process.join()
    print("| concurrency | bare uvicorn + ONNX Runtime | replica, capture on | ratio |")
    print("|---|---|---|---|")
    for concurrency in CONCURRENCY:
        base, ours = (float(np.median(rates[name, concurrency])) for name in ("bare", "replica"))
        print(f"| {concurrency} | {base:,.0f}/s | {ours:,.0f}/s | {ours / base:.2f} |")


if __name__ == "__main__":
    main()
