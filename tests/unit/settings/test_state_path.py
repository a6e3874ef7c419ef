from pathlib import Path

import pytest

from driftloop_contracts.errors import Rejected
from driftloop_settings import load_settings
from driftloop_settings.state_path import REFUSED

USUAL = ["zustand ü", "日本", "it's", "a b$c{d}", "a=b&c;d:e", "~x", "-x", "[/a]".strip("[]")]


@pytest.mark.parametrize("name", USUAL)
def test_folders_of_any_script_hold_a_stack(name: str, tmp_path: Path) -> None:
    assert load_settings(state_dir=tmp_path / name, environ={}).state_dir == tmp_path / name


@pytest.mark.parametrize("character", [*REFUSED, "\n", "\x1b", "\udcfc"])
def test_what_some_program_would_misread_is_refused_with_the_character(character: str) -> None:
    with pytest.raises(Rejected, match=r"state.dir"):
        load_settings(state_dir=Path(f"/tmp/a{character}b"), environ={})
