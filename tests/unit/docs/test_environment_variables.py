"""The guide's table of environment variables names all that our code reads."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
ROOTS = ("services", "serving", "monitoring", "retrain", "deploy")
CONSTANT = re.compile(r"[A-Za-z][A-Za-z0-9_]+")


def named() -> list[str]:
    """Those of the table; one that ends with `_` stands for all that begin with it."""
    guide = (ROOT / "docs" / "guides" / "operate.md").read_text()
    section = guide.partition("\n## Environment variables\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [name.removesuffix("…") for row in rows for name in re.findall("`([^`]+)`", row)]


def read(module: Path) -> Iterator[str]:
    """The names that a module asks an `environ` or `os.getenv` for; not those that it only sets."""
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case ast.Call(ast.Attribute(of, "get" | "setdefault" | "pop"), [name, *_]):
                asked = called(of) == "environ"
            case ast.Call(ast.Attribute(attr="getenv"), [name, *_]):
                asked = True
            case ast.Subscript(of, name, ast.Load()):
                asked = called(of) == "environ"
            case _:
                continue
        if asked and isinstance(name, ast.Constant) and CONSTANT.fullmatch(str(name.value)):
            yield str(name.value)


def called(node: ast.expr) -> str:
    return str(getattr(node, "attr", getattr(node, "id", "")))


def test_each_variable_that_is_read_is_in_the_table() -> None:
    table = named()
    modules = [m for root in ROOTS for m in (ROOT / root).glob("driftloop_*/**/*.py")]
    found = {name for module in modules for name in read(module)}
    assert {"JAVA_HOME", "AWS_REGION", "ARROW_DEFAULT_MEMORY_POOL"} <= found
    unnamed = {
        name
        for name in found
        if name not in table and not any(t.endswith("_") and name.startswith(t) for t in table)
    }
    assert unnamed == set()
