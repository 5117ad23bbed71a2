"""Each resize method does what its name says."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation.resizing import METHODS, Resize, parse_resize

NOISE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def test_a_flag_is_read():
    assert parse_resize("area:128x512") == Resize("area", 128, 512)
    for method in METHODS:
        assert method in parse_resize(f"{method}:4x8").protocol.lower()
    assert (
        parse_resize("box:4x8").protocol == "resized to 4x8 by Pillow's box, antialiased, on uint8"
    )
    assert "antialiased" not in parse_resize("nearest:4x8").protocol
    assert "INTER_AREA" in parse_resize("area:4x8").protocol


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("128x512", "give METHOD:HxW"),
        ("box:128", "give METHOD:HxW"),
        ("box:-1x5", "give METHOD:HxW"),
        ("box:1x2x3", "give METHOD:HxW"),
        ("box:1x2\n", "give METHOD:HxW"),
        ("cubic:1x2", "no method 'cubic'; there are nearest, box"),
        ("box:0x5", "1 to 16,384"),
        ("box:5x99999", "1 to 16,384"),
    ],
)
def test_a_wrong_flag_is_reported(text, message):
    with pytest.raises(UserError, match=message):
        parse_resize(text)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "area"])
def test_filters_are_those_of_pillow(method):
    filters = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4}  # its numbers
    expected = Image.fromarray(NOISE).resize((17, 50), filters[method])
    np.testing.assert_array_equal(Resize(method, 50, 17).apply(NOISE), np.array(expected))


@pytest.mark.parametrize("size", [(24, 40), (12, 20), (8, 10), (24, 13), (7, 40), (5, 9), (1, 1)])
def test_areas_are_weighed_by_their_share(size):
    """Against exact fractions; where a mean is half-way between two levels, either is right."""
    result = Resize("area", *size).apply(NOISE).astype(int)
    exact = _average_exactly(
        _average_exactly(NOISE.astype(object), size[0]).swapaxes(0, 1), size[1]
    )
    error = abs(result - exact.swapaxes(0, 1))
    assert np.max(error) <= Fraction(1, 2)
    assert result.shape == (*size, 3)


def _average_exactly(values, num):
    span = Fraction(len(values), num)
    rows = []
    for i in range(num):
        first, last = i * span, (i + 1) * span
        shares = [max(min(last, k + 1) - max(first, k), Fraction(0)) for k in range(len(values))]
        rows.append(sum(value * share for value, share in zip(values, shares, strict=True)) / span)
    return np.array(rows)


def test_halves_go_up_where_both_sides_are_halved():
    """Rounds half-way means as OpenCV does: up in this case, to the even neighbour in others."""
    pair = np.tile(np.array([[0, 1], [0, 1]], np.uint8)[..., None], (1, 1, 3))
    assert np.all(Resize("area", 1, 1).apply(pair) == 1)
    assert np.all(Resize("area", 1, 1).apply(pair[:1]) == 0)


def test_a_number_of_opencv():
    """cv2.resize(ramp, (3, 2), interpolation=cv2.INTER_AREA) of OpenCV 5.0, channel 0."""
    ramp = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3) * 2
    expected = [[38, 52, 65], [139, 152, 166]]
    np.testing.assert_array_equal(Resize("area", 2, 3).apply(ramp)[..., 0], expected)


def test_areas_do_not_enlarge():
    with pytest.raises(UserError, match="would enlarge a 24x40 image"):
        Resize("area", 24, 41).apply(NOISE)
    assert Resize("area", 24, 40).apply(NOISE) is NOISE
