"""The files of a first version, and what is said while it is trained."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def folder_made(output: Path) -> Iterator[Path]:
    """A folder to work in, on the file system of `output`, which is made."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output) as work:
        yield Path(work)


def keep(made: Path, output: Path) -> None:
    """Move the files of a folder."""
    for file in made.iterdir():
        file.replace(output / file.name)


def said_once(say: Callable[[str], None]) -> Callable[[float, str], None]:
    """A report of progress that says each message once."""
    said: set[str] = set()

    def report(_: float, message: str) -> None:
        if message not in said:
            said.add(message)
            say(message)

    return report
