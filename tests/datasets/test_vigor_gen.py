"""vigor_gen: folder layouts, pairing, protocols, crops by hand, faults by name, the gallery."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st
from pair_files import make_data_config
from PIL import Image
from raw_vigor import CITIES, write_tree
from retroguide_jax.datasets.common import report, storing, tables
from retroguide_jax.datasets.vigor_gen import folder_layout, geometry, labels

from retroguide_jax import config
from retroguide_jax.data import catalog, images, pipeline
from retroguide_jax.errors import UserError

SPLITS = {"same_area": {"train": 32, "test": 16}, "cross_area": {"train": 24, "test": 24}}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A complete tree; tests only read it."""
    return write_tree(tmp_path_factory.mktemp("vigor"))


def make_config(raw_dir, config_name="vigor_crop_same_area", **fields):
    # The crops of 96-pixel tiles are tiny.
    sizes = {"aerial_size": (16, 16), "ground_size": (8, 32)}
    return make_data_config(
        raw_dir,
        name="vigor_gen",
        config_name=config_name,
        **(sizes | {"crop_metres": 28.0}) | fields,
    )


def open_dataset(raw_dir, built, config_name="vigor_crop_same_area", **fields):
    return catalog.open_dataset(make_config(raw_dir, config_name, **fields), built)


def read_examples(builder, split=None):
    """The stored examples by id, images still encoded."""
    names = [split] if split else list(builder.info.splits)
    decoders = {
        name: tfds.decode.SkipDecoding()
        for name in ("aerial", "ground")
        if name in builder.info.features
    }
    return {
        example["id"].decode(): example
        for name in names
        for example in builder.as_data_source(name, decoders=decoders)
    }


def list_pairs(raw_dir, variant="as_is_same_area", crop_metres=28.0):
    return folder_layout.list_pairs(Path(raw_dir), variant, crop_metres)


def edit(path, change):
    """Rewrites the lines of a list."""
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


# Geometry


@pytest.mark.parametrize(
    "city, side, tile",
    [
        # 28 m / (m per pixel), and 640 pixels x (m per pixel)
        ("NewYork", 247.2450, 72.4787),
        ("Seattle", 277.7309, 64.5229),
        ("SanFrancisco", 237.0049, 75.6102),
        ("Chicago", 251.6582, 71.2077),
    ],
)
def test_crops_are_metres_around_the_camera(city, side, tile):
    # d_a = 50 rows down, d_b = -30 columns left: x = 320 + 30, y = 320 + 50
    delta = (50.0, -30.0)
    assert geometry.find_camera(delta) == (350.0, 370.0)
    assert geometry.measure_tile(city) == pytest.approx(tile, abs=1e-4)
    box = geometry.crop_around(delta, city, 28.0)
    pixels = [640 * edge for edge in (box.left, box.top, box.right, box.bottom)]
    half = side / 2
    assert pixels == pytest.approx([350 - half, 370 - half, 350 + half, 370 + half], abs=1e-3)


def test_a_crop_of_chicago_by_hand():
    # 22.2524 m are 200 pixels of 0.111262 m; the camera is at (320 - 100, 320 - 64) = (220, 256):
    # columns 120 .. 320 and rows 156 .. 356 of 640.
    box = geometry.crop_around((-64.0, 100.0), "Chicago", 22.2524)
    assert (box.left, box.top, box.right, box.bottom) == pytest.approx(
        (0.1875, 0.24375, 0.5, 0.55625), abs=1e-9
    )


def test_label_sets_differ_by_the_published_factors(tree):
    # 0.114 / (m per pixel): the factor between the corrected and the original offset of the camera.
    factors = dict(zip(CITIES, (1.006640, 1.130762, 0.964949, 1.024609), strict=True))
    original, corrected = (
        list_pairs(tree, f"vigor_crop_same_area{suffix}").pairs
        for suffix in ("_original_labels", "")
    )
    for before, after in zip(original, corrected, strict=True):
        city = before.id.split("/")[0]
        centres = [
            np.array([box.left + box.right - 1, box.top + box.bottom - 1])
            for box in (before.aerial_box, after.aerial_box)
        ]
        assert centres[1] == pytest.approx(factors[city] * centres[0], abs=1e-5)
        # The area of a crop does not depend on the labels.
        sides = [box.right - box.left for box in (before.aerial_box, after.aerial_box)]
        assert sides[0] == pytest.approx(sides[1])


@pytest.mark.parametrize("argument", ["a2g", "g2a", "smoke"])
def test_the_configs_crops_are_large_enough_in_every_city(argument):
    data_config = config.load_config(f"vigor_gen:{argument}").data
    for city in CITIES:
        box = geometry.crop_around((0.0, 0.0), city, data_config.crop_metres)
        left, top, right, bottom = storing.find_pixels(box, 640, 640)
        assert min(right - left, bottom - top) >= max(data_config.aerial_size)


def test_crops_smaller_than_the_models_aerial_are_problems(tree, tmp_path):
    # 22.25 m are 196.5 pixels of 640 in New York, so 29.5 of 96, of which 29 are whole.
    with pytest.raises(UserError, match="crop too small: 29 x 29 pixels"):
        open_dataset(tree, tmp_path / "built", crop_metres=22.25, aerial_size=(30, 30))


# What is built


@pytest.mark.parametrize("protocol", ["same_area", "cross_area"])
@pytest.mark.parametrize("pairing", ["vigor_crop", "as_is", "vigor_gen"])
@pytest.mark.parametrize("suffix", ["", "_original_labels"])
def test_every_pairing_and_protocol_opens(tree, tmp_path, pairing, protocol, suffix):
    if pairing == "vigor_gen":
        tree = write_tree(tmp_path / "raw")
        add_own_tiles(tree)
    name = f"{pairing}_{protocol}{suffix}"
    builder = open_dataset(tree, tmp_path / "built", name)
    assert {k: v.num_examples for k, v in builder.info.splits.items()} == SPLITS[protocol]
    for split in SPLITS[protocol]:
        cities = {name.split("/")[0] for name in read_examples(builder, split)}
        expected = set(CITIES)
        if protocol == "cross_area":
            expected = set(CITIES[:2] if split == "train" else CITIES[2:])
        assert cities == expected
    batch = next(pipeline.iterate_batches(builder, make_config(tree, name), "test", batch_size=4))
    assert batch["aerial"].shape == (4, 16, 16, 3) and batch["ground"].shape == (4, 8, 32, 3)


@pytest.mark.parametrize("folders", ["city_first", "view_first"])
@pytest.mark.parametrize("label_folder", [None, "splits_new", "splits"])
def test_every_folder_layout_is_recognised_and_named(tmp_path, folders, label_folder):
    raw_dir = write_tree(tmp_path / "raw", 6, folders, label_folder=label_folder)
    for suffix, usual in (("", "splits__corrected"), ("_original_labels", "splits")):
        found = list_pairs(raw_dir, f"as_is_cross_area{suffix}")
        assert found.folder_layout == f"{folders}, {label_folder or usual}"
        assert not found.problems and found.count_pairs() == {"train": 12, "test": 12}
    assert open_dataset(raw_dir, tmp_path / "built").info.splits["train"].num_examples == 16


def test_labels_of_one_kind_are_not_taken_for_the_other(tmp_path):
    raw_dir = write_tree(tmp_path / "raw", 3, labels=("original",))
    assert list_pairs(raw_dir, "as_is_same_area_original_labels").pairs
    with pytest.raises(UserError, match="same_area_balanced_train__corrected.txt.*splits_new"):
        list_pairs(raw_dir, "as_is_same_area")


def test_what_a_pair_says_of_itself(tree, tmp_path):
    builder = open_dataset(tree, tmp_path / "built", "as_is_same_area")
    example = read_examples(builder)["Seattle/pano-_13,41.0035,-71.5001"]
    assert example["position"].tolist() == [41.0035, -71.5001]
    assert example["vertical_fov"] == 180.0 and example["heading"] == 0.0
    tiles = [f"Seattle/satellite_41.{i:03d}_-71.5" for i in range(6)]
    # Panoramas 2 and 3 share tile 2; the tree's semi-positives are the next three.
    assert example["aerial_id"].decode() == tiles[2]
    assert [name.decode() for name in example["positives"]] == [tiles[2]]
    assert [name.decode() for name in example["semi_positives"]] == tiles[3:6]
    assert example["aerial"] == (tree / "Seattle/satellite/satellite_41.002_-71.5.png").read_bytes()
    twin = read_examples(builder)["Seattle/pano-_12,41.0025,-71.5001"]
    assert twin["aerial_id"].decode() == tiles[2]


def test_every_crop_is_an_aerial_of_its_own(tree, tmp_path):
    examples = read_examples(open_dataset(tree, tmp_path / "built"))
    assert len(examples) == 48
    for name, example in examples.items():
        assert example["aerial_id"].decode() == name
        assert len(example["semi_positives"]) == 0


def test_a_crop_holds_the_tiles_own_pixels(tmp_path):
    # 320-pixel tiles are 640-pixel ones at half the size, so the labels' pixels are halved. In
    # Chicago 22.2524 m are 200 pixels, so 100 here. Camera at (220, 256), so (110, 128) here:
    # columns 60 .. 160, rows 78 .. 178.
    raw_dir = write_tree(tmp_path / "raw", 3, tile_size=320)
    path = raw_dir / "splits__corrected/Chicago/same_area_balanced_train__corrected.txt"
    lines = [line.split(" ") for line in path.read_text().splitlines()]
    lines[0][2:4] = ["-64.0", "100.0"]
    path.write_text("".join(" ".join(words) + "\n" for words in lines))
    builder = open_dataset(raw_dir, tmp_path / "built", crop_metres=22.2524)
    stored = read_examples(builder)["Chicago/" + lines[0][0].removesuffix(",.jpg")]["aerial"]
    with Image.open(raw_dir / "Chicago/satellite" / lines[0][1]) as tile:
        expected = np.array(tile)[78:178, 60:160]
    np.testing.assert_array_equal(images.decode_image(stored), expected)


def shift_seattle(raw_dir):
    """Puts the first training camera of Seattle 181 pixels off the middle, the rest 170."""
    path = raw_dir / "splits__corrected/Seattle/same_area_balanced_train__corrected.txt"

    def change(lines):
        rows = [line.split(" ") for line in lines]
        for number, words in enumerate(rows):
            words[2:4] = ["0", "181"] if number == 0 else ["0", "170"]
        return [" ".join(words) for words in rows]

    edit(path, change)
    return path.read_text().split(",.jpg")[0]


def test_crops_that_leave_their_tile_are_dropped_and_counted(tmp_path, capsys):
    # Seattle: 30 m are 297.57 pixels. 181 to the left: 320 - 181 - 148.8 < 0, out of the tile;
    # 170: 320 - 170 - 148.8 = 1.2, inside. Other cities' crops all fit: 18 m are at most 162
    # pixels, half of 30 m at most 135.
    raw_dir = write_tree(tmp_path / "raw")
    dropped = shift_seattle(raw_dir)
    builder = open_dataset(raw_dir, tmp_path / "built", crop_metres=30.0, aerial_size=(32, 32))
    found = list_pairs(raw_dir, "vigor_crop_same_area", 30.0)
    off = [pair.id for pair in found.pairs if not pair.aerial_box.is_inside()]
    assert f"Seattle/{dropped}" in off and all(name.startswith("Seattle/") for name in off)
    assert set(read_examples(builder)) == {pair.id for pair in found.pairs} - set(off)
    skipped = json.loads((Path(builder.data_path) / "skipped.json").read_text())
    assert [item["kind"] for item in skipped] == ["outside"] * len(off)
    assert f"{len(off)} pairs left out: their crops leave the tile" in capsys.readouterr().err


def test_crops_that_leave_their_tile_are_padded_where_asked(tmp_path):
    raw_dir = write_tree(tmp_path / "raw")
    padded = shift_seattle(raw_dir)
    builder = open_dataset(raw_dir, tmp_path / "built", crop_metres=30.0, crop_outside="pad")
    examples = read_examples(builder)
    assert len(examples) == 48
    # 297.57 of 640 pixels are 45 of 96; the crop's middle is at 139 / 640 x 96 = 20.85, so the
    # crop begins at column -2.
    crop = images.decode_image(examples[f"Seattle/{padded}"]["aerial"])
    assert crop.shape == (45, 45, 3)
    np.testing.assert_array_equal(crop[:, 0], crop[:, 2])
    assert (crop[:, 2] != crop[:, 3]).any()


@pytest.mark.parametrize("metres", [0.0, -1.0, float("nan"), 64.6])
def test_impossible_crops_are_refused(tree, tmp_path, metres):
    with pytest.raises(UserError, match="crop_metres.*64.5 that a tile of Seattle covers"):
        open_dataset(tree, tmp_path / "built", crop_metres=metres)


def add_own_tiles(raw_dir, leave_out=()):
    """Centre-aligned tiles for all panoramas: flat, of level ten times the panorama's position."""
    for city in CITIES:
        folder = raw_dir / "vigor_gen_tiles" / city
        folder.mkdir(parents=True)
        for number, path in enumerate(sorted((raw_dir / city / "panorama").iterdir())):
            if path.stem not in leave_out:
                # With and without the comma that stands before a panorama's suffix.
                name = path.stem if number % 2 else path.stem.rstrip(",")
                suffix = ".png" if number % 3 else ".jpg"
                Image.new("RGB", (32, 32), (10 * number, 0, 0)).save(folder / (name + suffix))


def test_own_tiles_are_matched_by_panorama(tmp_path):
    raw_dir = write_tree(tmp_path / "raw")
    add_own_tiles(raw_dir)
    for city in CITIES:  # not needed, and must not be used
        for path in (raw_dir / city / "satellite").iterdir():
            path.unlink()
    examples = read_examples(open_dataset(raw_dir, tmp_path / "built", "vigor_gen_same_area"))
    for city in CITIES:
        for number, path in enumerate(sorted((raw_dir / city / "panorama").iterdir())):
            example = examples[f"{city}/{path.stem.rstrip(',')}"]
            red = images.decode_image(example["aerial"])[..., 0]
            assert abs(red.mean() - 10 * number) < 3
            assert example["ground"] == path.read_bytes()


def test_panoramas_without_an_own_tile_are_problems(tmp_path):
    raw_dir = write_tree(tmp_path / "raw")
    lost = "pano-_02,40.0025,-70.5001,"
    add_own_tiles(raw_dir, leave_out=(lost,))
    found = list_pairs(raw_dir, "vigor_gen_same_area")
    (problem,) = found.problems
    assert problem.kind == "missing"
    assert f"panorama {lost}.jpg has no tile in vigor_gen_tiles/NewYork" in problem.reason
    assert not found.expected
    with pytest.raises(UserError, match="has no tile"):
        open_dataset(raw_dir, tmp_path / "built", "vigor_gen_same_area")
    builder = open_dataset(raw_dir, tmp_path / "built", "vigor_gen_same_area", allow_bad=True)
    assert len(read_examples(builder)) == 47


def test_two_own_tiles_of_a_panorama_are_a_problem(tmp_path):
    raw_dir = write_tree(tmp_path / "raw")
    add_own_tiles(raw_dir)
    twin = raw_dir / "vigor_gen_tiles/NewYork/pano-_02,40.0025,-70.5001,.jpeg"
    Image.new("RGB", (32, 32)).save(twin)
    (problem,) = list_pairs(raw_dir, "vigor_gen_same_area").problems
    assert problem.kind == "duplicate" and "has a tile before" in problem.reason


# The gallery


@pytest.mark.parametrize("protocol, cities", [("same_area", CITIES), ("cross_area", CITIES[2:])])
def test_the_gallery_is_every_tile_of_the_test_cities(tree, tmp_path, protocol, cities):
    data_config = make_config(tree, f"as_is_{protocol}")
    gallery = catalog.open_gallery(data_config, tmp_path)
    batches = list(pipeline.iterate_tiles(gallery, data_config, 5))
    assert {batch["aerial"].shape for batch in batches} == {(5, 16, 16, 3)}
    extra = [
        n for batch in batches for n, real in zip(batch["id"], batch["mask"], strict=True) if real
    ]
    assert len(extra) == len(set(extra)) == {"same_area": 32, "cross_area": 4}[protocol]
    pairs = read_examples(catalog.open_dataset(data_config, tmp_path), "test")
    own = {example["aerial_id"].decode() for example in pairs.values()}
    listed = {
        f"{city}/{path.stem}" for city in cities for path in (tree / city / "satellite").iterdir()
    }
    assert set(extra) | own == listed and not set(extra) & own


def test_gallery_tiles_keep_their_pixels(tree, tmp_path):
    data_config = make_config(tree, "as_is_cross_area", aerial_size=(96, 96))
    gallery = catalog.open_gallery(data_config, tmp_path)
    (batch,) = pipeline.iterate_tiles(gallery, data_config, 4)
    assert batch["aerial"].dtype == np.uint8
    for name, aerial in zip(batch["id"], batch["aerial"], strict=True):
        city, stem = str(name).split("/")
        content = (tree / city / "satellite" / f"{stem}.png").read_bytes()
        assert read_examples(gallery)[name]["aerial"] == content
        np.testing.assert_array_equal(aerial, images.decode_image(content))


def test_processes_share_the_gallery(tree, tmp_path):
    data_config = make_config(tree, "as_is_same_area")
    gallery = catalog.open_gallery(data_config, tmp_path)
    (whole,) = pipeline.iterate_tiles(gallery, data_config, 32)
    shares = [
        list(pipeline.iterate_tiles(gallery, data_config, 20, process_index=i, process_count=2))
        for i in range(2)
    ]
    assert len(shares[0]) == len(shares[1]) == 2
    together = [
        name
        for two in zip(*shares, strict=True)
        for share in two
        for name in share["id"][share["mask"]]
    ]
    assert together == whole["id"].tolist()


@pytest.mark.parametrize("name", ["vigor_crop_same_area", "vigor_crop_cross_area_original_labels"])
def test_crops_have_no_further_gallery(tree, tmp_path, name):
    data_config = make_config(tree, name)
    assert catalog.open_gallery(data_config, tmp_path) is None
    assert not list(tmp_path.iterdir())
    catalog.open_dataset(data_config, tmp_path)
    assert catalog.open_gallery(make_config("", name), tmp_path) is None


def test_a_copy_and_its_gallery_open_without_the_photographs(tree, tmp_path):
    for config_name in ("as_is_same_area_original_labels", "as_is_same_area"):
        built = open_dataset(tree, tmp_path, config_name)
        data_config = make_config("", config_name)
        with pytest.raises(UserError, match="gallery of .* is not built.*raw_dir"):
            catalog.open_gallery(data_config, tmp_path)
        first = catalog.open_gallery(make_config(tree, config_name), tmp_path)
        # One variant's name is a prefix of the other's, and the gallery is stored beside the pairs.
        assert catalog.open_dataset(data_config, tmp_path).data_path == built.data_path
        again = catalog.open_gallery(data_config, tmp_path)
        assert Path(again.data_path) == Path(first.data_path)
        assert len(read_examples(again)) == 32


def test_data_sets_of_pairs_only_have_no_gallery(tmp_path):
    assert catalog.open_gallery(make_data_config(tmp_path), tmp_path) is None


def test_an_unusable_gallery_tile_is_listed(tmp_path, capsys):
    raw_dir = write_tree(tmp_path / "raw")
    (raw_dir / "Chicago/satellite/satellite_43.010_-73.5.png").write_bytes(b"")
    data_config = make_config(raw_dir, "as_is_cross_area")
    with pytest.raises(UserError, match="1 unusable.*satellite_43.010_-73.5.png: not a JPEG, PNG"):
        catalog.open_gallery(data_config, tmp_path / "built")
    data_config.allow_bad = True
    gallery = catalog.open_gallery(data_config, tmp_path / "built")
    assert len(read_examples(gallery)) == 3
    (skipped,) = json.loads((Path(gallery.data_path) / "skipped.json").read_text())
    assert skipped["path"].endswith("satellite_43.010_-73.5.png")


def test_published_counts_are_reported(tree):
    found = list_pairs(tree)
    assert found.expected == {"train": 52609, "test": 52605}
    assert "gallery: 44 tiles listed, 90618 published" in found.notes
    assert not list_pairs(tree, "as_is_cross_area").expected


# Faults


def test_an_absent_city_is_named(tmp_path):
    raw_dir = write_tree(tmp_path / "raw", 6)
    (raw_dir / "Seattle/panorama").rename(raw_dir / "Seattle/pano")
    (problem,) = list_pairs(raw_dir).problems
    assert problem.kind == "missing" and "Seattle" in problem.reason
    builder = open_dataset(raw_dir, tmp_path / "built", allow_bad=True)
    assert not [name for name in read_examples(builder) if name.startswith("Seattle")]


def test_folders_that_are_no_vigor_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        list_pairs(tmp_path / "gone")
    with pytest.raises(UserError, match="NewYork, Seattle") as refusal:
        list_pairs(tmp_path)
    assert "<City>/panorama with <City>/satellite" in str(refusal.value)
    assert "ground/<City> with satellite/<City>" in str(refusal.value)
    with pytest.raises(UserError, match="ground/<City> with vigor_gen_tiles/<City>"):
        list_pairs(write_tree(tmp_path / "raw", 3), "vigor_gen_same_area")


def test_absent_lists_are_named(tmp_path):
    raw_dir = write_tree(tmp_path / "raw", 6)
    gone = "splits__corrected/Chicago/same_area_balanced_test__corrected.txt"
    (raw_dir / gone).unlink()
    for folder in ("splits", "splits__corrected"):
        (raw_dir / folder / "NewYork/satellite_list.txt").unlink()
    first, second = list_pairs(raw_dir).problems
    assert first.kind == second.kind == "missing"
    assert first.path.endswith(gone) and second.path.endswith("NewYork/satellite_list.txt")
    assert "splits__corrected, splits_new, splits" in first.reason


def spoil_lines(lines):
    """Corrupts all lines of a list but the first two; returns the expected problem of each."""
    rows = [line.split(" ") for line in lines]
    rows[2].pop()
    rows[3].append("1.0")
    rows[4][5] = "north"
    rows[5][1] = "satellite_nowhere.png"
    rows[6][0] = f"../{rows[6][0]}"
    rows[7] = list(rows[0])
    return [" ".join(words) for words in rows]


def test_bad_lines_are_listed_by_number(tmp_path, capsys):
    raw_dir = write_tree(tmp_path / "raw")
    name = "splits__corrected/Seattle/same_area_balanced_train__corrected.txt"
    edit(raw_dir / name, spoil_lines)
    with pytest.raises(UserError, match="6 unusable"):
        open_dataset(raw_dir, tmp_path / "built", "as_is_same_area")
    printed = capsys.readouterr().err
    for number, reason in (
        (3, "has 12 words, 13 are needed"),
        (4, "has 14 words, 13 are needed"),
        (5, "a delta is 'north', not a number"),
        (6, "names satellite_nowhere.png, which satellite_list.txt lacks"),
        (7, "'../pano-_16,41.0065,-71.5001,.jpg' is not a bare file name"),
    ):
        assert f"{name}, line {number}: {reason}" in printed
    assert "id Seattle/pano-_10,41.0005,-71.5001 stands there before" in printed
    for variant in ("as_is_same_area", "vigor_crop_same_area"):
        kinds = [problem.kind for problem in list_pairs(raw_dir, variant).problems]
        assert kinds == ["row", "row", "row", "dangling", "row", "duplicate"]
    builder = open_dataset(raw_dir, tmp_path / "built", "as_is_same_area", allow_bad=True)
    assert len(read_examples(builder)) == 42


def test_a_panorama_in_train_and_test_is_listed(tmp_path):
    raw_dir = write_tree(tmp_path / "raw", 6)
    lists = raw_dir / "splits__corrected/Seattle"
    line = (lists / "same_area_balanced_train__corrected.txt").read_text().splitlines()[0]
    edit(lists / "same_area_balanced_test__corrected.txt", lambda lines: [*lines, line])
    found = list_pairs(raw_dir)
    assert [problem.kind for problem in found.problems] == ["duplicate"]
    assert len({pair.id for pair in found.pairs}) == len(found.pairs) == 24


@pytest.mark.parametrize(
    "name", ["../x.png", "a/b.png", "a\\b.png", "a..png", "two words.png", "."]
)
def test_tile_lists_hold_bare_names(tmp_path, name):
    raw_dir = write_tree(tmp_path / "raw", 6)
    edit(raw_dir / "splits__corrected/Seattle/satellite_list.txt", lambda lines: [*lines, name])
    (problem,) = list_pairs(raw_dir).problems
    assert problem.kind == "row"
    assert problem.path == "splits__corrected/Seattle/satellite_list.txt, line 8"


def test_a_tile_listed_twice_is_a_problem(tmp_path):
    raw_dir = write_tree(tmp_path / "raw", 6)
    edit(raw_dir / "splits__corrected/Seattle/satellite_list.txt", lambda lines: [*lines, lines[0]])
    (problem,) = list_pairs(raw_dir).problems
    assert problem.kind == "duplicate"


def test_absent_damaged_and_odd_images_are_listed(tmp_path, capsys):
    raw_dir = write_tree(tmp_path / "raw")
    panoramas = sorted((raw_dir / "NewYork/panorama").iterdir())
    panoramas[0].unlink()
    panoramas[1].write_bytes(panoramas[1].read_bytes()[:-200])
    Image.new("RGB", (96, 64)).save(panoramas[2])
    with pytest.raises(UserError, match="3 unusable"):
        open_dataset(raw_dir, tmp_path / "built")
    printed = capsys.readouterr().err
    assert f"{panoramas[0]}: no such file" in printed
    assert f"{panoramas[1]}: truncated image" in printed
    assert f"{panoramas[2]}: wrong size: 64 x 96 pixels" in printed


def test_byte_order_marks_line_ends_and_blank_lines_are_fine(tree, tmp_path):
    raw_dir = write_tree(tmp_path / "raw")
    for path in raw_dir.glob("splits*/*/*.txt"):
        text = path.read_text().replace("\n", "\r\n")
        path.write_bytes(b"\xef\xbb\xbf" + f"\r\n{text}\r\n".encode())
    for variant in ("as_is_same_area", "vigor_crop_cross_area_original_labels"):
        found, clean = list_pairs(raw_dir, variant), list_pairs(tree, variant)
        assert not found.problems
        assert [pair.id for pair in found.pairs] == [pair.id for pair in clean.pairs]
        assert [tile.id for tile in found.tiles] == [tile.id for tile in clean.tiles]


def test_lists_that_are_no_text_are_refused(tmp_path):
    raw_dir = write_tree(tmp_path / "raw", 3)
    (raw_dir / "splits__corrected/Seattle/satellite_list.txt").write_bytes(b"a\xff\xfe")
    with pytest.raises(UserError, match="not text in UTF-8"):
        list_pairs(raw_dir)


def test_panoramas_of_other_names_have_no_position(tmp_path):
    raw_dir = write_tree(tmp_path / "raw", 3)
    path = raw_dir / "splits__corrected/Seattle/same_area_balanced_train__corrected.txt"
    edit(path, lambda lines: [lines[0].replace(",41.0005,", ",here,"), *lines[1:]])
    found = list_pairs(raw_dir)
    assert not found.problems
    assert "1 panoramas have no position in their names" in found.notes[0]
    unknown = [pair for pair in found.pairs if np.isnan(pair.position).all()]
    assert [pair.id for pair in unknown] == ["Seattle/pano-_10,here,-71.5001"]


def test_unknown_variants_are_refused_by_the_nearest(tree, tmp_path):
    with pytest.raises(UserError, match="did you mean 'vigor_crop_same_area'"):
        open_dataset(tree, tmp_path, "vigor_crop_samearea")
    with pytest.raises(UserError, match="did you mean 'vigor_crop_same_area'"):
        open_dataset("", tmp_path, "vigor_crop_samearea")


# The line reader

WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Z", "C"), exclude_characters="/\\."),
    min_size=1,
)
NUMBERS = st.floats(-1e6, 1e6)


@given(
    WORDS,
    st.lists(st.tuples(WORDS, NUMBERS, NUMBERS), min_size=4, max_size=4),
    st.sampled_from(["", "\n", "\r\n"]),
)
def test_valid_lines_are_read_back(panorama, tiles, end):
    words = [f"{panorama},1.5,-2.5,.jpg"]
    for name, rows, columns in tiles:
        words += [f"{name}.png", repr(rows), repr(columns)]
    row = labels.read_row(" ".join(words) + end)
    assert row.panorama == words[0]
    assert row.tiles == tuple(f"{name}.png" for name, *_ in tiles)
    assert row.deltas == tuple((rows, columns) for _, rows, columns in tiles)
    assert labels.find_position(row.panorama) == (1.5, -2.5)


NAMES = st.sampled_from(["a.png", "b,.jpg", "..", "../a", "a..png", "a\\b", "\0", "1.5", "\u2028"])
VALUES = st.sampled_from(["1.5", "-3", "0", "nan", "1e999", "x"])
NEAR_MISSES = st.tuples(NAMES, *(NAMES, VALUES, VALUES) * 4).map(" ".join)


@given(st.one_of(st.text(), NEAR_MISSES))
def test_random_lines_give_bare_names_or_a_reason(line):
    try:
        row = labels.read_row(line)
    except tables.BadRowError as error:
        assert "\n" not in str(error) and str(error)
        return
    assert np.isfinite(row.deltas).all()
    for name in (row.panorama, *row.tiles):
        assert Path("folder", name).parent == Path("folder") and ".." not in name


@pytest.mark.parametrize(
    "labels, asked, named",
    [
        ("original", "as_is_same_area", "original ones are: config_name as_is_same_area_original"),
        ("original", "vigor_crop_cross_area", "config_name vigor_crop_cross_area_original_labels"),
        (
            "corrected",
            "as_is_cross_area_original_labels",
            "corrected .*name as_is_cross_area reads",
        ),
    ],
)
def test_labels_of_the_other_set_are_pointed_at_once(labels, asked, named, tmp_path, monkeypatch):
    write_tree(tmp_path / "VIGOR", 3, labels=(labels,))
    monkeypatch.chdir(tmp_path)
    data_config = make_data_config("VIGOR", name="vigor_gen", config_name=asked)
    builder_class = catalog.load_builder_class("vigor_gen")
    found = report.make_report(builder_class, data_config, full=False, num_workers=1)
    text = report.format_report(found)
    assert re.search(named, text) and text.count("VIGOR: ") == 1
