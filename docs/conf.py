"""How Sphinx builds the site (`make docs`). The pages are Markdown that a forge renders too."""

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

project = "driftloop"
author = "the driftloop authors"
copyright = "2026, the driftloop authors"
extensions = ["myst_parser"]
exclude_patterns = ["_build", "generate", "screenshots", "style"]
nitpicky = True  # with `-W` a broken reference fails the build

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

html_theme = "pydata_sphinx_theme"
html_title = "driftloop"
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}


def setup(app: Sphinx) -> None:
    # Diagrams stay as their source: a renderer would be fetched from elsewhere by each reader.
    app.add_lexer("mermaid", TextLexer)
