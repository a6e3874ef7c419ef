"""Write the reference pages from the source: `python docs/generate`, with `--check` only compare.

Each module here renders one page, `docs/reference/NAME.md`.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import cli_page
import errors_page
import metrics_page
import rest_api_page
import settings_page
import states_page

FOLDER = Path(__file__).parents[1] / "reference"
PAGES: Mapping[str, Callable[[], str]] = {
    "settings": settings_page.render,
    "cli": cli_page.render,
    "rest-api": rest_api_page.render,
    "metrics": metrics_page.render,
    "errors": errors_page.render,
    "states": states_page.render,
}


def outdated() -> dict[Path, str]:
    """The pages whose file differs from what the source says, with what they should be."""
    pages = {FOLDER / f"{name}.md": render() for name, render in PAGES.items()}
    return {
        path: text for path, text in pages.items() if not path.is_file() or path.read_text() != text
    }


def main() -> None:
    found = outdated()
    if "--check" in sys.argv[1:]:
        for path in found:
            print(f"{path.relative_to(FOLDER.parents[1])} is out of date: run `make reference`")
        raise SystemExit(bool(found))
    for path, text in found.items():
        path.write_text(text)
        print(f"wrote {path.relative_to(FOLDER.parents[1])}")


if __name__ == "__main__":
    main()
