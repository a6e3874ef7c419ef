"""What a page of the documentation tells its reader to do, in its order."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_BLOCK = re.compile(
    r"(?P<before>[^\n]*(?:\n[^\n]+)*)\n\n?```(?P<kind>\w+)\n(?P<text>.*?)\n```", re.S
)
_SAVED_AS = re.compile(r"[Ss]ave this as\s+`([^`]+)`")


@dataclass(frozen=True)
class SavedFile:
    """A block that the text above says to save."""

    name: str
    text: str


@dataclass(frozen=True)
class Command:
    """One command, its continued lines included, as a shell takes it."""

    text: str


def steps_of(page: str) -> Iterator[SavedFile | Command]:
    """Commands are the lines after `$` of `console` blocks, without their comments, and whole `sh`
    blocks; files are blocks that the paragraph above says to save."""
    for block in _BLOCK.finditer(page):
        text = block["text"]
        saved = _SAVED_AS.search(block["before"])
        if block["kind"] == "console":
            for line in text.splitlines():
                if line.startswith("$ "):
                    yield Command(re.sub(r"\s{2,}#.*", "", line[2:]).strip())
        elif block["kind"] == "sh":
            yield Command(text)
        elif saved is not None:
            yield SavedFile(saved[1], text + "\n")
