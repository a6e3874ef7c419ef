"""Find wording of `words.toml` in pages, and in strings and comments of Python files.

Usage: check_prose.py PATH…  Prints each place with what to write instead; exit code 1 if there is
any.
"""

import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

WORDS = Path(__file__).with_name("words.toml")
EXEMPT = {"history", "migrations"}
"""Folders whose text stays as it was written, or names what was."""
PROSE = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None)}
BLANK = "\0"
"""Stands for code. No pattern matches it; runs of spaces would take long to search."""


@dataclass(frozen=True, slots=True)
class Avoid:
    pattern: re.Pattern[str]
    write: str


def wording(path: Path = WORDS) -> list[Avoid]:
    entries = tomllib.loads(path.read_text())["avoid"]
    # Comments and pages break their lines anywhere.
    return [
        Avoid(re.compile(e["pattern"].replace(" ", r"[\s#]+"), re.IGNORECASE), e["write"])
        for e in entries
    ]


def prose(path: Path) -> str:
    """The text with everything but prose blanked, so that positions stay."""
    text = path.read_text()
    if path.suffix == ".py":
        text = strings_and_comments(text)
    return re.sub(r"^```.*?^```|`[^`\n]*`", blanked, text, flags=re.DOTALL | re.MULTILINE)


def strings_and_comments(text: str) -> str:
    kept: list[str] = [re.sub(r"\S", BLANK, line) for line in text.splitlines(keepends=True)]
    lines = text.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in PROSE:
            (first, start), (last, end) = token.start, token.end
            for number in range(first - 1, last):
                a = start if number == first - 1 else 0
                b = end if number == last - 1 else len(lines[number])
                kept[number] = kept[number][:a] + lines[number][a:b] + kept[number][b:]
    return "".join(kept)


def blanked(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", BLANK, match[0])


def found(text: str, avoid: Iterable[Avoid]) -> Iterator[tuple[int, str, str]]:
    """Line, wording and what to write instead."""
    for entry in avoid:
        for match in entry.pattern.finditer(text):
            phrase = " ".join(match[0].split())
            yield text.count("\n", 0, match.start()) + 1, phrase, entry.write


def main(paths: Iterable[str]) -> int:
    avoid = wording()
    files = [
        file
        for path in map(Path, paths)
        for file in ([path] if path.is_file() else sorted(path.rglob("*")))
        if file.suffix in (".py", ".md") and not EXEMPT & {*file.parts}
    ]
    places = [(f, *place) for f in files for place in sorted(found(prose(f), avoid))]
    for file, line, phrase, write in places:
        print(f"{file}:{line}: “{phrase}”: write {write}")
    return 1 if places else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
