"""The report in a real browser, as wide as a phone and as wide as a desk."""

import html
import json
import re
import shutil
import subprocess

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


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no chromium or chromium-headless-shell on this machine")
def test_the_page_fits_a_phone_and_a_desk_and_shows_its_formulas(tmp_path):
    p = Proposition("P" * 30, f"A long title {FORMULA}", FORMULA, (FORMULA,), "s" * 120, "refuted", [wide])
    text = html.escape(page(st.verify([p], workers=1)))
    (tmp_path / "wrapper.html").write_text(MEASURE % "".join(FRAME % (width, text) for width in (400, 1400)))
    command = [BROWSER, *QUIET.split(), f"--user-data-dir={tmp_path / 'user'}", "--window-size=1600,1000", "--dump-dom"]
    done = subprocess.run(
        [*command, (tmp_path / "wrapper.html").as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)[1]))
    assert [frame["client"] for frame in found] == [pytest.approx(400, abs=20), pytest.approx(1400, abs=20)]
    for frame in found:
        assert frame["scroll"] <= frame["client"]
        assert len(frame["formulas"]) >= 6
        assert all(width > 0 and height > 0 for width, height in frame["formulas"])
        assert len(frame["pictures"]) == 2
        assert all(100 < width <= frame["client"] and height > 50 for width, height in frame["pictures"])
