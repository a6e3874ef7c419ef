"""The code that recipes share around trl's trainers: arguments, checkpoints, progress, early
stopping."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from driftloop_contracts.errors import Rejected
from driftloop_retrain.language.adapter import device_of, save_adapter, trainable
from driftloop_retrain.language.port import TuneContext, Tuned

LOOKS = 8
"""The most evaluations of the validation loss in a training; each also saves a checkpoint."""
VALIDATION_ROWS = 64

T = TypeVar("T")


def steps_of(rows: int, context: TuneContext) -> int:
    """Return the number of updates that the settings allow."""
    settings = context.settings
    return max(1, min(settings.steps, math.ceil(rows * settings.epochs / settings.batch)))


def workers() -> int:
    """Return the number of processes that train this adapter together (torch.distributed), or 1."""
    import torch.distributed as spread

    return spread.get_world_size() if spread.is_initialized() else 1


def arguments(rows: int, context: TuneContext) -> dict[str, Any]:
    """Return arguments for trl's configurations. Rows come in the order of `batch_order`; workers
    share each of its batches."""
    settings, steps = context.settings, steps_of(rows, context)
    on_cpu = device_of(settings) == "cpu"
    every = max(1, math.ceil(steps / LOOKS))
    batch = settings.batch // workers()
    return {
        "output_dir": str(context.checkpoints),
        "per_device_train_batch_size": batch,
        "per_device_eval_batch_size": batch,
        "max_steps": steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": max(1, steps // 20),
        "weight_decay": 0.0,
        "eval_strategy": "steps",
        "eval_steps": every,
        "save_steps": every,
        "save_total_limit": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "save_only_model": False,
        "logging_steps": every,
        "report_to": "none",
        "disable_tqdm": True,
        "log_level": "error",
        "seed": context.seed,
        "data_seed": context.seed,
        "use_cpu": on_cpu,
        "bf16": not on_cpu,
        "gradient_checkpointing": not on_cpu,
        "dataloader_pin_memory": not on_cpu,
        "dataloader_num_workers": 0,
        "max_length": settings.max_tokens,
        "train_sampling_strategy": "sequential",
    }


def batch_order(lengths: Sequence[int], batch: int, steps: int, seed: int) -> list[int]:
    """Return the rows of `steps` batches in training order: each pass has all rows, shuffled, with
    rows of similar length in one batch. The order is fixed in advance, so that a training resumed
    from a checkpoint sees the same rows."""
    random, found = Random(seed), list[int]()
    while len(found) < steps * batch:
        rows = list(range(len(lengths)))
        random.shuffle(rows)
        rows.sort(key=lambda row: lengths[row])  # stable: equal lengths keep their random order
        batches = [rows[start : start + batch] for start in range(0, len(rows), batch)]
        random.shuffle(batches)
        found += [row for rows_ in batches for row in rows_]
    return found[: steps * batch]


def train(
    trainer_of: Callable[..., Any],
    config: Any,
    taught: Sequence[T],
    validation: Sequence[T],
    row: Callable[[T], dict[str, Any]],
    length: Callable[[T], int],
    context: TuneContext,
    folder: Path,
) -> Tuned:
    """Train with one of trl's trainers, from the last complete checkpoint if there is one, and save
    the adapter with the best validation loss. `row`: converts an item for the trainer; `length`:
    its number of tokens. Raises Rejected if the loss is not a finite number."""
    from datasets import Dataset, disable_progress_bars
    from transformers import EarlyStoppingCallback, PrinterCallback

    from driftloop_retrain.language.tokens import ChatTokens

    disable_progress_bars()
    lengths = [length(one) for one in taught]
    order = batch_order(lengths, context.settings.batch, config.max_steps, context.seed)
    trainer = trainer_of(
        model=trainable(context),
        args=config,
        train_dataset=Dataset.from_list([row(taught[number]) for number in order]),
        eval_dataset=Dataset.from_list([row(one) for one in validation[:VALIDATION_ROWS]]),
        processing_class=ChatTokens(context.base).tokenizer,
        callbacks=[_reports(context), EarlyStoppingCallback(context.settings.patience)],
    )
    trainer.remove_callback(PrinterCallback)
    last = _agreed(last_checkpoint(context.checkpoints))
    trainer.train(resume_from_checkpoint=None if last is None else str(last))
    best = trainer.state.best_metric
    if best is None or not math.isfinite(best):
        raise Rejected(
            f"the training ended with a validation loss of {best}: try a lower tuning.learning_rate"
        )
    if trainer.is_world_process_zero():
        save_adapter(trainer.model, folder)
    return Tuned(int(trainer.state.global_step), float(best))


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint; its trainer_state.json is written last."""
    found = {}
    for path in folder.glob("checkpoint-*/trainer_state.json"):
        try:
            found[int(json.loads(path.read_text())["global_step"])] = path.parent
        except (ValueError, KeyError, OSError):
            continue
    return found[max(found)] if found else None


def _agreed(path: Path | None) -> Path | None:
    """Return the path that the first worker sees; other workers may see a shared folder's changes
    later."""
    import torch.distributed as spread

    seen = [path]
    if spread.is_initialized():
        spread.broadcast_object_list(seen, src=0)
    return seen[0]


def _reports(context: TuneContext) -> Any:
    from transformers import TrainerCallback

    class Reports(TrainerCallback):
        loss: float | None = None

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            del args, control
            context.report(state.global_step / state.max_steps, self.loss)

        def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            del args, control
            self.loss = given["metrics"].get("eval_loss", self.loss)
            context.report(state.global_step / state.max_steps, self.loss)

    return Reports()
