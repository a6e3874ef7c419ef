"""The wording that `make lint` keeps out of pages, strings and comments."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[3] / "docs" / "style" / "check_prose.py"


def check(path: Path, text: str) -> subprocess.CompletedProcess[str]:
    path.write_text(text)
    return subprocess.run(
        [sys.executable, str(CHECK), str(path)], capture_output=True, text=True, check=False
    )


def test_a_page_is_searched_across_line_breaks(tmp_path: Path) -> None:
    run = check(tmp_path / "page.md", "Fine.\nHeld for\never.\n")
    assert run.returncode == 1
    assert f'{tmp_path / "page.md"}:2: “for ever”: write "forever"' in run.stdout


def test_code_in_a_page_is_not_searched(tmp_path: Path) -> None:
    text = "The table `alarms`.\n\n```sql\nSELECT * FROM alarms\n```\n"
    assert check(tmp_path / "page.md", text).returncode == 0


@pytest.mark.parametrize("line", ["# whoever asks", '"""Told where it is."""', 'x = "in no order"'])
def test_strings_and_comments_of_the_source_are_searched(tmp_path: Path, line: str) -> None:
    assert check(tmp_path / "module.py", f"{line}\n").returncode == 1


def test_names_in_the_source_are_not_searched(tmp_path: Path) -> None:
    assert check(tmp_path / "module.py", "alarm = mend(1)\n").returncode == 0
