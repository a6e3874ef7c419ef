"""`lora-dpo`: a LoRA adapter that prefers the better of two answers (direct preference
optimisation).

The loss of imitating the better answer is added, because with the preference alone both answers may
become less likely, the worse one faster (Pang et al., Iterative Reasoning Preference Optimization,
2024).
"""

from pathlib import Path
from typing import Any

from driftloop_retrain.language.port import EncodedPair, Needs, TuneContext, Tuned, TuneData
from driftloop_retrain.language.training import arguments, train


class LoraDpo:
    name = "lora-dpo"
    needs: Needs = "preferences"
    distributed = True

    def tune(self, data: TuneData, context: TuneContext, folder: Path) -> Tuned:
        from trl.trainer.dpo_config import DPOConfig
        from trl.trainer.dpo_trainer import DPOTrainer

        class Trainer(DPOTrainer):
            def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
                """The data set is already tokenised."""
                return dataset

        config = DPOConfig(
            **arguments(len(data.pairs), context),
            beta=context.settings.beta,
            loss_type=["sigmoid", "sft"],
            loss_weights=[1.0, 1.0],
        )
        return train(
            Trainer, config, data.pairs, data.validation_pairs, _row, _length, context, folder
        )


def _row(pair: EncodedPair) -> dict[str, Any]:
    return {
        "prompt_ids": [*pair.prompt],
        "chosen_ids": [*pair.chosen],
        "rejected_ids": [*pair.rejected],
    }


def _length(pair: EncodedPair) -> int:
    return len(pair.better) + len(pair.worse)
