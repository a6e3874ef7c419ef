"""The quickstart as a newcomer follows it: every command and file of the page, in a fresh clone."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Driftloop
from documented_commands import Command, SavedFile, steps_of

from driftloop_settings.ports import free_port

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
QUICKER = {
    "DRIFTLOOP_RETRAIN__FAMILIES": "[gradient-boosting]",
    "DRIFTLOOP_RETRAIN__BUDGET_S": "0",
    "DRIFTLOOP_LAKE__FLUSH_SECONDS": "0.5",
    # The page says both ways to a second version, an alert and `driftloop retrain`; two retrains at
    # once would be refused.
    "DRIFTLOOP_MONITORING__INTERVAL_S": "3600",
}
PRELUDE = """
set -e -o pipefail
curl() { command curl --fail --silent --show-error "$@"; }
"""
ENDLESS = "--watch"


def script_of(steps: list[SavedFile | Command], folder: Path, port: int) -> str:
    """The page as one script; what it has saved lies in `folder`."""
    lines = [PRELUDE]
    for step in steps:
        if isinstance(step, SavedFile):
            (folder / step.name).write_text(step.text)
        elif step.text.startswith("make "):  # another test's, or the set-up of this one
            continue
        elif ENDLESS in step.text:
            lines.append(f"timeout 3 {step.text} || test $? = 124")
        else:
            lines.append(step.text.replace("localhost:8000", f"localhost:{port}"))
    return "\n".join(f"{line}\n" for line in lines)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page uses curl")
def test_the_quickstart_does_what_it_says(tmp_path: Path) -> None:
    clone = tmp_path / "driftloop"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    (clone / ".venv").symlink_to(sys.prefix)  # as `make setup` leaves it
    port = free_port()
    ports = {"DRIFTLOOP_SERVING__PORT": str(port), "DRIFTLOOP_SERVING__GRPC_PORT": "0"}
    ports |= {"DRIFTLOOP_CONTROL__PORT": "0", "DRIFTLOOP_KAFKA__PORT": "0"}
    steps = list(steps_of((clone / "docs" / "quickstart.md").read_text()))
    script = script_of(steps, clone, port)
    try:
        done = subprocess.run(
            ["bash", "-x", "-c", script],
            cwd=clone,
            env={**os.environ, **QUICKER, **ports},
            capture_output=True,
            text=True,
            timeout=540,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    finally:
        Driftloop(clone / ".driftloop")("down")
    assert re.search(r"x-prediction-id: \S+", done.stdout)
    assert '{"accepted":1}' in done.stdout
    assert "loans version 2" in done.stdout + done.stderr
