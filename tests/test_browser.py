"""The report in a real browser, as wide as a phone and as wide as a desk."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory.propositions import Evidence, Proposition
from schoenbat_theory.report import page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-headless-shell", "chromium-browser"))), None)
QUIET = "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync --no-first-run --disable-quic"
MEASURE = """<!doctype html><meta charset="utf-8"><body style="margin:0">%s<pre id="found"></pre><script>
addEventListener("load", () => {
  document.getElementById("found").textContent = JSON.stringify([...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, root = page.documentElement
    return {client: root.clientWidth, scroll: root.scrollWidth,
            formulas: [...page.querySelectorAll("math")].map(m => [m.getBoundingClientRect().width, m.getBoundingClientRect().height]),
            pictures: [...page.querySelectorAll("svg")].map(s => [s.getBoundingClientRect().width, s.getBoundingClientRect().height])}
  }))
})</script>"""
FRAME = '<iframe style="width:%dpx;height:900px;border:0" srcdoc="%s"></iframe>'
FORMULA = r"$\Pr\left(\sup_{x,y} |\langle\phi(x),\phi(y)\rangle - f(\langle x,y\rangle)| > \varepsilon\right) \le 2\exp\left(-\frac{D\varepsilon^2}{8p^2f(pR^2)^2}\right)$"


def wide(cell):
    tail = {"plot": "tail", "rate": [0.1], "lower": [0.08], "upper": [0.12], "bound": [0.4]}
    weights = {"plot": "weights", "before": [[0.5, 0.5]], "after": [[0.9, 0.1]]}
    numbers = {"measured": 1.23456e-7, "predicted": 1e-7, "interval": (1.2e-7, 1.3e-7), "draws": 1 << 25}
    return [
        Evidence("refuted", "monte-carlo", "a" * 60, inequality=FORMULA, note=FORMULA, figure=tail, **numbers),
        Evidence(None, "data", "on heads", note="x" * 200, figure=weights, **numbers),
    ]


def measured(text, tmp_path):
    """Return what a browser shows of a page that is 400 pixels wide, and 1400."""
    frames = "".join(FRAME % (width, html.escape(text)) for width in (400, 1400))
    (tmp_path / "wrapper.html").write_text(MEASURE % frames)
    command = [BROWSER, *QUIET.split(), f"--user-data-dir={tmp_path / 'user'}", "--window-size=1600,1000", "--dump-dom"]
    done = subprocess.run(
        [*command, (tmp_path / "wrapper.html").as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)[1]))


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no chromium or chromium-headless-shell on this machine")
def test_the_page_fits_a_phone_and_a_desk_and_shows_its_formulas(tmp_path):
    p = Proposition("P" * 30, f"A long title {FORMULA}", FORMULA, (FORMULA,), "s" * 120, "refuted", [wide])
    found = measured(page(st.verify([p], workers=1)), tmp_path)
    assert [frame["client"] for frame in found] == [pytest.approx(400, abs=20), pytest.approx(1400, abs=20)]
    for frame in found:
        assert frame["scroll"] <= frame["client"]
        assert len(frame["formulas"]) >= 6
        assert all(width > 0 and height > 0 for width, height in frame["formulas"])
        assert len(frame["pictures"]) == 2
        assert all(100 < width <= frame["client"] and height > 50 for width, height in frame["pictures"])


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no chromium or chromium-headless-shell on this machine")
@pytest.mark.parametrize("name", ["compare", "scaling"])
def test_the_pages_of_compare_fit_too_and_their_pictures_stay_readable(name, tmp_path):
    x = np.random.default_rng(0).normal(size=(3, 2, 12, 4))
    if name == "compare":
        text, pictures, formulas = st.compare(*x, kernels=["exp"], widths=[8], draws=2, workers=1).to_html(), 9, 3
    else:
        text, pictures, formulas = st.ablate_scaling(*x, width=16, draws=2, workers=1).to_html(), 1, 8
    phone, desk = measured(text, tmp_path)
    for frame in (phone, desk):
        assert frame["scroll"] <= frame["client"]
        assert len(frame["formulas"]) >= formulas
        assert all(width > 0 and height > 0 for width, height in frame["formulas"])
        assert len(frame["pictures"]) == pictures
    assert all(width >= 600 for width, _ in phone["pictures"])  # these scroll inside their frame: names are not shrunk
    assert all(600 <= width <= desk["client"] for width, _ in desk["pictures"])
