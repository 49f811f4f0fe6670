from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from schoenbat_theory.markup import encode_ascii, inline_math, plain, table
from schoenbat_theory.verify import builtin_propositions

EVIL = "<script>alert('x')</script>"


@pytest.mark.parametrize(
    "text", [EVIL, f"${EVIL}$", rf"$\text{{{EVIL}}}$", f"$x$ {EVIL} $y$", f"5 $ {EVIL}", r"$\text{&lt;script&gt;}$"]
)
def test_no_text_or_formula_becomes_markup(text):
    for page in (inline_math(text), table([text], [[text]], text)):
        assert "<script" not in page
        ElementTree.fromstring(f"<p>{page}</p>")  # well formed


def test_formulas_become_mathml_without_an_outside_address():
    page = inline_math(r"for $\|x\| \le 1$ and $t^2$")
    assert page.count("<math") == 2
    assert page.startswith("for <math")
    assert "http" not in page


def test_a_single_dollar_is_money():
    assert inline_math("5 $ & more") == "5 $ &amp; more"


def test_a_formula_that_cannot_be_rendered_is_shown_as_its_source():
    page = inline_math(r"$\frac{1$")
    assert "frac" in page
    ElementTree.fromstring(f"<p>{page}</p>")


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"$\|x\| \le 1$", "‖x‖ ≤ 1"),
        (r"$a \left( b \right)$", "a ( b )"),
        (r"$\tfrac{1}{2}(t^{2})$", "1/2 (t^2)"),
        (r"$\frac{1}{2m} - \frac{a+b}{c}$", "1/(2m) - (a+b)/c"),
        (r"$\frac1n \frac{a_{21}}{\max(1, b_{i})}$", "1/n (a_21)/(max(1, b_i))"),
        (r"$e^{b_{j-i}} x^{-1}$", "e^{b_{j-i}} x^-1"),
        (r"$\langle x, y \rangle \le \chi$", "<x, y> ≤ χ"),
        (r"$0 \preceq \tilde{G} \preceq \bar C$", "0 ≤ G~ ≤ Cbar"),
        (r"$\sqrt{d}$", "√(d)"),
        (r"$\mathrm{E}\, X = \mu$", "E X = mu"),
        ("no formula", "no formula"),
    ],
)
def test_a_terminal_sees_common_commands_as_characters(latex, text):
    assert plain(latex) == text


def test_an_estimate_keeps_its_hat_on_every_terminal():
    hats = plain(r"$|\log R - \log\hat R| + \hat{k}_j \notin \Delta\big($")
    assert hats == "|log R - log R\u0302| + k\u0302_j ∉ Δ("
    assert encode_ascii(UnicodeEncodeError("ascii", "k\u0302", 0, 2, "no")) == ("k^", 2)


def test_no_statement_shows_a_command_on_a_terminal():
    for group in builtin_propositions().values():
        for one in group:
            shown = " ".join(plain(text) for text in (one.title, one.statement, *one.hypotheses))
            assert not re.search(r"big|frac|notin|Delta|\bhat\b", shown), one.id


def test_a_table_has_its_cells_in_order():
    page = ElementTree.fromstring(table(["a", "b"], [["1", "<"], ["3", "4"]], "title"))
    assert [cell.text for cell in page.iter("th")] == ["a", "b"]
    assert [cell.text for cell in page.iter("td")] == ["1", "<", "3", "4"]
    assert page.find("caption").text == "title"
    assert ElementTree.fromstring(table(["a"], [])).find("caption") is None
