"""`lora-sft`: a LoRA adapter that imitates corrected and well-rated answers."""

from pathlib import Path
from typing import Any

from driftloop_retrain.language.adapter import trainable
from driftloop_retrain.language.port import Needs, TuneContext, Tuned, TuneData
from driftloop_retrain.language.tokens import Encoded
from driftloop_retrain.language.training import VALIDATION_ROWS, arguments, batch_order, train


class LoraSft:
    name = "lora-sft"
    needs: Needs = "answers"

    def tune(self, data: TuneData, context: TuneContext, folder: Path) -> Tuned:
        from datasets import Dataset
        from trl.trainer.sft_config import SFTConfig
        from trl.trainer.sft_trainer import SFTTrainer

        from driftloop_retrain.language.tokens import ChatTokens

        def rows(answers: tuple[Encoded, ...]) -> Any:
            return Dataset.from_list(
                [
                    {"input_ids": [*e.prompt, *e.answer],
                     "completion_mask": [0] * len(e.prompt) + [1] * len(e.answer)}
                    for e in answers
                ]
            )  # fmt: skip

        config = SFTConfig(
            **arguments(len(data.answers), context), completion_only_loss=True, packing=False
        )
        order = batch_order(
            [len(e) for e in data.answers],
            context.settings.tune_batch,
            config.max_steps,
            context.seed,
        )

        def make(callbacks: list[Any]) -> Any:
            return SFTTrainer(
                model=trainable(context), args=config, train_dataset=rows(tuple(data.answers[i] for i in order)),
                eval_dataset=rows(data.validation_answers[:VALIDATION_ROWS]),
                processing_class=ChatTokens(context.base).tokenizer, callbacks=callbacks,
            )  # fmt: skip

        return train(make, context, folder)
