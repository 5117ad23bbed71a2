"""procedural_city: geometry with known answers, determinism, splits and the stored data set."""

import dataclasses
import functools
import hashlib
import io
import math
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from retroguide_jax.datasets.common.workers import OrderedPool
from retroguide_jax.datasets.procedural_city import materials
from retroguide_jax.datasets.procedural_city.canvas import HALF_EXTENT
from retroguide_jax.datasets.procedural_city.pairs import (
    SKY_DEPTH,
    SPLITS,
    TILE_PITCH,
    View,
    render_pair,
)
from retroguide_jax.datasets.procedural_city.render_aerial import render_aerial
from retroguide_jax.datasets.procedural_city.render_ground import render_ground
from retroguide_jax.datasets.procedural_city.scene import (
    empty_scene,
    mirror_scene,
    rotate_scene,
)
from retroguide_jax.datasets.procedural_city.styles import STYLES
from retroguide_jax.datasets.procedural_city.town import make_scene
from retroguide_jax.datasets.procedural_city.weather import PRESETS, Weather, sample_weather

VIEW = View(aerial_size=64, ground_size=(32, 128), vertical_fov=90.0, cell_size=0.25)
ROWS, COLUMNS = VIEW.ground_size
# No clouds and no haze: the picture shows the scene only.
PLAIN = Weather(
    name="plain",
    zenith=(0.3, 0.5, 0.8),
    horizon=(0.7, 0.8, 0.9),
    cloud=(1.0, 1.0, 1.0),
    cover=0.0,
    cloud_offset=(0.0, 0.0),
    light=(1.0, 1.0, 1.0),
    direct=0.8,
    haze_distance=1e9,
    glow=0.3,
)
RED = (220, 30, 30)


def render(scene, weather=PLAIN, fov=90.0):
    return render_ground(scene, weather, size=VIEW.ground_size, vertical_fov=fov)


def with_tower(east, north, *, half=3.0, height=17.5):
    """A level grey plane with one square red tower, metres from the camera."""
    scene = empty_scene(material=materials.ROAD, colour=(120, 120, 120))
    axis = (np.arange(len(scene.height)) + 0.5) * scene.cell_size - scene.extent
    inside = (np.abs(axis[None, :] - east) < half) & (np.abs(-axis[:, None] - north) < half)
    scene.height[inside] = height
    scene.material[inside] = materials.BUILDING
    scene.albedo[inside] = RED
    return scene


@functools.cache
def town(seed=5, style="market_town"):
    return make_scene(seed, style)


def red_pixels(image):
    image = image.astype(int)
    return (image[..., 0] > 60) & (image[..., 0] > 2 * image[..., 1] + 20)


@pytest.mark.parametrize(
    ("east", "north", "column"),
    [
        (0.0, 20.0, COLUMNS / 2),
        (20.0, 0.0, 3 * COLUMNS / 4),
        (-20.0, 0.0, COLUMNS / 4),
        (20.0, 20.0, 5 * COLUMNS / 8),
    ],
)
def test_ground_shows_tower_at_its_bearing(east, north, column):
    red = red_pixels(render(with_tower(east, north)).image)
    columns = np.flatnonzero(red.any(axis=0)) + 0.5
    assert columns.mean() == pytest.approx(column, abs=0.5)


def test_ground_shows_south_at_both_edges():
    red = red_pixels(render(with_tower(0.0, -20.0)).image).any(axis=0)
    assert red[0] and red[-1] and not red[COLUMNS // 2]
    np.testing.assert_array_equal(red, red[::-1])


def test_ground_shows_tower_as_high_and_as_far_as_it_is():
    view = render(with_tower(20.0, 0.0))
    column = 3 * COLUMNS // 4
    red = np.flatnonzero(red_pixels(view.image)[:, column])
    pixel = math.radians(90.0) / ROWS
    # Its near face is 17 m away; 17.5 m of tower seen from 2.5 m above the ground.
    top = ROWS / 2 - math.atan2(17.5 - 2.5, 17.0) / pixel
    foot = ROWS / 2 + math.atan2(2.5, 17.0) / pixel
    assert red[0] == pytest.approx(top, abs=1.0)
    assert red[-1] + 1 == pytest.approx(foot, abs=1.0)
    assert view.depth[ROWS // 2, column] == pytest.approx(17.0, abs=0.4)
    below = ROWS - 1
    elevation = (ROWS / 2 - below - 0.5) * pixel
    # Depth runs along the ray, and belongs to the nearest of the samples within the pixel.
    assert view.depth[below, column] == pytest.approx(2.5 / math.sin(-elevation), rel=0.03)
    assert view.labels[ROWS // 2, column] == materials.BUILDING
    assert view.labels[below, column] == materials.ROAD
    assert view.sky[0, COLUMNS // 4] and view.labels[0, COLUMNS // 4] == materials.SKY
    assert np.isinf(view.depth[0, COLUMNS // 4])


def test_full_sphere_looks_straight_up_and_down():
    view = render(with_tower(20.0, 0.0), fov=180.0)
    assert view.sky[0].all()
    assert (view.labels[-1] == materials.ROAD).all()
    np.testing.assert_allclose(view.depth[-1], 2.5, rtol=0.01)


def test_aerial_shows_north_up_at_scale():
    red = red_pixels(render_aerial(with_tower(16.0, 8.0), size=64))
    rows, columns = np.nonzero(red)
    assert columns.mean() + 0.5 == pytest.approx(32 + 16, abs=0.3)
    assert rows.mean() + 0.5 == pytest.approx(32 - 8, abs=0.3)
    assert red.sum() == pytest.approx(36, abs=2)


def test_aerial_shadow_points_away_from_the_sun():
    scene = with_tower(0.0, 0.0)
    bright = render_aerial(scene, size=64).astype(int).sum(axis=-1)
    away = scene.sun_bearing + math.pi
    row, column = 32 - 8 * math.cos(away), 32 + 8 * math.sin(away)
    opposite = bright[int(64 - row), int(64 - column)]
    assert bright[int(row), int(column)] < 0.7 * opposite


def test_heading_turns_the_raster_against_the_compass():
    scene = dataclasses.replace(with_tower(0.0, 20.0), heading=math.pi / 2)
    columns = np.flatnonzero(red_pixels(render(scene).image).any(axis=0)) + 0.5
    assert columns.mean() == pytest.approx(3 * COLUMNS / 4, abs=0.5)
    _, columns = np.nonzero(red_pixels(render_aerial(scene, size=64)))
    assert columns.mean() + 0.5 == pytest.approx(32 + 20, abs=0.3)


def share_equal(a, b):
    """Share of equal pixels; a sample on the border of two cells may fall on either side."""
    return (np.abs(a.astype(int) - b.astype(int)).max(axis=-1) <= 2).mean()


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
@pytest.mark.parametrize("fov", [90.0, 180.0])
def test_turned_world_is_a_rolled_panorama(quarter_turns, fov):
    turned = rotate_scene(town(), quarter_turns)
    aerial = np.rot90(render_aerial(town(), size=64), quarter_turns)
    assert share_equal(render_aerial(turned, size=64), aerial) > 0.99
    before, after = render(town(), fov=fov), render(turned, fov=fov)
    shift = -quarter_turns * COLUMNS // 4
    assert share_equal(after.image, np.roll(before.image, shift, axis=1)) > 0.99
    assert np.mean(after.labels == np.roll(before.labels, shift, axis=1)) > 0.99


def test_mirrored_world_is_a_mirrored_panorama():
    mirrored = mirror_scene(town())
    aerial = render_aerial(town(), size=64)[:, ::-1]
    assert share_equal(render_aerial(mirrored, size=64), aerial) > 0.99
    before, after = render(town()), render(mirrored)
    # Of two equally near samples in a pixel the left one gives the label.
    assert np.mean(after.labels == before.labels[:, ::-1]) > 0.98
    # Each window pane's tint is drawn from its number, counted from the wall's left end.
    assert share_equal(after.image, before.image[:, ::-1]) > 0.93


def test_panorama_agrees_with_raster_about_the_camera():
    """Just below the horizon and in front of every wall, the label is that of the raster."""
    scene, view = town(), render(town())
    pixel = math.radians(90.0) / ROWS
    row = ROWS - 3
    distance = scene.camera_height / math.tan((row + 0.5 - ROWS / 2) * pixel)
    bearing = 2 * math.pi * ((np.arange(COLUMNS) + 0.5) / COLUMNS - 0.5) - scene.heading
    columns = ((distance * np.sin(bearing) + scene.extent) / scene.cell_size).astype(int)
    rows = ((scene.extent - distance * np.cos(bearing)) / scene.cell_size).astype(int)
    assert np.mean(scene.material[rows, columns] == view.labels[row]) > 0.9


@pytest.mark.parametrize("style", list(STYLES))
def test_camera_stands_on_a_road_and_towns_hold_everything(style):
    seen = set()
    for seed in range(12):
        scene = town(seed, style)
        centre = len(scene.height) // 2
        assert scene.material[centre, centre] in (materials.ROAD, materials.MARKING)
        assert scene.extent == HALF_EXTENT
        assert np.isfinite(scene.height).all()
        assert scene.building.max() < len(scene.buildings.angle)
        seen |= set(np.unique(scene.material).tolist())
        assert (scene.has_crown == (scene.crown_albedo.sum(axis=-1) > 0)).mean() > 0.99
    assert seen == set(range(len(materials.NAMES))) - {materials.SKY}


def test_weather_changes_the_panorama_and_not_the_aerial():
    rng = np.random.default_rng(0)
    weathers = [sample_weather(rng) for _ in range(8)]
    assert len({w.name for w in weathers}) > 1
    views = [render(town(), weather) for weather in weathers]
    skies = np.array([view.image[view.sky].mean(axis=0) for view in views])
    assert skies.std(axis=0).min() > 10.0
    for view in views[1:]:
        np.testing.assert_array_equal(view.labels, views[0].labels)
    # The aerial renderer does not see the weather, and drawing the weather does not change the
    # scene.
    np.testing.assert_array_equal(
        render_aerial(town(), size=64), render_aerial(make_scene(5, "market_town"), size=64)
    )


def test_weather_presets_are_a_distribution():
    assert sum(probability for probability, _ in PRESETS.values()) == pytest.approx(1.0)


def test_rendering_does_not_change_the_scene():
    scene = make_scene(3, "market_town")
    before = {k: v.copy() for k, v in vars(scene).items() if isinstance(v, np.ndarray)}
    render(scene)
    render_aerial(scene, size=64)
    for name, array in before.items():
        np.testing.assert_array_equal(getattr(scene, name), array)


def test_splits_share_no_ground():
    pairs = [render_pair(VIEW, split, tile) for split in SPLITS for tile in (0, 1, 63, 64, 511)]
    assert len({pair["seed"] for pair in pairs}) == len(pairs)
    assert len({pair["id"] for pair in pairs}) == len(pairs)
    places = np.array([pair["camera"][:2] for pair in pairs])
    apart = np.abs(places[:, None] - places[None, :]).max(axis=-1)
    assert apart[~np.eye(len(pairs), dtype=bool)].min() >= TILE_PITCH > 2 * HALF_EXTENT
    styles = {split.name: split.style for split in SPLITS}
    assert styles["train"] == styles["test"] != styles["test_cross"]


def digest(example):
    parts = [v if isinstance(v, bytes) else np.asarray(v).tobytes() for v in example.values()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_pairs_do_not_depend_on_order_or_number_of_processes():
    render_one = functools.partial(render_pair, VIEW, SPLITS[0])
    expected = [digest(render_one(tile)) for tile in range(6)]
    assert [digest(render_one(tile)) for tile in reversed(range(6))] == expected[::-1]
    assert len(set(expected)) == 6
    with OrderedPool(2) as pool:
        assert [digest(pair) for pair in pool.map(render_one, range(6))] == expected
        many = range(500)  # More than may be in progress at once.
        assert list(pool.map(math.sqrt, many)) == [math.sqrt(x) for x in many]
        with pytest.raises(ValueError):
            list(pool.map(math.sqrt, [4.0, -1.0]))


BUILD = """
    import sys
    from retroguide_jax.datasets.procedural_city.procedural_city_dataset_builder import Builder

    if __name__ == "__main__":
        builder = Builder(config=sys.argv[2], data_dir=sys.argv[1], file_format="array_record")
        builder.download_and_prepare(num_workers=2)
        print(sorted({"tensorflow", "jax"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The smoke data set, built by a separate script: builder, output."""
    root = tmp_path_factory.mktemp("city")
    script = root / "build.py"
    script.write_text(textwrap.dedent(BUILD))
    done = subprocess.run(
        [sys.executable, script, root / "data", "city_smoke"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    from retroguide_jax.datasets.procedural_city.procedural_city_dataset_builder import Builder

    builder = Builder(config="city_smoke", data_dir=root / "data", file_format="array_record")
    return builder, done.stdout


def test_build_needs_neither_tensorflow_nor_jax(built):
    assert built[1].splitlines()[-1] == "[]"


def test_built_data_set_reads_back(built):
    builder, _ = built
    assert {name: info.num_examples for name, info in builder.info.splits.items()} == {
        "train": 64,
        "test": 16,
        "test_cross": 16,
    }
    source = builder.as_data_source("test")
    expected = render_pair(VIEW, SPLITS[1], 3)
    example = source[3]
    assert example["id"] == b"test_000003" == expected["id"].encode()
    assert example["seed"] == expected["seed"]
    assert example["weather"].decode() in PRESETS
    for name in ("aerial", "ground", "labels", "sky_mask"):
        pixels = np.asarray(Image.open(io.BytesIO(expected[name])))
        np.testing.assert_array_equal(example[name].squeeze(), pixels)
        assert example[name].dtype == np.uint8
    np.testing.assert_array_equal(example["depth"], expected["depth"])
    np.testing.assert_array_equal(example["camera"], expected["camera"])
    sky = example["sky_mask"] == 255
    np.testing.assert_array_equal(sky, example["depth"] == SKY_DEPTH)
    np.testing.assert_array_equal(sky, example["labels"] == materials.SKY)
    assert set(np.unique(example["sky_mask"])) <= {0, 255}


def test_distant_cameras_are_stored_exactly(built):
    features = tfds.features.FeaturesDict({"camera": built[0].info.features["camera"]})
    camera = render_pair(VIEW, SPLITS[2], 400)["camera"]
    stored = features.serialize_example({"camera": camera})
    np.testing.assert_array_equal(features.deserialize_example_np(stored)["camera"], camera)


def test_killed_build_leaves_no_data_set(tmp_path):
    script = tmp_path / "build.py"
    script.write_text(textwrap.dedent(BUILD))
    process = subprocess.Popen(
        [sys.executable, script, tmp_path / "data", "city_64"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    parent = tmp_path / "data" / "procedural_city" / "city_64"
    deadline = time.monotonic() + 60
    while not (parent.exists() and any(parent.iterdir())):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not [path for path in parent.iterdir() if "incomplete" not in path.name]
