"""Reads the properties of a folder of weights from its safetensors headers, without loading it."""

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from driftloop_contracts.errors import Rejected
from driftloop_contracts.language import BASE_CONFIG

HEADER_LIMIT_BYTES = 100 << 20
SAMPLE_BYTES = 1 << 20
PIECE_BYTES = 16 << 20
_NUMPY = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
_BF16_EXPONENT = 0x7F80
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a safetensors file; `start`, `end`: the offsets of its bytes in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int


def tensors(file: Path) -> list[Tensor]:
    """Return the tensors listed in the header of a safetensors file. Raises Rejected if it is
    invalid."""
    broken = Rejected(f"{file.name} is not a safetensors file")
    try:
        with file.open("rb") as opened:
            size = file.stat().st_size
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > min(HEADER_LIMIT_BYTES, size - 8):
                raise broken
            header: dict[str, Any] = json.loads(opened.read(length))
        found = []
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            start, end = (8 + length + int(offset) for offset in entry["data_offsets"])
            if not 8 + length <= start <= end <= size:
                raise Rejected(f"{file.name} is truncated: it lacks the end of {name!r}")
            shape = tuple(int(d) for d in entry["shape"])
            found.append(Tensor(name, str(entry["dtype"]), shape, file, start, end))
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError):
        raise broken from None
    return found


def is_finite(tensor: Tensor) -> bool:
    """Whether it contains no NaN and no infinity; True for number formats that are not checked."""
    kind = _NUMPY.get(tensor.dtype)
    if kind is None:
        return True
    with tensor.file.open("rb") as opened:
        opened.seek(tensor.start)
        left = tensor.end - tensor.start
        while left:
            piece = opened.read(min(PIECE_BYTES, left))
            left -= len(piece)
            values = np.frombuffer(piece, kind)
            if kind is np.uint16:
                good = bool(((values & _BF16_EXPONENT) != _BF16_EXPONENT).all())
            else:
                good = bool(np.isfinite(values).all())
            if not good or not piece:
                return False
    return True


def base_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a model, by name. Raises Rejected."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise Rejected(f"{folder.name!r} has no *.safetensors")
    return {tensor.name: tensor.shape for file in files for tensor in tensors(file)}


def config_of(folder: Path, name: str = BASE_CONFIG) -> dict[str, Any]:
    """Parse a JSON file of the folder. Raises Rejected."""
    try:
        found = json.loads((folder / name).read_bytes())
    except FileNotFoundError:
        raise Rejected(f"{folder.name!r} has no {name}") from None
    except (OSError, ValueError):
        raise Rejected(f"{name} is not JSON") from None
    if not isinstance(found, dict):
        raise Rejected(f"{name} must contain a JSON object")
    return found


def check_base(folder: Path) -> None:
    """Check that the folder contains a complete model whose weights are safe to read. Raises
    Rejected."""
    config_of(folder)
    refuse_pickles(folder)
    base_shapes(folder)
    if not any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    ):
        raise Rejected(f"{folder.name!r} has no tokenizer (tokenizer.json or tokenizer.model)")


def refuse_pickles(folder: Path) -> None:
    """Raises Rejected if the folder contains a pickle, which can run code when it is read."""
    for file in files_of(folder):
        if file.suffix.lower() in PICKLES:
            raise Rejected(f"{file.name} may hold code; convert the weights to safetensors")


def files_of(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def fingerprint(folder: Path) -> str:
    """Return a hash that identifies a model's weights in any folder: the sha256 of all headers and
    of the first and last MiB of data in each file. (Hashing large models in full would take
    minutes.)"""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        listed = tensors(file)
        for tensor in sorted(listed, key=lambda t: t.name):
            digest.update(repr((tensor.name, tensor.dtype, tensor.shape)).encode())
        begins = min((t.start for t in listed), default=0)
        with file.open("rb") as opened:
            opened.seek(begins)
            digest.update(opened.read(SAMPLE_BYTES))
            opened.seek(max(begins, file.stat().st_size - SAMPLE_BYTES))
            digest.update(opened.read(SAMPLE_BYTES))
    return digest.hexdigest()
