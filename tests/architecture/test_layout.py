import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = ("services", "serving", "monitoring", "retrain", "deploy")
MODULES = sorted(m for root in SOURCE_ROOTS for m in (ROOT / root).glob("driftloop_*/**/*.py"))
VENDORS = {
    # Ray Serve in the first, Ray Train in the second, one module of it.
    "ray": "driftloop_serving driftloop_retrain",
    "kafka": "driftloop_bus",
    "evidently": "driftloop_monitoring",
    "mlflow": "driftloop_registry",
    "deltalake": "driftloop_lake",
    "onnxruntime": "driftloop_onnx",
    "vllm": "driftloop_vllm",
    "sqlalchemy": "driftloop_store",
}
BANNED = {"pickle", "cloudpickle", "dill", "joblib"}


def imports(module: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("root", SOURCE_ROOTS)
def test_source_roots_are_no_packages(root: str) -> None:
    assert not (ROOT / root / "__init__.py").exists()


@pytest.mark.parametrize("vendor", sorted(VENDORS))
def test_a_vendor_is_imported_in_its_package_only(vendor: str) -> None:
    users = {m.relative_to(ROOT).parts[1] for m in MODULES if vendor in imports(m)}
    assert users <= set(VENDORS[vendor].split())


def test_ray_train_stays_behind_one_module() -> None:
    retrain = [m for m in MODULES if m.is_relative_to(ROOT / "retrain")]
    assert [m.name for m in retrain if "ray" in imports(m)] == ["ray_train.py"]


def test_nothing_unpickles() -> None:
    assert [str(m) for m in MODULES if imports(m) & BANNED] == []


def test_modules_are_named_by_a_noun_of_the_data_flow() -> None:
    vague = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
    assert [str(m) for m in MODULES if m.stem in vague] == []


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
