"""Ours against stored results of the PyTorch twin; needs no PyTorch."""

from pathlib import Path

import numpy as np
import pytest
from golden_cases import list_cases, thin_out
from parity_cases.case import compare

CASES = {case.name: case for case in list_cases()}
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).with_name("golden.npz"), allow_pickle=False) as file:
        return dict(file)


def test_every_case_is_held(golden):
    assert golden.keys() == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_same_outputs_and_gradients(name, golden):
    ours = thin_out(CASES[name].ours(np.dtype("float32")))
    ends = np.cumsum([len(array) for array in ours.values()])
    assert ends[-1] == len(golden[name])
    theirs = dict(zip(ours, np.split(golden[name], ends[:-1]), strict=True))
    found = compare(ours, theirs)
    assert max(found.output, found.gradient) < TOLERANCE, found


def test_what_counts_as_a_difference():
    ours = {"out": np.array([1.0, -4.0]), "d a": np.array([2.0]), "d b": np.array([1e-17])}
    theirs = {"out": np.array([1.0, -3.0]), "d a": np.array([2.5]), "d b": np.array([-1e-17])}
    found = compare(ours, theirs)
    assert (found.output, found.output_name) == (0.25, "out")
    assert (found.gradient, found.gradient_name) == (0.25, "d a")
    assert found.vanished == ["d b"]
    with pytest.raises(ValueError, match="results differ in"):
        compare(ours, {"out": theirs["out"]})
