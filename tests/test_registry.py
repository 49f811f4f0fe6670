"""Feature maps by name: who may register what, in which order they stand, and that a user's file leaves nothing behind."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory import features
from schoenbat_theory.features import registry
from schoenbat_theory.loading import load_maps, load_propositions

OWN = Path(__file__).with_name("a_map_of_your_own.py")
MAP = """
import schoenbat_theory as st

@st.feature_map({name!r})
def make(kernel, dim, n_features):
    return st.RandomMaclaurin(kernel, n_features)
"""


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    before = st.feature_maps()
    with registry.forgotten_afterwards():
        yield
    assert st.feature_maps() == before


def written(folder, name, text):
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


def make(kernel, dim, n_features):
    return None


def test_a_decorated_maker_stays_what_it_is_and_is_found_by_its_name():
    assert st.feature_map("mine")(make) is make
    assert st.feature_maps()["mine"] is make
    assert list(st.feature_maps())[-1] == "mine"  # yours stand behind those of the package


def test_a_name_that_is_taken_is_refused():
    st.feature_map("mine")(make)
    with pytest.raises(ValueError, match=r"name: expected a new one, found 'mine', registered in .*test_registry"):
        st.feature_map("mine")(lambda kernel, dim, n_features: None)
    with pytest.raises(ValueError, match=r"'Taylor, degree 1', registered in schoenbat_theory\.features\.taylor"):
        st.feature_map("Taylor, degree 1")(make)
    assert st.feature_maps()["mine"] is make


def test_a_cell_of_a_notebook_may_run_again():
    def cell():
        def make(kernel, dim, n_features):
            return None

        make.__module__ = "__main__"
        return st.feature_map("mine")(make)

    first, second = cell(), cell()
    assert first is not second
    assert st.feature_maps()["mine"] is second
    with pytest.raises(ValueError, match="registered in __main__"):
        st.feature_map("mine")(make)
    with pytest.raises(ValueError, match=r"registered in schoenbat_theory\.features\.taylor"):
        st.feature_map("Taylor, degree 1")(first)


@pytest.mark.parametrize("name", ["", 3, None, make])
def test_a_name_is_a_text(name):
    with pytest.raises(TypeError, match="name: expected a text"):
        st.feature_map(name)


@pytest.mark.parametrize("maker", [None, "make", 3])
def test_a_maker_can_be_called(maker):
    with pytest.raises(TypeError, match="make: expected a function"):
        st.feature_map("mine")(maker)
    assert "mine" not in st.feature_maps()


def test_every_file_of_features_is_imported_and_order_is_by_file_then_by_place():
    files = {f"schoenbat_theory.features.{found.name}" for found in pkgutil.iter_modules(features.__path__)}
    sources = {name: Path(importlib.import_module(name).__file__).read_text() for name in sorted(files)}
    registering = [
        name for name, source in sources.items() if "\n@feature_map(" in source or "    @feature_map(" in source
    ]
    maps = [(make.__module__, name) for name, make in st.feature_maps().items()]
    assert list(dict.fromkeys(module for module, _ in maps)) == registering
    assert "schoenbat_theory.features.landmarks" in registering
    places = [(module, sources[module].index(f'"{name}"')) for module, name in maps]
    assert places == sorted(places)


def test_a_new_file_in_features_is_found_though_nothing_imports_it(tmp_path, monkeypatch):
    written(tmp_path, "a_new_file", MAP.format(name="new"))
    monkeypatch.setattr(features, "__path__", [*features.__path__, str(tmp_path)])
    try:
        assert st.feature_maps()["new"].__module__ == "schoenbat_theory.features.a_new_file"
    finally:
        sys.modules.pop("schoenbat_theory.features.a_new_file", None)


def test_order_does_not_depend_on_who_was_imported_first():
    code = (
        "import importlib\n"
        "for name in ('taylor', 'landmarks', 'exponential'): importlib.import_module(f'schoenbat_theory.features.{name}')\n"
        "import schoenbat_theory as st; print(list(st.feature_maps()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(list(st.feature_maps()))


def test_every_maker_gives_a_law_no_wider_than_asked_or_something_to_fit_or_none(rng):
    q, k = 0.1 * rng.normal(size=(2, 40, 4))
    served = {kernel: set() for kernel in ("exp", "inv")}
    for name, maker in st.feature_maps().items():
        for kernel in served:
            for width in (1, 2, 7, 64):
                made = maker(kernel, 4, width)
                if made is None:
                    continue
                served[kernel].add(name)
                law = made if hasattr(made, "draw") else made.fit(q, k)
                assert law.n_features <= width
                phi = law.draw(4, np.random.default_rng(0))
                assert phi(q).shape == (40, law.n_features)
                assert isinstance(phi.multiply_adds, int)
    assert served["exp"] == set(st.feature_maps())
    assert "positive, tilted" not in served["inv"]
    assert "random landmarks" in served["inv"]


def test_the_tilted_map_is_fitted_and_the_others_are_not(rng):
    maps, (q, k) = st.feature_maps(), rng.normal(size=(2, 40, 4))
    assert maps["positive, independent"]("exp", 4, 8) == st.PositiveFeatures(8, orthogonal=False)
    assert maps["positive, orthogonal"]("trigh", 4, 8) == st.PositiveFeatures(8)
    tilted = maps["positive, tilted"]("exp", 4, 8)
    assert not hasattr(tilted, "draw")
    assert tilted.fit(q, k) == st.PositiveFeatures(8).fit(q, k)
    assert tilted.fit(q, k).tilt < 0


# --- a user's file -------------------------------------------------------------------------------------------------


def test_the_example_registers_a_map_that_passes_the_exam_and_leaves_nothing_behind():
    for _ in range(2):  # twice in one process
        maps = load_maps(OWN)
        assert list(maps) == ["sparse signs"]
        assert "sparse signs" not in st.feature_maps()
    for kernel, draws in (("exp", 8192), ("inv", 2048)):
        exam = st.testing.examine_map(maps["sparse signs"](kernel, 4, 16), draws=draws)
        assert exam.finding("inner products are unbiased").verdict == "holds"
        assert exam.finding("variance equals its closed form").verdict == "holds"
        assert exam.finding("second moment is variance plus mean squared").verdict == "holds"


def test_the_example_knows_the_variance_of_its_weights():
    law = load_maps(OWN)["sparse signs"]("exp", 4, 16)
    type(law).variance, honest = lambda law, x, y: honest(law, x, y) / 3, type(law).variance
    with pytest.raises(AssertionError, match="variance equals its closed form"):
        st.testing.examine_map(law, draws=2048)


def test_the_example_runs_on_every_array_library_and_counts_what_it_does(asarray, rng):
    phi = load_maps(OWN)["sparse signs"]("inv", 3, 8).draw(3, 1)
    x = rng.normal(size=(2, 5, 3)) / 4
    assert np.allclose(st.to_host(phi(asarray(x))), phi(x), rtol=1e-12, atol=0)
    reached = [weights.shape[1] for weights in phi.levels]
    assert phi.multiply_adds == sum(3 * count + count for count in reached)


def test_files_are_run_anew_and_their_maps_stand_together(tmp_path):
    first, second = (written(tmp_path, name, MAP.format(name=name)) for name in ("one", "two"))
    assert list(load_maps(first, second)) == ["one", "two"]
    written(tmp_path, "one", MAP.format(name="edited"))
    assert list(load_maps(first)) == ["edited"]
    assert not {"one", "two", "edited"} & st.feature_maps().keys()


def test_a_file_may_hold_propositions_and_maps(tmp_path):
    text = MAP.format(name="mine") + (
        "P = st.Proposition('X1', 'A title', '$1 = 1$', (), 'folklore', 'proved',\n"
        "    [lambda cell: st.decide(True, kind='exact', because='it is')], [])\n"
    )
    path = written(tmp_path, "both", text)
    assert [p.id for p in load_propositions(path)] == ["X1"]
    assert [p.id for p in load_propositions(path)] == ["X1"]
    assert list(load_maps(path)) == ["mine"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "registers no feature map"),
        ("x = ", "cannot be imported, SyntaxError"),
        (MAP.format(name="Taylor, degree 2"), "found 'Taylor, degree 2', registered in schoenbat_theory"),
        (MAP.format(name="a") + MAP.format(name="a"), "ValueError: name: expected a new one, found 'a'"),
        (MAP.format(name="a") + "raise SystemExit(3)", "cannot be imported, SystemExit: 3"),
    ],
)
def test_a_file_that_is_no_use_is_one_sentence(tmp_path, text, message):
    path = written(tmp_path, "broken", text)
    with pytest.raises(ValueError, match=message) as raised:
        load_maps(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
    assert "a" not in st.feature_maps()


def test_a_file_that_was_run_comes_last_on_the_path_and_one_that_failed_is_no_module(tmp_path):
    first, modules = sys.path[0], set(sys.modules)
    load_maps(written(tmp_path, "own", MAP.format(name="own")))
    assert (sys.path[0], sys.path[-1]) == (first, str(tmp_path))
    with pytest.raises(ValueError, match="cannot be imported"):
        load_maps(written(tmp_path, "broken", "x = "))
    assert [name for name in set(sys.modules) - modules if "broken" in name] == []


def test_a_file_that_is_missing_and_a_name_in_two_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        load_maps(tmp_path / "absent.py")
    first, second = (written(tmp_path, stem, MAP.format(name="same")) for stem in ("one", "two"))
    with pytest.raises(ValueError, match=r"two\.py: expected new names of feature maps, found 'same' of another file"):
        load_maps(first, second)
