"""The examples of the guide are specs that a model can be deployed with."""

import re
from pathlib import Path

import pytest
import yaml

from driftloop_contracts.model import ModelSpec
from driftloop_contracts.objective import METRICS
from driftloop_evaluation.slices import slice_columns

GUIDE = (Path(__file__).parents[3] / "docs" / "guides" / "objectives.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_is_a_spec(example: str) -> None:
    spec = ModelSpec.from_dict(yaml.safe_load(example))
    assert spec.objective or spec.guardrails or slice_columns(spec)
    assert ModelSpec.from_dict(yaml.safe_load(yaml.safe_dump(spec.to_dict()))) == spec


def test_every_metric_has_its_row_with_its_keys_and_margin() -> None:
    rows = [line for line in GUIDE.splitlines() if line.startswith("| `")]
    for name, kind in METRICS.items():
        (row,) = [line for line in rows if f"`{name}`" in line.split("|")[1]]
        assert row.rstrip(" |").endswith(str(kind.margin)), name
        assert set(kind.takes) <= set(re.findall(r"`(\w+)`", row)), name
