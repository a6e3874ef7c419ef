"""`lora-dpo`: a LoRA adapter that prefers the better of two answers (direct preference optimisation).

The loss of imitating the better answer is added: with the preference alone both answers may become less
likely, the worse one faster (Pang et al., Iterative Reasoning Preference Optimization, 2024).
"""

from pathlib import Path
from typing import Any

from driftloop_retrain.language.adapter import trainable
from driftloop_retrain.language.port import EncodedPair, Needs, TuneContext, Tuned, TuneData
from driftloop_retrain.language.training import VALIDATION_ROWS, arguments, batch_order, train


class LoraDpo:
    name = "lora-dpo"
    needs: Needs = "preferences"

    def tune(self, data: TuneData, context: TuneContext, folder: Path) -> Tuned:
        from datasets import Dataset
        from trl.trainer.dpo_config import DPOConfig
        from trl.trainer.dpo_trainer import DPOTrainer

        from driftloop_retrain.language.tokens import ChatTokens

        class Trainer(DPOTrainer):
            def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
                """Ours come as token ids."""
                return dataset

        def rows(pairs: tuple[EncodedPair, ...]) -> Any:
            return Dataset.from_list(
                [
                    {
                        "prompt_ids": [*p.prompt],
                        "chosen_ids": [*p.chosen],
                        "rejected_ids": [*p.rejected],
                    }
                    for p in pairs
                ]
            )

        config = DPOConfig(
            **arguments(len(data.pairs), context), beta=context.settings.tune_beta,
            loss_type=["sigmoid", "sft"], loss_weights=[1.0, 1.0],
        )  # fmt: skip

        order = batch_order(
            [len(pair.better) + len(pair.worse) for pair in data.pairs],
            context.settings.tune_batch, config.max_steps, context.seed,
        )  # fmt: skip

        def make(callbacks: list[Any]) -> Any:
            return Trainer(
                model=trainable(context), args=config, train_dataset=rows(tuple(data.pairs[i] for i in order)),
                eval_dataset=rows(data.validation_pairs[:VALIDATION_ROWS]),
                processing_class=ChatTokens(context.base).tokenizer, callbacks=callbacks,
            )  # fmt: skip

        return train(make, context, folder)
