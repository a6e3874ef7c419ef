"""The address of a demo's console, which is said before anything runs."""

from pathlib import Path

from driftloop_demo.demo import SETTINGS
from driftloop_demo.stack import tell_console
from driftloop_settings.loading import load_settings
from driftloop_settings.run_state import resolve_ports


def told(home: Path, sets: tuple[str, ...]) -> str:
    lines: list[str] = []
    tell_console(
        home,
        sets,
        lambda *parts: lines.append("".join(p if isinstance(p, str) else p[0] for p in parts)),
    )
    return lines[0]


def test_the_stack_takes_the_port_that_was_told(tmp_path: Path) -> None:
    line = told(tmp_path, SETTINGS)
    started, _ = resolve_ports(load_settings(SETTINGS, state_dir=tmp_path))
    assert f"http://127.0.0.1:{started.control.port}/ " in line


def test_a_port_that_is_set_is_kept(tmp_path: Path) -> None:
    assert ":18123/ " in told(tmp_path, (*SETTINGS, "control.port=18123"))
