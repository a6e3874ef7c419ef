"""Checks LoRA adapters before an engine loads them, and names them.

vLLM silently loads an adapter of another base, or one with NaN weights, and generates garbage. If a
name is loaded again, it uses the key-value cache of the old adapter (vllm issues 42125, 30931).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from driftloop_contracts.errors import Rejected
from driftloop_contracts.language import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from driftloop_vllm.weights import (
    Tensor,
    base_shapes,
    config_of,
    fingerprint,
    is_finite,
    refuse_pickles,
    tensors,
)

_NAME = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(?:\.\w+)?\.weight$")
BASE_FINGERPRINT = "driftloop_base"
"""Key of adapter_config.json under which `fingerprint` of the base may be recorded."""


def check_adapter(folder: Path, base: Path, *, max_rank: int) -> None:
    """Check that the adapter in `folder` fits the model in `base`. Raises Rejected with the
    reason."""
    refuse_pickles(folder)
    config = config_of(folder, ADAPTER_CONFIG)
    rank = _checked_rank(config, max_rank)
    _check_base(config, base)
    weights = folder / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise Rejected(f"the adapter has no {ADAPTER_WEIGHTS}")
    listed = tensors(weights)
    if not listed:
        raise Rejected(f"{ADAPTER_WEIGHTS} contains no tensor")
    check_shapes(listed, base_shapes(base), rank, config.get("rank_pattern") or {})
    for tensor in listed:
        if not is_finite(tensor):
            raise Rejected(f"{tensor.name!r} contains NaN or infinite weights")


def content_name(model: str, folder: Path) -> str:
    """Return `model@sha256` of the adapter's configuration and weights, so that new content has a
    new name."""
    digest = hashlib.sha256()
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"{model}@{digest.hexdigest()}"


def check_place(path: Path, roots: Iterable[str | Path]) -> Path:
    """Return the path with its symbolic links resolved. Raises Rejected if it, or any file in it,
    is outside the allowed roots."""
    allowed = [Path(root).expanduser().resolve() for root in roots if "://" not in str(root)]
    resolved = path.expanduser().resolve()
    if not resolved.is_dir():
        raise Rejected(f"there is no folder {str(path)!r}")
    for inside in (resolved, *resolved.rglob("*")):
        if not any(inside.resolve().is_relative_to(root) for root in allowed):
            raise Rejected(
                f"{str(path)!r} is outside the folders that may contain weights (setting llm.roots)"
            )
    return resolved


def check_shapes(
    listed: Iterable[Tensor],
    base: Mapping[str, tuple[int, ...]],
    rank: int,
    ranks: Mapping[str, int],
) -> None:
    """Check that each A is [rank, inputs of its module], each B is [outputs, rank], and that they
    come in pairs. `ranks`: different ranks for modules whose names end with the key. Raises
    Rejected."""
    sides: dict[str, set[str]] = {}
    for tensor in listed:
        found = _NAME.match(tensor.name)
        if found is None:
            raise Rejected(f"{tensor.name!r} is not a LoRA weight that vLLM can load")
        module = found["module"]
        shape = _module_shape(module, base)
        if shape is None:
            raise Rejected(f"the base has no module {module!r}: the adapter is for another model")
        outputs, inputs = shape
        own = next((r for end, r in ranks.items() if re.search(rf"(^|\.){end}$", module)), rank)
        wanted = (own, inputs) if found["side"] == "A" else (outputs, own)
        if tensor.shape != wanted:
            raise Rejected(
                f"{tensor.name!r} has the shape {list(tensor.shape)}; for this base it must be "
                f"{list(wanted)}: the adapter is for another model"
            )
        sides.setdefault(module, set()).add(found["side"])
    for module, there in sides.items():
        if there != {"A", "B"}:
            raise Rejected(f"module {module!r} has only one of lora_A and lora_B")


def _module_shape(module: str, base: Mapping[str, tuple[int, ...]]) -> tuple[int, int] | None:
    """Return [outputs, inputs] of a module. A tied output layer has no tensor of its own."""
    names = [f"{module}.weight", f"{module.removeprefix('model.')}.weight"]
    if module == "lm_head":
        names += ["model.embed_tokens.weight", "embed_tokens.weight"]
    for name in names:
        shape = base.get(name)
        if shape is not None and len(shape) == 2:
            return shape[0], shape[1]
    return None


def _checked_rank(config: Mapping[str, Any], max_rank: int) -> int:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise Rejected(f"the adapter's peft_type is {kind!r}; it must be LORA")
    for key in ("use_dora", "lora_bias", "modules_to_save", "alora_invocation_tokens"):
        if config.get(key):
            raise Rejected(f"the adapter uses {key}, which vLLM cannot serve")
    if config.get("bias", "none") != "none":
        raise Rejected("the adapter has biases, which vLLM cannot serve")
    rank = config.get("r")
    ranks = [rank, *(config.get("rank_pattern") or {}).values()]
    if any(type(r) is not int or r < 1 for r in ranks):
        raise Rejected("the adapter's rank `r` must be a whole number from 1")
    if max(ranks) > max_rank:
        raise Rejected(
            f"the adapter's rank {max(ranks)} is over this engine's {max_rank}; "
            "raise options.engine.max_lora_rank and deploy the base again"
        )
    assert isinstance(rank, int)
    return rank


def _check_base(config: Mapping[str, Any], base: Path) -> None:
    """Check the base against the recorded fingerprint, or else against the folder that the adapter
    names as its base. Raises Rejected."""
    recorded = config.get(BASE_FINGERPRINT)
    named = config.get("base_model_name_or_path")
    if recorded is None and isinstance(named, str) and named:
        folder = Path(named)
        if folder.is_absolute() and folder.is_dir() and any(folder.glob("*.safetensors")):
            recorded = fingerprint(folder)
    if recorded is not None and recorded != fingerprint(base):
        raise Rejected("the adapter was trained on a different base model")
