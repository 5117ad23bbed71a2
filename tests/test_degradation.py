import jax
import jax.numpy as jnp
import numpy as np

from retroguide_jax.degradation import MAX_SHIFT, degrade


def _make_images():
    return jax.random.uniform(jax.random.key(0), (16, 8, 16, 3), minval=-0.5, maxval=0.5)


def test_each_image_is_degraded_in_its_own_way_and_stays_in_range():
    same = jnp.broadcast_to(_make_images()[:1], (16, 8, 16, 3))
    degraded = np.asarray(degrade(jax.random.key(1), same))
    assert degraded.shape == same.shape
    assert np.abs(degraded).max() <= 1.0
    assert len(np.unique(degraded.mean((1, 2, 3)).round(5))) == 16


def test_images_move_by_up_to_the_largest_shift(monkeypatch):
    monkeypatch.setattr("retroguide_jax.degradation.degrade_colours", lambda _, images: images)
    images = np.asarray(_make_images())
    moved = np.asarray(degrade(jax.random.key(1), images, circular=True))
    shifts = set()
    for before, after in zip(images, moved, strict=True):
        padded = np.pad(before, ((MAX_SHIFT, MAX_SHIFT), (0, 0), (0, 0)), "edge")
        found = [
            (down, right)
            for down in range(2 * MAX_SHIFT + 1)
            for right in range(-MAX_SHIFT, MAX_SHIFT + 1)
            if np.array_equal(np.roll(padded[down : down + 8], -right, 1), after)
        ]
        assert len(found) == 1
        shifts |= set(found)
    assert len(shifts) > 4
