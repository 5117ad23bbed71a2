"""Pairs that share a tile or a panorama are one place, in every split, gallery and batch."""

import dataclasses
import functools

import numpy as np
import pytest
from pair_files import make_data_config
from PIL import Image
from retroguide_jax.datasets.common import listing, places, report
from retroguide_jax.datasets.common.listing import Pair
from retroguide_jax.datasets.image_pairs import listing as image_pairs_listing

from retroguide_jax.data import catalog, pipeline, reading
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import ranking
from retroguide_jax.training import pairwise


def write(path, colour, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(colour).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return str(path)


def write_views(root, num_places, num_views, *, copies=False, splits=("train",)):
    """A manifest of several panoramas per tile; with `copies` each has its own copy of the tile."""
    rows = ["aerial,ground,split"]
    for place in range(num_places):
        for view in range(num_views):
            aerial = f"tiles/{place}_{view if copies else 0}.png"
            write(root / aerial, place, (16, 16))
            ground = f"panos/{place}_{view}.png"
            write(root / ground, 1000 + place * num_views + view, (8, 32))
            rows.append(f"{aerial},{ground},{splits[place % len(splits)]}")
    (root / "manifest.csv").write_text("\n".join(rows))
    return root


def build(root, tmp_path, **fields):
    data_config = make_data_config(root, **fields)
    return catalog.open_dataset(data_config, tmp_path / "built"), data_config


@pytest.mark.parametrize("copies", [False, True])
def test_all_views_of_a_tile_are_one_place(copies, tmp_path):
    root = write_views(tmp_path / "raw", 5, 3, copies=copies)
    builder, data_config = build(root, tmp_path, train_split="train")
    batches = pipeline.iterate_batches(builder, data_config, "train", batch_size=15)
    batch = next(batches)
    found = ranking.find_places(batch, "aerial")
    assert len(found.shown) == 5 and found.matches.shape == (15, 1)
    ground = ranking.find_places(batch, "ground")
    assert ground.matches.shape == (15, 3) and (ground.matches >= 0).all()
    one = next(pipeline.make_train_iterator(builder, data_config, batch_size=15, seed=0))
    assert np.unique(one["place"], return_counts=True)[1].tolist() == [3] * 5
    # The place number follows the pixels, whatever the order and the augmentation.
    for place in set(one["place"]):
        rows = one["aerial"][one["place"] == place]
        sums = rows.sum(axis=(1, 2, 3))
        np.testing.assert_allclose(sums, sums[0], atol=1e-2)


@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("name", ["info_nce", "soft_margin_triplet"])
def test_losses_take_no_view_of_a_tile_for_another_place(copies, name, tmp_path):
    """A perfect embedder has no loss on a batch with shared tiles, from files to the loss."""
    root = write_views(tmp_path / "raw", 4, 2, copies=copies)
    builder, data_config = build(root, tmp_path)
    batch = next(pipeline.make_train_iterator(builder, data_config, batch_size=8, seed=0))
    _, rows = np.unique(batch["place"], return_inverse=True)
    perfect = np.eye(4, dtype=np.float32)[rows]  # equal for equal places, orthogonal for others
    loss_fn = functools.partial(getattr(pairwise, name), perfect, perfect, 50.0)
    assert loss_fn(place=batch["place"]) < 1e-6
    assert loss_fn(place=np.arange(8)) > 0.05


@pytest.mark.parametrize("copies", [False, True])
def test_check_counts_the_aerials(copies, tmp_path):
    root = write_views(tmp_path / "raw", 4, 2, copies=copies)
    found = report.make_report(
        catalog.load_builder_class("image_pairs"), make_data_config(root), full=False, num_workers=1
    )
    assert "4 aerials for 8 pairs" in "\n".join(found["notes"])


def test_a_stated_aerial_id_decides(tmp_path):
    root = write_views(tmp_path / "raw", 3, 2, copies=True)
    lines = (root / "manifest.csv").read_text().split("\n")
    ids = ["aerial_id", "north", "north", "north", "", "2_0", ""]
    (root / "manifest.csv").write_text(
        "\n".join(f"{a},{b}" for a, b in zip(lines, ids, strict=True))
    )
    builder, data_config = build(root, tmp_path)
    batch = next(pipeline.iterate_batches(builder, data_config, "train", batch_size=6))
    named = dict(zip(batch["id"].tolist(), batch["aerial_id"].tolist(), strict=True))
    assert named == {
        "0_0": "north", "0_1": "north", "1_0": "north", "1_1": "north", "2_0": "2_0", "2_1": "2_0",
    }  # fmt: skip


def test_a_stated_id_is_never_taken_by_chance(tmp_path):
    files = [write(tmp_path / f"{n}.png", n, (16, 16)) for n in range(2)]
    pairs = [Pair("x", files[0], "g0"), Pair("y", files[1], "g1", aerial_id="x")]
    one, other = places.identify_places(pairs)
    assert one.aerial_id != other.aerial_id == "x"


def test_a_panorama_with_two_tiles_has_both_as_answers(tmp_path):
    tiles = [write(tmp_path / f"t{n}.png", n, (16, 16)) for n in range(3)]
    grounds = [write(tmp_path / f"g{n}.png", 10 + n // 2, (8, 32)) for n in range(3)]
    pairs = [Pair(str(n), tiles[n], grounds[n], "train") for n in range(3)]
    found = places.identify_places(pairs)
    assert [pair.positives for pair in found] == [("0", "1"), ("1", "0"), ("2",)]
    assert [pair.name_place() for pair in found] == ["0", "0", "2"]
    assert "2 ground images for 3 pairs" in "\n".join(places.describe_places(found))


def test_positives_follow_an_aerial_that_is_another_ones_copy(tmp_path):
    tile = write(tmp_path / "t.png", 0, (16, 16))
    other = write(tmp_path / "o.png", 1, (16, 16))
    pairs = [
        Pair("a", tile, "g0"),
        Pair("b", tile, "g1", positives=("b", "c")),
        Pair("c", other, "g2", positives=("c", "b")),
    ]
    assert [pair.positives for pair in places.identify_places(pairs)] == [
        ("a",), ("a", "c"), ("c", "a"),
    ]  # fmt: skip


def test_no_place_is_in_two_splits_unless_the_manifest_says_so(tmp_path):
    files = [write(tmp_path / f"{n}.png", n, (16, 16)) for n in range(30)]
    pairs = [Pair(f"{n}_{k}", files[n], f"g{n}_{k}") for n in range(30) for k in range(3)]
    found = listing.assign_splits(places.identify_places(pairs), "here")
    shown = [{pair.aerial_id for pair in members} for members in found.values()]
    assert sum(map(len, shown)) == 30 and all(shown) and sum(map(len, found.values())) == 90
    leaking = [
        dataclasses.replace(p, split="test" if p.id.endswith("2") else "train") for p in pairs
    ]
    notes = places.describe_places(places.identify_places(leaking))
    assert "30 pairs of test show an aerial that train shows too" in notes
    with pytest.raises(UserError, match="6 usable pairs of 2 places"):
        listing.assign_splits(places.identify_places(pairs[:6]), "here")


FOLDERS = {
    "named as the aerial": ("aerial/{0}.png", "ground/{0}/{1}.png"),
    "one aerial in each": ("aerial/{0}/{0}.png", "ground/{0}/view{1}.png"),
    "below a city": ("aerial/Oslo/{0}/t.png", "ground/Oslo/{0}/{1}.png"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_views_of_an_aerial_may_lie_in_a_folder(name, tmp_path):
    aerial, ground = FOLDERS[name]
    for place in range(4):
        write(tmp_path / aerial.format(place), place, (16, 16))
        for view in range(2):
            write(tmp_path / ground.format(place, view), 100 + 2 * place + view, (8, 32))
    found = image_pairs_listing.list_pairs(tmp_path)
    pairs = places.identify_places(found.pairs)
    assert not found.problems and len(pairs) == 8 and len({pair.id for pair in pairs}) == 8
    assert len({pair.aerial_id for pair in pairs}) == 4
    for pair in pairs:
        number = int(pair.ground.split("/")[-2])
        assert pair.aerial == str(tmp_path / aerial.format(number))


def test_folders_of_cities_are_matched_by_name_and_leave_no_file_unnamed(tmp_path):
    for city in ("Oslo", "Rome"):
        for number in range(3):
            write(tmp_path / f"aerial/{city}/{number}.png", number, (16, 16))
            write(tmp_path / f"ground/{city}/{number}.png", number, (8, 32))
    write(tmp_path / "aerial/Oslo/9.png", 9, (16, 16))
    write(tmp_path / "ground/Rome/8.png", 8, (8, 32))
    found = image_pairs_listing.list_pairs(tmp_path)
    assert [pair.id for pair in found.pairs] == [
        f"{c}/{n}" for c in ("Oslo", "Rome") for n in range(3)
    ]
    assert sorted(problem.reason.split(".*")[0] for problem in found.problems) == [
        "no partner Oslo/9", "no partner Rome/8",
    ]  # fmt: skip


def test_data_sets_without_shared_aerials_are_as_before(tmp_path):
    files = [write(tmp_path / f"{n}.png", n, (16, 16)) for n in range(6)]
    pairs = [Pair(str(n), files[n], f"g{n}", "train") for n in range(6)]
    found = places.identify_places(pairs)
    assert [pair.aerial_id for pair in found] == [pair.id for pair in pairs]
    assert places.describe_places(found) == []


def test_places_differ_where_names_do():
    names = [f"{n:05d}".encode() for n in range(20_000)]
    numbers = {int(reading.hash_place({"id": name, "aerial_id": name})) for name in names}
    assert len(numbers) > 19_990 and min(numbers) >= 0


def test_check_notes_copies_that_were_saved_again(tmp_path):
    root = write_views(tmp_path / "raw", 3, 2, copies=True)
    smooth = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    tile = Image.fromarray(smooth).resize((64, 64))
    tile.save(root / "tiles/0_0.png")
    tile.save(root / "tiles/0_1.png", "JPEG", quality=80)  # other bytes, the same picture
    builder_class = catalog.load_builder_class("image_pairs")
    found = report.make_report(builder_class, make_data_config(root), full=True, num_workers=1)
    text = "\n".join(found["notes"])
    assert "4 aerials for 6 pairs" in text
    assert "aerial: 1 files look like another" in text and "0_0.png and " in text
    assert "ground: " not in text.replace("ground: height", "")
