"""A version's inputs and outputs in the format of the Open Inference Protocol's metadata.

The protocol cannot express an unknown rank or an input with a default. These are reported in a
tensor's `parameters` and in the model's `properties`. The shape of an unknown rank is given as
[-1], which is a valid choice for clients that do not know the extension.
"""

from typing import Any

from driftloop_contracts.signature import Signature, TensorSpec

UNKNOWN_RANK, OPTIONAL = "unknown_rank", "optional"


def tensors(signature: Signature) -> dict[str, Any]:
    """Return the document's `inputs` and `outputs`, and `properties` if there are any."""
    optional = {tensor.name for tensor in signature.optional}
    inputs = [_tensor(tensor, tensor.name in optional) for tensor in signature.accepted]
    outputs = [_tensor(tensor, False) for tensor in signature.outputs]
    found: dict[str, Any] = {"inputs": inputs, "outputs": outputs}
    properties = {
        word: ", ".join(t["name"] for t in (*inputs, *outputs) if word in t.get("parameters", {}))
        for word in (UNKNOWN_RANK, OPTIONAL)
    }
    if any(properties.values()):
        found["properties"] = {word: names for word, names in properties.items() if names}
    return found


def _tensor(tensor: TensorSpec, optional: bool) -> dict[str, Any]:
    shape = [-1] if tensor.shape is None else list(tensor.shape)
    found: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": shape}
    words = {UNKNOWN_RANK: tensor.shape is None, OPTIONAL: optional}
    if any(words.values()):
        found["parameters"] = {word: True for word, holds in words.items() if holds}
    return found
