"""A name that one process of this machine holds at a time, the same from one life to the next."""

import fcntl
import itertools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def seat(folder: Path) -> Iterator[str]:
    """The first free seat of the folder: its name, unique in the world, is ours until the process
    ends, however it ends. Who comes after a death finds the seat of the dead."""
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
