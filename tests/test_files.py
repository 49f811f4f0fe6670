from __future__ import annotations

import pickle

import numpy as np
import pytest

from schoenbat_theory.files import read_npz, write_npz, write_whole


def test_a_text_and_bytes_come_back(tmp_path):
    for data in ("häuser\n", b"\x00\xff"):
        write_whole(tmp_path / "file", data)
        assert (tmp_path / "file").read_bytes() == (data.encode() if isinstance(data, str) else data)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, "old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_archive_comes_back_bit_for_bit(tmp_path, rng):
    arrays = {"x": rng.normal(size=(2, 3)), "name": np.array("n"), "empty": np.ones((0, 2), dtype=np.float32)}
    write_npz(tmp_path / "a.npz", **arrays)
    found = read_npz(tmp_path / "a.npz", list(arrays))
    for name, x in arrays.items():
        assert found[name].dtype == x.dtype
        assert np.array_equal(found[name], x)


def test_a_missing_array_is_named_with_those_that_exist(tmp_path):
    write_npz(tmp_path / "a.npz", q=np.ones(1), w=np.ones(1))
    with pytest.raises(ValueError, match=r"a\.npz: expected arrays q, k; missing k, found q, w"):
        read_npz(tmp_path / "a.npz", ("q", "k"))


def test_objects_are_not_written(tmp_path):
    with pytest.raises(TypeError, match="q: expected numbers or text, found objects"):
        write_npz(tmp_path / "a.npz", q=np.array([{}], dtype=object))
    assert list(tmp_path.iterdir()) == []


def test_pickles_are_refused_unread(tmp_path):
    class Boom:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was read",))

    np.savez(tmp_path / "inside.npz", q=np.array([Boom()], dtype=object))
    with pytest.raises(ValueError, match="array q holds pickled objects, which are not read"):
        read_npz(tmp_path / "inside.npz", ("q",))
    (tmp_path / "whole.npz").write_bytes(pickle.dumps(Boom()))
    with pytest.raises(ValueError, match=r"expected an \.npz archive, found a damaged or other file"):
        read_npz(tmp_path / "whole.npz", ("q",))


def test_foreign_files_are_refused(tmp_path):
    np.save(tmp_path / "single.npy", np.ones(2))
    with pytest.raises(ValueError, match="found a single array"):
        read_npz(tmp_path / "single.npy", ("q",))
    for text in ("", "hello", "PK\x03\x04"):
        (tmp_path / "text").write_text(text)
        with pytest.raises(ValueError, match="found a damaged or other file"):
            read_npz(tmp_path / "text", ("q",))
    for path in (tmp_path / "absent.npz", tmp_path):
        with pytest.raises(ValueError, match=str(path)):
            read_npz(path, ("q",))


def test_damage_anywhere_is_a_value_error_that_names_the_file_or_is_harmless(tmp_path, rng):
    path, x = tmp_path / "a.npz", rng.normal(size=(3, 5))
    write_npz(path, x=x)
    whole = path.read_bytes()
    flipped = [whole[:i] + bytes([whole[i] ^ 0x55]) + whole[i + 1 :] for i in range(len(whole))]
    refused = kept = 0
    for data in (*flipped, *(whole[:i] for i in range(len(whole)))):
        path.write_bytes(data)
        try:
            assert np.array_equal(read_npz(path, ("x",))["x"], x)  # e.g. a time stamp
        except ValueError as error:
            refused += str(path) in str(error)
        else:
            kept += 1
    assert refused + kept == 2 * len(whole)
    assert refused > len(whole)  # every truncation, and most flips
