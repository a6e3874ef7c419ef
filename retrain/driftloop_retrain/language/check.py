"""What every recipe for language models must do. Ours pass it; run it in your own tests:

def test_mine_keeps_to_the_contract(tmp_path: Path) -> None:
    check_language_recipe(Mine(), folder_of_a_small_model, tmp_path)
"""

from pathlib import Path

from driftloop_contracts.errors import DriftloopError
from driftloop_retrain.language.adapter import weights_hash
from driftloop_retrain.language.adapter_scoring import CANDIDATE, Arms
from driftloop_retrain.language.port import (
    EncodedPair,
    LanguageRecipe,
    TuneContext,
    TuneData,
)
from driftloop_retrain.language.tokens import ChatTokens
from driftloop_retrain.language.training_answers import Conversation, Message
from driftloop_settings import TuningSettings
from driftloop_vllm.adapters import check_adapter

PROMPTS = 24
WANTED, UNWANTED = "Yes. Source: the manual.", "I do not know"


class LanguageRecipeBroken(DriftloopError):
    """The recipe violates the port; the message says where."""


def check_language_recipe(
    recipe: LanguageRecipe, base: Path, folder: Path, settings: TuningSettings | None = None
) -> None:
    """Train on a few answers to a few prompts, twice, on the CPU.

    base: the folder of a small model. settings: chosen so that a small model learns something in a
    few steps. Raises LanguageRecipeBroken, Rejected if no engine would load the adapter, or the
    recipe's errors.
    """
    asked = settings or TuningSettings(steps=12, rank=4, learning_rate=2e-2)
    asked = asked.model_copy(update={"device": "cpu", "threads": 1})
    tokens = ChatTokens(base)
    data = example(tokens)
    told: list[float] = []

    def run(name: str) -> Path:
        context = TuneContext(
            base,
            None,
            asked,
            7,
            folder / f"{name}-checkpoints",
            lambda done, _: told.append(done),
        )
        tuned = recipe.tune(data, context, folder / name)
        _expect(tuned.steps >= 1, "no step was made")
        return folder / name

    first = run("one")
    _expect(bool(told) and all(0.0 <= share <= 1.0 for share in told), "no progress was reported")
    check_adapter(first, base, max_rank=max(16, asked.rank))
    arms = Arms(base, {CANDIDATE: first}, asked)
    held = data.validation_answers
    before, after = arms.losses(held, None).mean(), arms.losses(held, CANDIDATE).mean()
    _expect(
        bool(after < before),
        f"the wanted answers cost {after:.3f} nats a token, and {before:.3f} without the adapter",
    )
    if getattr(recipe, "deterministic", True):
        same = weights_hash(first) == weights_hash(run("two"))
        _expect(same, "the same arguments gave a different adapter; set `deterministic = False`")


def example(tokens: ChatTokens) -> TuneData:
    """Return one wanted and one unwanted answer to each of a few prompts; a quarter is for
    validation."""
    conversations = [
        Conversation((Message("user", f"May I use part {n}?"),)) for n in range(PROMPTS)
    ]
    wanted = [tokens.encode(c, WANTED) for c in conversations]
    pairs = [
        EncodedPair(good.prompt, good.answer, tokens.encode(c, UNWANTED).answer)
        for c, good in zip(conversations, wanted, strict=True)
    ]
    cut = PROMPTS * 3 // 4
    return TuneData(
        tuple(wanted[:cut]), tuple(wanted[cut:]), tuple(pairs[:cut]), tuple(pairs[cut:])
    )


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise LanguageRecipeBroken(message)
