"""`lora-sft`: a LoRA adapter that imitates corrected and well-rated answers."""

from functools import partial
from pathlib import Path
from typing import Any

from driftloop_contracts.errors import Rejected
from driftloop_retrain.language.packing import packed_batch, packs_exactly
from driftloop_retrain.language.port import Needs, TuneContext, Tuned, TuneData
from driftloop_retrain.language.tokens import Encoded
from driftloop_retrain.language.training import arguments, train


class LoraSft:
    name = "lora-sft"
    needs: Needs = "answers"
    distributed = True

    def tune(self, data: TuneData, context: TuneContext, folder: Path) -> Tuned:
        from trl.trainer.sft_config import SFTConfig
        from trl.trainer.sft_trainer import SFTTrainer

        config = SFTConfig(
            **arguments(len(data.answers), context), completion_only_loss=True, packing=False
        )
        trainer = _packing if context.settings.packing else SFTTrainer
        return train(
            trainer, config, data.answers, data.validation_answers, _row, len, context, folder
        )


def _packing(**given: Any) -> Any:
    from trl.trainer.sft_trainer import SFTTrainer

    if not packs_exactly(given["model"]):
        raise Rejected(
            "packed answers would see each other in this model's architecture: set "
            "tuning.packing to false"
        )
    collate = partial(packed_batch, pad=given["processing_class"].pad_token_id)
    return SFTTrainer(data_collator=collate, **given)


def _row(one: Encoded) -> dict[str, Any]:
    return {
        "input_ids": [*one.prompt, *one.answer],
        "completion_mask": [0] * len(one.prompt) + [1] * len(one.answer),
    }
