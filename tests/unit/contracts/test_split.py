import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import TrafficSplit

KEYS = [f"key-{n}".encode() for n in range(20_000)]


@given(st.binary(min_size=1, max_size=64), st.floats(0, 1), st.text(max_size=40))
def test_the_same_key_always_gets_the_same_arm(key: bytes, weight: float, salt: str) -> None:
    split = TrafficSplit(1, 2, weight, salt)
    assert split.arm(key) == split.arm(key)


@pytest.mark.parametrize("weight", [0.05, 0.25, 0.5])
def test_the_canary_gets_its_share_of_keys(weight: float) -> None:
    split = TrafficSplit(1, 2, weight, "rollout")
    share = sum(split.arm(key)[0] == "canary" for key in KEYS) / len(KEYS)
    assert abs(share - weight) < 4 * (weight * (1 - weight) / len(KEYS)) ** 0.5


@given(st.binary(min_size=1, max_size=16), st.floats(0, 1), st.floats(0, 1))
def test_raising_the_weight_only_moves_keys_to_the_canary(key: bytes, a: float, b: float) -> None:
    low, high = sorted((a, b))
    if TrafficSplit(1, 2, low, "s").arm(key)[0] == "canary":
        assert TrafficSplit(1, 2, high, "s").arm(key)[0] == "canary"


def test_another_salt_draws_other_keys() -> None:
    one = [TrafficSplit(1, 2, 0.5, "a").arm(key)[0] for key in KEYS]
    two = [TrafficSplit(1, 2, 0.5, "b").arm(key)[0] for key in KEYS]
    agree = sum(x == y for x, y in zip(one, two, strict=True)) / len(KEYS)
    assert abs(agree - 0.5) < 0.02


@given(st.binary(min_size=1, max_size=16), st.floats(0, 1e9), st.floats(1, 1e5))
def test_a_key_stays_on_its_arm_for_an_epoch(key: bytes, since: float, sticky_s: float) -> None:
    split = TrafficSplit(1, 2, 0.5, "s", since, sticky_s)
    times = [since + part * sticky_s for part in (0.01, 0.3, 0.6, 0.99)]
    assert {split.epoch(now_s) for now_s in times} == {0}
    assert len({split.arm(key, now_s) for now_s in times}) == 1


@pytest.mark.parametrize(
    "other",
    [
        TrafficSplit(1, 2, 0.5, "s", 0.0, 60.0),  # the epochs begin at another time
        TrafficSplit(1, 2, 0.5, "s", 100.0, 30.0),  # its next epoch, see below
    ],
)
def test_all_keys_are_drawn_anew_in_each_epoch(other: TrafficSplit) -> None:
    split = TrafficSplit(1, 2, 0.5, "s", 100.0, 60.0)
    one = [split.arm(key, 110.0)[0] for key in KEYS]
    two = [other.arm(key, 131.0)[0] for key in KEYS]
    agree = sum(x == y for x, y in zip(one, two, strict=True)) / len(KEYS)
    assert abs(agree - 0.5) < 0.02


def test_a_split_that_sticks_for_ever_draws_once_whatever_its_beginning() -> None:
    one, two = (TrafficSplit(1, 2, 0.5, "s", since) for since in (0.0, 1e6))
    assert all(one.arm(key, 10.0) == two.arm(key, 1e9) for key in KEYS[:1000])


def test_the_arm_can_be_told_again_from_what_is_recorded() -> None:
    split = TrafficSplit(1, 2, 0.3, "s", 100.0, 60.0)
    for key in KEYS[:1000]:
        recorded = split.key_hash(key)
        assert 0 <= recorded < 2**63
        assert split.arm_of(recorded, split.epoch(500.0)) == split.arm(key, 500.0)


@pytest.mark.parametrize("sticky_s", [60.0, None])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_many_keys_are_drawn_as_each_is(weight: float, sticky_s: float | None) -> None:
    split = TrafficSplit(1, 2, weight, "s", 100.0, sticky_s)
    keys, epochs = [split.key_hash(key) for key in KEYS[:300]], [n % 3 for n in range(300)]
    alone = [split.arm_of(k, e)[1] for k, e in zip(keys, epochs, strict=True)]
    assert split.versions_of(keys, epochs) == alone


def test_a_request_without_a_key_is_drawn_by_its_id() -> None:
    split = TrafficSplit(1, 2, 0.25, "s", 0.0, 60.0)
    share = sum(split.arm_alone(f"id-{n}")[0] == "canary" for n in range(20_000)) / 20_000
    assert abs(share - 0.25) < 0.013


def test_at_full_weight_every_key_is_the_canarys() -> None:
    split = TrafficSplit(1, 2, 1.0, "s")
    assert all(split.arm(key) == ("canary", 2) for key in KEYS[:1000])


@pytest.mark.parametrize(("canary", "weight"), [(2, 1.1), (2, -0.1), (None, 0.5)])
def test_an_impossible_split_is_refused(canary: int | None, weight: float) -> None:
    with pytest.raises(Rejected):
        TrafficSplit(1, canary, weight)
