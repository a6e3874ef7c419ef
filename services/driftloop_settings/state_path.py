"""The state directory: whether it can hold a stack, whose programs must all interpret its path in
the same way, and whether it is the only setting. Imports no settings: commands use it that need
none."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from driftloop_contracts.errors import Rejected

DEFAULT_STATE_DIR = Path(".driftloop")
DEFAULT_FILE = Path("driftloop.toml")
ENV_PREFIX = "DRIFTLOOP_"
CONTROL_URL = f"{ENV_PREFIX}CONTROL_URL"
"""The variable with the control API of a stack on other machines, for commands."""
REFUSED = '?%#[]\\,*"'
"""Characters with a special meaning in the URLs of the store and the registry, in the lake's paths,
or in Kafka's list of folders."""


def check_state_dir(path: Path) -> None:
    """Raises Rejected, naming the character, for a path that some program would misinterpret."""
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Rejected(f"the state directory {text!r} is not in UTF-8; choose another") from None
    bad = next((c for c in text if c in REFUSED or not c.isprintable()), None)
    if bad is not None:
        raise Rejected(
            f"the state directory {text!r} must not have {bad!r} in its path; choose another"
        )


def absolute_state_dir(path: Path) -> Path:
    """Raises Rejected, as `check_state_dir`."""
    absolute = path.expanduser().absolute()
    check_state_dir(absolute)
    return absolute


def is_all_that_is_set(
    state_dir: Path | None,
    overrides: Sequence[str],
    file: Path | None,
    environ: Mapping[str, str] = os.environ,
) -> bool:
    """Whether no source sets anything else, so that all other settings are the defaults. False for
    a blank one, which the settings refuse."""
    own = (CONTROL_URL, *(() if state_dir is None else (f"{ENV_PREFIX}STATE_DIR",)))
    set_there = any(name.startswith(ENV_PREFIX) and name not in own for name in environ)
    blank = state_dir is not None and not str(state_dir).strip()
    return not (overrides or file or set_there or blank or DEFAULT_FILE.is_file())
