"""Formulas of the site as MathML, which browsers draw themselves: no script, no network; screen readers read it out.

`docs/conf.py` makes this Sphinx's renderer of `$...$` and `$$...$$`. What latex2mathml leaves out is mended here.
"""

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

NAMES = "log|exp|max|min|tanh|cosh|sinh|sin|cos|det|lim|arg|sup|inf|dim|ker"
BRACKET = r"\s*<m(?:o|row><mo)[^>]*>(?:&#x00028;|&#x0007B;|&#x0005B;)"
APART = 'lspace="0.17em" rspace="0.17em"'
MENDED = {
    rf"<mi>({NAMES})</mi>(?={BRACKET})": r'<mo lspace="0.17em" rspace="0">\1</mo>',
    rf"<mi>({NAMES})</mi>": rf"<mo {APART}>\1</mo>",  # a function stands apart from an argument without brackets
    r"<mi>&#x0007E;</mi>": "<mo>&#x223C;</mo>",  # \sim is a relation
    r"<mo>(diag|KL|tr|Var|Cov)</mo>": r'<mi mathvariant="normal">\1</mi>',
}
"""Patterns of MathML and what takes their place, in this order."""


def mathml(latex: str, *, block: bool) -> str:
    """A formula as MathML.

    Raises:
        ValueError: LaTeX that cannot be converted, such as an ampersand outside of a table.
    """
    latex = latex.replace("{aligned}", "{align*}")
    found = convert(latex, display="block" if block else "inline")
    if "<mi>&</mi>" in found or "\\" in found:
        raise ValueError(f"expected a formula that latex2mathml knows, got {latex!r}; write it with other commands")
    for pattern, better in MENDED.items():
        found = re.sub(pattern, better, found)
    return found


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext(), block=False))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math" tabindex="0">{mathml(node.astext(), block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer; `html_math_renderer = "mathml"` chooses it."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
