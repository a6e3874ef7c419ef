"""How examples are parted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from language_answers import answer

from driftloop_contracts.errors import Rejected
from driftloop_retrain.language.examples import Example, clean
from driftloop_retrain.language.holdout import mixed, part


def examples(prompts: list[int]) -> tuple[Example, ...]:
    rated = [answer(i, f"question {p}?", f"answer {i}", rating=1.0) for i, p in enumerate(prompts)]
    return clean(rated, 0.8).examples


@given(st.lists(st.integers(0, 30), min_size=60, max_size=120))
def test_no_prompt_is_in_two_parts_and_none_is_lost(prompts: list[int]) -> None:
    items = examples(prompts)
    if len(set(prompts)) < 10:
        return
    parts = part(items, 0.2, 0.1).parts(items)
    sides = [{e.group for e in side} for side in (parts.train, parts.validation, parts.holdout)]
    assert all(sides)
    assert sum(map(len, sides)) == len(set.union(*sides)) == len(set(prompts))
    assert len(parts.train) + len(parts.validation) + len(parts.holdout) == len(items)


def test_the_newest_prompts_are_held_out() -> None:
    items = examples(list(range(50)))
    parts = part(items, 0.2, 0.1).parts(items)
    assert [e.prediction_id for e in parts.holdout] == [f"p{n}" for n in range(40, 50)]


def test_few_prompts_are_held_out_until_the_gate_has_enough_or_training_too_few() -> None:
    for prompts, held in ((60, 20), (30, 12), (200, 40)):
        assert len(part(examples(list(range(prompts))), 0.2, 0.1, 20).holdout) == held


def test_a_prompt_is_as_old_as_when_it_was_first_asked() -> None:
    items = examples([*range(50), 0, 0])
    parts = part(items, 0.2, 0.1).parts(items)
    assert "question 0?" not in {e.conversation.prompt for e in parts.holdout}


def test_a_validation_prompt_stays_one_while_new_ones_come() -> None:
    few, many = examples(list(range(50))), examples(list(range(60)))
    before, after = part(few, 0.2, 0.1).validation, part(many, 0.2, 0.1).validation
    assert len(before & after) >= len(before) - 1


def test_too_few_prompts_are_rejected() -> None:
    items = examples([1, 1, 2])
    with pytest.raises(Rejected, match="2 different prompts"):
        part(items, 0.2, 0.1)


def test_replay_is_a_share_of_the_whole_and_the_newest_of_it() -> None:
    items = examples(list(range(100)))
    whole = mixed(items[:90], items[90:], 0.05)
    assert len(whole) == 95
    assert whole[-1] is items[-1]
    assert mixed(items, (), 0.5) == list(items)
