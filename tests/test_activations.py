from __future__ import annotations

import numpy as np
import pytest

from schoenbat_theory import load_heads, shipped_heads


def archive(path, **changes):
    arrays = {"q": np.ones((2, 3, 4)), "k": np.ones((2, 5, 4)), "v": np.ones((2, 5, 6)), **changes}
    np.savez(path, **{name: x for name, x in arrays.items() if x is not None})
    return path


def test_eight_heads_are_shipped_and_differ():
    heads = shipped_heads()
    assert len({head.name for head in heads}) == len(heads) == 8
    for head in heads:
        assert head.q.shape == head.k.shape == head.v.shape == (512, 32)
        for x in (head.q, head.k, head.v):
            assert x.dtype == np.float64
            assert np.isfinite(x).all()
    assert len({head.q.tobytes() for head in heads}) == 8


def test_an_archive_of_ones_own_is_read_head_by_head(tmp_path, rng):
    q, k, v = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 5, 4)), rng.normal(size=(2, 5, 6))
    heads = load_heads(archive(tmp_path / "mine.npz", q=q, k=k, v=v))
    assert [head.name for head in heads] == ["mine.npz head 0", "mine.npz head 1"]
    for i, head in enumerate(heads):
        assert np.array_equal(head.q, q[i])
        assert np.array_equal(head.k, k[i])
        assert np.array_equal(head.v, v[i])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_floating_dtype_is_widened_exactly(tmp_path, rng, dtype):
    q = rng.normal(size=(2, 3, 4)).astype(dtype)
    head = load_heads(archive(tmp_path / "a.npz", q=q))[1]
    assert head.q.dtype == np.float64
    assert np.array_equal(head.q, q[1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": None}, "expected arrays q, k, v; missing k, found q, v"),
        ({"q": np.ones((2, 3, 4), dtype=int)}, "q has dtype int64, expected float16, float32 or float64"),
        ({"q": np.ones((2, 3, 4), dtype=complex)}, "q has dtype complex128"),
        ({"v": np.ones((5, 6))}, r"v has shape \(5, 6\), expected \(heads, tokens, width\)"),
        ({"k": np.ones((2, 0, 4))}, r"k has shape \(2, 0, 4\): it is empty"),
        ({"v": np.full((2, 5, 6), np.nan)}, r"v holds nan at index \(0, 0, 0\)"),
        ({"v": np.full((2, 5, 6), -np.inf)}, r"v holds -inf at index \(0, 0, 0\)"),
        ({"k": np.ones((2, 5, 3))}, "do not fit"),
        ({"k": np.ones((3, 5, 4)), "v": np.ones((3, 5, 6))}, "do not fit"),
        ({"v": np.ones((2, 6, 6))}, "do not fit"),
        ({"q": np.ones((2, 3, 1)), "k": np.ones((2, 5, 1))}, "head dimension 1, expected at least 2"),
        ({"q": np.array([object()])}, "array q holds pickled objects"),
    ],
)
def test_an_archive_that_holds_no_heads_is_refused_in_one_sentence(tmp_path, changes, words):
    path = archive(tmp_path / "bad.npz", **changes)
    with pytest.raises(ValueError, match=words) as error:
        load_heads(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
