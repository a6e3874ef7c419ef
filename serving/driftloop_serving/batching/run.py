"""One run of a graph: the calls that share it, its outputs or error, and its record for the
spool."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
import structlog

from driftloop_serving.batching.model_table import Chosen
from driftloop_serving.capture.spool_record import PredictionBatch, Tensors
from driftloop_serving.inference.call_traces import trace_ids
from driftloop_serving.inference.infer_call import InferCall

log = structlog.get_logger()

Outputs = Mapping[str, np.ndarray]


class Run:
    """Calls of one queue that run together. If `outputs` is None, they are answered with
    `error`."""

    __slots__ = (
        "calls",
        "chosen",
        "counts",
        "error",
        "infer_s",
        "inputs",
        "outputs",
        "rows",
        "started_at",
    )

    def __init__(self, chosen: Chosen, calls: list[InferCall]) -> None:
        self.chosen = chosen
        self.calls = calls
        self.inputs = _gathered(calls)
        self.counts = [call.request.rows for call in calls]
        self.rows = sum(self.counts)
        self.outputs: Outputs | None = None
        self.error: str | None = None
        self.started_at = time.perf_counter()
        self.infer_s = 0.0

    def execute(self) -> "list[Run]":
        """Run the graph. If a run of several calls fails, each call runs alone, so that only the
        faulty ones fail. May be called in a thread."""
        try:
            self.outputs = self._outputs()
        except Exception as failure:  # the errors of onnxruntime have no public base class
            if len(self.calls) > 1:
                return [run for call in self.calls for run in Run(self.chosen, [call]).execute()]
            self.error = type(failure).__name__
            log.warning(
                "inference.failed",
                model=self.calls[0].model,
                version=self.chosen.version,
                error=str(failure),
            )
        finally:
            self.infer_s = time.perf_counter() - self.started_at
        return [self]

    def _outputs(self) -> Outputs:
        outputs: Outputs = self.chosen.model.run(self.inputs)
        if len(self.calls) > 1:
            rows = self.rows
            if any(array.shape[:1] != (rows,) for array in outputs.values()):
                raise ValueError("the outputs and the inputs have different numbers of rows")
        return outputs


def _gathered(calls: Sequence[InferCall]) -> Mapping[str, np.ndarray]:
    first: dict[str, np.ndarray] = calls[0].request.inputs
    if len(calls) == 1:
        return first
    return {name: np.concatenate([call.request.inputs[name] for call in calls]) for name in first}


def record_of(run: Run, latencies_s: list[float]) -> PredictionBatch:
    calls, chosen = run.calls, run.chosen
    given_ids = [call.given_id for call in calls]
    inputs: Tensors = run.inputs
    if chosen.signature.optional:
        inputs = {tensor.name: run.inputs.get(tensor.name) for tensor in chosen.signature.accepted}
    # Routing keys are hashed only if there is a canary.
    hashes = [call.key_hash for call in calls] if chosen.beside_canary else [None]
    batch = PredictionBatch(
        calls[0].model,
        chosen.version,
        chosen.arm,
        [call.prediction_id for call in calls],
        latencies_s,
        run.counts,
        chosen.model.signature,
        inputs,
        run.outputs,
        run.error,
        client_ids=given_ids.count(None) < len(given_ids),
        key_hashes=hashes if hashes.count(None) < len(hashes) else None,
        trace_ids=None if calls[0].trace is None else trace_ids(calls),
    )
    return batch if chosen.capture is None else chosen.capture.apply(batch)
