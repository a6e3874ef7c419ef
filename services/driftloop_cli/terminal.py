"""What people read on a terminal: the one place where text becomes output.

Text that comes from others (names of columns, paths, reasons, errors) is shown as it is: nothing in
it is markup, and characters that would steer the terminal are shown by their code. No line is
broken here: an address that is copied is whole, and what is piped has no width.
"""

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text

_STEERING = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, other line ends than our own, signs that turn the direction of writing, and
halves of characters, which no encoding has."""


def printable(text: str) -> str:
    """The text with what would steer a terminal as an escape, such as `\\x1b`."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], text)


def styled(*parts: str | tuple[str, str]) -> Text:
    """One text of strings and (string, style) pairs."""
    shown = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((printable(text), style) for text, style in shown))


class Terminal(Console):
    """Prints strings as they are; a style comes with `styled`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            **{"highlight": False, "markup": False, "emoji": False, "soft_wrap": True, **options}
        )

    @property
    def width_limit(self) -> int | None:
        """The columns that a line may take; None if this is a pipe or a file."""
        return self.width if self.is_terminal else None

    def show(self, lines: Iterable[Text]) -> None:
        """Each as one line, whatever its width."""
        for line in lines:
            self.print(line)

    def print(self, *objects: Any, **options: Any) -> None:
        shown = [styled(each) if isinstance(each, str) else each for each in objects]
        super().print(*shown, **options)


console = Terminal(stderr=True)
"""Words for people go to standard error, so that standard output can be piped."""
