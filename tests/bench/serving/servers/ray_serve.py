"""Ray Serve as it comes: a FastAPI ingress, one replica, the settings it starts with.

Usage: ray_serve.py MODEL.onnx PORT
"""

import os
import sys
import tempfile
import threading
from typing import Any

import numpy as np
import onnxruntime as ort
import ray
from fastapi import FastAPI
from ray import serve

api = FastAPI()


@serve.deployment(
    num_replicas=1, ray_actor_options={"runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1"}}}
)
@serve.ingress(api)
class Model:
    def __init__(self, path: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    @api.post("/infer")
    async def infer(self, request: dict[str, Any]) -> dict[str, Any]:
        rows = np.asarray(request["inputs"], np.float32)
        labels, probabilities = self._session.run(["label", "probabilities"], {"x": rows})
        return {"label": labels.tolist(), "probabilities": probabilities.tolist()}


if __name__ == "__main__":
    os.environ["RAY_AUTH_MODE"] = "disabled"  # else Ray leaves a token in the home of who runs this
    with tempfile.TemporaryDirectory(prefix="ray-") as scratch:  # short: Ray's sockets lie in it
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            _temp_dir=scratch,
            _node_ip_address="127.0.0.1",
            object_store_memory=80 << 20,
        )
        serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
        serve.run(Model.bind(sys.argv[1]))
        threading.Event().wait()
