import os
import subprocess
import sys
from pathlib import Path

import pytest

LOCALES = ["C", "POSIX", "C.UTF-8", "de_DE.ISO-8859-1", "nowhere"]
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONU"))}
CODE = """
import os, sys
from driftloop_settings.locale_encoding import adopt_utf8, start_anew
if adopt_utf8(os.environ): start_anew(os.environ)
import subprocess
child = [sys.executable, "-c", "import sys; print(ascii(sys.argv[1]), sys.stdout.encoding)"]
print(ascii(sys.argv[1]), flush=True)
subprocess.run([*child, sys.argv[1]], check=True)
"""


@pytest.mark.parametrize("name", LOCALES)
def test_we_and_our_children_use_utf8_with_any_locale(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, "zustand ü"],
        env={**ENVIRONMENT, "LC_ALL": name},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().splitlines() == [ascii("zustand ü"), f"{'zustand ü'!a} utf-8"]
