"""`lora-sft`: a LoRA adapter that imitates corrected and well-rated answers."""

from pathlib import Path
from typing import Any

from driftloop_retrain.language.port import Needs, TuneContext, Tuned, TuneData
from driftloop_retrain.language.tokens import Encoded
from driftloop_retrain.language.training import arguments, train


class LoraSft:
    name = "lora-sft"
    needs: Needs = "answers"

    def tune(self, data: TuneData, context: TuneContext, folder: Path) -> Tuned:
        from trl.trainer.sft_config import SFTConfig
        from trl.trainer.sft_trainer import SFTTrainer

        config = SFTConfig(
            **arguments(len(data.answers), context), completion_only_loss=True, packing=False
        )
        return train(
            SFTTrainer, config, data.answers, data.validation_answers, _row, len, context, folder
        )


def _row(one: Encoded) -> dict[str, Any]:
    return {
        "input_ids": [*one.prompt, *one.answer],
        "completion_mask": [0] * len(one.prompt) + [1] * len(one.answer),
    }
