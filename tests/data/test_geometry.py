"""The polar transform against coordinates computed by hand."""

import numpy as np
import pytest

from retroguide_jax.data.geometry import polar_coordinates


@pytest.mark.parametrize(
    "i, j, expected",
    [
        (0, 308, (3.3482, 375.0)),  # north: straight up
        (0, 154, (375.0, 3.3482)),  # west: to the left
        (50, 77, (519.4202, 230.5798)),  # south-west
        (111, 0, (375.0, 375.0)),  # the camera's foot point
    ],
)
def test_known_coordinates(i, j, expected):
    rows, cols = polar_coordinates(750, 112, 616)
    assert rows.shape == cols.shape == (112, 616) and rows.dtype == cols.dtype == np.float64
    assert (rows[i, j], cols[i, j]) == pytest.approx(expected, abs=5e-5)


def test_a_rolled_panorama_is_a_turned_aerial():
    rows, cols = polar_coordinates(1200, 128, 512)
    # rot90(aerial) takes what is at (row, col) to (S - col, row), and roll(panorama, -W / 4) takes
    # what is in column j + W / 4 to column j.
    rolled_rows, rolled_cols = np.roll(rows, -128, axis=1), np.roll(cols, -128, axis=1)
    np.testing.assert_allclose((rows, cols), (1200 - rolled_cols, rolled_rows), atol=1e-9)


@pytest.mark.parametrize("sizes", [(0, 112, 616), (750, 0, 616), (750, 112, -1)])
def test_sizes_are_positive(sizes):
    with pytest.raises(ValueError, match="positive"):
        polar_coordinates(*sizes)
