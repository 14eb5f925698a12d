"""Sphinx's settings. `make docs` copies the pages to build/site-source, adds the derived ones and builds them all."""

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from pgm_rnn.version import __version__  # noqa: E402
from tools.docstring_markup import SECTION, described_fields, to_rst  # noqa: E402

project = "pgm_rnn"
author = "The authors of pgm_rnn"
project_copyright = ""
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "tools.formulas"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
myst_dmath_allow_digits = False  # "$5 and $6" is money
html_math_renderer = "mathml"
highlight_language = "text"
default_role = "py:obj"
smartquotes = False  # `--` is an option, not a dash
maximum_signature_line_length = 88

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"pgm_rnn {__version__}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

linkcheck_timeout = 20
linkcheck_workers = 2


COLON = "\ue000"
"""Stands for a colon until napoleon has read the docstring of a property."""


def _mark_up(app: Any, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    lines[:] = to_rst([*lines, *described_fields(thing)])
    if what in ("attribute", "data", "property"):  # napoleon takes what stands before a colon for a type
        lines[:] = [line if SECTION.match(line) else line.replace(":", COLON) for line in lines]


def _restore(app: Any, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    lines[:] = [line.replace(COLON, ":") for line in lines]


def _skip(app: Any, what: str, name: str, thing: object, skipped: bool, options: object) -> bool | None:
    """Leave out the fields of named tuples, which "Attributes" describes, and what scikit-learn adds to estimators."""
    field = str(getattr(thing, "__doc__", "")).startswith("Alias for field number")
    return True if field or re.fullmatch(r"set_\w+_request", name) else None


ACCESSIBLE = {
    'role="heading">': 'role="heading" aria-level="2">',
    '<dl>\n<dd><em class="sig-param"': '<dl role="presentation">\n<dd><em class="sig-param"',
    "<pre>": '<pre tabindex="0">',
    'docutils container">': 'docutils container" tabindex="0">',  # around a table
    "strong> -- ": "strong> – ",  # after the name of an argument
    "strong></a> -- ": "strong></a> – ",
}
"""What screen readers and keyboards need and the theme leaves out: levels of headings, focus for what scrolls."""


def _make_accessible(app: Any, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        for page in Path(app.outdir).rglob("*.html"):
            text = page.read_text(encoding="utf-8")
            for former, better in ACCESSIBLE.items():
                text = text.replace(former, better)
            page.write_text(text, encoding="utf-8")


def setup(app: Any) -> None:
    """Hook the docstrings' own markup in before napoleon reads them, and make the pages accessible."""
    app.connect("build-finished", _make_accessible)
    app.connect("autodoc-process-docstring", _mark_up, priority=400)
    app.connect("autodoc-process-docstring", _restore, priority=600)
    app.connect("autodoc-skip-member", _skip)
