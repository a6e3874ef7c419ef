"""A name that one process of this machine holds at a time, the same from one life to the next."""

import fcntl
import itertools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked_instance(folder: Path) -> Iterator[str]:
    """The name of the first instance of the folder that no process holds, a UUID. It is this
    process's until it ends, however it ends; then the next process that starts gets it."""
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
