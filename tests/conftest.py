"""What all tests share: every array library, and a Hypothesis profile that gives the same examples every time."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

collect_ignore = ["a_map_of_your_own.py"]  # to import it is to register a map for everybody

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("repeatable")


def _strict():
    """Return the strict library on a second device, which refuses NumPy and mixed devices as a GPU does."""
    import array_api_strict

    return functools.partial(array_api_strict.asarray, device=array_api_strict.Device("device1"))


def _cupy():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    if not cupy.cuda.is_available():
        pytest.skip("CuPy finds no usable GPU")
    return cupy.asarray


@pytest.fixture(
    params=[
        pytest.param(lambda: np.asarray, id="numpy"),
        pytest.param(_strict, id="strict"),
        pytest.param(_cupy, id="cupy", marks=pytest.mark.gpu),
        # one line adds an array library
    ]
)
def asarray(request):
    """Move a host array to an array library."""
    return request.param()


@pytest.fixture
def rng():
    """Return a generator of the test's own."""
    return np.random.default_rng(0)
