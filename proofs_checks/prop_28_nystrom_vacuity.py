r"""P28V: At practical sizes Skyformer's theorem asks for more landmarks than there are.

    c >= (56/3) 2n l_max log(4n / delta)  >  (112/9) log(4n / delta)          (P28)

is more than the 128 landmarks of the released configuration on any input with n >= 1024 and delta = 0.1, more than all
2n points on any input with n <= 46, and on usual inputs, where 2n l_max is in the tens or hundreds, many times the
number of points. All 2n points make no error at all.

Hypotheses: eps < 1. The constant is the one that the proof gives (P28); the source prints none. One-sided Bernstein's
inequality asks for 8 (2n l_max + 1/6) log(2n / delta), which is within 128 for some inputs, but not for those below.

Source: Chen et al. (2021), Skyformer, Theorem 2, its appendix and its released code (seen). That it is silent is not in
the sources seen.

Why: |G| >= 2 |C| (the half of P27 with no landmark), so 2n l_max >= d_stat >= |G| / (|G| + eps |C|) > 2/3. The theorem
is silent, not wrong: where G is nearly of low rank the error falls with the landmarks all the same, which the largest
leverage score does not see. On some heads one pair of a query and a key makes up nearly all of C, as the far pair of
P28 does: the error is near 0 where one of the two is a landmark, and near 1 where none is.

Checked exactly: the bound for any input, from (4n / delta)^112 > e^(9 c) in rational arithmetic; from n = 1 to 46 it
follows from both ends, as the difference of the two sides is concave in n. By computation: what is asked for on normal
points. By sampling, without a verdict: the error there. Data: both on heads.

Not checked: other sampling, by leverage scores, which would ask for d_stat log d_stat and has to know them.
"""

from __future__ import annotations

import contextlib
import math
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st

DELTA = 0.1
E_HIGH = Fraction(27183, 10000)  # above e


def _speaks(n: int, landmarks: int, claimed: bool = False) -> st.Evidence:
    """Whether (112/9) log(40 n), below what is asked for on any input with delta = 0.1, is within ``landmarks``."""
    silent = Fraction(40 * n) ** 112 > E_HIGH ** (9 * landmarks)
    least = 112 / 9 * math.log(40 * n)
    spoken = st.decide(
        not silent,
        because="(40 n)^112 > e^(9 c) in rational arithmetic, e < 2.7183",
        name=f"{landmarks} landmarks, n = {n}",
        measured=least,
        predicted=float(landmarks),
        note="measured: more is asked for on any input, with eps < 1 and delta = 0.1; predicted: available",
    )
    return spoken if claimed else spoken.but(verdict="vacuous" if silent else "refuted")


def any_input(cell: st.Cell) -> list[st.Evidence]:
    """The released 128 landmarks from n = 1024 on, and all 2n landmarks up to n = 46, whatever the points are."""
    del cell
    return [_speaks(1024, 128), _speaks(1, 2), _speaks(46, 92)]


def claimed_for_any_input(cell: st.Cell) -> st.Evidence:
    """Twin: it speaks at n = 1024 with 128 landmarks."""
    del cell
    return _speaks(1024, 128, claimed=True)


def _points() -> np.ndarray:
    """256 normal queries and as many keys, d = 16, scaled as in the source."""
    return np.random.default_rng(28).normal(size=(512, 16)) / 2


def _norm(a: np.ndarray) -> float:
    return float(np.linalg.norm(a, 2))


def _gram(points: np.ndarray) -> np.ndarray:
    return st.to_host(st.gaussian_gram(points, points))


def _usual(claimed: bool = False) -> list[st.Evidence]:
    """What is asked for on normal points, n = 256, d = 16, scaled as in the source, of which there are 512."""
    g, found = _gram(_points()), []
    available, size = len(g), _norm(g[:256, 256:])
    for eps in (0.5, 0.1):
        asked = st.bounds.landmarks_required(g, eps * size, DELTA)
        coherence = available * float(np.max(st.bounds.leverage_scores(g, eps * size)))
        one_sided = math.ceil(8 * (coherence + 1 / 6) * math.log(available / DELTA))
        spoken = st.decide(
            asked <= available,
            kind="deterministic",
            because="the bound as computed",
            name=f"eps = {eps}",
            measured=float(asked),
            predicted=float(available),
            note=f"measured: asked for; predicted: available; one-sided Bernstein asks for {one_sided:,}",
        )
        found.append(spoken if claimed else spoken.but(verdict="vacuous" if asked > available else "refuted"))
    return found


def normal_points(cell: st.Cell) -> list[st.Evidence]:
    """More than all points, for eps = 0.5 and 0.1."""
    del cell
    return _usual()


def claimed_for_normal_points(cell: st.Cell) -> list[st.Evidence]:
    """Twin: at most all points."""
    del cell
    return _usual(claimed=True)


DRAWS = 7
WORST = f"the worst of {DRAWS} draws"
METHODS: dict[str, dict[str, Any]] = {
    "uniform": {"landmarks": "uniform"},
    "half queries": {"landmarks": "released"},
    "half queries, γ = 0.1, 6 steps": {"landmarks": "released", "inverse": "schulz"},
}


def _errors(cell: st.Cell, q: np.ndarray, k: np.ndarray, count: int, method: str = "uniform") -> list[float]:
    """|C - C~| / |C| of each draw."""
    c, one = st.to_host(st.gaussian_gram(q, k)), np.eye(len(k))
    if not c.any():
        raise ValueError("every weight is 0 in float64")
    size, each = _norm(c), {"n_landmarks": count, "rng": cell.rng, **METHODS[method]}
    return [_norm(c - st.to_host(st.nystrom_attention(q, k, one, **each))) / size for _ in range(DRAWS)]


def _scaled(head: Any) -> tuple[np.ndarray, np.ndarray]:
    """At most 256 queries and keys of a head, evenly spaced, as the source scales them."""
    q, k = (x[:: -(-len(x) // 256)] / x.shape[-1] ** 0.25 for x in (head.q, head.k))
    return q, k


def error_against_landmarks(cell: st.Cell) -> st.Evidence:
    """|C - C~| / |C| on normal points for three methods, and on the first and the last head, beside the answer 0."""
    points, counts = _points(), [8, 16, 32, 64, 128, 256]
    series: dict[str, list[float | None]] = {
        f"normal, {method}": [max(_errors(cell, points[:256], points[256:], count, method)) for count in counts]
        for method in METHODS
    }
    for head in (*cell.heads[:1], *cell.heads[1:][-1:]):
        q, k = _scaled(head)
        with contextlib.suppress(ValueError):  # points too far apart for a kernel matrix, as `asked_on_heads` says
            series[f"{head.name}, uniform"] = [
                max(_errors(cell, q, k, count)) if count < len(q) + len(k) else None for count in counts
            ]
    g = _gram(points)
    asked = st.bounds.landmarks_required(g, 0.5 * _norm(g[:256, 256:]), DELTA)
    return st.Evidence(
        None,
        "monte-carlo",
        name="normal points, 128 landmarks",
        measured=series["normal, uniform"][counts.index(128)],
        draws=DRAWS,
        note=f"|C - C~| / |C|, {WORST}; the answer 0 has 1",
        figure={
            "plot": "curves",
            "title": "Error against landmarks",
            "x": counts,
            "series": series,
            "lines": {"the answer 0 (no information)": 1.0},
            "x_label": f"landmarks (of 512; for an error of 0.5 the theorem asks for {asked:,})",
            "y_label": "‖C − C̃‖ / ‖C‖",
            "log_x": True,
            "log_y": True,
            "caption": f"On normal points the error falls long before the theorem speaks. Each point is {WORST}; "
            "where one pair of tokens outweighs all others, a draw hits or misses it.",
        },
    )


def error_with_128_landmarks(cell: st.Cell) -> list[st.Evidence]:
    """|C - C~| / |C| on heads, at most 256 queries of each."""
    found = []
    for head in cell.heads:
        q, k = _scaled(head)
        try:
            errors = _errors(cell, q, k, min(128, len(q) + len(k)))
        except ValueError as reason:
            found.append(st.observe(name=head.name, note=f"points too far apart: {reason}"))
        else:
            note = f"{WORST}, the best has {min(errors):.2g}; the answer 0 has 1"
            found.append(st.observe(name=head.name, measured=max(errors), note=note))
    return found


def asked_on_heads(cell: st.Cell) -> list[st.Evidence]:
    """Landmarks asked for over points available, eps = 0.5 and 0.1, at most 256 queries of each head."""
    found = []
    for head in cell.heads:
        name = f"asked / available, eps = 0.5: {head.name}"
        try:
            found.append(_asked(*_scaled(head)).but(name=name))
        except ValueError as error:
            found.append(st.observe(name=name, note=f"points too far apart: {error}"))
    return found


def _asked(q: np.ndarray, k: np.ndarray) -> st.Evidence:
    g = _gram(np.concatenate([q, k]))
    size = _norm(g[: len(q), len(q) :])
    asked = [st.bounds.landmarks_required(g, eps * size, DELTA) / len(g) for eps in (0.5, 0.1)]
    return st.observe(measured=asked[0], note=f"{asked[1]:.3g} for eps = 0.1")


P28V = st.Proposition(
    id="P28V",
    title="Skyformer's theorem at practical sizes",
    statement=r"The $c$ of P28 is at most the 128 landmarks of the released configuration for some input "
    r"with $n \ge 1024$ and $\delta = 0.1$; and at most $2n$ for normal points with $n = 256$ and width $d = 16$.",
    hypotheses=(r"$\varepsilon < 1$; the constant 56/3 is that of P28",),
    source="Chen et al. (2021), Theorem 2, its appendix and its released code (seen)",
    expected="vacuous",
    checks=[any_input, normal_points, error_against_landmarks, error_with_128_landmarks, asked_on_heads],
    mutants=[claimed_for_any_input, claimed_for_normal_points],
    cites=("chen2021skyformer",),
)
