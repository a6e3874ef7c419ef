"""An ONNX graph, loaded from a `model.onnx` file or the folder that contains one."""

import threading
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from driftloop_contracts.errors import Rejected
from driftloop_contracts.onnx_file import shapeless
from driftloop_contracts.signature import Datatype, Signature, TensorSpec
from driftloop_onnx.graph import Then
from driftloop_onnx.options import PROVIDERS, BackendOptions, require_providers
from driftloop_onnx.tokenizer_step import tokenizer_step

_DATATYPES: dict[str, Datatype] = {
    "tensor(bool)": "BOOL", "tensor(string)": "BYTES",
    "tensor(uint8)": "UINT8", "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32", "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8", "tensor(int16)": "INT16", "tensor(int32)": "INT32",
    "tensor(int64)": "INT64", "tensor(float16)": "FP16", "tensor(float)": "FP32",
    "tensor(double)": "FP64",
}  # fmt: skip
_OPTIMIZATION = {
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_GROW_AS_ASKED = 1
OPTIONAL_LIMIT = 32
"""Some exporters list the weights among a graph's inputs with defaults. If a graph has more such
inputs than this, none of them can be set by requests."""
_shared_arena = threading.Lock()


class OnnxModel:
    """A loaded graph. `run` may be called from several threads.

    Raises Rejected if the file is not an ONNX graph, an input has a type without a protocol
    datatype, or the first provider cannot run on this machine.
    """

    awake = True

    def __init__(self, path: Path | str, options: BackendOptions | None = None) -> None:
        file = Path(path)
        if file.is_dir():
            file = file / "model.onnx"
        if not file.is_file():
            raise Rejected(f"there is no model file {file.name!r} in {file.parent.name!r}")
        wanted = options or BackendOptions()
        require_providers(wanted)
        try:
            session = _open(file, wanted)
        except Exception as error:  # the errors of onnxruntime have no public base class
            reason = str(error).splitlines()[0].replace(str(file), file.name)
            raise Rejected(f"{file.name} is not a loadable ONNX model: {reason}") from None
        if session.get_providers()[0] != PROVIDERS[wanted.providers[0]][0]:
            # If this machine lacks the device, onnxruntime only warns and omits the provider.
            raise Rejected(f"the provider {wanted.providers[0]} cannot run on this machine")
        self.signature = _signature(session, file)
        self._outputs = [t.name for t in self.signature.outputs]
        # The public `run` validates names that are known to be correct, which takes a fifth of a
        # small graph's run (tests/unit/serving/test_onnx_model.py).
        self._run = session._sess.run
        names = [tensor.name for tensor in self.signature.inputs]
        step = tokenizer_step(session.get_modelmeta().custom_metadata_map, names)
        if step is not None:
            self.signature = replace(self.signature, inputs=step.tensors)
            self._run = step.before(self._run)

    def wake(self, then: Then) -> None:
        then(None)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the graph. `inputs`: arrays by input name, in the signature's dtypes (BYTES: object
        arrays of str). Returns arrays by output name."""
        return dict(zip(self._outputs, self._run(self._outputs, inputs, None), strict=True))


def _open(file: Path, wanted: BackendOptions) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = wanted.threads
    options.inter_op_num_threads = wanted.inter_op_threads
    if wanted.inter_op_threads > 1:
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    options.graph_optimization_level = _OPTIMIZATION[wanted.graph_optimization]
    options.log_severity_level = 4
    # A memory pattern would be kept for each batch size.
    options.enable_mem_pattern = False
    # Spinning threads would take CPU time from the event loop and the other models.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    limit_bytes = (wanted.memory_limit_mb or 0) << 20
    providers: list[Any] = [PROVIDERS[name][0] for name in wanted.providers]
    if limit_bytes and "cuda" in wanted.providers:
        at = wanted.providers.index("cuda")
        providers[at] = (providers[at], {"gpu_mem_limit": str(limit_bytes)})
    with _shared_arena:
        if limit_bytes:
            _share_arena(limit_bytes)
            options.add_session_config_entry("session.use_env_allocators", "1")
        return ort.InferenceSession(str(file), options, providers=providers, enable_fallback=0)


def _share_arena(limit_bytes: int) -> None:
    """Limit the memory of the next session. A session's own arena takes no limit, but one shared by
    the process does. This replaces the shared arena; earlier sessions keep theirs, so each session
    has its own limit."""
    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    config = {"max_mem": limit_bytes, "arena_extend_strategy": _GROW_AS_ASKED}
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(config))


def _signature(session: ort.InferenceSession, file: Path) -> Signature:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    overridable = session.get_overridable_initializers()
    # onnxruntime returns [] both for an unknown rank and for a scalar.
    unclear = any(not node.shape for node in (*inputs, *outputs))
    unknown = shapeless(file.read_bytes()) if unclear else frozenset()
    if len(overridable) > OPTIONAL_LIMIT:
        overridable = []
    return Signature(
        tuple(_spec(node, "input", unknown) for node in inputs),
        tuple(_spec(node, "output", unknown) for node in outputs),
        tuple(_spec(node, "input", unknown) for node in overridable if node.type in _DATATYPES),
    )


def _spec(node: ort.NodeArg, side: str, unknown: AbstractSet[str]) -> TensorSpec:
    datatype = _DATATYPES.get(node.type)
    if datatype is None:
        raise Rejected(_why_refused(f"{side} {node.name!r}", node.type))
    if not node.shape and node.name in unknown:
        return TensorSpec(node.name, datatype, None)
    shape = tuple(d if isinstance(d, int) else -1 for d in node.shape)
    return TensorSpec(node.name, datatype, shape)


def _why_refused(tensor: str, kind: str) -> str:
    if kind.startswith(("seq(map", "map")):
        return (
            f"{tensor} is a map ({kind}), which no request or answer can carry; export the "
            "classifier with its scores as a tensor: `zipmap=False` (onnxmltools), "
            "`options={'zipmap': False}` (skl2onnx)"
        )
    if kind.startswith("seq"):
        return (
            f"{tensor} is a sequence ({kind}), which no request or answer can carry; export it as "
            "one tensor (the operator ConcatFromSequence makes one), or each element as an "
            f"{tensor.partition(' ')[0]} of its own"
        )
    if kind.startswith("optional"):
        return (
            f"{tensor} is optional by its type ({kind}), which no request can leave out; export it "
            "as a tensor with a default value (an initializer of the same name)"
        )
    return (
        f"{tensor} has the type {kind}, which no request or answer can carry; cast it in the "
        "graph (the operator Cast) to one of the protocol's datatypes"
    )


def signature_of(path: Path | str) -> Signature:
    """Return the signature of the graph in a file or folder."""
    return OnnxModel(path).signature
