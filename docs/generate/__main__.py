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

from generated_files import keep

FOLDER = Path(__file__).parents[1] / "reference"
PAGES: Mapping[str, Callable[[], str]] = {
    "settings": settings_page.render,
    "cli": cli_page.render,
    "rest-api": rest_api_page.render,
    "metrics": metrics_page.render,
    "errors": errors_page.render,
    "states": states_page.render,
}


def pages() -> dict[Path, str]:
    return {FOLDER / f"{name}.md": render() for name, render in PAGES.items()}


if __name__ == "__main__":
    keep(pages(), sys.argv[1:])
