"""What goes beyond the paper: recentring, monomials that are chosen, expansions around many centres, and certificates."""

from __future__ import annotations

from schoenbat_theory.systems.system import Number, Picture, Sentence, System

__all__ = ["BEYOND"]

BEYOND = System(
    name="beyond",
    title="Beyond the paper",
    definition=(
        r"Three identities leave attention with weights $e^{\langle q, k\rangle}$ as it is, but not a series that is cut off: queries may be shifted "
        r"by $c$ if keys get weights $w_j = e^{\langle c, k_j\rangle}$; keys may be shifted by $m$; and $B q$, $B^{-\top} k$ have the products of $q$, "
        r"$k$. With $x_i = B (q_i - c)$, $y_j = B^{-\top} (k_j - m)$ and $m$ the mean of the keys under $w$,",
        r"$\displaystyle \mathrm{out}_i = \frac{\sum_j w_j e^{\langle x_i, y_j\rangle} v_j}{\sum_j w_j e^{\langle x_i, y_j\rangle}} "
        r"\approx \sum_j w_j v_j + \sum_j w_j \langle x_i, y_j\rangle v_j, \qquad \sum_j w_j = 1,$",
        r"and what the width leaves is spent on monomials $x^\alpha$, chosen by what they contribute, or on expansions around more than one centre. "
        r"What any of them errs is estimated from a few rows that are computed exactly.",
    ),
    propositions=tuple(f"P{i}" for i in range(36, 47)),
    pictures=(
        Picture("P37", "not positive"),
        Picture("P38R", "recentred over given"),
        Picture("P46R", "on heads"),
        Picture("P43R", "few bad rows"),
    ),
    sentences=(
        Sentence(
            "P36: on the heads of this report the identities move no output by more than %s of the largest one in float64, %s in float32.",
            (Number("P36", "difference in float64"), Number("P36", "difference in float32")),
        ),
        Sentence(
            "P37: cut off after degree 1, up to %s of the rows of a head have a denominator that is not positive where keys are not shifted, up to "
            "%s around their plain mean, and %s around their mean under the weights.",
            (
                Number("P37", "not positive, no shift"),
                Number("P37", "not positive, plain mean"),
                Number("P37", "not positive, weighted mean"),
            ),
        ),
        Sentence(
            "P38R: around the means the mean square of an inner product, over all pairs, is %s to %s of what it was. Higher degrees need not become "
            "smaller: for skewed queries its mean fourth power rises from %s to %s (P38).",
            (
                Number("P38R", "⟨x, y⟩², recentred over given", min),
                Number("P38R", "⟨x, y⟩², recentred over given"),
                Number("P38", "skewed queries", field="predicted"),
                Number("P38", "skewed queries"),
            ),
        ),
        Sentence(
            "P45R: after pre-scaling the first order errs by %s to %s of the output. Half the squared spread of the logits, %s to %s here, is of that "
            "order; a bound it is not (P45).",
            (
                Number("P45R", "leading term on heads", min),
                Number("P45R", "leading term on heads"),
                Number("P45R", "leading term on heads", min, "predicted"),
                Number("P45R", "leading term on heads", field="predicted"),
            ),
        ),
        Sentence(
            "P46: where attention is sharp the spread says nothing, as weights may collapse on few keys: in an example half its square is %s, and the error "
            "%s of the diameter of the values. That diameter times the divergence of a row from the common weights is a bound (P46R).",
            (Number("P46", "weights collapse", field="predicted"), Number("P46", "weights collapse")),
        ),
        Sentence(
            "P39R: monomials are chosen by scores. The mean square error is the sum of the scores left out where no two monomials correlate; on these heads "
            "it is %s to %s times that sum.",
            (Number("P39R", "error / sum of scores left out", min), Number("P39R", "error / sum of scores left out")),
        ),
        Sentence(
            "P40: after pre-scaling the fit of 256 optimized features expects %s to %s times the error that one draw of them then has.",
            (Number("P40", "predicted over found error", min), Number("P40", "predicted over found error")),
        ),
        Sentence(
            "P42: as trained, expansions around many centres err by %s to %s of the output.",
            (Number("P42", "relative error, default budget", min), Number("P42", "relative error, default budget")),
        ),
        Sentence(
            "P43R: certificates at the level of 95 %% cover the error of two methods on a head in a share of %s to %s of 200 samples. They assume that rows "
            "which were drawn show the spread of the others: where one row of 512 holds nearly all of the error, a share of %s is certified and wrong.",
            (
                Number("P43R", "coverage", min),
                Number("P43R", "coverage"),
                Number("P43R", "few bad rows"),
            ),
        ),
        Sentence(
            "P44: without an assumption nothing better is possible. From 64 rows nobody can exclude a relative error of %s to %s on these heads.",
            (
                Number("P44", "64 rows cannot exclude", min),
                Number("P44", "64 rows cannot exclude"),
            ),
        ),
    ),
    record="beyond",
    scenes=("pre-scaled", "pre-scaled-released", "local-sharp", "local-moderate"),
    compared=(
        ("pre-scaled", "first order, recentred", "exact attention"),
        ("pre-scaled-released", "first order, recentred", "exact attention"),
        ("local-sharp", "local expansions", "exact attention"),
        ("local-moderate", "local expansions", "exact attention"),
    ),
)
