"""Formulas in plain text are set for pages, and nothing else is."""

import pytest

from tools.formulas import typeset, typeset_heading, typeset_page


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h_t = f(h_{t-1}, x_t)", "h<sub>t</sub> = f(h<sub>t−1</sub>, x<sub>t</sub>)"),
        ("x_{<t} and X_{<=t}", "x<sub>&lt;t</sub> and X<sub>≤t</sub>"),
        ("D_{x_1} V alpha_1", "D<sub>x<sub>1</sub></sub> V α<sub>1</sub>"),
        ("f_{alpha,x}(phi(b))", "f<sub>α,x</sub>(φ(b))"),
        ("W_t^(i), h_l^t", "W<sub>t</sub><sup>(i)</sup>, h<sub>l</sub><sup>t</sup>"),
        ("N^(-1/2), F^{-1}(u), h^t(eps)", "N<sup>−1/2</sup>, F<sup>−1</sup>(u), h<sup>t</sup>(ε)"),
        ("e^0.54 and e^{z_t}", "e<sup>0.54</sup> and e<sup>z<sub>t</sub></sup>"),
        ("log ||A^n|| <= 1", "log ‖A<sup>n</sup>‖ ≤ 1"),
        ("sum_t prod_s p, int p(x) dx", "Σ<sub>t</sub> Π<sub>s</sub> p, ∫ p(x) dx"),
        ("h*_t, theta*, eps*_{t-1}", r"h\*<sub>t</sub>, θ\*, ε\*<sub>t−1</sub>"),
        ("g_k''(A' z)", "g<sub>k</sub>′′(A′ z)"),
        ("A~_t = grad_z g", "A\u0303<sub>t</sub> = ∇<sub>z</sub> g"),
        ("dc_t/dc_{t-1}", "dc<sub>t</sub>/dc<sub>t−1</sub>"),
        ("(A z)_i", "(A z)<sub>i</sub>"),
        ("x_2..x_T", "x<sub>2</sub>..x<sub>T</sub>"),
        ("a - b = -1, K - log p_s", "a − b = −1, K − log p<sub>s</sub>"),
        ("0.5 * 0.399, sigma -> 0", "0.5 · 0.399, σ → 0"),
        ("p(z | x) < 1", r"p(z \| x) \< 1"),
    ],
)
def test_a_formula_is_set(text: str, expected: str) -> None:
    assert typeset(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Bayes' rule and the networks' parameters",
        "the paper's network, torch's cells",
        "a C.1-C.3 case, a well-known one",
        "`h_t`, `alpha - beta`",
        "an integral and its sum",
    ],
)
def test_words_and_code_stay(text: str) -> None:
    assert typeset(text) == text


def test_names_of_functions_are_no_formulas() -> None:
    assert typeset("smc.log_marginal_likelihood, exp log_prob") == r"smc.log\_marginal\_likelihood, exp log\_prob"


def test_a_page_keeps_code_headings_links_and_tags() -> None:
    page = (
        "# h_t\n\n```python\nx_t = a - b\n```\n\n    $ a_t - b\n\n[h_t](h_t.md) `h_t` <a href='x_t'> h_t | - | a - b\n"
    )
    h = "h<sub>t</sub>"
    expected = page.replace("[h_t](", f"[{h}](").replace("> h_t |", f"> {h} |").replace("| a - b", "| a − b")
    assert typeset_page(page) == expected


def test_a_block_of_formulas_is_a_table() -> None:
    page = "Text:\n\n    h_t = f(h_{t-1})     a memory\n    x_t ~ p(x | h_t) < 1\n\nEnd."
    assert typeset_page(page).split("\n")[2:6] == [
        '<table class="formula" role="presentation">',
        "<tr><td>h<sub>t</sub> = f(h<sub>t−1</sub>)</td><td>a memory</td></tr>",
        "<tr><td>x<sub>t</sub> ~ p(x | h<sub>t</sub>) &lt; 1</td></tr>",
        "</table>",
    ]


@pytest.mark.parametrize(
    "block", ["    pgm-rnn fit hmm --data x_t", "    pip install x", '    rendering="fused"   sites z_1', "    a b"]
)
def test_other_indented_blocks_stay(block: str) -> None:
    page = f"Text:\n\n{block}\n\nEnd."
    assert typeset_page(page) == page


def test_setting_a_page_twice_changes_nothing() -> None:
    once = typeset_page("p(x_t | h_{t-1}) - log ||A^n|| <= sum_t x_{<t}, A~_t' and e^{z_t}")
    assert typeset_page(once) == once


def test_a_heading_has_letters_of_unicode() -> None:
    assert typeset_heading("sec. 2.3, W_t and alpha_0") == "sec. 2.3, Wₜ and α₀"
    assert typeset_heading("x_{<t}, phi") == r"x\_{\<t}, φ"
