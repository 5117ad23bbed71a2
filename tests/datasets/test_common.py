"""Shared parts of the builders: boxes, stored bytes, checks, splits, fingerprints."""

import dataclasses
import io
import math
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from retroguide_jax.datasets.common import checking, listing, storing
from retroguide_jax.datasets.common.listing import Box, Pair

from retroguide_jax.data import images
from retroguide_jax.errors import UserError

# Every pixel encodes its row and column.
RAMP = np.stack(np.broadcast_arrays(np.arange(40)[:, None], np.arange(80), 7), -1).astype(np.uint8)
ANY_SIZE = storing.View(min_size=(1, 1))


def make_recipe(aerial=ANY_SIZE, ground=ANY_SIZE, **fields):
    return storing.Recipe(aerial, ground, 180.0, **fields)


@pytest.fixture
def pair(tmp_path):
    """A ramp of 40 x 80 as PNG, another as JPEG."""
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    Image.fromarray(RAMP).save(tmp_path / "g.jpg", quality=100, subsampling=0)
    return Pair("1", str(tmp_path / "a.png"), str(tmp_path / "g.jpg"))


@pytest.mark.parametrize(
    "box, pixels",
    [
        (Box(0, 0, 1, 1), (0, 0, 80, 40)),
        (Box(0.25, 0.5, 0.75, 1), (20, 20, 60, 40)),
        (Box(-0.25, 0.1, 0.25, 0.6), (-20, 4, 20, 24)),
        (Box(0.5, 0.5, 0.5, 0.5), (40, 20, 41, 21)),  # never empty
        (Box(1 / 3, 0, 2 / 3, 1), (27, 0, 54, 40)),  # 26.7 columns are 27
    ],
)
def test_boxes_are_whole_pixels(box, pixels):
    assert storing.find_pixels(box, 40, 80) == pixels


@given(
    st.floats(-1, 2), st.floats(-1, 2), st.floats(0.01, 1), st.integers(1, 999), st.integers(1, 999)
)
def test_boxes_of_one_size_are_equally_large_and_lie_where_they_should(x, y, side, height, width):
    # A boundary at half a pixel may be rounded either way after a shift.
    is_clear = abs((side * width) % 1 - 0.5) > 1e-6 and abs((side * height) % 1 - 0.5) > 1e-6
    left, top, right, bottom = storing.find_pixels(Box(x, y, x + side, y + side), height, width)
    first = storing.find_pixels(Box(0, 0, side, side), height, width)
    if is_clear:
        assert (right - left, bottom - top) == (first[2] - first[0], first[3] - first[1])
    assert abs((left + right) / 2 - (x + side / 2) * width) <= 0.5 + 1e-6
    assert abs((top + bottom) / 2 - (y + side / 2) * height) <= 0.5 + 1e-6


@pytest.mark.parametrize("times, first, last", [(4, 1, 2), (9, 0, 1), (9, 1, 5), (10, 1, 5)])
@pytest.mark.parametrize("height", [1, 7, 256, 286, 999])
def test_shares_of_strips_are_exact(times, first, last, height):
    box = Box(first / times, 0.0, last / times, 1.0)
    assert storing.find_pixels(box, height, times * height) == (
        first * height, 0, last * height, height,
    )  # fmt: skip


def test_whether_a_box_is_inside():
    assert Box(0, 0, 1, 1).is_inside() and Box(-1e-9, 0.2, 1 + 1e-9, 0.4).is_inside()
    for box in (Box(-0.01, 0, 1, 1), Box(0, -0.01, 1, 1), Box(0, 0, 1.01, 1), Box(0, 0, 1, 1.01)):
        assert not box.is_inside()


def test_crops_inside_are_the_pixels_themselves():
    crop = storing.crop_image(RAMP, Box(0.25, 0.5, 0.75, 1))
    np.testing.assert_array_equal(crop, RAMP[20:40, 20:60])


def test_crops_beyond_the_edge_repeat_it():
    crop = storing.crop_image(RAMP, Box(-0.125, 0.75, 0.125, 1.25))
    assert crop.shape == (20, 20, 3)
    rows, columns = np.clip(np.arange(30, 50), 0, 39), np.clip(np.arange(-10, 10), 0, 79)
    np.testing.assert_array_equal(crop, RAMP[rows][:, columns])
    with pytest.raises(UserError, match="lies outside of 80 x 40 pixels"):
        storing.crop_image(RAMP, Box(1, 0, 1.5, 1))


def test_bytes_are_the_files_own_where_nothing_is_asked(pair):
    for path in (pair.aerial, pair.ground):
        with open(path, "rb") as file:
            assert storing.store_image(path, ANY_SIZE, None) == file.read()


@pytest.mark.parametrize("view", ["aerial", "ground"])
def test_resized_and_cropped_images_keep_their_format(pair, view):
    path, kind = getattr(pair, view), {"aerial": "PNG", "ground": "JPEG"}[view]
    box, tolerance = Box(0.25, 0, 0.75, 1), {"PNG": 0, "JPEG": 3}[kind]
    for given_view, pair_box, wanted in (
        (storing.View((1, 1)), box, RAMP[:, 20:60]),
        (storing.View((1, 1), box=box), None, RAMP[:, 20:60]),
        # The pair's own box decides.
        (storing.View((1, 1), box=Box(0, 0, 0.1, 0.1)), box, RAMP[:, 20:60]),
        (storing.View((1, 1), size=(20, 40)), None, images.resize_image(RAMP, (20, 40))),
        (storing.View((1, 1), size=(20, 20)), box, images.resize_image(RAMP[:, 20:60], (20, 20))),
    ):
        stored = storing.store_image(path, given_view, pair_box)
        with Image.open(io.BytesIO(stored)) as image:
            assert image.format == kind
        difference = images.decode_image(stored).astype(int) - wanted
        assert np.abs(difference).max() <= tolerance


def test_examples_hold_what_the_pair_says(pair):
    placed = dataclasses.replace(
        pair, position=(1.5, 2.5), heading=90.0, aerial_id="t", positives=("t", "u"),
        semi_positives=("v",), aerial_box=Box(0, 0, 0.5, 1), ground_box=Box(0.5, 0, 1, 1),
    )  # fmt: skip
    example = storing.make_example(make_recipe(), placed)
    np.testing.assert_array_equal(images.decode_image(example["aerial"]), RAMP[:, :40])
    assert images.decode_image(example["ground"])[:, :, 1].mean() == pytest.approx(59.5, abs=1)
    assert example["position"].tolist() == [1.5, 2.5] and example["heading"] == 90
    assert (example["aerial_id"], example["positives"]) == ("t", ["t", "u"])
    assert example["semi_positives"] == ["v"] and example["vertical_fov"] == 180
    plain = storing.make_example(make_recipe(), pair)
    assert (plain["aerial_id"], plain["positives"]) == ("1", ["1"])
    assert np.isnan(plain["position"]).all()


def test_an_image_that_cannot_be_decoded_is_a_problem(pair):
    # Noise, because small files are decoded at once: they may be of one colour.
    noise = np.random.default_rng(0).integers(0, 256, RAMP.shape, dtype=np.uint8)
    Image.fromarray(noise).save(pair.aerial)
    with open(pair.aerial, "r+b") as file:
        file.seek(60)
        file.write(b"\xff" * 40)
    recipe = make_recipe(aerial=storing.View((1, 1), size=(20, 40)))
    assert checking.check_pair(recipe, pair) == []  # header and end are intact
    (found,) = checking.check_pair(recipe, pair, decode=True)
    for problem in (found, storing.make_example(recipe, pair)):
        assert (problem.path, problem.kind) == (pair.aerial, "unreadable")


def check(pair, **recipe):
    return [(p.kind, p.reason) for p in checking.check_pair(make_recipe(**recipe), pair)]


def test_kinds_of_problems(pair, tmp_path):
    assert check(pair) == []
    assert check(dataclasses.replace(pair, aerial=str(tmp_path / "gone.png"))) == [
        ("missing", "no such file")
    ]
    (tmp_path / "empty.png").write_bytes(b"")
    assert check(dataclasses.replace(pair, ground=str(tmp_path / "empty.png"))) == [
        ("unreadable", "not a JPEG, PNG, WEBP, BMP, GIF or TIFF image: the file is empty")
    ]
    large = storing.View((41, 80))
    ((kind, reason),) = check(pair, aerial=large)
    assert kind == "size" and "too small: 40 x 80" in reason and "at least 41 x 80" in reason
    assert check(pair, ground=storing.View((40, 80), aspect=2.05)) == []
    ((kind, reason),) = check(pair, ground=storing.View((1, 1), aspect=2.2))
    assert kind == "size" and "width / height should be 2.2" in reason


def test_crops_are_checked_against_the_image_and_the_size(pair):
    off = dataclasses.replace(pair, aerial_box=Box(-0.1, 0, 0.4, 1))
    ((kind, reason),) = check(off)
    assert kind == "outside" and "(-8, 0, 32, 40) leaves the 80 x 40 image" in reason
    assert check(off, pads=True) == []
    apart = dataclasses.replace(pair, ground_box=Box(1, 0, 1.5, 1))
    assert [kind for kind, _ in check(apart, pads=True)] == ["outside"]
    half = dataclasses.replace(pair, ground_box=Box(0, 0, 0.5, 1))
    assert check(half, ground=storing.View((40, 40))) == []
    ((kind, reason),) = check(half, ground=storing.View((40, 41)))
    assert kind == "size" and "too small: 40 x 40" in reason


def test_listings_are_checked_in_order_and_crops_left_out_are_no_problems(pair, tmp_path):
    pairs = [
        pair,
        dataclasses.replace(pair, id="2", aerial=str(tmp_path / "gone.png")),
        dataclasses.replace(pair, id="3", aerial_box=Box(0.6, 0, 1.1, 1)),
        dataclasses.replace(pair, id="4"),
    ]
    own = listing.Problem("list.csv, row 2", "odd", "row", "mend it")
    found = listing.Listing(str(tmp_path), "folders", pairs, [own])
    kept, problems = checking.check_listing(found, make_recipe(), 1)
    assert [p.id for p in kept] == ["1", "4"]
    assert [p.kind for p in problems] == ["row", "missing", "outside"]


def make_pairs(ids):
    return [Pair(name, f"{name}.a", f"{name}.g") for name in ids]


def test_splits_are_about_8_1_1_and_stay():
    small = listing.assign_splits(make_pairs(f"{n}" for n in range(1000)), "x")
    assert {name: round(len(members) / 1000, 1) for name, members in small.items()} == {
        "train": 0.8, "val": 0.1, "test": 0.1,
    }  # fmt: skip
    larger = listing.assign_splits(make_pairs(f"{n}" for n in range(1500)), "x")
    for name, members in small.items():
        assert {pair.id for pair in members} <= {pair.id for pair in larger[name]}


@given(st.sets(st.text(max_size=5), min_size=3, max_size=20))
def test_three_pairs_fill_three_splits(ids):
    splits = listing.assign_splits(make_pairs(ids), "x")
    assert all(splits[name] for name in ("train", "val", "test"))
    assert sorted(pair.id for members in splits.values() for pair in members) == sorted(ids)
    again = listing.assign_splits(make_pairs(sorted(ids)[::-1]), "x")
    assert {name: [pair.id for pair in members] for name, members in splits.items()} == {
        name: [pair.id for pair in members] for name, members in again.items()
    }


def test_given_splits_are_kept_and_train_is_needed():
    pairs = [Pair("a", "a.a", "a.g", "test"), Pair("b", "b.a", "b.g", "train")]
    splits = listing.assign_splits(pairs, "x")
    assert {name: [pair.id for pair in members] for name, members in splits.items()} == {
        "train": ["b"], "test": ["a"],
    }  # fmt: skip
    with pytest.raises(UserError, match="x: no usable pair has split train"):
        listing.assign_splits(pairs[:1], "x")
    with pytest.raises(UserError, match="x: 2 usable pairs"):
        listing.assign_splits(make_pairs("ab"), "x")


def test_the_first_of_equal_ids_stays():
    pairs = [*make_pairs("ab"), Pair("a", "other.a", "other.g")]
    kept, problems = listing.find_duplicates(pairs)
    assert kept == pairs[:2]
    assert [(p.kind, p.path) for p in problems] == [("duplicate", "other.g")]
    assert "a.g" in problems[0].reason


def test_the_fingerprint_follows_files_and_lists(pair, tmp_path):
    tile = listing.Tile("t", pair.aerial, "test")
    found = listing.Listing(str(tmp_path), "folders", [pair], [], [tile])
    first = found.compute_fingerprint()
    assert (
        dataclasses.replace(found, pairs=[dataclasses.replace(pair)]).compute_fingerprint() == first
    )
    problem = listing.Problem("row 3", "odd", "row", "mend it")
    prints = {first} | {
        dataclasses.replace(found, **change).compute_fingerprint()
        for change in (
            {"pairs": []},
            {"pairs": [dataclasses.replace(pair, id="2")]},
            {"pairs": [dataclasses.replace(pair, heading=1.0)]},
            {"pairs": [dataclasses.replace(pair, ground_box=Box(0, 0, 1, 0.5))]},
            {"pairs": [dataclasses.replace(pair, ground=str(tmp_path / "gone"))]},
            {"tiles": []},
            {"problems": [problem]},
        )
    }
    os.utime(pair.ground, ns=(1, 1))
    prints.add(found.compute_fingerprint())
    with open(pair.ground, "ab") as file:
        file.write(b"\0")
    os.utime(pair.ground, ns=(1, 1))
    prints.add(found.compute_fingerprint())
    assert len(prints) == 10


def test_no_position_is_not_a_number():
    assert all(map(math.isnan, make_pairs("a")[0].position))
