"""Instance names that are exclusive on this machine and stay the same across restarts."""

import fcntl
import itertools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked_instance(folder: Path) -> Iterator[str]:
    """Yield the name (a UUID) of the folder's first instance that no other process holds. It is
    held until this process ends, even if killed; then the next process to start gets it."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count():
        with (folder / f"{number}.seat").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            file.seek(0)
            name = file.read()
            if not name:
                name = str(uuid.uuid4())
                file.write(name)
                file.flush()
            yield name
            return
