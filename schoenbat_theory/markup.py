"""Small objects for people: HTML (escaped, formulas as MathML, never a script), plain text, numbers."""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

__all__ = ["decimal", "encode_ascii", "inline_math", "plain", "short", "span", "superscript", "table"]

MATHML_ATTRIBUTES = {  # the presentational ones that formulas need; HTML knows <math> without xmlns
    "accent", "columnalign", "columnspacing", "depth", "display", "displaystyle", "fence", "form", "height", "linethickness",
    "lspace", "mathvariant", "maxsize", "minsize", "movablelimits", "rowspacing", "rspace", "scriptlevel", "separator", "stretchy",
    "symmetric", "width",
}  # fmt: skip


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
    return "".join(_mathml(piece) if i % 2 else html.escape(piece) for i, piece in enumerate(pieces))


def plain(text: str) -> str:
    r"""Return ``text`` for a terminal: the dollar signs of formulas dropped, common commands as Unicode.

    >>> plain(r"$\|x\| \le 1$")
    '‖x‖ ≤ 1'
    """
    text = re.sub(r"\\langle\s*", "<", re.sub(r"\s*\\rangle(?![A-Za-z])", ">", text))
    text = re.sub(r"\\tilde\s*\{?(\w)\}?", r"\1~", re.sub(r"\\bar\s*\{?(\w)\}?", r"\1bar", text))
    for command, character in _UNICODE:
        ends = r"(?![A-Za-z])" if command[-1].isalpha() else ""  # \le is not \left, but \|x is \| x
        text = re.sub(re.escape(command) + ends, _always(character), text)
    text = re.sub(r"\b\\(?:wide)?hat(?![A-Za-z])", r" \\hat", text)  # \log\hat R is log R with a hat
    text = re.sub(r"\\(?:wide)?hat(?![A-Za-z])\s*\{?\\?(\w)\}?", "\\1\u0302", text)
    text = re.sub(r"\\(?:mathrm|text|operatorname|mathbb)\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\[tdc]?frac(\w)(\w)", r"\\frac{\1}{\2}", text)
    group = r"\{((?:[^{}]|\{[^{}]*\})*)\}"  # it may hold groups without groups
    text = re.sub(rf"\\[tdc]?frac{group}{group}", _quotient, text)
    text = re.sub(r"\\binom\{([^{}]*)\}\{([^{}]*)\}", r"C(\1, \2) ", text)
    text = re.sub(r"\\sqrt\{([^{}]*)\}", r"√(\1)", text)
    text = re.sub(r"\\[,;:! ]|\\quad|\\qquad", " ", text)
    text = re.sub(r"([_^])\{(\w{1,3}|[-−]\w{1,2}|[A-Za-z]+)\}", r"\1\2", text)  # b_{j-i} is not b_j - i
    return " ".join(text.replace("$", "").replace("\\", "").split())


def _quotient(found: re.Match[str]) -> str:
    """Return a fraction on one line, parentheses around what is more than one letter or number."""
    return "/".join(part if re.fullmatch(r"\d+|\w", part) else f"({part})" for part in found.groups()) + " "


def _always(text: str) -> Callable[[re.Match[str]], str]:
    return lambda _: text


def table(header: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Return an HTML table of escaped texts (with ``$...$`` as formulas), readable on a narrow screen."""
    head = "".join(f"<th scope='col'>{inline_math(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{inline_math(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    title = f"<caption>{inline_math(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def decimal(x: float | None, width: float | None = None) -> str:
    """Return ``x`` for people: to two digits of ``width``, the uncertainty, or to four digits without one.

    >>> decimal(0.123456, 0.01), decimal(1.23456e-5), decimal(-2.0), decimal(float("inf")), decimal(None)
    ('0.123', '1.235 × 10⁻⁵', '−2', '∞', '–')
    """
    if x is None or math.isnan(x):
        return "–"
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    if x == 0 or (x == round(x) and abs(x) < 1e7 and not width):
        return f"{x:,.0f}".replace("-", "−")
    exponent = math.floor(math.log10(abs(x)))
    places = 3 - exponent
    if width and math.isfinite(width):  # at least two digits of the number itself, at most seven
        places = min(max(1 - math.floor(math.log10(abs(width))), 1 - exponent), 6 - exponent)
    if -4 <= exponent < 6:
        text, power = f"{x:,.{max(places, 0)}f}", ""
    else:
        text, e = f"{x:.{max(places + exponent, 0)}e}".split("e")
        power = f" × 10{superscript(int(e))}"
    if not width and "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.replace("-", "−") + power


def short(x: float) -> str:
    """Return ``x`` for a sentence: whole below ten million, else to three digits.

    >>> short(0.12345), short(52.0), short(12882851024755.0)
    ('0.123', '52', '1.29 × 10¹³')
    """
    return decimal(x, None if float(x).is_integer() and abs(x) < 1e7 else x / 10)


def span(values: Iterable[float]) -> str:
    """Return the range of ``values`` for a sentence.

    >>> span([9, 3, 7]), span([0.12345])
    ('3 to 9', '0.123')
    """
    found = sorted(values)
    return " to ".join(dict.fromkeys(short(end) for end in (found[0], found[-1])))


def superscript(n: int) -> str:
    """Return an integer as Unicode superscripts: -5 as ⁻⁵."""
    return str(n).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def encode_ascii(error: UnicodeError) -> tuple[str, int]:
    """Replace the signs of `plain` and `decimal` by ASCII; a handler for `codecs.register_error`.

    >>> encode_ascii(UnicodeEncodeError("ascii", "10⁻⁵ ≤ φ", 0, 8, "no"))
    ('10^-5 <= phi', 8)
    """
    assert isinstance(error, UnicodeEncodeError)
    text = re.sub("[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", r"^\g<0>", error.object[error.start : error.end]).translate(_ASCII)
    text = re.sub("[Α-ω]", lambda letter: unicodedata.name(letter[0]).split()[-1].lower(), text)
    return text.encode("ascii", "replace").decode(), error.end


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
        for name in set(node.attrib) - MATHML_ATTRIBUTES:  # no links, no styles: a formula fetches nothing
            del node.attrib[name]
        node.text = html.unescape(node.text) if node.text else node.text
        node.tail = html.unescape(node.tail) if node.tail else node.tail
    return ElementTree.tostring(element, encoding="unicode")


_UNICODE = [
    (r"\|", "‖"), (r"\le", "≤"), (r"\ge", "≥"), (r"\ne", "≠"), (r"\preceq", "≤"), (r"\succeq", "≥"),
    (r"\sum", "Σ"), (r"\prod", "Π"), (r"\infty", "∞"), (r"\cdot", "·"), (r"\cdots", "…"), (r"\ldots", "…"),
    (r"\alpha", "α"), (r"\beta", "β"), (r"\gamma", "γ"), (r"\delta", "δ"), (r"\varepsilon", "ε"), (r"\epsilon", "ε"), (r"\kappa", "κ"), (r"\chi", "χ"), (r"\pi", "π"), (r"\eta", "η"),
    (r"\ell", "ℓ"), (r"\lambda", "λ"), (r"\rho", "ρ"), (r"\sigma", "σ"), (r"\tau", "τ"), (r"\phi", "φ"), (r"\varphi", "φ"),
    (r"\in", "∈"), (r"\pm", "±"), (r"\to", "→"), (r"\times", "×"), (r"\sim", "~"), (r"\propto", "∝"),
    (r"\left", ""), (r"\right", ""), (r"\bigl", ""), (r"\bigr", ""), (r"\Bigl", ""), (r"\Bigr", ""),
    (r"\exp", "exp"), (r"\log", "log"), (r"\min", "min"), (r"\max", "max"), (r"\sinh", "sinh"), (r"\cosh", "cosh"),
    (r"\big", ""), (r"\Big", ""), (r"\notin", "∉"), (r"\Delta", "Δ"), (r"\Pr", "P"), (r"\{", "{"), (r"\}", "}"), (r"\equiv", "≡"), (r"\top", "T"),
    (r"\displaystyle", ""), (r"\Rightarrow", "⇒"), (r"\mapsto", "↦"),
]  # fmt: skip

_ASCII = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−–×·‖′’“”", "-0123456789--x*|''\"\"") | str.maketrans(
    {
        "✓": "+",
        "✗": "!",
        "≤": "<=",
        "≥": ">=",
        "≠": "!=",
        "∞": "inf",
        "…": "...",
        "√": "sqrt",
        "Σ": "sum",
        "→": "->",
        "\u0302": "^",
    }
)
