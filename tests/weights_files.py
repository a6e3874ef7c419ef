"""Small folders of weights, made by hand."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

HIDDEN, INNER, RANK = 8, 12, 2
Q, UP = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj"
Tensors = dict[str, np.ndarray]


def write_safetensors(file: Path, tensors: Tensors) -> None:
    header: dict[str, Any] = {}
    data = b""
    for name, array in tensors.items():
        raw = array.astype("<f4").tobytes()
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets}
        data += raw
    encoded = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)


def write_base(folder: Path, seed: int = 0) -> Path:
    folder.mkdir()
    random = np.random.default_rng(seed)
    shapes = {Q: (HIDDEN, HIDDEN), UP: (INNER, HIDDEN), "model.embed_tokens": (32, HIDDEN)}
    weights = {f"{name}.weight": random.normal(size=shape) for name, shape in shapes.items()}
    write_safetensors(folder / "model.safetensors", weights)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def lora(module: str = Q, outputs: int = HIDDEN, inputs: int = HIDDEN, rank: int = RANK) -> Tensors:
    name = f"base_model.model.{module}.lora_"
    return {
        f"{name}A.weight": np.ones((rank, inputs)),
        f"{name}B.weight": np.ones((outputs, rank)),
    }


def write_adapter(folder: Path, tensors: Tensors | None = None, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    told = {"peft_type": "LORA", "r": RANK, "bias": "none", **config}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    write_safetensors(folder / "adapter_model.safetensors", tensors or lora())
    return folder
