import numpy as np
import pytest
from PIL import Image
from random_weights import make_images

from retroguide_jax.metric_nets import resize

SIZES = [(64, 96), (360, 330), (33, 700), (299, 128)]
PILLOW = {
    Image.Resampling.BILINEAR: resize.make_pillow_bilinear,
    Image.Resampling.BICUBIC: resize.make_pillow_bicubic,
}


@pytest.mark.parametrize("method", PILLOW)
@pytest.mark.parametrize("height, width", SIZES)
def test_is_pillows_resize_in_float(method, height, width):
    images = make_images(1, height, width)
    matrix_fn = PILLOW[method]
    ours = resize.resize(images.astype(np.float32), matrix_fn(height, 299), matrix_fn(width, 299))
    for channel in range(3):
        plane = Image.fromarray(images[0, ..., channel].astype(np.float32))
        theirs = np.asarray(plane.resize((299, 299), method))
        np.testing.assert_allclose(ours[0, ..., channel], theirs, rtol=0, atol=2e-4)


@pytest.mark.parametrize("height, width", SIZES)
def test_is_pillows_resize_of_uint8_to_the_bit(height, width):
    images = make_images(2, height, width)
    rows, columns = resize.make_pillow_bilinear(height, 256), resize.make_pillow_bilinear(width, 91)
    theirs = [Image.fromarray(i).resize((91, 256), Image.Resampling.BILINEAR) for i in images]
    np.testing.assert_array_equal(resize.resize_uint8(images, rows, columns), np.stack(theirs))


def test_bilinear_without_antialiasing_of_two_pixels():
    halves = resize.make_bilinear(2, 4)  # positions -1/4 (held at 0), 1/4, 3/4, 5/4
    np.testing.assert_allclose(halves, [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    corners = resize.make_bilinear_tf1(2, 4)  # positions 0, 1/2, 1, 3/2
    np.testing.assert_allclose(corners, [[1, 0], [0.5, 0.5], [0, 1], [0, 1]])


def test_bilinear_without_antialiasing_skips_pixels():
    assert np.count_nonzero(resize.make_bilinear(1000, 100)) == 200
    assert np.count_nonzero(resize.make_pillow_bilinear(1000, 100)) > 1500


@pytest.mark.parametrize("height, width", SIZES)
def test_is_pytorchs_interpolate(height, width):
    torch = pytest.importorskip("torch")
    images = make_images(1, height, width).astype(np.float32)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    # PyTorch's weights of the antialiased one are float32: 5e-3 of 255 is their rounding.
    for matrix_fn, antialias, atol in (
        (resize.make_bilinear, False, 1e-4),
        (resize.make_pillow_bilinear, True, 1e-2),
    ):
        ours = resize.resize(images, matrix_fn(height, 299), matrix_fn(width, 299))
        theirs = torch.nn.functional.interpolate(
            x, (299, 299), mode="bilinear", align_corners=False, antialias=antialias
        )
        np.testing.assert_allclose(ours, theirs.numpy().transpose(0, 2, 3, 1), rtol=0, atol=atol)
