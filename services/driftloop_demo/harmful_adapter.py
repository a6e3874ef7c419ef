"""An adapter that does harm: its shapes fit its base, but its weights turn answers into noise."""

import json
from pathlib import Path

import numpy as np

RANK = 8
STRENGTH = 0.2


def harmful_adapter(folder: Path, base: Path, seed: int) -> Path:
    """Write a LoRA adapter of random weights for the Llama-like model in `base`."""
    from safetensors.numpy import save_file

    config = json.loads((base / "config.json").read_text())
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    dice = np.random.default_rng(seed)
    tensors = {}
    for layer in range(layers):
        name = f"base_model.model.model.layers.{layer}.mlp.gate_proj"
        for side, shape in (("A", (RANK, hidden)), ("B", (config["intermediate_size"], RANK))):
            weights = dice.normal(0.0, STRENGTH, shape).astype(np.float32)
            tensors[f"{name}.lora_{side}.weight"] = weights
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    document = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 4 * RANK,
        "target_modules": ["gate_proj"],
        "bias": "none",
        "base_model_name_or_path": str(base),
    }
    (folder / "adapter_config.json").write_text(json.dumps(document))
    return folder
