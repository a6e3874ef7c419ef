"""The port of a recipe for language models. `check_language_recipe` (language/check.py) tests
whether a recipe follows it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from driftloop_retrain.language.tokens import Encoded
from driftloop_settings import TuningSettings

Needs = Literal["answers", "preferences"]


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """The token ids of a prompt and of two answers to it."""

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
    """Answers to imitate and pairs to rank; the validation parts have other prompts. A recipe that
    needs answers may get no pairs, and vice versa."""

    answers: tuple[Encoded, ...]
    validation_answers: tuple[Encoded, ...]
    pairs: tuple[EncodedPair, ...] = ()
    validation_pairs: tuple[EncodedPair, ...] = ()


def _silent(fraction: float, loss: float | None) -> None:
    del fraction, loss


@dataclass(frozen=True)
class TuneContext:
    """The arguments of a training.

    base: the Hugging Face folder. start: the adapter to continue from; None: a new one. settings:
    `tuning`, with the model's own values. checkpoints: a folder used only by this training that
    survives a kill of the process; a repeated call may resume from its contents. report: may be
    called any number of times with the completed share and the validation loss (or None).
    """

    base: Path
    start: Path | None
    settings: TuningSettings
    seed: int
    checkpoints: Path
    report: Callable[[float, float | None], None] = field(default=_silent)


@dataclass(frozen=True, slots=True)
class Tuned:
    """steps: the number of updates; loss: the best validation loss."""

    steps: int
    loss: float


class LanguageRecipe(Protocol):
    """A class without constructor arguments, or an object.

    A recipe that does not train the same adapter from the same arguments on a CPU has an attribute
    `deterministic = False`. A recipe with `distributed = True` can train on a Ray cluster: `tune`
    runs on each worker, with torch.distributed set up; all return their result, and only rank 0
    writes into `folder`.
    """

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> Needs:
        """The data that it learns from: `answers` or `preferences` (pairs)."""

    def tune(self, data: TuneData, context: TuneContext, folder: Path) -> Tuned:
        """Train, and write adapter_config.json and adapter_model.safetensors into `folder`, in
        peft's format and loadable by vLLM. Any exception fails the retrain, and only that."""
