"""Which folders can hold a stack: every program of it must read their path the same way."""

from pathlib import Path

from driftloop_contracts.errors import Rejected

REFUSED = '?%#[]\\,*"'
"""Characters that have a meaning of their own in the URLs of the store and the registry, in the
lake's paths or in Kafka's list of folders."""


def check_state_dir(path: Path) -> None:
    """Raises Rejected, with the character, for a path that some program would read otherwise."""
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
