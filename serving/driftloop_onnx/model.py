"""An ONNX graph, loaded from a `model.onnx` file or the folder that holds one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from driftloop_contracts.errors import Rejected
from driftloop_contracts.signature import Datatype, Signature, TensorSpec

_DATATYPES: dict[str, Datatype] = {
    "tensor(bool)": "BOOL", "tensor(string)": "BYTES",
    "tensor(uint8)": "UINT8", "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32", "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8", "tensor(int16)": "INT16", "tensor(int32)": "INT32",
    "tensor(int64)": "INT64", "tensor(float16)": "FP16", "tensor(float)": "FP32",
    "tensor(double)": "FP64",
}  # fmt: skip


class OnnxModel:
    """A loaded graph. `run` may be called from several threads.

    Raises Rejected where the file is no ONNX graph, or has inputs that no protocol datatype holds.
    """

    def __init__(self, path: Path | str, *, threads: int = 1) -> None:
        file = Path(path)
        if file.is_dir():
            file = file / "model.onnx"
        if not file.is_file():
            raise Rejected(f"there is no model file {file.name!r} in {file.parent.name!r}")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = ort.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own errors share no public base
            reason = str(error).splitlines()[0].replace(str(file), file.name)
            raise Rejected(f"{file.name} is no ONNX model that can be loaded: {reason}") from None
        self.signature = Signature(
            tuple(_spec(node) for node in self._session.get_inputs()),
            tuple(_spec(node) for node in self._session.get_outputs()),
        )

    def run(
        self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run the graph: arrays by input name, in the signature's dtypes (BYTES: object arrays of
        str), give arrays by output name; `outputs` None means all."""
        names = list(outputs or (t.name for t in self.signature.outputs))
        return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))


def _spec(node: ort.NodeArg) -> TensorSpec:
    datatype = _DATATYPES.get(node.type)
    if datatype is None:
        raise Rejected(f"tensor {node.name!r} has the type {node.type}, which no request can carry")
    shape = tuple(d if isinstance(d, int) else -1 for d in node.shape)
    return TensorSpec(node.name, datatype, shape)


def signature_of(path: Path | str) -> Signature:
    """The signature of the graph in a file or folder."""
    return OnnxModel(path).signature
