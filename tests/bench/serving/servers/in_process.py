"""Baseline: ONNX Runtime on one thread, without any server. Prints rows per second by batch as
JSON.

Usage: in_process.py MODEL.onnx SECONDS BATCH...
"""

import json
import sys
import time

import numpy as np
import onnxruntime as ort


def rows_per_second(
    session: ort.InferenceSession, columns: int, batch: int, seconds: float
) -> float:
    dice = np.random.default_rng(3)
    inputs = [dice.normal(size=(batch, columns)).astype(np.float32) for _ in range(64)]
    names = [node.name for node in session.get_outputs()]
    begun, runs = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        for rows in inputs:
            session.run(names, {"x": rows})
        runs += len(inputs)
    return runs * batch / (time.perf_counter() - begun)


if __name__ == "__main__":
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    columns = session.get_inputs()[0].shape[1]
    rates = {n: rows_per_second(session, columns, int(n), float(sys.argv[2])) for n in sys.argv[3:]}
    print(json.dumps(rates))
