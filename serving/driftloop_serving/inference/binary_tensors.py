"""Tensors as raw buffers: row-major, little-endian, each BYTES element preceded by its length."""

from struct import Struct

import numpy as np

from driftloop_serving.inference.tensor_plan import InputPlan

_LENGTH = Struct("<I")


def array_at(
    buffer: bytes, offset: int, nbytes: int, shape: list[int], size: int, plan: InputPlan
) -> np.ndarray:
    """Read the tensor in `buffer[offset : offset + nbytes]`, without a copy if it is aligned.
    `shape` and `size` as returned by `InputPlan.fitted`. Raises Rejected."""
    if nbytes > len(buffer) - offset:
        raise plan.refused(f" needs {nbytes} bytes; {len(buffer) - offset} are left in the body")
    kind = plan.kind
    if kind.text:
        return _texts(buffer, offset, offset + nbytes, shape, size, plan)
    if nbytes != size * kind.itemsize:
        raise plan.refused(
            f": its shape and datatype need {size * kind.itemsize} bytes, it has {nbytes}"
        )
    array = np.ndarray(shape, kind.dtype, buffer, offset)
    if plan.datatype == "BOOL" and array.view(np.uint8).max() > 1:
        raise plan.refused(": BOOL data must be bytes of 0 and 1")
    # onnxruntime passes the pointer on to compiled kernels, which may rely on alignment.
    return array if array.flags.aligned else array.copy()


def _texts(
    buffer: bytes, offset: int, end: int, shape: list[int], size: int, plan: InputPlan
) -> np.ndarray:
    texts: list[str] = []
    wrong = plan.refused(f": its buffer must hold {size} elements, each preceded by its length")
    if end - offset < size * _LENGTH.size:
        raise wrong
    for _ in range(size):
        start = offset + _LENGTH.size
        if start > end:
            raise wrong
        offset = start + _LENGTH.unpack_from(buffer, start - _LENGTH.size)[0]
        if offset > end:
            raise wrong
        texts.append(text_of(buffer[start:offset], plan))
    if offset != end:
        raise wrong
    return np.array(texts, np.object_).reshape(shape)


def text_of(element: bytes, plan: InputPlan) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError:
        raise plan.refused(": BYTES data must be texts in UTF-8") from None


def raw_array(buffer: bytes, plan: InputPlan) -> np.ndarray:
    """Read a tensor that fills `buffer`. Its only free dimension follows from the length; a BYTES
    tensor is one element without a length prefix. Raises Rejected."""
    if plan.shape is None:
        raise plan.refused(" may have any shape; a raw request cannot say which is sent")
    free = plan.shape.count(-1)
    if plan.kind.text:
        if plan.fixed_size != 1:
            raise plan.refused(" takes more than one text; a raw request holds one")
        return np.array([text_of(buffer, plan)], np.object_).reshape([1] * len(plan.shape))
    if free > 1:
        raise plan.refused(
            f" has the shape {list(plan.shape)}; a raw request cannot say which is sent"
        )
    known = plan.fixed_size * plan.kind.itemsize
    length = len(buffer) // known if free and known else 1
    shape, size = plan.fitted([length if d == -1 else d for d in plan.shape])
    return array_at(buffer, 0, len(buffer), shape, size, plan)


def buffer_of(array: np.ndarray) -> bytes:
    if array.dtype.kind not in "OU":
        return array.tobytes()
    parts: list[bytes] = []
    for text in array.ravel().tolist():
        element = text.encode()
        parts += (_LENGTH.pack(len(element)), element)
    return b"".join(parts)
