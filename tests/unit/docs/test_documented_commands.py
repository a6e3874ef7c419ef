from pathlib import Path

import pytest
from command_line import FREE_PORTS
from documented_commands import Command, SavedFile, steps_of

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

PAGE = """
If you have none, save this as `make.py`
and run it:

```python
x = "$ y"
```

```console
$ python make.py          # two seconds
made it
$ driftloop up
```

```sh
curl localhost \\
  -d 1
```

```toml
a = 1
```
"""


def test_commands_and_files_are_found_in_their_order() -> None:
    assert list(steps_of(PAGE)) == [
        SavedFile("make.py", 'x = "$ y"\n'),
        Command("python make.py"),
        Command("driftloop up"),
        Command("curl localhost \\\n  -d 1"),
    ]


def test_the_readmes_commands_are_those_of_the_quickstart() -> None:
    """Which a test runs, tests/e2e/test_documentation.py."""
    run = set(steps_of((ROOT / "docs" / "quickstart.md").read_text()))
    for step in steps_of((ROOT / "README.md").read_text()):
        assert step in run or step == Command("make test")


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_who_is_told_to_take_free_ports_is_told_all(page: Path) -> None:
    for paragraph in page.read_text().split("\n\n"):
        if "--set serving.port=0" in paragraph:
            assert [port for port in FREE_PORTS if f"--set {port}" not in paragraph] == []
