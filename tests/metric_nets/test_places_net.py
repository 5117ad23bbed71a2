import jax
import numpy as np
import pytest
from random_weights import make_images

from retroguide_jax.errors import UserError
from retroguide_jax.metric_nets import places

# torchvision's transforms and AlexNet on these images (make_golden.py).
SMALL = make_images(2, 70, 150)
LARGE = make_images(1, 360, 330, seed=1)


def test_probabilities_are_torchvisions(places_state, golden):
    net = places.make_places(places_state)
    for images, name in ((SMALL, "places_small"), (LARGE, "places_large")):
        rows = jax.jit(net.apply)(net.variables, images)["probabilities"]
        assert rows.shape == (len(images), 365)
        np.testing.assert_allclose(np.sum(rows, axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(rows[:, ::16], golden[name], rtol=2e-4)


def test_only_the_middle_of_a_panorama_is_seen():
    panorama = make_images(1, 128, 512)
    seen = places.preprocess(panorama)
    assert seen.shape == (1, 224, 224, 3)
    sides = panorama.copy()
    sides[:, :, :190] = 0
    sides[:, :, -190:] = 0
    np.testing.assert_array_equal(places.preprocess(sides), seen)


def test_wrong_weights_are_named(places_state):
    imagenets = places_state | {"classifier.6.weight": np.zeros((1000, 4096), np.float32)}
    with pytest.raises(UserError, match=r"places365.*classifier.6.weight is \[1000, 4096\]"):
        places.make_places(imagenets)
