"""Shares of a role's work: all of it is somebody's, nothing is two's, and little moves."""

import pytest

from driftloop_store.sharing import Shared, share_out

MODELS = [f"m{number}" for number in range(10)]
Held = dict[str, str]


def cycle(
    held: Held, me: str, members: set[str], wanted: list[str] = MODELS, most: int | None = None
) -> Held:
    """What everybody holds after a cycle of one."""
    shared = {one: Shared(holder, holder in members) for one, holder in held.items()}
    plan = share_out(shared, me, members, wanted, most)
    after = {one: holder for one, holder in held.items() if one not in plan.give_back}
    return after | dict.fromkeys(plan.take, me)


def settled(held: Held, members: set[str], wanted: list[str] = MODELS) -> Held:
    for _ in range(3):
        for me in sorted(members):
            held = cycle(held, me, members, wanted)
    return held


def counts(held: Held) -> list[int]:
    return sorted(list(held.values()).count(holder) for holder in set(held.values()))


def test_one_alone_has_everything_at_once() -> None:
    assert cycle({}, "a", set()) == dict.fromkeys(MODELS, "a")


@pytest.mark.parametrize(("members", "each"), [("ab", [5, 5]), ("abc", [2, 4, 4])])
def test_several_have_equal_parts(members: str, each: list[int]) -> None:
    held = settled(cycle({}, "a", {"a"}), set(members))
    assert set(held) == set(MODELS)
    assert counts(held) == each


def test_the_parts_of_one_that_died_go_to_the_others_and_nothing_else_moves() -> None:
    before = settled({}, {"a", "b", "c"})
    after = settled(before, {"a", "b"})
    assert set(after.values()) == {"a", "b"}
    assert set(after) == set(MODELS)
    moved = {one for one in MODELS if before[one] != after[one]}
    assert moved == {one for one in MODELS if before[one] == "c"}


def test_what_lives_is_never_taken() -> None:
    held = dict.fromkeys(MODELS, "a")
    assert cycle(held, "b", {"a", "b"}) == held


def test_nobody_takes_more_than_it_may() -> None:
    held = cycle({}, "a", set(), most=1)
    assert len(held) == 1
    assert len(cycle(held, "b", {"a", "b"}, most=1)) == 2
    assert cycle(held, "a", {"a"}, most=1) == held


def test_one_that_takes_one_takes_the_oldest() -> None:
    requests = ["z", "a", "m"]
    first = cycle({}, "a", set(), requests, most=1)
    assert first == {"z": "a"}
    assert cycle(first, "b", {"a", "b"}, requests, most=1) == {"z": "a", "a": "b"}


def test_what_is_not_wanted_any_more_is_given_back() -> None:
    assert cycle(cycle({}, "a", set()), "a", {"a"}, ["m3"]) == {"m3": "a"}
    assert cycle(cycle({}, "a", set()), "a", {"a"}, []) == {}


def test_members_prefer_different_parts() -> None:
    """Two who start at once would otherwise take the same ones first."""
    plans = (share_out({}, f"member {number}", {"a"}, MODELS) for number in range(20))
    assert len({plan.take[0] for plan in plans}) > 3
