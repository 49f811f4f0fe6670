"""HTML and LaTeX of small objects: text is escaped, formulas become MathML, nothing is a script."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

__all__ = ["inline_math", "plain", "table"]


def inline_math(text: str) -> str:
    r"""Return ``text`` as HTML: everything escaped, and each ``$...$`` rendered as MathML.

    A formula that cannot be rendered is shown as its source.

    >>> inline_math("a < b")
    'a &lt; b'
    >>> inline_math("$x^2$").startswith("<math")
    True
    """
    pieces = text.split("$")
    if len(pieces) % 2 == 0:  # an unpaired dollar sign is money, not mathematics
        return html.escape(text)
    return "".join(
        _mathml(piece) if i % 2 else html.escape(piece) for i, piece in enumerate(pieces)
    )


def plain(text: str) -> str:
    r"""Return ``text`` for a terminal: the dollar signs of formulas dropped, common commands as Unicode.

    >>> plain(r"$\|x\| \le 1$")
    '‖x‖ ≤ 1'
    """
    for command, character in _UNICODE:
        ends = r"(?![A-Za-z])" if command[-1].isalpha() else ""  # \le is not \left, but \|x is \| x
        text = re.sub(re.escape(command) + ends, lambda _, c=character: c, text)
    text = re.sub(r"\\(?:mathrm|text|operatorname|mathbb)\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\[tdc]?frac\{([^{}]*)\}\{([^{}]*)\}", r"(\1)/(\2)", text)
    text = re.sub(r"\\sqrt\{([^{}]*)\}", r"√(\1)", text)
    text = re.sub(r"\\[,;:! ]|\\quad|\\qquad", " ", text)
    text = re.sub(r"([_^])\{([^{}]{1,3})\}", r"\1\2", text)
    return " ".join(text.replace("$", "").replace("\\", "").split())


def table(header: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Return an HTML table of escaped texts (with ``$...$`` as formulas), readable on a narrow screen."""
    head = "".join(f"<th scope='col'>{inline_math(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{inline_math(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    title = f"<caption>{inline_math(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _mathml(latex: str) -> str:
    from xml.etree import ElementTree

    import latex2mathml.converter  # 40 ms, and only pages need it

    try:
        element = latex2mathml.converter.convert_to_element(latex)
    except Exception:  # the library raises many kinds; a user's formula must not break a page
        return f"<code>{html.escape(latex)}</code>"
    # The library writes entities into its texts and un-escapes the serialised string, which would let
    # markup inside \text{...} through. Un-escape the texts instead, and let the serialiser escape.
    for node in element.iter():
        node.text = html.unescape(node.text) if node.text else node.text
        node.tail = html.unescape(node.tail) if node.tail else node.tail
    element.attrib.pop("xmlns", None)  # HTML knows the element without an address
    return ElementTree.tostring(element, encoding="unicode")


_UNICODE = [
    (r"\|", "‖"), (r"\le", "≤"), (r"\ge", "≥"), (r"\ne", "≠"), (r"\langle", "<"), (r"\rangle", ">"),
    (r"\sum", "Σ"), (r"\prod", "Π"), (r"\infty", "∞"), (r"\cdot", "·"), (r"\cdots", "…"), (r"\ldots", "…"),
    (r"\alpha", "α"), (r"\beta", "β"), (r"\gamma", "γ"), (r"\delta", "δ"), (r"\varepsilon", "ε"),
    (r"\ell", "ℓ"), (r"\lambda", "λ"), (r"\rho", "ρ"), (r"\sigma", "σ"), (r"\tau", "τ"), (r"\phi", "φ"), (r"\varphi", "φ"),
    (r"\in", "∈"), (r"\pm", "±"), (r"\to", "→"), (r"\times", "×"), (r"\sim", "~"), (r"\propto", "∝"),
    (r"\left", ""), (r"\right", ""), (r"\bigl", ""), (r"\bigr", ""), (r"\Bigl", ""), (r"\Bigr", ""),
    (r"\exp", "exp"), (r"\log", "log"), (r"\min", "min"), (r"\max", "max"), (r"\sinh", "sinh"), (r"\cosh", "cosh"),
    (r"\hat", ""), (r"\widehat", ""), (r"\Pr", "P"), (r"\{", "{"), (r"\}", "}"), (r"\equiv", "≡"), (r"\top", "T"),
    (r"\displaystyle", ""), (r"\Rightarrow", "⇒"), (r"\mapsto", "↦"),
]  # fmt: skip
