"""Three systems of the literature: SchoenbAt, Skyformer, and relative positions by FFT."""

from __future__ import annotations

from schoenbat_theory.systems.system import Number, Picture, Sentence, System

__all__ = ["RELATIVE", "SCHOENBAT", "SKYFORMER"]

SCHOENBAT = System(
    name="schoenbat",
    title="SchoenbAt",
    definition=(
        r"Attention with weights $f(\langle q, k\rangle)$, $f(t) = \sum_n a_n t^n$ with $a_n \ge 0$, estimated by random Maclaurin features. "
        r"Each draws a degree $N$ with probability $P(N)$ and $N$ sign vectors $w_1, \ldots, w_N$:",
        r"$\displaystyle \phi(x)_j = \sqrt{\frac{a_N}{P(N) D}} \prod_{i=1}^{N} \langle w_i, x\rangle$",
        r"$\displaystyle \mathrm{out}_i = \frac{\phi(q_i)^\top \sum_j \phi(k_j) v_j^\top}{\phi(q_i)^\top \sum_j \phi(k_j)}$",
        r"in time linear in the number of tokens. Queries and keys are pre-scaled first: centred, brought to length 1, multiplied by $d^{-1/4}$.",
    ),
    propositions=(*(f"P{i:02}" for i in range(4, 20)), "P33", "P34"),
    pictures=(Picture("P16", "after pre-scaling"), Picture("P19", "relative error"), Picture("P10", "bias")),
    sentences=(
        Sentence(
            "P16: pre-scaled, a row of attention weights is within %s of uniform, in total variation; on the heads of this report it is within %s "
            "to %s on average, and was within %s to %s as trained.",
            (
                Number("P16", "after pre-scaling", field="predicted"),
                Number("P16", "after pre-scaling", min),
                Number("P16", "after pre-scaling"),
                Number("P16", "as trained", min),
                Number("P16", "as trained"),
            ),
        ),
        Sentence(
            "P19: 256 random features then err by %s to %s of the attention output, the plain mean of the values, which ignores the "
            "queries, by %s to %s.",
            (
                Number("P19", "relative error: map", min),
                Number("P19", "relative error: map"),
                Number("P19", "relative error: plain mean", min),
                Number("P19", "relative error: plain mean"),
            ),
        ),
        Sentence(
            "P07V: the bound of Kar and Karnick for one pair of these tokens asks %s features or more, Chebyshev's with the exact variance "
            "asks %s.",
            (
                Number("P07V", "D asked by Kar & Karnick", min),
                Number("P07V", "D asked by Chebyshev", min),
            ),
        ),
    ),
)

SKYFORMER = System(
    name="skyformer",
    title="Skyformer",
    definition=(
        r"Attention with the Gaussian kernel and without a denominator. With queries and keys divided by $d^{1/4}$ it is",
        r"$C V,$ $\quad C_{ij} = \exp(-\|q_i - k_j\|^2 / 2),$ $\quad "
        r"G \approx \tilde{G} = G S \, (S^\top G S)^{+} \, S^\top G$",
        r"where $G$ is the positive semidefinite matrix of all $2n$ queries and keys, of which $C$ is a block, and $S$ chooses some of its "
        r"columns, the landmarks: the Nyström approximation, in time linear in $n$. The released code replaces the pseudo-inverse by six steps "
        r"of a Schulz iteration on $S^\top G S + \gamma I$.",
    ),
    propositions=("P27", "P28", "P29", "P30"),
    pictures=(Picture("P28V", "error against landmarks"), Picture("P29R", "residual against landmarks")),
    sentences=(
        Sentence(
            r"P28V: at $n = 1024$ the theorem asks for more than %s landmarks, whatever the input; the released configuration has %s.",
            (Number("P28V", "n = 1024"), Number("P28V", "n = 1024", field="predicted")),
        ),
        Sentence(
            r"For an error of half of $\|C\|$ it asks for %s landmarks of %s normal points, and on the heads of this report for %s to %s times as "
            r"many landmarks as there are points: the bound is true and says nothing. What is measured on the normal points with 128 landmarks is "
            r"an error of %s.",
            (
                Number("P28V", "normal points: eps = 0.5"),
                Number("P28V", "normal points: eps = 0.5", field="predicted"),
                Number("P28V", "asked / available, eps = 0.5", min),
                Number("P28V", "asked / available, eps = 0.5"),
                Number("P28V", "error against landmarks"),
            ),
        ),
        Sentence(
            "On the heads of this report the error with 128 landmarks, the worst of a few draws, is %s to %s; the answer 0 has 1.",
            (Number("P28V", "error with 128 landmarks", min), Number("P28V", "error with 128 landmarks")),
        ),
        Sentence(
            "P29R: six steps of the iteration do not always invert. On the heads of this report they leave %s (where landmarks are far apart) to %s "
            "of 128 landmarks, in the spectral norm; 1 would be no inverse at all.",
            (Number("P29R", "residual on heads", min), Number("P29R", "residual on heads")),
        ),
    ),
    scenes=("skyformer",),
    compared=(("skyformer", "Nyström by pseudo-inverse", "Gaussian attention"),),
)

RELATIVE = System(
    name="relative",
    title="Relative positions",
    definition=(
        r"Attention with a bias for each distance. Positive features, $\exp(\langle q, k\rangle) \approx \langle\phi(q), \phi(k)\rangle$, turn "
        r"numerator and denominator into Toeplitz products, one for each feature and column of the values:",
        r"$\displaystyle \sum_j e^{\langle q_i, k_j\rangle + b_{j-i}} v_j^\top \approx \phi(q_i)^\top \sum_j e^{b_{j-i}} \phi(k_j) v_j^\top$",
        r"by FFT in time $O(n \log n)$. Queries and keys are brought to length 1, which keeps $\exp(\langle q, k\rangle)$ in $[e^{-1}, e]$ and "
        r"the variance of the features small.",
    ),
    propositions=("P31", "P32"),
    pictures=(Picture("P32", "features for 10 % error"),),
    sentences=(
        Sentence(
            "P32: for a relative error of 10 %% on the median pair of tokens, queries and keys of length 1 need %s to %s features on the heads of "
            "this report; as softmax takes them, %s to %s.",
            (
                Number("P32", "10 % error, unit norms:", min),
                Number("P32", "10 % error, unit norms:"),
                Number("P32", "10 % error, as they are:", min),
                Number("P32", "10 % error, as they are:"),
            ),
        ),
        Sentence(
            "The price: the largest weight of a row, without a bias, is %s to %s on average, at most %s by P32; as trained it is %s to %s.",
            (
                Number("P32", "largest weight of a row, unit norms:", min),
                Number("P32", "largest weight of a row, unit norms:"),
                Number("P32", "largest weight of a row, unit norms:", field="predicted"),
                Number("P32", "largest weight of a row, as trained:", min),
                Number("P32", "largest weight of a row, as trained:"),
            ),
        ),
        Sentence(
            "P31: on these heads FFT and the dense formula differ by at most %s of the largest output in float32 and %s in float64. Where the weights "
            "range far FFT alone is not enough: %s denominators of an example are not positive. Rows where rounding is not small are computed densely.",
            (
                Number("P31", "normalised heads: FFT against dense, ALiBi, float32"),
                Number("P31", "normalised heads: FFT against dense, T5 buckets, float64"),
                Number("P31", "the guard is needed"),
            ),
        ),
    ),
    scenes=("relative-positions", "toeplitz-product"),
    compared=(
        ("relative-positions", "FFT with 64 features", "exact attention"),
        ("relative-positions", "FFT with 256 features", "exact attention"),
        ("relative-positions", "FFT with 64 features, causal", "exact attention, causal"),
        ("relative-positions", "FFT with 256 features, causal", "exact attention, causal"),
        ("toeplitz-product", "FFT (here)", "dense product"),
    ),
)
