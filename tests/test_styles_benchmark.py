"""How far F strays: the report of `benchmarks/styles.py`."""

from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def styles(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import styles

    return styles


def test_codes_beyond_the_limit_are_counted(styles):
    training = np.zeros((3, 2))
    test = np.stack([np.linspace(0.0, 1.0, 101), np.zeros(101)], 1)
    drawn = np.array([[0.0, 0.5], [0.0, 0.9], [0.0, 1.0], [2.0, 0.0]])
    lines = styles._report(training, test, drawn).splitlines()
    assert lines[0].startswith("limit: 0.99, which 1% of 101")
    assert lines[1].endswith("50.0% of 4")
    assert lines[2] == "median distance: 0.95, of test targets 0.50"
