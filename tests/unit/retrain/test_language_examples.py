"""What of the answers is trained on, and why the rest is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from language_answers import answer, asked

from driftloop_retrain.language.examples import clean, group_of, normalised, prompt_key


def test_a_correction_stands_for_the_answer_however_that_was_rated() -> None:
    (example,) = clean([answer(1, rating=1.0, correction=" better ")], 0.8).examples
    assert (example.kind, example.answer) == ("correction", "better")


def test_a_well_rated_answer_is_an_example() -> None:
    cleaned = clean([answer(1, rating=0.8), answer(2, rating=0.79)], 0.8)
    assert [e.prediction_id for e in cleaned.examples] == ["p1"]
    assert cleaned.dropped == {"rated too low and not corrected": 1}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"finish_reason": "length"}, "cut off"),
        ({"finish_reason": "abort"}, "the client left"),
        ({"finish_reason": "error"}, "an error"),
        ({"error": "the engine died"}, "an error"),
        ({"text": "  "}, "an empty answer"),
        ({"conversation": None}, "not a conversation of texts"),
        ({"conversation": asked(" ")}, "an empty prompt"),
        ({"correction": "  "}, "an empty correction"),
    ],
)
def test_what_is_not_fit_is_left_out_with_the_reason(
    changed: dict[str, object], reason: str
) -> None:
    cleaned = clean([answer(1, rating=1.0, **changed)], 0.8)
    assert cleaned.examples == ()
    assert cleaned.dropped == {reason: 1}


def test_a_cut_off_answer_that_was_corrected_is_an_example() -> None:
    assert clean([answer(1, finish_reason="length", correction="whole")], 0.8).examples


def test_of_the_same_answer_to_the_same_prompt_the_newest_is_kept() -> None:
    answers = [
        answer(1, "What is it?", "Gold.", rating=1.0),
        answer(2, "what  is IT?", "gold. ", rating=1.0),
        answer(3, "What is it?", "Silver.", rating=1.0),
    ]
    cleaned = clean(answers, 0.8)
    assert [e.prediction_id for e in cleaned.examples] == ["p2", "p3"]
    assert cleaned.dropped == {"a repetition": 1}


def test_unrated_answers_are_replayed_only_of_versions_that_are_rated_well() -> None:
    answers = [
        answer(1, rating=1.0, version=1),
        answer(2, version=1),
        answer(3, rating=0.0, version=2),
        answer(4, version=2),
        answer(5, version=3),
    ]
    cleaned = clean(answers, 0.8)
    assert [e.prediction_id for e in cleaned.replay] == ["p2"]
    assert cleaned.dropped["not rated"] == 2


def test_nothing_is_replayed_to_a_prompt_that_has_an_example() -> None:
    answers = [answer(1, "Q?", rating=1.0), answer(2, "q?", "another")]
    assert clean(answers, 0.8).replay == ()


def test_pairs_come_from_corrections_preferences_and_ratings_apart() -> None:
    answers = [
        answer(1, "A?", "bad", correction="good"),
        answer(2, "B?", "bad", preferred="good"),
        answer(3, "C?", "bad", rating=0.1),
        answer(4, "c?", "good", rating=0.7),
        answer(5, "C?", "middling", rating=0.4),
    ]
    pairs = clean(answers, 0.8).pairs
    assert [(p.prediction_id, p.kind) for p in pairs] == [
        ("p1", "correction"),
        ("p2", "preferred"),
        ("p3", "ratings"),
    ]
    assert {(p.chosen, p.rejected) for p in pairs} == {("good", "bad")}


def test_a_pair_of_the_same_words_is_none() -> None:
    assert clean([answer(1, text="Yes.", correction="yes. ")], 0.8).pairs == ()


def test_an_answer_preferred_to_this_one_that_is_not_there_is_counted() -> None:
    assert (
        "the preferred answer was not found" in clean([answer(1, preferred_lost=True)], 0.8).dropped
    )


def test_turns_of_conversations_that_began_alike_stay_together() -> None:
    assert group_of(asked("Hello", "more")) == group_of(asked("hello"))
    assert prompt_key(asked("Hello", "more")) != prompt_key(asked("hello"))


@given(st.text())
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)
