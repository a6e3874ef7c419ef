"""The pages' script and style sheet, each one file for the browser, named by its content."""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

STATIC = Path(__file__).parent / "static"
SCRIPTS = (
    "vendor/htmx.min.js", "vendor/htmx-ext-sse.min.js", "vendor/uPlot.iife.min.js", "console.js",
)  # fmt: skip
STYLES = ("vendor/uPlot.min.css", "console.css")


@dataclass(frozen=True, slots=True)
class Asset:
    content: bytes
    media_type: str
    tag: str

    @classmethod
    def of(cls, names: tuple[str, ...], media_type: str) -> "Asset":
        content = b"\n".join((STATIC / name).read_bytes() for name in names)
        return cls(content, media_type, sha256(content).hexdigest()[:16])


@cache
def assets() -> dict[str, Asset]:
    return {
        "console.js": Asset.of(SCRIPTS, "text/javascript"),
        "console.css": Asset.of(STYLES, "text/css"),
    }
