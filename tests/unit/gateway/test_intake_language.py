"""A language model on its way from a folder to a version that serves."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from weights_files import lora, write_adapter, write_base

from driftloop_contracts.errors import NotFound, Rejected
from driftloop_contracts.language import SIGNATURE
from driftloop_contracts.model_archive import pack
from driftloop_gateway.intake import take_in
from driftloop_registry.memory_registry import MemoryRegistry
from driftloop_settings import Settings
from driftloop_store import Store

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def registry(tmp_path: Path) -> MemoryRegistry:
    return MemoryRegistry(tmp_path / "registry")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base")


def packed(path: Path, name: str | None = "m", base: int | None = None) -> io.BytesIO:
    archive = io.BytesIO()
    said = {"name": name, "base": base}
    pack(archive, path, {key: value for key, value in said.items() if value is not None})
    archive.seek(0)
    return archive


def spec(folder: Path, **more: Any) -> Path:
    file = folder / "m.yaml"
    file.write_text(yaml.safe_dump({"name": "m", "runtime": "vllm", "model": "base", **more}))
    return file


def test_a_folder_of_weights_serves_at_once(
    store: Store, registry: MemoryRegistry, base: Path
) -> None:
    (base / "README.md").write_text("not needed")
    take_in(packed(base), store, registry, NOW, at_once=False, settings=Settings())
    deployment = store.require_deployment("m")
    (served,) = deployment.versions
    assert (deployment.model.runtime, deployment.model.task) == ("vllm", "generation")
    assert (served.signature, served.base) == (SIGNATURE, None)
    assert {file.name for file in Path(served.path).iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }


def test_an_adapter_goes_with_the_champions_weights_and_has_to_win(
    store: Store, registry: MemoryRegistry, base: Path, tmp_path: Path
) -> None:
    options = {"engine": {"max_lora_rank": 8}}
    take_in(
        packed(spec(tmp_path, options=options)),
        store,
        registry,
        NOW,
        at_once=False,
        settings=Settings(),
    )
    adapter = write_adapter(tmp_path / "adapter")
    answer = take_in(packed(adapter), store, registry, NOW, at_once=False, settings=Settings())
    (rollout,) = store.active_rollouts()
    assert (rollout["id"], rollout["candidate"]["base"]) == (answer["rollout"], 1)
    assert registry.version("m", 2).base == 1
    take_in(packed(adapter, base=1), store, registry, NOW, at_once=True, settings=Settings())
    assert store.require_deployment("m").model.options == options


@pytest.mark.parametrize(
    ("base_version", "tensors", "why"),
    [
        (None, {k: v * np.nan for k, v in lora().items()}, "NaN"),
        (None, lora(inputs=9), "for another model"),
        (7, lora(), "no weights that serve"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_and_changes_nothing(
    store: Store,
    registry: MemoryRegistry,
    base: Path,
    tmp_path: Path,
    base_version: int | None,
    tensors: dict[str, np.ndarray],
    why: str,
) -> None:
    take_in(packed(base), store, registry, NOW, at_once=False, settings=Settings())
    adapter = write_adapter(tmp_path / "adapter", tensors)
    with pytest.raises(Rejected, match=why):
        take_in(
            packed(adapter, base=base_version),
            store,
            registry,
            NOW,
            at_once=False,
            settings=Settings(),
        )
    assert [version.version for version in registry.versions("m")] == [1]


def test_an_adapter_without_a_base_is_refused(
    store: Store, registry: MemoryRegistry, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    with pytest.raises(Rejected, match="deploy the adapter's base first"):
        take_in(packed(adapter), store, registry, NOW, at_once=False, settings=Settings())


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"options": {"engine": {"max_len": 5}}}, "did you mean engine.max_model_len"),
        ({"task": "regression"}, "for vllm it must be generation"),
        ({"base": 1}, "`base` is only for adapters"),
        ({"colour": "blue"}, "colour"),
        ({"model": "s3://elsewhere/weights"}, "llm.roots"),
        ({"model": "file:///etc"}, "llm.roots"),
    ],
)
def test_a_wrong_spec_is_named(
    store: Store, registry: MemoryRegistry, base: Path, tmp_path: Path, more: Any, why: str
) -> None:
    with pytest.raises(Rejected, match=why):
        take_in(
            packed(spec(tmp_path, **more)), store, registry, NOW, at_once=False, settings=Settings()
        )
    assert store.deployments() == []


def test_what_cannot_be_sent_is_said_before_it_is_sent(base: Path, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="give the model a name"):
        packed(base, name=None)
    with pytest.raises(NotFound, match="no folder"):
        packed(spec(tmp_path, model="nowhere"))
    (base / "model.safetensors").unlink()
    (base / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(Rejected, match="pickles are refused"):
        packed(base)
    (base / "config.json").unlink()
    with pytest.raises(Rejected, match="neither"):
        packed(base)


def test_a_folder_may_hold_an_index_of_many_files(base: Path) -> None:
    (base / "model.safetensors.index.json").write_text(json.dumps({}))
    assert packed(base).getbuffer().nbytes > 0
