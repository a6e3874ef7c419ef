from typing import Any

import numpy as np
import pytest

from driftloop_contracts.errors import Rejected
from driftloop_contracts.input_rules import parse_rules

RULES = {
    "city": {"categories": ["Ulm", "Bonn"], "unknown": "reject"},
    "age": {"nan": "reject"},
}


def test_a_category_or_missing_value_that_the_owner_forbids_is_refused() -> None:
    rules = parse_rules({"inputs": RULES})
    rules["city"].check("city", np.array([["Ulm"], ["Bonn"]], object))
    rules["age"].check("age", np.float32([[1.0]]))
    with pytest.raises(Rejected, match=r"'city'.*'Kiel' is not a known category"):
        rules["city"].check("city", np.array([["Ulm"], ["Kiel"]], object))
    with pytest.raises(Rejected, match=r"'age'.*missing value"):
        rules["age"].check("age", np.float32([[1.0], [np.nan]]))


@pytest.mark.parametrize("values", [np.array(["Ulm"], object), np.array([1]), np.array([True])])
def test_a_datatype_without_nan_has_no_missing_values(values: np.ndarray) -> None:
    parse_rules({"inputs": RULES})["age"].check("age", values)


@pytest.mark.parametrize(
    "rule",
    [
        {"unknown": "ignore"}, {"nan": "perhaps"}, {"unknown": "reject"}, {"nan": []}, "reject",
        {"unknown": "reject", "categories": "Ulm"}, {"categories": [["Ulm"]]},
    ],
)  # fmt: skip
def test_a_rule_that_does_not_exist_is_refused(rule: Any) -> None:
    with pytest.raises(Rejected, match="city"):
        parse_rules({"inputs": {"city": rule}})


def test_no_rules_are_fine_and_a_list_is_none() -> None:
    assert parse_rules({}) == parse_rules({"inputs": None}) == {}
    with pytest.raises(Rejected, match="`inputs`"):
        parse_rules({"inputs": [1]})
