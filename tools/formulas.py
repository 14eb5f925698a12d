"""Formulas that are written in plain text, set for a page: subscripts, superscripts, Greek letters, signs.

    h_{t-1}, alpha_t, x^t, ||A^n|| <= 1    becomes    h with the subscript t−1, α with t, ..., ‖Aⁿ‖ ≤ 1

The claims and the guides write formulas as one types them, so that a terminal can show them. Pages show them by
Markdown's inline HTML, which needs neither a script nor the network.
"""

import html
import re
from collections.abc import Callable

GREEK = {
    "alpha": "α",
    "beta": "β",
    "delta": "δ",
    "epsilon": "ε",
    "eps": "ε",
    "lambda": "λ",
    "Lambda": "Λ",
    "mu": "μ",
    "nu": "ν",
    "phi": "φ",
    "sigma": "σ",
    "theta": "θ",
}
OPERATORS = {"sum": "Σ", "prod": "Π", "int": "∫", "grad": "∇"}
BASE = rf"(?:{'|'.join(GREEK)}|[A-Za-z])"
BRACED = r"\{(?:[^{}]|\{[^{}]*\})*\}"
SCRIPT = rf"(?:{BRACED}|\([^()\s]*\)|-?\d+(?:\.\d+)?|[A-Za-z0-9]{{1,7}}(?![A-Za-z0-9_]))"
INDEX = rf"(?:{BRACED}|[A-Za-z0-9]{{1,7}}(?![A-Za-z0-9_]))"

CODE = re.compile(r"(`+[^`]+`+)")
SCRIPTED = re.compile(
    rf"(?<![A-Za-z0-9_])(?<![A-Za-z]\.)(?P<base>d?{BASE}[*~']*|sum|prod|grad)(?P<index>_{INDEX})(?P<power>\^{SCRIPT})?"
    rf"(?P<primes>'+(?![a-z]))?|(?<=\))(?P<entry>_[a-z])(?![A-Za-z0-9_])|(?<=[A-Za-z0-9)\]|'*])\^(?P<alone>{SCRIPT})"
)
"""A letter with a subscript, then perhaps a superscript and primes; an entry of what is in parentheses; a power."""
WORD = re.compile(rf"(?<![A-Za-z_.])(d?)({'|'.join(GREEK)})(?![A-Za-z_])")
PRIMES = re.compile(rf"(?:(?<=\))|(?<![A-Za-z])(?P<base>{BASE}|1|tanh|grad))'+(?![A-Za-z])")
SIGNS: list[tuple[str, str]] = [
    (r"(?<![A-Za-z])int (?=prod_|[pP]\()", "∫ "),
    (r"(?<=[\w)}\]'*]) - (?=[\w(\[|])", " − "),
    (r"(?<=[\s(=,])-(?=[\dA-Za-z(])", "−"),
    (r"\bsqrt\((\w)\)", r"√\1"),
    (r"\|\|", "‖"),
    (r"<=", "≤"),
    (r">=", "≥"),
    (r"->", "→"),
    (r"(?<=\d) \* (?=\d)", " · "),
]


def typeset(text: str) -> str:
    """A text with formulas as Markdown: what is between backticks stays, every other character is no markup."""
    return _outside(CODE, text, lambda part: _set(part, _escaped))


def typeset_page(page: str) -> str:
    """A page of Markdown with its formulas set. Code, headings, links' targets and tags stay.

    An indented block of formulas becomes a table, one row per line, whose columns are what two spaces separate.
    """
    lines: list[str] = []
    block: list[str] = []
    fence = ""
    for line in page.split("\n"):
        if not fence and line.startswith("    ") and (block or not lines or not lines[-1]):
            block.append(line)
            continue
        lines += _block(block)
        block = []
        opening = re.match(r"\s*(```+|~~~+)", line)
        if opening and (not fence or line.strip() == fence):
            fence = "" if fence else opening[1]
            lines.append(line)
        else:
            plain = fence or line.startswith(("#", "    ", "\t"))
            lines.append(line if plain else _outside(KEPT, line, lambda part: _set(part, _unchanged)))
    return "\n".join([*lines, *_block(block)])


COMMANDS = re.compile(r"""["`$\\]|--|pgm-rnn|pip |torchrun|python|^ {4}[-*>] """, re.MULTILINE)
"""What is in no line of a formula."""


def _block(lines: list[str]) -> list[str]:
    """An indented block: a table if it is of formulas, else as it is."""
    if not any(SCRIPTED.search(line) or WORD.search(line) for line in lines) or any(
        COMMANDS.search(line) for line in lines
    ):
        return lines
    rows = []
    for line in lines:
        cells = [_set(cell, _as_html).replace("\\", "") for cell in re.split(r"\s{2,}", line.strip())]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return ['<table class="formula" role="presentation">', *rows, "</table>"]


KEPT = re.compile(r"(`+[^`]+`+|\]\([^)]*\)|<[^<>\s][^<>]*>|https?://\S+)")
"""What is no text in a line of Markdown."""


def typeset_heading(text: str) -> str:
    """A heading's formulas by Unicode alone, since a heading is an anchor and an entry of the contents, too."""
    subscripts = str.maketrans("0123456789t", "₀₁₂₃₄₅₆₇₈₉ₜ")
    greek = WORD.sub(_greek, re.sub(rf"({BASE})_([0-9t])(?![A-Za-z0-9])", _raise_index(subscripts), text))
    return _escaped(greek)


def _raise_index(subscripts: dict[int, int]) -> Callable[[re.Match[str]], str]:
    return lambda match: GREEK.get(match[1], match[1]) + match[2].translate(subscripts)


def _outside(kept: re.Pattern[str], text: str, change: Callable[[str], str]) -> str:
    """The text with what is between the kept spans changed."""
    parts = kept.split(text)
    return "".join(part if i % 2 else change(part) for i, part in enumerate(parts))


def _set(text: str, escape: Callable[[str], str]) -> str:
    """Set the formulas of a text, and escape what is between them."""
    text, out, end = _signs(text), [], 0
    for match in SCRIPTED.finditer(text):
        out += [escape(_letters(text[end : match.start()])), _scripted(match, escape)]
        end = match.end()
    return "".join([*out, escape(_letters(text[end:]))])


def _scripted(match: re.Match[str], escape: Callable[[str], str]) -> str:
    below, above = match["index"] or match["entry"] or "", match["alone"] or (match["power"] or "")[1:]
    scripts = f"<sub>{_inner(below[1:])}</sub>" if below else ""
    scripts += f"<sup>{_inner(above)}</sup>" if above else ""
    return _base(match["base"] or "", escape) + scripts + "′" * len(match["primes"] or "")


def _base(text: str, escape: Callable[[str], str]) -> str:
    """A letter with its marks: a tilde above it, primes, a star."""
    letter = text.rstrip("*~'")
    marks = text[len(letter) :].replace("~", "\u0303").replace("'", "′")
    return OPERATORS.get(letter, WORD.sub(_greek, letter)) + escape(marks)


def _inner(text: str) -> str:
    """What stands in a script, without its braces."""
    if text.startswith("{") or re.fullmatch(r"\(.{2,}\)", text):
        text = text[1:-1]
    return _set(text.replace("-", "−"), lambda part: part.replace("<", "&lt;").replace("*", r"\*").replace("|", r"\|"))


def _signs(text: str) -> str:
    for pattern, sign in SIGNS:
        text = re.sub(pattern, sign, text)
    return text


def _letters(text: str) -> str:
    text = PRIMES.sub(lambda match: match[0].replace("'", "′").replace("grad", "∇"), text)
    return WORD.sub(_greek, text.replace("|grad|", "|∇|"))


def _greek(match: re.Match[str]) -> str:
    return match[1] + GREEK[match[2]]


def _escaped(text: str) -> str:
    return re.sub(r"([\\*_<|])", r"\\\1", text)


def _as_html(text: str) -> str:
    return html.escape(text, quote=False)


def _unchanged(text: str) -> str:
    return text
