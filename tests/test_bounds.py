from __future__ import annotations

import math

import numpy as np
import pytest

from schoenbat_theory import hoeffding_tail, maclaurin_range


@pytest.mark.parametrize(
    ("radius", "p", "words"),
    [
        (-1.0, 2.0, "radius: expected a number >= 0, found -1.0"),
        (math.inf, 2.0, "radius: expected a number >= 0, found inf"),
        ("a", 2.0, "radius: expected a number >= 0, found 'a'"),
        (1.0, -1, "p: expected a finite number > 1, found -1"),
        (1.0, 0.5, "p: expected a finite number > 1, found 0.5"),
        (1.0, math.nan, "p: expected a finite number > 1, found nan"),
        (1e200, 2.0, "t: kernel exp needs finite"),
        (1e-160, 1e308, None),
    ],
)
def test_the_range_of_a_feature_is_known_for_a_law_only(radius, p, words):
    if words is None:
        assert math.isfinite(maclaurin_range("exp", radius, p))
        return
    with pytest.raises((TypeError, ValueError), match=words):
        maclaurin_range("exp", radius, p)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize("place", range(3))
def test_a_tail_bound_needs_positive_finite_numbers(bad, place):
    arguments = [1.0, 8, 2.0]
    arguments[place] = bad
    with pytest.raises(ValueError, match="deviation, n_features, half_range: expected positive finite numbers"):
        hoeffding_tail(*arguments)


def test_a_tail_bound_depends_on_the_quotient_however_large_or_small_its_parts_are():
    for size in (1e-200, 1e200):
        assert hoeffding_tail(size, 8, 2 * size) == 2 * math.exp(-1)
    assert hoeffding_tail(1e200, 8, 1.0) == 0
    assert hoeffding_tail(np.array([1.0, 2.0]), 8, 2.0).tolist() == [2 * math.exp(-1), 2 * math.exp(-4)]
