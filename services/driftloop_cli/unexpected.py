"""An error that nobody foresaw ends a command with one sentence, and an id that finds the traceback
in a file of the state directory."""

import errno
import json
import os
import sys
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import typer

from driftloop_contracts.internal_error import InternalError
from driftloop_settings.private_files import FILE_MODE, private_folder

LOG = Path("logs") / "commands.log"


def is_foreseen(error: Exception) -> bool:
    """Whether the library of commands handles it: an exit, wrong usage, a pipe that nobody reads
    any more (`driftloop query … | head`)."""
    ours = isinstance(error, typer.Exit | typer.Abort | typer.BadParameter)
    return ours or (isinstance(error, OSError) and error.errno == errno.EPIPE)


def recorded(error: Exception, state_dir: Path) -> InternalError:
    """What to show of the error, whose traceback is now in the log; on standard error, if the log
    cannot be written."""
    log = state_dir.absolute() / LOG
    shown = InternalError(str(log))
    entry = {
        "event": "command.failed",
        "level": "error",
        "timestamp": datetime.now(UTC).isoformat(),
        "error_id": shown.error_id,
        "exception": "".join(traceback.format_exception(error)),
    }
    try:
        private_folder(state_dir)
        log.parent.mkdir(exist_ok=True)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE)
        with os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(json.dumps(entry) + "\n")
    except (OSError, ValueError):
        with suppress(OSError):
            sys.stderr.write(json.dumps(entry) + "\n")
        return InternalError("standard error", shown.error_id)
    return shown
