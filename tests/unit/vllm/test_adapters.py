"""Adapters that vLLM would load and answer garbage with are refused, with the reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from weights_files import HIDDEN, INNER, UP, Tensors, lora, write_adapter, write_base

from driftloop_contracts.errors import Rejected
from driftloop_vllm.adapters import BASE_FINGERPRINT, check_adapter, check_place, content_name
from driftloop_vllm.weights import check_base, fingerprint


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path: Path) -> Callable[..., Path]:
    def write(tensors: Tensors | None = None, **config: Any) -> Path:
        return write_adapter(tmp_path / "adapter", tensors, **config)

    return write


def refused(folder: Path, base: Path) -> str:
    with pytest.raises(Rejected) as error:
        check_adapter(folder, base, max_rank=4)
    return str(error.value)


def test_an_adapter_that_fits_is_taken(base: Path, adapter: Callable[..., Path]) -> None:
    check_adapter(adapter(lora() | lora(UP, INNER)), base, max_rank=4)
    check_adapter(adapter(lora("lm_head", 32)), base, max_rank=4)  # tied: no tensor of its own
    check_adapter(adapter(lora(rank=4), rank_pattern={"q_proj": 4}), base, max_rank=4)


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        (lora(inputs=HIDDEN + 1), "for this base it must be"),
        (lora(outputs=HIDDEN * 2), "for this base it must be"),
        (lora(rank=3), "for this base it must be"),
        (lora("model.layers.7.self_attn.q_proj"), "the base has no module"),
        (dict(list(lora().items())[:1]), "only one of lora_A and lora_B"),
        ({"base_model.model.lm_head.weight": np.ones((2, 2))}, "not a LoRA weight"),
        ({k: v * np.nan for k, v in lora().items()}, "NaN"),
        ({k: v * np.inf for k, v in lora().items()}, "NaN or infinite"),
    ],
)
def test_weights_of_another_model_or_broken_ones_are_refused(
    base: Path, adapter: Callable[..., Path], tensors: Tensors, why: str
) -> None:
    assert why in refused(adapter(tensors), base)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"peft_type": "IA3"}, "must be LORA"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "biases"),
        ({"r": 8}, "over this engine's 4"),
        ({"rank_pattern": {"q_proj": 64}}, "over this engine's 4"),
        ({"r": "two"}, "whole number"),
    ],
)
def test_what_the_engine_cannot_serve_is_refused(
    base: Path, adapter: Callable[..., Path], config: dict[str, Any], why: str
) -> None:
    assert why in refused(adapter(**config), base)


def test_an_adapter_of_another_base_of_the_same_shape_is_refused(
    tmp_path: Path, base: Path, adapter: Callable[..., Path]
) -> None:
    other = write_base(tmp_path / "other", seed=1)
    assert "different base" in refused(adapter(base_model_name_or_path=str(other)), base)
    assert "different base" in refused(adapter(**{BASE_FINGERPRINT: fingerprint(other)}), base)
    check_adapter(adapter(**{BASE_FINGERPRINT: fingerprint(base)}), base, max_rank=4)
    check_adapter(adapter(base_model_name_or_path="some/hub-name"), base, max_rank=4)


def test_pickles_are_refused(base: Path, adapter: Callable[..., Path]) -> None:
    folder = adapter()
    (folder / "adapter_model.bin").write_bytes(b"")
    assert "may hold code" in refused(folder, base)
    (base / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(Rejected, match="may hold code"):
        check_base(base)


def test_a_cut_file_is_refused(base: Path, adapter: Callable[..., Path]) -> None:
    folder = adapter()
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    assert "is truncated" in refused(folder, base)
    file.write_bytes(b"no")
    assert "not a safetensors file" in refused(folder, base)


def test_the_name_of_an_adapter_is_its_content(adapter: Callable[..., Path]) -> None:
    first = content_name("m", adapter())
    assert first == content_name("m", adapter())
    assert first != content_name("m", adapter(lora(UP, INNER)))
    assert first != content_name("m", adapter(lora_alpha=32))
    assert first.startswith("m@")


def test_a_path_out_of_the_roots_is_refused_also_by_a_link(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "version").mkdir(parents=True)
    outside.mkdir()
    assert check_place(root / "version", [root]) == root / "version"
    for path in (outside, root / ".." / "outside"):
        with pytest.raises(Rejected, match="outside the folders"):
            check_place(path, [root])
    (root / "link").symlink_to(outside)
    with pytest.raises(Rejected, match="outside the folders"):
        check_place(root / "link", [root])
    (outside / "secret").write_text("")
    (root / "version" / "file").symlink_to(outside / "secret")
    with pytest.raises(Rejected, match="outside the folders"):
        check_place(root / "version", [root])
    with pytest.raises(Rejected, match="there is no folder"):
        check_place(root / "nothing", [root])
