from typing import Any

import pytest

from driftloop_contracts.capture import check_capture, is_sampled, parse_capture
from driftloop_contracts.errors import Rejected
from driftloop_contracts.ids import new_prediction_id
from driftloop_contracts.model import ModelSpec, TrafficSplit
from driftloop_contracts.signature import Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("name", "BYTES", (-1,)), TensorSpec("age", "FP32", (-1,))),
    (TensorSpec("p", "FP32", (-1,)),),
)


def check(rules: Any, *, has_key: bool = True, **spec: Any) -> None:
    check_capture(ModelSpec("m", options={"capture": rules}, **spec), SIGNATURE, has_key=has_key)


def test_rules_that_fit_are_taken() -> None:
    check({"sample": 0.5, "drop": ["age"], "truncate": {"name": 3}})
    check({"hash": ["name"], "drop": ["p"]})
    check({"drop": ["name", "age"]}, recipe="gradient-boosting")
    check(None)


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ("all", "must be an object"),
        ({"mask": ["name"]}, "no rule 'mask'"),
        ({"sample": 2}, "from 0 to 1"),
        ({"sample": True}, "from 0 to 1"),
        ({"drop": "name"}, "drop: give a list"),
        ({"hash": [1]}, "hash: give a list"),
        ({"truncate": ["name"]}, "truncate: give columns"),
        ({"truncate": {"name": -1}}, "truncate: give columns"),
        ({"drop": ["mail"]}, "drop: the model has no column 'mail'"),
        ({"hash": ["age"]}, "hash: column 'age' is FP32"),
        ({"truncate": {"age": 3}}, "truncate: column 'age' is FP32"),
        ({"drop": ["name"], "hash": ["name"]}, "'name' has more than one rule"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused_by_name(rules: Any, sentence: str) -> None:
    with pytest.raises(Rejected, match=sentence):
        check(rules)


def test_hashes_need_a_secret_key() -> None:
    with pytest.raises(Rejected, match=r"'name' needs the setting capture\.hash_key"):
        check({"hash": ["name"]}, has_key=False)


def test_what_labels_are_compared_with_stays_as_it_is() -> None:
    with pytest.raises(Rejected, match="'p' is the output"):
        check({"drop": ["p"]}, task="regression", output="p")


@pytest.mark.parametrize("rules", [{"hash": ["name"]}, {"truncate": {"name": 2}}])
def test_no_model_is_retrained_on_values_that_requests_do_not_carry(rules: Any) -> None:
    with pytest.raises(Rejected, match="recipe 'gradient-boosting' would learn"):
        check(rules, recipe="gradient-boosting")


def test_a_share_of_predictions_is_chosen_by_their_id() -> None:
    ids = [new_prediction_id() for _ in range(4_000)]
    chosen = [i for i in ids if is_sampled(i, 0.25)]
    assert 850 < len(chosen) < 1_150
    assert chosen == [i for i in ids if is_sampled(i, 0.25)]
    assert set(chosen) <= {i for i in ids if is_sampled(i, 0.5)}
    assert all(is_sampled(i, 1.0) for i in ids)
    assert not any(is_sampled(i, 0.0) for i in ids)


def test_sampling_takes_from_both_arms_alike() -> None:
    """The split hashes the same ids: its canary must not be what is captured, or what is not."""
    split = TrafficSplit(1, 2, 0.25)
    ids = [new_prediction_id() for _ in range(8_000)]
    canary = [i for i in ids if split.arm_alone(i)[0] == "canary"]
    share = sum(is_sampled(i, 0.25) for i in canary) / len(canary)
    assert 0.19 < share < 0.31


def test_rules_name_the_columns_that_are_not_to_be_judged() -> None:
    rules = parse_capture({"capture": {"drop": ["a"], "hash": ["b"], "truncate": {"c": 1}}})
    assert rules.columns == {"a", "b", "c"}
