import ast
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from driftloop_cli.roles import ROLES

ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = ("services", "serving", "monitoring", "retrain", "deploy")
MODULES = sorted(m for root in SOURCE_ROOTS for m in (ROOT / root).glob("driftloop_*/**/*.py"))
VENDORS = {
    "apprise": "driftloop_alerts",
    # Ray Serve in the first, Ray Train in the second, one module of it.
    "ray": "driftloop_serving driftloop_retrain",
    "kafka": "driftloop_bus",
    "evidently": "driftloop_monitoring",
    # What users log in their own process, in the second.
    "mlflow": "driftloop_registry driftloop_export",
    "deltalake": "driftloop_lake",
    "onnxruntime": "driftloop_onnx",
    "vllm": "driftloop_vllm",
    "sqlalchemy": "driftloop_store",
    "opentelemetry": "driftloop_telemetry",
}
BANNED = {"pickle", "cloudpickle", "dill", "joblib"}


@cache
def tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text())


@cache
def import_statements(module: Path) -> list[ast.Import | ast.ImportFrom]:
    """At its top or within a function."""
    nodes = ast.walk(tree(module))
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def imports(module: Path) -> set[str]:
    found = set()
    for node in import_statements(module):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest imports them by their names."""
    names = [file.name for file in (ROOT / "tests").rglob("test_*.py")]
    assert {name for name in names if names.count(name) > 1} == set()


@pytest.mark.parametrize("root", SOURCE_ROOTS)
def test_source_roots_are_no_packages(root: str) -> None:
    assert not (ROOT / root / "__init__.py").exists()


@pytest.mark.parametrize("vendor", sorted(VENDORS))
def test_a_vendor_is_imported_in_its_package_only(vendor: str) -> None:
    users = {m.relative_to(ROOT).parts[1] for m in MODULES if vendor in imports(m)}
    assert users <= set(VENDORS[vendor].split())


def test_ray_stays_behind_two_modules_of_the_retrain() -> None:
    retrain = [m for m in MODULES if m.is_relative_to(ROOT / "retrain")]
    found = sorted(m.name for m in retrain if "ray" in imports(m))
    assert found == ["ray_train.py", "ray_trials.py"]


def test_nothing_unpickles() -> None:
    assert [str(m) for m in MODULES if imports(m) & BANNED] == []


def test_modules_are_named_by_a_noun_of_the_data_flow() -> None:
    vague = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
    assert [str(m) for m in MODULES if m.stem in vague] == []


NAMES = {
    ".".join(m.relative_to(ROOT).parts[1:]).removesuffix(".py").removesuffix(".__init__"): m
    for m in MODULES
}


def imported_modules(name: str) -> set[str]:
    """Our modules that a module imports."""
    found = set()
    for node in import_statements(NAMES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif node.module and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in NAMES else node.module)
    return found & set(NAMES) - {name}


def test_each_role_reports_how_its_cycles_end() -> None:
    """Kafka and Ray are programs of others; the supervisor counts their deaths."""
    calls = [n for m in MODULES for n in ast.walk(tree(m)) if isinstance(n, ast.Call)]
    reporting = ("CycleHealth", "_health_of")
    reported = {
        argument.value
        for call in calls
        if getattr(call.func, "id", getattr(call.func, "attr", "")) in reporting
        for argument in call.args
        if isinstance(argument, ast.Constant)
    }
    assert {role.name for role in ROLES if not role.program} - reported == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports within functions count: they hide a circle, they do not open it."""
    rest = {name: imported_modules(name) for name in NAMES}
    before = -1
    while len(rest) != before:
        before = len(rest)
        imported = {needed for needs in rest.values() for needed in needs}
        rest = {n: needs & set(rest) for n, needs in rest.items() if n in imported}
        rest = {n: needs for n, needs in rest.items() if needs}
    assert sorted(rest) == []


def test_rooms_of_a_package_import_each_other_one_way() -> None:
    ways = {
        (here[0], here[1], there[1])
        for name in NAMES
        for other in imported_modules(name)
        if len(here := name.split(".")) > 2
        and len(there := other.split(".")) > 2
        and here[0] == there[0]
        and here[1] != there[1]
    }
    assert [way for way in ways if (way[0], way[2], way[1]) in ways] == []


def test_no_module_is_longer_than_400_lines() -> None:
    sources = [*MODULES, *(ROOT / "serving").rglob("*.pyx")]
    hand_written = [m for m in sources if not m.stem.endswith("_pb2")]
    lengths = {m.relative_to(ROOT): m.read_text().count("\n") for m in hand_written}
    assert {str(m): n for m, n in lengths.items() if n > 400} == {}


def test_every_package_is_in_the_wheel_and_in_the_import_contract() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {
        f"{root}/{m.parent.name}"
        for root in SOURCE_ROOTS
        for m in (ROOT / root).glob("driftloop_*/__init__.py")
    }
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == packages
    names = {package.split("/")[1] for package in packages}
    assert set(project["tool"]["importlinter"]["root_packages"]) == names
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    assert {part.strip() for layer in layers for part in layer.split("|")} == names


def test_tests_sleep_only_between_two_polls() -> None:
    """A sleep in a `while` polls something that runs by itself; any other is a guess. A sleep of 0
    takes no time: it lets the event loop turn once."""
    tests = [t for t in (ROOT / "tests").rglob("*.py") if "bench" not in t.parts]
    guesses = []
    for test in tests:
        tree = ast.parse(test.read_text())
        polls = {
            n for loop in ast.walk(tree) if isinstance(loop, ast.While) for n in ast.walk(loop)
        }
        turns = {
            node.func
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and ast.unparse(node) == "asyncio.sleep(0)"
        }
        guesses += [
            f"{test.relative_to(ROOT)}:{node.lineno}"
            for node in ast.walk(tree)
            if _is_sleep(node) and node not in polls | turns
        ]
    assert guesses == []


def _is_sleep(node: ast.AST) -> bool:
    """Both as `time.sleep` and by an import of the name."""
    if isinstance(node, ast.ImportFrom):
        imported = {f"{node.module}.{alias.name}" for alias in node.names}
        return bool(imported & {"time.sleep", "asyncio.sleep"})
    return isinstance(node, ast.Attribute) and ast.unparse(node) in ("time.sleep", "asyncio.sleep")


def test_tests_patch_no_code_of_ours() -> None:
    """Limits and times are constructor values; only the world outside may be replaced."""
    patched = []
    for test in (ROOT / "tests").rglob("*.py"):
        tree = ast.parse(test.read_text())
        ours = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("driftloop_")
            for alias in node.names
        }
        for call in ast.walk(tree):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                continue
            if call.func.attr != "setattr" or not call.args:
                continue
            name = ast.unparse(call.args[0]).strip("'\"")
            # Of a text the last part is what is replaced: `driftloop_x.module.os.pwrite`.
            owner = name.rpartition(".")[0] if name.startswith("driftloop_") else name
            if owner.split(".")[0] not in ours and not owner.startswith("driftloop_"):
                continue
            if owner.rpartition(".")[2] not in sys.stdlib_module_names:
                patched.append(f"{test.relative_to(ROOT)}:{call.lineno} {name}")
    assert patched == []


def test_what_depends_on_the_kind_of_model_is_chosen_from_a_table() -> None:
    asks = re.compile(r"(is|is not|==|!=) LANGUAGE\b(?!\.)|\bruntime (==|!=) \"")
    assert [m.name for m in MODULES if asks.search(m.read_text())] == []
