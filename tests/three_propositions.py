"""Three propositions of a dozen cells each, long enough to be killed in, with numbers of every kind."""

import time

import numpy as np

import schoenbat_theory as st


def sampled(cell):
    """A sampled check; the numbers are those of the cell's stream."""
    time.sleep(0.08)
    return st.check_mean(
        lambda rng, size: rng.random((size, 2)),
        [0.5, 0.5],
        margin=0.02,
        bounds=(0, 1),
        alpha=cell.alpha,
        rng=cell.rng,
        max_draws=cell.draws,
    ).but(figure=None)


def observed(cell):
    """Numbers that JSON cannot hold as they are, NumPy's scalars, and what the heads say."""
    time.sleep(0.08)
    yield st.observe(name="of the stream", measured=cell.rng.random(), interval=(-np.inf, np.float32(0.1)))
    yield st.observe(name="none", measured=np.nan, draws=np.int64(3))
    for head in cell.heads[:2]:
        yield st.observe(name=f"mean of q: {head.name}", measured=head.q.mean())


def pictured(cell):
    """A sampled check with its figure."""
    return st.check_mean(
        lambda rng, size: rng.random(size), 0.5, margin=0.02, bounds=(0, 1), alpha=cell.alpha, rng=cell.rng
    )


def refuted(cell):
    """A mutant."""
    time.sleep(0.08)
    return st.decide(cell.rng.random() > 1, because="a random number is below 1")


def named(check, number):
    def one(cell):
        return check(cell)

    one.__name__ = f"{check.__name__}_{number}"
    return one


ONE, TWO, THREE = (
    st.Proposition(
        f"T{i}",
        f"the {i}th of three",
        "$1 = 1$",
        (),
        "here",
        "consistent",
        [named(check, number) for check in (sampled, observed) for number in range(5)] + [pictured] * (i == 1),
        [named(refuted, number) for number in range(2)],
    )
    for i in range(1, 4)
)
