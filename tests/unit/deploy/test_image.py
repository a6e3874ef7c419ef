"""The image's file and its lists of packages. The build itself needs a base image, and is not
tried here."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from driftloop_settings import load_settings

ROOT = Path(__file__).parents[3]
IMAGE = ROOT / "deploy" / "image"
PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", re.MULTILINE)
LOCKS = ("slim", "cuda", "build")
COMPILERS = re.compile(r"\b(gcc|g\+\+|clang|build-essential|python3-dev|libc6-dev|cython)\b")


def stages() -> tuple[str, str]:
    build, final = re.split(r"^FROM .*$", (IMAGE / "Containerfile").read_text(), flags=re.M)[1:]
    return build, final


def pins(name: str) -> dict[str, str]:
    text = (IMAGE / f"{name}.lock").read_text()
    return {canonicalize_name(found[1]): found[2] for found in PINNED.finditer(text)}


def test_hadolint_has_no_complaints() -> None:
    command = [str(ROOT / ".venv" / "bin" / "hadolint"), str(IMAGE / "Containerfile")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_what_runs_has_no_compiler_and_is_not_root() -> None:
    build, final = stages()
    assert COMPILERS.search(build)
    assert not COMPILERS.search(final)
    (user,) = re.findall(r"^USER (\d+):(\d+)$", final, re.M)
    chart = yaml.safe_load((ROOT / "deploy" / "helm" / "driftloop" / "values.yaml").read_text())
    security = chart["podSecurityContext"]
    assert user == (str(security["runAsUser"]), str(security["runAsGroup"]))
    assert user[0] != "0"


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_is_installed_by_its_hashes(name: str) -> None:
    text = (IMAGE / f"{name}.lock").read_text()
    packages = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.M)[1:]
    assert len(packages) == len(pins(name))
    assert all("--hash=sha256:" in package for package in packages)
    build, _ = stages()
    assert build.count("--require-hashes --no-deps") == 2


def test_the_slim_image_has_the_versions_that_are_tested() -> None:
    # Other versions of Python have other versions of some packages.
    lock = (ROOT / "requirements.lock").read_text()
    tested = {(canonicalize_name(found[1]), found[2]) for found in PINNED.finditer(lock)}
    slim = pins("slim")
    assert set(slim.items()) <= tested
    assert "vllm" not in slim
    assert "vllm" in pins("cuda")
    for name, version in pins("build").items():
        assert slim.get(name, version) == version


def test_the_images_have_what_the_project_asks_for() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    listed = project.partition("dependencies = [")[2].partition("\n]")[0]
    wanted = [Requirement(text) for text in re.findall(r'^\s*"([^"]+)"', listed, re.M)]
    assert len(wanted) > 30
    for name in ("slim", "cuda"):
        found = pins(name)
        for requirement in wanted:
            version = found[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), (name, requirement)


def test_the_image_knows_the_ports_and_the_version() -> None:
    _, final = stages()
    settings = load_settings(environ={})
    ports = {settings.serving.port, settings.serving.grpc_port, settings.control.port}
    (exposed,) = re.findall(r"^EXPOSE (.*)$", final, re.M)
    assert {int(port) for port in exposed.split()} == ports
    (version,) = re.findall(r"^ARG VERSION=(.*)$", final, re.M)
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()


def test_what_the_build_copies_is_in_its_context() -> None:
    build, _ = stages()
    let_in = {
        line.removeprefix("!")
        for line in (ROOT / ".containerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", build, re.M):
        for source in sources.split():
            assert source.partition("/")[0] in let_in, source
            assert (ROOT / source.replace("${VARIANT}", "slim")).exists()
