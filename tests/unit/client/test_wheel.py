"""What the wheel of the client contains: all of ours that its modules import, at any depth."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
CLIENT = ROOT / "deploy/client"
PROJECT = tomllib.loads((CLIENT / "pyproject.toml").read_text())


def contents() -> dict[str, Path]:
    """The wheel's modules by name, with their files in this tree."""
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    found = {}
    for source, target in included.items():
        path = (CLIENT / source).resolve()
        for file in path.rglob("*.py") if path.is_dir() else [path]:
            place = Path(target) / file.relative_to(path) if path.is_dir() else Path(target)
            parts = place.with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = file
    return found


def imported(file: Path) -> Iterator[str]:
    """Ours, also those inside functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_all_that_its_modules_import_of_ours_is_in_it() -> None:
    modules = contents()
    assert {"driftloop_client", "driftloop_export", "driftloop_export.exporting"} <= set(modules)
    missing = {
        (name, wanted)
        for name, file in modules.items()
        for wanted in imported(file)
        if wanted.startswith("driftloop_")
        and wanted not in modules
        and wanted.rpartition(".")[0] not in modules  # a name in a module
    }
    assert missing == set()


def test_its_dependencies_are_named_with_the_same_limits_as_ours() -> None:
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = PROJECT["project"]["optional-dependencies"]["export"]
    known = {*whole["dependencies"], *whole["optional-dependencies"]["export"]}
    names = {wanted.split(">")[0].split("=")[0].split("<")[0]: wanted for wanted in known}
    for wanted in extra:
        name = wanted.split(">")[0].split("=")[0].split("<")[0]
        if name in names and "<" in names[name]:
            assert wanted.partition("<")[2] in ("", names[name].partition("<")[2])
