"""Folders and files that only their owner may read: a stack's data and secrets."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

FOLDER_MODE, FILE_MODE = 0o700, 0o600


def private_folder(path: Path) -> Path:
    """Create the folder if needed, and make it private to its owner. A folder of another owner is
    not changed."""
    path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    with suppress(PermissionError):
        path.chmod(FOLDER_MODE)
    return path


def secret_file(path: Path, size_bytes: int = 32) -> Path:
    """Return a file with a random secret. It is created once, even if several processes call this
    at the same time."""
    private_folder(path.parent)
    if not path.exists():
        scratch = path.with_suffix(f".{secrets.token_hex(8)}.tmp")
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(size_bytes))
        with suppress(FileExistsError):
            path.hardlink_to(scratch)
        scratch.unlink()
    path.chmod(FILE_MODE)
    return path
