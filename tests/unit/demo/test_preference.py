from hypothesis import given
from hypothesis import strategies as st

from driftloop_demo.preference import corrected, held_out_prompts, live_prompts, meets, sensible


def test_no_held_out_prompt_is_asked_while_the_model_learns() -> None:
    live, held_out = live_prompts(0), held_out_prompts()
    assert len(set(live)) == len(live) == 400
    assert len(set(held_out)) == len(held_out) == 30
    assert not set(live) & set(held_out)


def test_what_the_users_want_is_one_short_line() -> None:
    assert meets("In short: bread is baked dough.")
    assert not meets("Bread is baked dough.")
    assert not meets("In short: bread is baked dough.\nIt is old.")
    assert not meets("In short: " + "very " * 40 + "old.")


@given(st.text(st.characters(codec="utf-8"), max_size=400))
def test_a_correction_is_what_the_users_want(answer: str) -> None:
    assert meets(corrected(answer))


def test_prose_is_sensible_and_noise_is_not() -> None:
    assert sensible("Bread is a staple food that is made of flour and water.")
    assert not sensible("qax lorp zim flub torp wex gan drim sol")
    assert not sensible("")
