import math
import re
from pathlib import Path

import pytest

from driftloop_contracts.errors import Rejected
from driftloop_evaluation.plugins import load_plugin

BUILT_IN = {"root": "math:sqrt"}


def test_a_plugin_is_named_by_module_and_attribute_or_is_built_in() -> None:
    assert load_plugin("math:floor", "options.scorer") is math.floor
    assert load_plugin("root", "the recipe", BUILT_IN) is math.sqrt
    assert load_plugin("math:floor", "the recipe", BUILT_IN) is math.floor


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Rejected, match=r"the recipe 'rot' is unknown: write root, or module:attr"):
        load_plugin("rot", "the recipe", BUILT_IN)
    with pytest.raises(Rejected, match=r"options.judge 'math' is unknown: write module:attribute"):
        load_plugin("math", "options.judge")


@pytest.mark.parametrize("name", ["nowhere:score", "math:nothing", ":score", "math:", "..:a"])
def test_what_cannot_be_imported_is_named(name: str) -> None:
    with pytest.raises(Rejected, match=re.escape(f"options.scorer {name!r} cannot be imported: ")):
        load_plugin(name, "options.scorer")


def test_a_module_that_fails_is_a_reason_and_not_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_plugin_of_a_team.py").write_text("raise RuntimeError('no weights here')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Rejected, match="no weights here"):
        load_plugin("broken_plugin_of_a_team:score", "options.scorer")
