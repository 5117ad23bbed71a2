"""Broken images: synthetic breakage is found, real panoramas of the city are left alone."""

import numpy as np
import pytest

from retroguide_jax.config import load_config
from retroguide_jax.data.catalog import open_dataset
from retroguide_jax.data.reading import read_pairs
from retroguide_jax.errors import UserError
from retroguide_jax.metrics.breakage import (
    MEASURES,
    find_broken,
    find_false_alarms,
    measure_breakage,
)
from retroguide_jax.metrics.breakage import MIN_REFERENCES as NUM

SIZE = (32, 128)


def make_scenes(num, seed=0):
    """Smooth sky over textured ground with dark houses: uint8 [num, 32, 128, 3]."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] / SIZE[0]
    scenes = []
    for _ in range(num):
        horizon, light = rng.uniform(0.4, 0.6), rng.uniform(0.6, 1.1)
        sky = np.array([0.5, 0.6, 0.8]) * (1.1 - 0.4 * rows[..., None])
        image = np.where(rows[..., None] < horizon, sky, np.array([0.4, 0.4, 0.35]))
        for _ in range(rng.integers(3, 7)):
            left, top = rng.uniform(0, 4), rng.uniform(0.1, 0.4)
            is_house = (abs(columns - left) < 0.25) & (rows > top) & (rows < horizon + 0.1)
            image = np.where(is_house[..., None], rng.uniform(0.1, 0.7, 3), image)
        image = image * light + rng.normal(0, 0.03 * rng.uniform(0.7, 1.4), (*SIZE, 1))
        scenes.append(np.clip(image * 255, 0, 255).astype(np.uint8))
    return np.stack(scenes)


def break_up(images, size, share=0.25, seed=0):
    """Replaces a part of each image by black and white blocks of `size` pixels."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 2, (len(images), SIZE[0] // size, SIZE[1] // size, 1)) * 255
    blocks = blocks.repeat(size, 1).repeat(size, 2)
    width = int(SIZE[1] * share)
    broken = images.copy()
    broken[:, :, :width] = blocks[:, :, :width]
    return broken.astype(np.uint8)


def measure(images):
    return np.asarray(measure_breakage(images), np.float64)


@pytest.fixture(scope="module")
def real():
    return measure(make_scenes(300))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_black_and_white_blocks_are_found(real, size):
    assert find_broken(measure(break_up(make_scenes(40, seed=1), size)), real).mean() >= 0.95


def test_flat_noisy_and_saturated_images_are_found(real):
    rng = np.random.default_rng(2)
    scenes = make_scenes(20, seed=1)
    flat = np.full_like(scenes, 127)
    noisy = np.clip(scenes + rng.normal(0, 60, scenes.shape), 0, 255).astype(np.uint8)
    hard = np.where(scenes > 110, 255, 0).astype(np.uint8)
    for images in (flat, noisy, hard):
        assert find_broken(measure(images), real).all()


def test_real_images_and_blurred_ones_are_left_alone(real):
    scenes = make_scenes(300, seed=3)
    assert find_broken(measure(scenes), real).sum() <= 1
    assert find_false_alarms(real).sum() <= 1
    floats = scenes.astype(np.float32)
    blurred = sum(np.roll(floats, (i, j), (1, 2)) for i in (0, 1) for j in (0, 1)) / 4
    assert find_broken(measure(blurred.astype(np.uint8)), real).sum() <= 1


def test_panoramas_of_the_city_are_left_alone_and_found_when_broken(tmp_path):
    data_config = load_config("city_smoke").data
    builder = open_dataset(data_config, tmp_path)
    pairs = [p for split in ("train", "test") for p in read_pairs(builder, data_config, split, 64)]
    panoramas = np.stack([pair["ground"] for pair in pairs])
    real = measure(panoramas)
    assert not find_false_alarms(real).any()
    for size in (1, 2, 4):
        assert find_broken(measure(break_up(panoramas, size)), real).mean() >= 0.95


def test_noises_keep_their_places_and_false_alarms_are_those_of_the_others(real):
    broken = measure(break_up(make_scenes(6), 1)).reshape(3, 2, len(MEASURES))
    assert find_broken(broken, real).shape == (3, 2)
    few = np.concatenate([real[:NUM], broken[0]])
    others = [find_broken(row, np.delete(few, i, axis=0)) for i, row in enumerate(few)]
    np.testing.assert_array_equal(find_false_alarms(few), others)


def test_equal_real_images_raise_no_alarm():
    same = measure(np.repeat(make_scenes(1), NUM, axis=0))
    assert not find_false_alarms(same).any() and not find_broken(same, same).any()


def test_too_small_images_are_refused():
    with pytest.raises(UserError, match="broken_share needs images of at least 16 x 16"):
        measure_breakage(np.zeros((2, 8, 32, 3), np.uint8))
