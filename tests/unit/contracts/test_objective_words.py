"""What alerts call a metric."""

from typing import Any

import pytest

from driftloop_contracts.objective import METRICS, Objective


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            {"metric": "cost", "positive": 1, "false_positive": 1, "false_negative": 20},
            "the cost per row",
        ),
        ({"metric": "miss_rate", "positive": "fraud"}, "the miss rate of class 'fraud'"),
        ({"metric": "absolute", "label": "amount"}, "the absolute error (amount)"),
        ({"metric": "pinball", "quantile": 0.9}, "the pinball loss of the quantile 0.9"),
        ({"metric": "top_k_error", "k": 3}, "the error rate of the 3 most likely classes"),
        ({"metric": "own:loss"}, "the mean loss by own:loss"),
    ],
)
def test_a_metric_is_named_in_words(said: dict[str, Any], words: str) -> None:
    assert Objective.model_validate(said).in_sentence == words


def test_every_metric_has_words_of_its_own() -> None:
    for name, kind in METRICS.items():
        needed = {"k": 3, "quantile": 0.5, "lower": "low", "upper": "high"}
        given = {key: needed[key] for key in kind.needs}
        if name == "cost":
            given = {"false_positive": 1, "false_negative": 1}
        assert "own" not in Objective(metric=name, **given).in_sentence
        assert Objective(metric=name, **given).in_sentence.startswith("the ")
        assert "mean loss by" not in Objective(metric=name, **given).in_sentence
