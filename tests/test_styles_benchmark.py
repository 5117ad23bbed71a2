"""How far F strays: the table of `benchmarks/styles.py`."""

from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def styles(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import styles

    return styles


def test_distances_are_those_to_the_nearest_code(styles):
    others = np.array([[0.0, 0.0], [10.0, 0.0]])
    codes = np.stack([np.linspace(0.0, 1.0, 1001), np.zeros(1001)], 1)
    row = styles._describe("codes", codes, others)
    assert row.split() == ["codes", "0.50", "0.99", "1.00"]
    assert styles._describe("codes", codes + [9.0, 0.0], others).split()[1] == "0.50"
