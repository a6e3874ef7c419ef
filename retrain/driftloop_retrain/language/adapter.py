"""Creates, saves and describes the LoRA adapter of a training. Only this module uses peft."""

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driftloop_contracts.errors import Rejected
from driftloop_contracts.file_hash import sha256_of
from driftloop_contracts.language import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from driftloop_settings import TuningSettings
from driftloop_vllm.adapters import BASE_FINGERPRINT
from driftloop_vllm.weights import fingerprint

if TYPE_CHECKING:
    from driftloop_retrain.language.port import TuneContext

DESCRIPTION = "driftloop.json"


def device_of(settings: TuningSettings) -> str:
    """Return cuda or cpu for this machine. Raises Rejected if a GPU is required here but not
    available."""
    import torch

    there = torch.cuda.is_available()
    if settings.device == "cuda" and not there and not settings.ray_address:
        raise Rejected("tuning.device is cuda, but this machine has no such GPU")
    return "cuda" if there and settings.device != "cpu" else "cpu"


def on_this_machine(settings: TuningSettings) -> TuningSettings:
    """Resolve device and threads for this machine and record them, because other values change
    floating-point sums and a reproduction needs the same. On a cluster the workers determine
    them."""
    if settings.ray_address:
        return settings
    threads = settings.threads or len(os.sched_getaffinity(0))
    return settings.model_copy(
        update={"device": device_of(settings), "threads": threads, "workers": 1}
    )


def load_base(folder: Path, settings: TuningSettings) -> Any:
    """Load the model in `folder`: float32 on a CPU, where half precision is slower, bfloat16 on a
    GPU."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    device = device_of(settings)
    if device == "cpu":
        torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
    kind = torch.bfloat16 if device == "cuda" else torch.float32
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=kind, local_files_only=True)
    return model.to(device)


def with_adapter(model: Any, folder: Path, name: str, *, trainable: bool = False) -> Any:
    """Add the adapter in `folder` to the model under a name."""
    from peft import PeftModel

    with warnings.catch_warnings():
        # our own key, unknown to peft
        warnings.filterwarnings("ignore", message=f".*{BASE_FINGERPRINT}")
        if isinstance(model, PeftModel):
            model.load_adapter(str(folder), adapter_name=name, is_trainable=trainable)
            return model
        return PeftModel.from_pretrained(
            model, str(folder), adapter_name=name, is_trainable=trainable
        )


def trainable(context: "TuneContext") -> Any:
    """Return the base with the adapter to be trained."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(context.seed)
    settings = context.settings
    model = load_base(context.base, settings)
    if context.start is not None:
        return with_adapter(model, context.start, "default", trainable=True)
    targets: Any = [name.strip() for name in settings.targets.split(",") if name.strip()]
    if targets == ["all-linear"]:
        targets = "all-linear"
    alpha: Any = settings.alpha  # peft accepts fractions, but its annotation does not
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=alpha,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise Rejected(f"tuning.targets {settings.targets!r}: {error}") from None


def save_adapter(model: Any, folder: Path) -> None:
    """Write the two files of the adapter, without traces of this machine."""
    shutil.rmtree(folder, ignore_errors=True)
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part, selected_adapters=["default"], safe_serialization=True)
    config = json.loads((part / ADAPTER_CONFIG).read_text())
    config |= {"base_model_name_or_path": None, "inference_mode": True}
    targets = config.get("target_modules")
    if isinstance(targets, list):  # peft uses a set, whose order differs between processes
        config["target_modules"] = sorted(targets)
    (part / ADAPTER_CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True))
    (part / "README.md").unlink(missing_ok=True)
    part.rename(folder)


def describe(folder: Path, model: str, base_version: int, base: Path) -> None:
    """Record the adapter's base: in its configuration, which an engine checks before loading, and
    in driftloop.json for people."""
    mark = fingerprint(base)
    config = json.loads((folder / ADAPTER_CONFIG).read_text())
    (folder / ADAPTER_CONFIG).write_text(
        json.dumps({**config, BASE_FINGERPRINT: mark}, indent=1, sort_keys=True)
    )
    description = {
        "model": model,
        "base_version": base_version,
        "base_fingerprint": mark,
        "adapter_sha256": weights_hash(folder),
        "rank": config.get("r"),
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1))


def weights_hash(folder: Path) -> str:
    """Return the SHA-256 of the adapter's weights."""
    return sha256_of(folder / ADAPTER_WEIGHTS)
