"""Files that are written from the source: `python SCRIPT` writes them anew, with `--check` it only
compares them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def outdated(files: Mapping[Path, str]) -> dict[Path, str]:
    """Those whose file differs from what the source says, with what they should be."""
    return {
        path: text for path, text in files.items() if not path.is_file() or path.read_text() != text
    }


def keep(files: Mapping[Path, str], arguments: Sequence[str]) -> None:
    """Write what is out of date, or with `--check` name it and exit with 1."""
    found = outdated(files)
    if "--check" in arguments:
        for path in found:
            print(f"{path.relative_to(ROOT)} is out of date: run `make reference`")
        raise SystemExit(bool(found))
    for path, text in found.items():
        path.write_text(text)
        print(f"wrote {path.relative_to(ROOT)}")
