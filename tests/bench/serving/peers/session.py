"""What every peer runs: ONNX Runtime on one thread, the graph's two outputs as lists."""

import os
from typing import Any

import numpy as np
import onnxruntime as ort


class Session:
    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(
            os.environ["BENCH_GRAPH"], options, providers=["CPUExecutionProvider"]
        )

    def run(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32 rows -> labels, probabilities."""
        labels, probabilities = self._session.run(["label", "probabilities"], {"x": rows})
        return labels, probabilities

    def answer(self, inputs: Any) -> dict[str, Any]:
        labels, probabilities = self.run(np.asarray(inputs, np.float32))
        return {"label": labels.tolist(), "probabilities": probabilities.tolist()}
