"""What a spec may say of fine-tuning, and what is refused with a sentence."""

import json
from pathlib import Path

import pytest

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_retrain.language.options import find_scorer
from driftloop_retrain.language.recipe_catalogue import find_language_recipe
from driftloop_retrain.language.suite import read_suite
from driftloop_retrain.language.trainer import check_rank, recipe_name
from driftloop_retrain.record.lineage import Tuning
from driftloop_settings import TuningSettings


def spec(**options: object) -> ModelSpec:
    return ModelSpec("m", "generation", "text", "lora-sft", options=options, runtime="vllm")


def test_a_rank_that_the_engine_does_not_take_is_refused_before_training() -> None:
    check_rank(spec(engine={"max_lora_rank": 32}), TuningSettings(rank=32))
    with pytest.raises(Rejected, match="max_lora_rank"):
        check_rank(spec(), TuningSettings(rank=32))


def test_a_lineage_of_a_former_version_is_read_by_the_present_names() -> None:
    former = {"tune_rank": 4, "tune_ray_address": ""}
    tuning = Tuning(
        settings=former,
        base_version=1,
        base_fingerprint="f",
        start_version=None,
        dropped={},
        kinds={},
    )
    assert tuning.settings == {"rank": 4, "ray_address": ""}


def test_one_recipe_is_named_by_whoever_asks_or_by_the_model() -> None:
    assert recipe_name(spec(), ()) == "lora-sft"
    assert recipe_name(spec(), ("lora-dpo",)) == "lora-dpo"
    with pytest.raises(Rejected, match="one recipe"):
        recipe_name(spec(), ("lora-sft", "lora-dpo"))


def test_built_in_recipes_are_found_and_others_by_module_and_attribute() -> None:
    assert find_language_recipe("lora-sft").needs == "answers"
    assert find_language_recipe("lora-dpo").needs == "preferences"
    own = find_language_recipe("driftloop_retrain.language.lora_sft:LoraSft")
    assert own.name == "lora-sft"
    for name in ("lora", "nowhere:Thing", "driftloop_retrain.language.lora_sft:Nothing"):
        with pytest.raises(Rejected, match="recipe"):
            find_language_recipe(name)


def test_a_scorer_that_cannot_be_imported_is_refused() -> None:
    assert find_scorer({}) is None
    assert find_scorer({"scorer": "math:sqrt"}) is not None
    with pytest.raises(Rejected, match="cannot be imported"):
        find_scorer({"scorer": "nowhere:score"})


def test_a_suite_says_what_answers_must_hold(tmp_path: Path) -> None:
    tasks = [
        {"prompt": "capital of France?", "must_contain": "paris"},
        {"messages": [{"role": "user", "content": "two plus two"}], "expected": "Four"},
    ]
    path = tmp_path / "suite.jsonl"
    path.write_text("\n".join(json.dumps(task) for task in tasks) + "\n\n")
    capital, sum_ = read_suite(path)
    assert capital.met("It is  Paris.")
    assert not capital.met("It is Rome.")
    assert sum_.met(" four")
    assert not sum_.met("four!")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1"),
        ('{"prompt": "x"}', "needs `expected`"),
        ('{"must_contain": "x"}', "needs `messages`"),
        ('{"prompt": "x", "expected": 4}', "is a text"),
        ("", "has no task"),
    ],
)
def test_a_broken_suite_is_refused_with_the_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "suite.jsonl"
    path.write_text(text)
    with pytest.raises(Rejected, match=said):
        read_suite(path)
