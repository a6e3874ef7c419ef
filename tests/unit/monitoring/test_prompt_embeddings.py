"""Prompts told apart by a model's input embeddings, on sentences of the standard library's
docstrings."""

import ast
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_monitoring.text.embeddings import MAX_SIZE, Embeddings, separation

tokenizers = pytest.importorskip("tokenizers")
safetensors = pytest.importorskip("safetensors.numpy")
LIBRARY = Path(ast.__file__).parent
PROCESSES = ("asyncio", "multiprocessing", "concurrent/futures")
PAPERS = ("email", "html", "http", "urllib")


@cache
def sentences(folders: tuple[str, ...]) -> tuple[str, ...]:
    found = []
    for folder in folders:
        for file in sorted((LIBRARY / folder).glob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(errors="ignore"))):
                if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                    parts = re.split(r"(?<=[.!?])\s+|\n\n", ast.get_docstring(node) or "")
                    found += [" ".join(p.split()) for p in parts if len(p.split()) >= 5]
    return tuple(dict.fromkeys(found))


def written(
    folder: Path, matrix: NDArray[np.generic], name: str = "model.embed_tokens.weight"
) -> Path:
    """A folder with a tokenizer trained on all sentences, and embeddings."""
    folder.mkdir(exist_ok=True)
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=2_000, show_progress=False)
    made.train_from_iterator(sentences(PROCESSES + PAPERS), trainer)
    made.save(str(folder / "tokenizer.json"))
    safetensors.save_file(
        {"other.weight": matrix[:1].copy(), name: matrix}, folder / "model.safetensors"
    )
    return folder


def drawn(size: int = 64) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((2_000, size), np.float32)


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Embeddings:
    return Embeddings(written(tmp_path_factory.mktemp("base"), drawn()))


def mixed(rng: np.random.Generator, share: float, count: int = 300) -> tuple[list[str], list[str]]:
    """Sentences on processes, and others of which `share` are on papers."""
    known = list(rng.permutation(sentences(PROCESSES)))
    other = list(rng.permutation(sentences(PAPERS)))
    moved = int(count * share)
    window = known[count : 2 * count - moved] + other[:moved]
    return known[:count], list(rng.permutation(window))


def test_samples_of_one_library_are_seldom_told_apart(embeddings: Embeddings) -> None:
    """40 pairs: p < .05 in six at most (P(more) < .01), and not one warning."""
    rng = np.random.default_rng(3)
    found = [separation(embeddings, *mixed(rng, 0.0)) for _ in range(40)]
    told = [f for f in found if f is not None]
    assert len(told) == 40
    assert sum(f.significance < 0.05 for f in told) <= 6
    assert not any(f.effect >= 0.2 and f.significance < 0.001 for f in told)


def test_a_window_on_something_else_is_told_apart(embeddings: Embeddings) -> None:
    """Though these embeddings are drawn at random: a trained model's put like words together,
    too."""
    rng = np.random.default_rng(4)
    found = [separation(embeddings, *mixed(rng, 1.0)) for _ in range(10)]
    hits = sum(f is not None and f.effect >= 0.2 and f.significance < 0.001 for f in found)
    assert hits >= 8


def test_few_different_prompts_say_nothing(embeddings: Embeddings) -> None:
    assert separation(embeddings, ["the same"] * 5_000, ["another"] * 5_000) is None


def test_a_frequent_token_counts_for_little(embeddings: Embeddings) -> None:
    """Two prompts that share only what every prompt says are hardly alike."""
    of: Sequence[NDArray[np.float32]] = list(
        embeddings.of(["the the the the socket", "the the the the mailbox", *["the"] * 500])
    )
    cosine = float(of[0] @ of[1] / np.linalg.norm(of[0]) / np.linalg.norm(of[1]))
    assert cosine < 0.5


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_halves_are_read_as_they_are(tmp_path: Path, kind: str) -> None:
    whole = drawn(8)
    if kind == "bfloat16":
        rounded = (whole.view(np.uint32) >> 16).astype(np.uint16)
        folder = written(tmp_path / "half", rounded)
        file = folder / "model.safetensors"
        # numpy has no bfloat16: the header says it.
        header = file.read_bytes().replace(b'"dtype":"U16"', b'"dtype":"BF16"')
        length = int.from_bytes(header[:8], "little") + header.count(b'"BF16"')
        file.write_bytes(length.to_bytes(8, "little") + header[8:])
    else:
        folder = written(tmp_path / "half", whole.astype(np.float16))
    exact = Embeddings(written(tmp_path / "whole", whole)).of(sentences(PAPERS)[:50])
    assert Embeddings(folder).of(sentences(PAPERS)[:50]) == pytest.approx(exact, abs=0.05)


def test_wide_embeddings_are_projected_and_keep_their_distances(tmp_path: Path) -> None:
    texts, wide = sentences(PAPERS)[:40], drawn(4 * MAX_SIZE)
    small = Embeddings(written(tmp_path / "wide", wide)).of(texts)
    parts = [
        Embeddings(written(tmp_path / str(n), np.ascontiguousarray(part))).of(texts)
        for n, part in enumerate(np.split(wide, 4, axis=1))
    ]
    assert small.shape == (40, MAX_SIZE)

    def distances(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        found = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
        return np.asarray(found[np.triu_indices(40, 1)])

    ratio = distances(small) / distances(np.concatenate(parts, axis=1))
    assert 0.75 < ratio.min() < ratio.max() < 1.25


def test_what_a_folder_lacks_is_said(tmp_path: Path) -> None:
    folder = written(tmp_path / "base", drawn(), name="head.weight")
    with pytest.raises(Rejected, match="no embeddings"):
        Embeddings(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(Rejected, match=r"no tokenizer\.json"):
        Embeddings(folder)
