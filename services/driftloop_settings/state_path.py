"""Checks that a folder can hold a stack: all its programs must interpret the path in the same
way."""

from pathlib import Path

from driftloop_contracts.errors import Rejected

DEFAULT_STATE_DIR = Path(".driftloop")
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
