"""A torch module as a graph, by torch's own exporter."""

import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from numpy.typing import NDArray
from onnx import TensorProto, helper

from driftloop_export.port import Body, NotExportable, NotInstalled

BEST, PROBABILITIES, LABEL = "our_best", "our_probabilities", "our_label"


def probabilities_of_logits(logits: Any) -> Any:
    """[n, classes]: of logits [n, classes], or [n] or [n, 1] of the second class."""
    import torch

    if logits.ndim == 2 and logits.shape[1] > 1:
        return torch.softmax(logits, dim=1)
    return both_probabilities(torch.sigmoid(logits))


def both_probabilities(given: Any) -> Any:
    """[n, classes]: of these themselves, or [n] or [n, 1] of the second class."""
    import torch

    if given.ndim == 2 and given.shape[1] > 1:
        return given
    second = given.reshape(-1, 1)
    return torch.cat([1.0 - second, second], dim=1)


def traced(
    module: Any, tensors: Mapping[str, Any], outputs: Sequence[str], free: Sequence[int]
) -> Any:
    """The ONNX model of a module that takes the tensors in this order. free: the dimensions of each
    that may have any size. Raises NotExportable and NotInstalled."""
    import torch

    given = tuple(tensors.values())
    if len(given[0]) == 1:  # one row would be traced as a constant
        given = tuple(torch.cat([tensor, tensor]) for tensor in given)
    sizes = tuple(dict.fromkeys(free, torch.export.Dim.DYNAMIC) for _ in given)
    for name in ("torch.onnx", "torch.onnx._internal.exporter._registration"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                given,
                dynamo=True,
                input_names=list(tensors),
                output_names=list(outputs),
                dynamic_shapes=(sizes,),
                verbose=False,
            )
    except ImportError:
        raise NotInstalled(
            "torch modules are exported by onnxscript: pip install onnxscript"
        ) from None
    except Exception as error:  # torch's exporter raises whatever it likes
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise NotExportable(f"torch.onnx cannot export the module: {reason[0][:300]}") from error
    assert program is not None
    return program.model_proto


def labelled(graph: Any, classes: NDArray[Any]) -> Body:
    """A graph with the outputs BEST and PROBABILITIES, with the class in place of its number."""
    texts = classes.dtype == object
    kind = TensorProto.STRING if texts else TensorProto.INT64
    values = [str(c).encode() for c in classes] if texts else classes
    graph.graph.initializer.append(helper.make_tensor("our_classes", kind, [len(classes)], values))
    graph.graph.node.append(helper.make_node("Gather", ["our_classes", BEST], [LABEL]))
    graph.graph.output[0].CopyFrom(helper.make_tensor_value_info(LABEL, kind, ["n"]))
    return Body(graph, {"label": LABEL, "probabilities": PROBABILITIES})
