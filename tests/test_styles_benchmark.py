"""How far F strays: the table of `benchmarks/styles.py`."""

import numpy as np
import pytest


@pytest.fixture
def styles(import_benchmark):
    return import_benchmark("styles")


def test_distances_are_those_to_the_nearest_code(styles):
    others = np.array([[0.0, 0.0], [10.0, 0.0]])
    codes = np.stack([np.linspace(0.0, 1.0, 1001), np.zeros(1001)], 1)
    row = styles._describe("codes", codes, others)
    assert row.split() == ["codes", "0.50", "0.99", "1.00"]
    assert styles._describe("codes", codes + [9.0, 0.0], others).split()[1] == "0.50"
