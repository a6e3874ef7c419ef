"""How much memory a training uses, so that one that eats it fails before the machine does."""

import psutil

USUAL_SHARE = 0.75


def usual_limit_mb() -> int:
    """In MiB: that share of this machine's memory."""
    return int(psutil.virtual_memory().total * USUAL_SHARE) >> 20


def used_mb(pid: int) -> int:
    """In MiB: the resident memory of a process and its children; 0 if it has ended."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return sum(_resident(each) for each in family) >> 20
    except psutil.Error:
        return 0


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it ended meanwhile
        return 0
