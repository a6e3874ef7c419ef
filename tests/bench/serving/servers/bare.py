"""Baseline: an ASGI function on ONNX Runtime under uvicorn, with httptools, uvloop and orjson.

Usage: bare.py MODEL.onnx PORT [--defaults]. `--defaults`: as both come, with the standard library's
JSON and a line in the log for each request.
"""

import json
import sys
from typing import Any

import numpy as np
import onnxruntime as ort
import orjson
import uvicorn


def make(path: str, *, defaults: bool) -> Any:
    options = ort.SessionOptions()
    if not defaults:
        options.intra_op_num_threads = options.inter_op_num_threads = 1
    loads = json.loads if defaults else orjson.loads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]

    async def app(_: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        (tensor,) = loads(body)["inputs"]
        array = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
        outputs = zip(names, session.run(names, {"x": array}), strict=True)
        document = {"outputs": [_tensor(name, array) for name, array in outputs]}
        answer = json.dumps(document).encode() if defaults else orjson.dumps(document)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(answer)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


def _tensor(name: str, array: np.ndarray) -> dict[str, Any]:
    datatype = "INT64" if array.dtype == np.int64 else "FP32"
    return {
        "name": name,
        "datatype": datatype,
        "shape": array.shape,
        "data": array.ravel().tolist(),
    }


if __name__ == "__main__":
    path, port, *words = sys.argv[1:]
    if words == ["--defaults"]:
        uvicorn.run(make(path, defaults=True), host="127.0.0.1", port=int(port))
    else:
        uvicorn.run(
            make(path, defaults=False),
            host="127.0.0.1",
            port=int(port),
            loop="uvloop",
            http="httptools",
            access_log=False,
            log_level="error",
            lifespan="off",
        )
