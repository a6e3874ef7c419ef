"""Baseline: an ASGI function on ONNX Runtime under uvicorn, with httptools, uvloop and orjson.

Usage: bare.py MODEL.onnx PORT
"""

import sys
from typing import Any

import numpy as np
import onnxruntime as ort
import orjson
import uvicorn


def make(path: str) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]

    async def app(_: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        (tensor,) = orjson.loads(body)["inputs"]
        array = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
        outputs = zip(names, session.run(names, {"x": array}), strict=True)
        answer = orjson.dumps({"outputs": [_tensor(name, array) for name, array in outputs]})
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
        "name": name, "datatype": datatype, "shape": array.shape, "data": array.ravel().tolist()
    }  # fmt: skip


if __name__ == "__main__":
    uvicorn.run(
        make(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), loop="uvloop",
        http="httptools", access_log=False, log_level="error", lifespan="off",
    )  # fmt: skip
