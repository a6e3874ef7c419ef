"""Pages and sections as HTML (Jinja2, which escapes whatever records say)."""

import json
from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from driftloop_console import words
from driftloop_console.assets import assets
from driftloop_console.cells import body
from driftloop_console.page import Link, Page, Section
from driftloop_contracts.durations import in_short

NAVIGATION = (
    ("Fleet", "/"), ("Incidents", "/incidents"), ("Decisions", "/decisions"),
    ("Audit", "/audit"), ("Data", "/data"),
    ("Settings", "/settings"), ("System", "/system"),
)  # fmt: skip
RANGES = ("1h", "24h", "7d", "30d")
HTMX = {
    # What the content security policy forbids; and the answers of a button are shown whatever
    # their status is.
    "includeIndicatorStyles": False,
    "allowEval": False,
    # Pages may show rows of the lake: the browser keeps none of them.
    "historyCacheSize": 0,
    "refreshOnHistoryMiss": True,
    "responseHandling": [{"code": "204", "swap": False}, {"code": "...", "swap": True}],
}


@cache
def environment() -> Environment:
    found = Environment(
        loader=PackageLoader("driftloop_console"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        auto_reload=False,
    )
    names = ("number", "count", "share", "time", "clip")
    found.filters |= {name: getattr(words, name) for name in names}
    found.filters["duration"] = in_short
    found.globals["body"] = body
    found.tests["link"] = lambda value: isinstance(value, Link)
    return found


def render_section(section: Section, path: str, query: Mapping[str, str]) -> str:
    def with_query(**changes: str) -> str:
        """The page's URL with some parameters changed."""
        changed = {**query, **changes}
        return f"{path}?{urlencode(changed)}"

    template = environment().get_template(section.template)
    return template.render(section=section, with_query=with_query, query=query, **section.data)


def tag_of(html: str) -> str:
    return blake2b(html.encode(), digest_size=6).hexdigest()


def render_page(page: Page, path: str, query: Mapping[str, str]) -> str:
    sections = [(s, render_section(s, path, query)) for s in page.sections]
    seen = ",".join(f"{s.id}:{tag_of(html)}" for s, html in sections)
    shown = path + (f"?{urlencode(query)}" if query else "")
    ranges = [
        (length, f"{path}?{urlencode({**_without_range(query), 'last': length})}")
        for length in RANGES
    ]
    return (
        environment()
        .get_template("page.html")
        .render(
            page=page,
            sections=[(s, Markup(html)) for s, html in sections],
            live=f"/live?{urlencode({'page': shown, 'seen': seen})}" if page.live else "",
            ranges=ranges if page.ranged else [],
            everything=path,
            query=query,
            **_frame(),
        )
    )


def render_error(status: int, sentence: str) -> str:
    return render_frame("error.html", status=status, sentence=sentence)


def render_frame(template: str, **values: object) -> str:
    """A template within the frame of all pages, which is not live."""
    return environment().get_template(template).render(**values, **_frame())


def _frame() -> dict[str, object]:
    return {
        "navigation": NAVIGATION,
        "tags": {name: asset.tag for name, asset in assets().items()},
        "htmx": json.dumps(HTMX),
    }


def _without_range(query: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in query.items() if name not in ("last", "from", "to")}
