"""What a recipe for language models is. `check_language_recipe` (language/check.py) says whether
one keeps to it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from driftloop_retrain.language.tokens import Encoded
from driftloop_settings import TuningSettings

Needs = Literal["answers", "preferences"]


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Token ids: a prompt, and two answers to it."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]

    @property
    def better(self) -> Encoded:
        return Encoded(self.prompt, self.chosen)

    @property
    def worse(self) -> Encoded:
        return Encoded(self.prompt, self.rejected)


@dataclass(frozen=True)
class TuneData:
    """Answers to imitate and pairs to rank; `validation`s are of other prompts. A recipe that
    needs answers may find no pairs, and the other way round."""

    answers: tuple[Encoded, ...]
    validation_answers: tuple[Encoded, ...]
    pairs: tuple[EncodedPair, ...] = ()
    validation_pairs: tuple[EncodedPair, ...] = ()


def _silent(fraction: float, loss: float | None) -> None:
    del fraction, loss


@dataclass(frozen=True)
class TuneContext:
    """base: the Hugging Face folder. start: the adapter to go on from; None: a new one. settings:
    `tuning`, with the model's own values. checkpoints: a folder that only
    this training uses and that outlives a killed process: the same call again may go on from what
    it finds there. report: told (share done, validation loss or None) as often as one likes."""

    base: Path
    start: Path | None
    settings: TuningSettings
    seed: int
    checkpoints: Path
    report: Callable[[float, float | None], None] = field(default=_silent)


@dataclass(frozen=True, slots=True)
class Tuned:
    """steps: updates that were made; loss: the best validation loss."""

    steps: int
    loss: float


class LanguageRecipe(Protocol):
    """A class without constructor arguments, or an object. One that cannot train the same adapter
    from the same arguments on a CPU has an attribute `deterministic = False`. One with `distributed
    = True` can train on a Ray cluster: `tune` then runs on each worker, with torch.distributed set
    up; all return what they made, and only rank 0 writes into `folder`."""

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> Needs:
        """What it learns from: `answers` or `preferences` (pairs)."""

    def tune(self, data: TuneData, context: TuneContext, folder: Path) -> Tuned:
        """Train, and write adapter_config.json and adapter_model.safetensors into `folder`, as peft
        does, in a form that vLLM serves. Whatever is raised fails the retrain, and only that."""
