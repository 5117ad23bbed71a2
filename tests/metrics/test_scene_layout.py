"""Layout agreement by hand, and of the city's own labels."""

import numpy as np
import pytest

from retroguide_jax.config import load_config
from retroguide_jax.data import catalog, pipeline
from retroguide_jax.metrics import scene_layout

SKY_DEPTH = 65535
SKY, ROAD, GRASS, BUILDING = 0, 1, 5, 8


@pytest.fixture(scope="module")
def test_batch(tmp_path_factory):
    data_config = load_config("city_smoke", []).data
    builder = catalog.open_dataset(data_config, tmp_path_factory.mktemp("city"))
    return next(
        pipeline.iterate_batches(
            builder, data_config, "test", batch_size=16, with_scene_layout=True
        )
    )


def test_scores_of_a_hand_made_image():
    true = np.zeros((1, 4, 2), np.uint8)
    true[0, 2:, 0] = 1  # two rows of sky over road
    true[0, 1:, 1] = 8  # one row of sky over building
    read = true.copy()
    read[0, 2, 0] = 0  # the road's first row taken for sky
    read[0, 0, 1] = 8  # no sky at all over the building
    np.testing.assert_allclose(scene_layout.label_agreement(read, true), [6 / 8])
    # Sky 2 of 4, road 1 of 2, building 3 of 4.
    np.testing.assert_allclose(
        scene_layout.mean_iou(read, true, 12), [(0.5 + 0.5 + 0.75) / 3], rtol=1e-6
    )
    np.testing.assert_allclose(scene_layout.skyline_error(read, true), [(1 + 1) / 2 / 4])


def test_iou_counts_no_class_that_is_only_read():
    true, read = np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 2), np.uint8)
    read[0, 0, 0] = 3
    np.testing.assert_allclose(scene_layout.mean_iou(read, true, 12), [3 / 4])


def test_skyline_of_sky_alone_is_the_whole_height_and_a_hole_is_no_skyline():
    true = np.zeros((1, 4, 1), np.uint8)
    read = np.array([[[0], [8], [0], [1]]], np.uint8)
    np.testing.assert_allclose(scene_layout.skyline_error(read, true), [3 / 4])


def test_depth_error_is_a_log_ratio_without_the_sky():
    true = np.array([[[100, 2000, SKY_DEPTH]]], np.uint16)
    read = np.array([[[2.0, 10.0, 1e3]]], np.float32)
    np.testing.assert_allclose(scene_layout.depth_error(read, true), [np.log(2)], rtol=1e-6)
    assert np.isnan(scene_layout.depth_error(read, np.full_like(true, SKY_DEPTH)))


def test_noises_are_compared_in_pairs():
    first, second = np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 2), np.uint8)
    second[0, 0, 0] = 8
    found = scene_layout.compare_noises([first, second, first])
    np.testing.assert_allclose(found, [(0.75 + 0.75 + 1) / 3, 1])


def test_surfaces_that_noise_may_colour():
    labels = np.array([[[SKY, BUILDING, ROAD, GRASS]]], np.uint8)
    surfaces = scene_layout.mask_surfaces(labels)
    np.testing.assert_array_equal(surfaces["light"], [[[0, 0, 1, 0]]])
    np.testing.assert_array_equal(surfaces["facade"], [[[0, 1, 0, 0]]])


def test_images_are_scored_one_by_one(test_batch):
    labels, depth = test_batch["labels"], test_batch["depth"]
    read = {"labels": np.roll(labels, 1, 0), "depth": np.roll(depth, 1, 0) / np.float32(100)}
    together = scene_layout.score_layout(read, labels, depth)
    assert set(together) == {"label_agreement", "mean_iou", "skyline_error", "depth_error"}
    for row in range(3):
        part = {name: values[row : row + 1] for name, values in read.items()}
        alone = scene_layout.score_layout(part, labels[row : row + 1], depth[row : row + 1])
        for name, values in together.items():
            np.testing.assert_allclose(values[row], alone[name][0], rtol=1e-5)
            assert 0 < values[row]


def test_the_truth_agrees_with_itself(test_batch):
    labels, depth = test_batch["labels"], test_batch["depth"]
    read = {"labels": labels, "depth": depth / np.float32(100)}
    scores = scene_layout.score_layout(read, labels, depth)
    np.testing.assert_allclose(scores["label_agreement"], 1)
    np.testing.assert_allclose(scores["mean_iou"], 1, rtol=1e-6)
    np.testing.assert_allclose(scores["skyline_error"], 0)
    np.testing.assert_allclose(scores["depth_error"], 0, atol=1e-6)
