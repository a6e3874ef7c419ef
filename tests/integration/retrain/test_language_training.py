"""The built-in recipes on a tiny model: they keep to the port, and go on where they were killed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_llama import tiny_llama

from driftloop_retrain.language.adapter import trainable, weights_hash
from driftloop_retrain.language.adapter_scoring import Arms
from driftloop_retrain.language.check import check_language_recipe, example
from driftloop_retrain.language.lora_dpo import LoraDpo
from driftloop_retrain.language.lora_sft import LoraSft
from driftloop_retrain.language.packing import packed_batch, packs_exactly
from driftloop_retrain.language.port import LanguageRecipe, TuneContext
from driftloop_retrain.language.tokens import ChatTokens
from driftloop_retrain.language.training import last_checkpoint
from driftloop_retrain.language.training_answers import Conversation, Message
from driftloop_settings import TuningSettings

pytestmark = pytest.mark.language
SETTINGS = TuningSettings(
    steps=8, epochs=10, rank=4, learning_rate=2e-2, device="cpu",
    threads=1,
)  # fmt: skip


class Killed(BaseException):
    """Stands for kill -9: no `except Exception` sees it."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny") / "base")


@pytest.mark.parametrize("recipe", [LoraSft(), LoraDpo()], ids=["lora-sft", "lora-dpo"])
def test_a_recipe_keeps_to_the_contract(recipe: LanguageRecipe, base: Path, tmp_path: Path) -> None:
    check_language_recipe(recipe, base, tmp_path, SETTINGS)


def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_adapter(
    base: Path, tmp_path: Path
) -> None:
    data = example(ChatTokens(base))
    told: list[float] = []

    def kill(done: float, loss: float | None) -> None:
        if done > 0.5:
            raise Killed

    def context(name: str, report=lambda done, loss: told.append(done)) -> TuneContext:
        return TuneContext(base, None, SETTINGS, 1, tmp_path / name, report)

    with pytest.raises(Killed):
        LoraSft().tune(data, context("killed", kill), tmp_path / "killed-adapter")
    LoraSft().tune(data, context("killed"), tmp_path / "killed-adapter")
    assert min(told) > 0.4, "it began from the start"
    LoraSft().tune(data, context("whole"), tmp_path / "whole-adapter")
    assert weights_hash(tmp_path / "killed-adapter") == weights_hash(tmp_path / "whole-adapter")


def test_packed_answers_train_like_answers_of_their_own_rows(base: Path, tmp_path: Path) -> None:
    """The same loss and the same gradients: none sees another, and none is left out."""
    import torch

    model = trainable(TuneContext(base, None, SETTINGS, 1, tmp_path, lambda done, loss: None))
    model.eval()
    assert packs_exactly(model)
    taught = example(ChatTokens(base)).answers[:6]
    rows = [
        {
            "input_ids": [*one.prompt, *one.answer],
            "labels": [-100] * len(one.prompt) + list(one.answer),
        }
        for one in (*taught[:3], *(replace(t, answer=t.answer * 3) for t in taught[3:]))
    ]

    def sums(batches: list[dict[str, Any]]) -> tuple[float, torch.Tensor]:
        model.zero_grad()
        total = 0.0
        for batch in batches:
            given = {k: v for k, v in batch.items() if k != "labels"}
            logits = model(**given, use_cache=False).logits  # as trl calls it
            loss = torch.nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), reduction="sum"
            )
            loss.backward()
            total += loss.item()
        return total, torch.cat(
            [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        )

    packed = packed_batch(rows, pad=0)
    assert len(packed["input_ids"]) < len(rows)
    together, alone = sums([packed]), sums([packed_batch([row], pad=0) for row in rows])
    assert together[0] == pytest.approx(alone[0], rel=1e-5)
    assert torch.allclose(together[1], alone[1], rtol=1e-4, atol=1e-4)


def test_lora_sft_with_packing_keeps_to_the_contract(base: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"packing": True})
    check_language_recipe(LoraSft(), base, tmp_path, settings)


def test_what_is_likely_does_not_depend_on_what_is_scored_beside_it(base: Path) -> None:
    arms = Arms(base, {}, SETTINGS)
    answers = example(arms.tokens).answers
    asked = Conversation((Message("user", "and what of the rest?"),))
    mixed = [*answers[:3], arms.tokens.encode(asked, "a much longer answer " * 8)]
    together, alone = arms.losses(mixed, None), [arms.losses([one], None)[0] for one in mixed]
    assert together == pytest.approx(alone, abs=1e-4)


def test_a_checkpoint_that_was_not_written_whole_is_not_gone_on_from(tmp_path: Path) -> None:
    for step, state in ((2, '{"global_step": 2}'), (4, '{"global_'), (6, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
