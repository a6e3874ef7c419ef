"""Output for people: the only place that writes text to the terminal.

Text from others (column names, paths, reasons, errors) is shown literally: markup in it is not
interpreted, and control characters are shown as codes. Lines are not broken here, so that an
address can be copied, and piped output has no width.
"""

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text

_STEERING = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, line separators other than ours, characters that change the writing
direction, and unpaired surrogates."""


def printable(text: str) -> str:
    """Replace characters that would control a terminal by escapes such as `\\x1b`."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], text)


def styled(*parts: str | tuple[str, str]) -> Text:
    """Build a text from strings and (string, style) pairs."""
    shown = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((printable(text), style) for text, style in shown))


class Terminal(Console):
    """A console that prints strings literally; styles are set by `styled`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            **{"highlight": False, "markup": False, "emoji": False, "soft_wrap": True, **options}
        )

    @property
    def width_limit(self) -> int | None:
        """The number of columns for a line; None for a pipe or a file."""
        return self.width if self.is_terminal else None

    def show(self, lines: Iterable[Text]) -> None:
        """Print each text as one line, regardless of its width."""
        for line in lines:
            self.print(line)

    def print(self, *objects: Any, **options: Any) -> None:
        shown = [styled(each) if isinstance(each, str) else each for each in objects]
        super().print(*shown, **options)


console = Terminal(stderr=True)
"""Messages for people go to standard error, so that standard output can be piped."""
