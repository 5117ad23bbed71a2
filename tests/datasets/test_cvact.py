"""cvact: folder layouts, variants, forms of ACT_data.mat, stored pixels, faults by name."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pair_files import make_data_config
from PIL import Image
from raw_cvact import name_place, place_metres, write_mat, write_tree
from retroguide_jax.datasets.common.listing import Pair
from retroguide_jax.datasets.cvact import folder_layout, matfile

from retroguide_jax.data import catalog, images, pipeline
from retroguide_jax.errors import UserError


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A complete tree with test pairs; tests only read it."""
    return write_tree(tmp_path_factory.mktemp("cvact") / "CVACT", num_test=12)


def make_config(raw_dir, config_name="full", **fields):
    sizes = {"aerial_size": (64, 64), "ground_size": (32, 128)}
    return make_data_config(raw_dir, name="cvact", config_name=config_name, **sizes | fields)


def open_dataset(raw_dir, built, config_name="full", **fields):
    return catalog.open_dataset(make_config(raw_dir, config_name, **fields), built)


def read_examples(builder, split):
    """The stored examples by id, images still encoded."""
    skip = {"aerial": tfds.decode.SkipDecoding(), "ground": tfds.decode.SkipDecoding()}
    return {e["id"].decode(): e for e in builder.as_data_source(split, decoders=skip)}


def read_indices(root):
    """The 1-based indices of each set of a tree whose sets are structs."""
    content = scipy.io.loadmat(root / "ACT_data.mat")
    return {
        name: content[name][field][0][0].ravel().astype(int)
        for name, field in (("trainSet", "trainInd"), ("valSet", "valInd"), ("valSetAll", "valInd"))
    }


def count(found):
    return found.count_pairs()


# What is built


def test_pairs_are_stored_as_they_are(tree, tmp_path):
    builder = open_dataset(tree, tmp_path)
    indices = read_indices(tree)
    metres = place_metres(54)
    for split, name in (("train", "trainSet"), ("val", "valSet"), ("test", "valSetAll")):
        examples = read_examples(builder, split)
        assert set(examples) == {name_place(k - 1) for k in indices[name]}
        for k in indices[name]:
            pano = name_place(k - 1)
            example = examples[pano]
            aerial = tree / "satview_polish" / f"{pano}_satView_polish.jpg"
            ground = tree / "streetview" / f"{pano}_grdView.jpg"
            assert example["aerial"] == aerial.read_bytes()
            assert example["ground"] == ground.read_bytes()
            assert example["position"].tolist() == metres[k - 1].tolist()
            assert example["vertical_fov"] == 180.0 and example["aerial_id"].decode() == pano
    assert builder.info.splits["test"].num_examples == 20


def test_positives_of_test_are_those_within_5_metres(tree, tmp_path):
    builder = open_dataset(tree, tmp_path)
    # Places lie 4 metres apart: neighbours are within 5 metres, the next ones are not.
    places = {int(k) - 1 for k in read_indices(tree)["valSetAll"]}
    examples = read_examples(builder, "test")
    for k in places:
        positives = [name.decode() for name in examples[name_place(k)]["positives"]]
        assert positives[0] == name_place(k)
        near = {name_place(j) for j in (k - 1, k, k + 1) if j in places}
        assert set(positives) == near and len(positives) == len(near)
    assert any(len(example["positives"]) > 1 for example in examples.values())
    for split in ("train", "val"):
        for name, example in read_examples(builder, split).items():
            assert [p.decode() for p in example["positives"]] == [name]


@given(
    st.lists(st.tuples(*2 * [st.integers(-20, 20)]), min_size=1, max_size=12).map(
        lambda points: [(693000.0 + 0.5 * x, 6090000.0 + 0.5 * y) for x, y in points]
    )
)
def test_positives_are_those_of_the_distance_matrix(points):
    pairs = [Pair(str(k), "a", "g", "test", position=point) for k, point in enumerate(points)]
    for pair, placed in zip(pairs, folder_layout.add_positives(pairs), strict=True):
        gaps = [np.hypot(*np.subtract(pair.position, other.position)) for other in pairs]
        assert placed.positives[0] == pair.id
        assert sorted(placed.positives) == sorted(
            other.id for other, gap in zip(pairs, gaps, strict=True) if gap <= 5.0
        )


def test_half_is_the_middle_rows(tmp_path):
    root = write_tree(tmp_path / "CVACT", 4, 2, suffix=".png")
    full = read_examples(open_dataset(root, tmp_path / "built"), "train")
    half = read_examples(open_dataset(root, tmp_path / "built", "half"), "train")
    assert set(full) == set(half) and len(half) == 4
    for name, example in half.items():
        assert example["vertical_fov"] == 90.0
        assert example["aerial"] == full[name]["aerial"]
        whole = images.decode_image(full[name]["ground"])
        np.testing.assert_array_equal(images.decode_image(example["ground"]), whole[24:72])


def test_half_of_the_published_size_is_rows_208_to_624(tmp_path):
    root = write_tree(tmp_path / "CVACT", 1, 1, suffix=".png")
    rows = np.broadcast_to((np.arange(832) // 4).astype(np.uint8)[:, None, None], (832, 1664, 3))
    (path,) = (root / "streetview").glob(f"{folder_layout.list_pairs(root, False).pairs[0].id}_*")
    Image.fromarray(np.ascontiguousarray(rows)).save(path)
    (example,) = read_examples(open_dataset(root, tmp_path / "built", "half"), "train").values()
    stored = images.decode_image(example["ground"])
    np.testing.assert_array_equal(stored, rows[208:624])


@pytest.mark.parametrize("variant", ["full", "half"])
def test_built_pairs_feed_the_model(tree, tmp_path, variant):
    data_config = make_config(tree, variant)
    builder = catalog.open_dataset(data_config, tmp_path)
    batch = next(pipeline.make_train_iterator(builder, data_config, batch_size=8, seed=0))
    assert batch["aerial"].shape == (8, 64, 64, 3) and batch["ground"].shape == (8, 32, 128, 3)


# The corrected subset


def write_both(root):
    """A complete CVACT, and corrected aerials (PNG) of some places; returns those places' ids."""
    write_tree(root, 8, 4)
    (root / "satview_correct").mkdir()
    names = sorted(pair.id for pair in folder_layout.list_pairs(root, False).pairs)[::2]
    for name in names:
        path = root / "satview_correct" / f"{name}_satView_polish.png"
        Image.new("RGB", (96, 96), (9, 9, 9)).save(path)
    return names


def test_the_corrected_subset_is_what_is_there_and_only_that(tmp_path):
    root = tmp_path / "CVACT"
    names = write_both(root)
    found = folder_layout.list_pairs(root, True)
    assert sorted(pair.id for pair in found.pairs) == names
    assert not found.problems and not found.expected
    assert {Path(pair.aerial).parent.name for pair in found.pairs} == {"satview_correct"}
    counts = count(found)
    assert f"train: {counts['train']} of 8 pairs are in the subset" in found.notes
    assert f"val: {counts['val']} of 4 pairs are in the subset" in found.notes
    plain = folder_layout.list_pairs(root, False)
    assert count(plain) == {"train": 8, "val": 4} and plain.expected["train"] == 35532
    assert {Path(pair.aerial).parent.name for pair in plain.pairs} == {"satview_polish"}


def test_variants_are_data_sets_of_their_own(tmp_path):
    root = tmp_path / "CVACT"
    names = write_both(root)
    built = {name: open_dataset(root, tmp_path / "built", name) for name in VARIANTS}
    assert len({str(builder.data_path) for builder in built.values()}) == 4
    for name, (fov, is_corrected) in VARIANTS.items():
        examples = read_examples(built[name], "train") | read_examples(built[name], "val")
        assert {example["vertical_fov"] for example in examples.values()} == {fov}
        assert (sorted(examples) == names) == is_corrected
        # Without raw_dir the copy is found by its variant, although one name is a prefix of the
        # other.
        again = open_dataset("", tmp_path / "built", name)
        assert Path(again.data_path) == Path(built[name].data_path)
    corrected = read_examples(built["corrected_full"], "train")
    assert {images.decode_image(e["aerial"]).max() for e in corrected.values()} == {9}


VARIANTS = {
    "full": (180.0, False),
    "half": (90.0, False),
    "corrected_full": (180.0, True),
    "corrected_half": (90.0, True),
}


def test_in_a_folder_of_both_releases_each_variant_takes_its_own(tmp_path):
    root = tmp_path / "CVACT"
    names = write_both(root)
    for name in names:
        Image.new("RGB", (192, 96)).save(root / "streetview" / f"{name}_grdView.png")
    for is_corrected, suffix in ((False, ".jpg"), (True, ".png")):
        found = folder_layout.list_pairs(root, is_corrected)
        assert {Path(pair.ground).suffix for pair in found.pairs} == {suffix}


def test_other_variants_are_refused(tree, tmp_path):
    with pytest.raises(UserError, match="did you mean 'corrected_full'"):
        open_dataset(tree, tmp_path, "corected_full")


# Folder layouts


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("aerial_folder", ["satview_polish", "satview_correct"])
@pytest.mark.parametrize(
    "folder, test_folder, layout_end",
    [
        ("", "", "raw_dir"),
        ("", "ANU_data_test", "raw_dir and ANU_data_test"),
        ("", "../ANU_data_test", "raw_dir and ../ANU_data_test"),
        ("ANU_data_small", "ANU_data_small", "ANU_data_small"),
        ("ANU_data_small", "ANU_data_test", "ANU_data_small and ANU_data_test"),
    ],
)
def test_every_layout_is_recognised_and_named(
    tmp_path, suffix, aerial_folder, folder, test_folder, layout_end
):
    root = write_tree(
        tmp_path / "CVACT", 4, 2, 3, folder=folder, test_folder=test_folder, suffix=suffix,
        aerial_folder=aerial_folder,
    )  # fmt: skip
    found = folder_layout.list_pairs(root, aerial_folder == "satview_correct")
    assert found.folder_layout == f"streetview and {aerial_folder} in {layout_end}"
    assert not found.problems and count(found) == {"train": 4, "val": 2, "test": 5}
    assert all(Path(pair.aerial).is_file() and Path(pair.ground).is_file() for pair in found.pairs)


def test_the_mat_file_may_lie_beside_the_images(tmp_path):
    root = write_tree(tmp_path / "CVACT", 4, 2, folder="ANU_data_small")
    (root / "ACT_data.mat").rename(root / "ANU_data_small" / "ACT_data.mat")
    assert count(folder_layout.list_pairs(root, False)) == {"train": 4, "val": 2}


def test_without_test_images_there_is_no_test(tmp_path):
    root = write_tree(tmp_path / "CVACT", 4, 2, 3)
    indices = read_indices(root)
    more = set(indices["valSetAll"]) - set(indices["valSet"])
    for k in more:
        for path in root.glob(f"*/{name_place(k - 1)}_*"):
            path.unlink()
    found = folder_layout.list_pairs(root, False)
    assert count(found) == {"train": 4, "val": 2} and not found.problems
    assert found.notes == ["no split test: of its 5 pairs none beyond val is there"]


@pytest.mark.parametrize(
    "there, is_corrected, message",
    [
        ("satview_correct", False, "satview_polish.*config_name corrected_full"),
        ("satview_polish", True, "satview_correct.*config_name full"),
        ("other", False, "streetview and satview_polish.*ANU_data_small"),
    ],
)
def test_missing_folders_are_named(tmp_path, there, is_corrected, message):
    root = write_tree(tmp_path / "CVACT", 2, 1, aerial_folder=there)
    with pytest.raises(UserError, match=message):
        folder_layout.list_pairs(root, is_corrected)


def test_a_missing_folder_is_reported(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        folder_layout.list_pairs(tmp_path / "gone", False)


# ACT_data.mat


@pytest.mark.parametrize("idiom", ["struct", "cell", "array"])
def test_every_form_of_the_sets_is_read(tmp_path, idiom):
    root = write_tree(tmp_path / "one", 4, 2, 3)
    expected = matfile.read_table(root / "ACT_data.mat")
    assert expected.indices["train"].tolist() == read_indices(root)["trainSet"].tolist()
    write_mat(tmp_path / "ACT_data.mat", 11, read_indices(root), idiom)
    table = matfile.read_table(tmp_path / "ACT_data.mat")
    assert table.ids == expected.ids == [name_place(k) for k in range(11)]
    np.testing.assert_array_equal(table.utm, place_metres(11))
    for split, indices in expected.indices.items():
        assert table.indices[split].dtype == np.int64
        np.testing.assert_array_equal(table.indices[split], indices)


def test_the_published_codes_idioms_hold_for_the_struct(tmp_path):
    content = scipy.io.loadmat(write_tree(tmp_path, 4, 2) / "ACT_data.mat")
    by_name = content["trainSet"]["trainInd"][0][0]
    np.testing.assert_array_equal(by_name, content["trainSet"][0][0][1])
    assert by_name.shape == (4, 1)


def test_ids_may_be_an_array_of_text_with_spaces(tmp_path):
    path = tmp_path / "ACT_data.mat"
    sets = {"trainSet": [1], "valSet": [2], "valSetAll": [2, 3]}
    write_mat(path, 3, sets, panoIds=np.array(["a b", "-c,d", "efghi"]))
    assert matfile.read_table(path).ids == ["a b", "-c,d", "efghi"]


def test_a_missing_mat_file_is_reported_with_the_places_that_have_it(tmp_path):
    root = write_tree(tmp_path / "CVACT", 2, 1)
    (root / "ACT_data.mat").unlink()
    with pytest.raises(UserError, match="ACT_data.mat is not in .*CVACT.*SAFA.*DSM.*L2LTR.*OriCNN"):
        folder_layout.list_pairs(root, False)


@pytest.mark.parametrize("damage", ["cut", "empty", "page", "crash"])
def test_a_damaged_mat_file_is_reported(tmp_path, damage):
    root = write_tree(tmp_path / "CVACT", 6, 3, 4)
    path = root / "ACT_data.mat"
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "empty":
        content = b""
    elif damage == "page":
        content = b"<!DOCTYPE html><html>404: not found</html>" * 9
    else:  # an unknown data type in place of 16, that of an id's text
        place = content.index(b"\x10\x00\x00\x00", 200)
        content[place] = 23
    path.write_bytes(content)
    with pytest.raises(UserError, match="ACT_data.mat: not a readable .mat file.*fetch it again"):
        folder_layout.list_pairs(root, False)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=8
)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_mat_file_cut_anywhere_is_a_user_error(tmp_path, share):
    path = tmp_path / "ACT_data.mat"
    write_mat(path, 4, {"trainSet": [1, 2], "valSet": [3], "valSetAll": [3, 4]})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="ACT_data.mat"):
        matfile.read_table(path)


SETS = {"trainSet": [1, 2], "valSet": [3], "valSetAll": [3, 4]}


@pytest.mark.parametrize(
    "replaced, message",
    [
        ({"panoIds": None}, "has no panoIds"),
        ({"trainSet": None, "valSetAll": None}, "has no trainSet, valSetAll"),
        ({"trainSet": {"valInd": [1.0]}}, "trainSet.trainInd is absent"),
        ({"trainSet": {"trainInd": np.zeros((0, 1))}}, "trainSet.trainInd is absent or holds no"),
        ({"valSet": {"valInd": "one"}}, "valSet.valInd is absent or holds no numbers"),
        ({"valSet": {"valInd": [[5.0]]}}, "valSet.valInd has 5, not a whole number from 1 to 4"),
        ({"valSet": {"valInd": [[-1.0]]}}, "valSet.valInd has -1"),
        ({"valSet": {"valInd": [[1.5]]}}, "valSet.valInd has 1.5"),
        ({"valSet": {"valInd": [[np.nan]]}}, "valSet.valInd has nan"),
        ({"utm": np.zeros((3, 2))}, r"utm has the shape \(3, 2\).* 4 panoIds"),
        ({"utm": np.full((4, 2), np.nan)}, "not two finite numbers"),
        ({"panoIds": np.arange(4.0)}, "4 of 4 panoIds are no text"),
    ],
)
def test_variables_that_do_not_fit_are_reported(tmp_path, replaced, message):
    path = tmp_path / "ACT_data.mat"
    write_mat(path, 4, SETS, **replaced)
    with pytest.raises(UserError, match=message):
        matfile.read_table(path)


def test_a_file_that_counts_from_0_is_detected_by_the_images(tmp_path):
    # In this tree place 0 belongs to no split, so no index 0 shows that the file counts from 0.
    root = write_tree(tmp_path / "CVACT", 12, 4)
    right = folder_layout.list_pairs(root, False)
    indices = {name: members - 1 for name, members in read_indices(root).items()}
    shifted = {name: [k for k in members if k] for name, members in indices.items()}
    write_mat(root / "ACT_data.mat", 18, shifted)
    found = folder_layout.list_pairs(root, False)
    (problem,) = found.problems
    assert problem.kind == "index" and not found.pairs and len(right.pairs) == 16
    assert "count from 0" in problem.reason and "add 1" in problem.fix
    for allow_bad in (False, True):  # mismatched pairs are never read, whatever is allowed
        with pytest.raises(UserError):
            open_dataset(root, tmp_path / "built", allow_bad=allow_bad)


def test_an_index_of_0_is_reported(tmp_path):
    root = write_tree(tmp_path / "CVACT", 4, 2)
    indices = read_indices(root)
    indices["valSetAll"][0] = 0
    write_mat(root / "ACT_data.mat", 8, indices)
    (problem,) = folder_layout.list_pairs(root, False).problems
    assert problem.kind == "index" and "valSetAll.valInd has the index 0" in problem.reason


def test_images_of_the_test_set_alone_do_not_pass_for_a_shift(tmp_path):
    # No image of train exists; if indices counted from 0, some would.
    root = write_tree(tmp_path / "CVACT", 12, 4, 20)
    indices = read_indices(root)
    for k in indices["trainSet"]:
        for path in root.glob(f"*/{name_place(k - 1)}_*"):
            path.unlink()
    found = folder_layout.list_pairs(root, False)
    assert {problem.kind for problem in found.problems} == {"missing"}
    assert count(found) == {"val": 4, "test": 24}


# Faults


def test_absent_images_are_problems_of_the_whole_set(tmp_path):
    root = write_tree(tmp_path / "CVACT", 20, 8)
    pairs = [pair for pair in folder_layout.list_pairs(root, False).pairs if pair.split == "train"]
    Path(pairs[0].ground).unlink()
    Path(pairs[1].aerial).unlink()
    found = folder_layout.list_pairs(root, False)
    assert [(p.kind, p.path) for p in found.problems] == [
        ("missing", pairs[0].ground), ("missing", pairs[1].aerial),
    ]  # fmt: skip
    assert count(found) == {"train": 18, "val": 8}
    with pytest.raises(UserError, match="2 unusable.*ACT_data.mat names it"):
        open_dataset(root, tmp_path / "built")
    builder = open_dataset(root, tmp_path / "built", allow_bad=True)
    left = read_examples(builder, "train")
    assert set(left) == {pair.id for pair in pairs[2:]}


def test_an_absent_image_of_val_is_reported_once_though_test_has_it_too(tmp_path):
    root = write_tree(tmp_path / "CVACT", 4, 2, 3, test_folder="ANU_data_test")
    lost = {
        split: next(pair for pair in reversed(folder_layout.list_pairs(root, False).pairs)
                    if pair.split == split)
        for split in ("val", "test")
    }  # fmt: skip
    for pair in lost.values():
        Path(pair.aerial).unlink()
    found = folder_layout.list_pairs(root, False)
    assert [problem.path for problem in found.problems] == [p.aerial for p in lost.values()]
    assert count(found) == {"train": 4, "val": 1, "test": 3}


def test_every_unusable_file_is_listed_and_stops_the_build(tmp_path, capsys):
    root = write_tree(tmp_path / "CVACT", 20, 8)
    pairs = [pair for pair in folder_layout.list_pairs(root, False).pairs if pair.split == "train"]
    whole = Path(pairs[0].ground).read_bytes()
    Path(pairs[0].ground).write_bytes(whole[: len(whole) // 2])
    Path(pairs[1].aerial).write_bytes(b"")
    Image.new("RGB", (96, 192)).save(pairs[2].ground)
    Image.new("RGB", (96, 64)).save(pairs[3].aerial)
    Image.new("RGB", (96, 96)).save(pairs[4].aerial, "PNG")  # a valid file named .jpg
    reasons = {
        pairs[0].ground: "truncated",
        pairs[1].aerial: "not a JPEG, PNG, WEBP, BMP, GIF or TIFF image",
        pairs[2].ground: "wrong size: 192 x 96 pixels",
        pairs[3].aerial: "wrong size: 64 x 96 pixels",
    }
    with pytest.raises(UserError, match="4 unusable"):
        open_dataset(root, tmp_path / "built")
    listed = capsys.readouterr().err
    for path, reason in reasons.items():
        assert f"{path}: {reason}" in listed
    left = read_examples(open_dataset(root, tmp_path / "built", allow_bad=True), "train")
    assert set(left) == {pair.id for pair in pairs[4:]}


def test_a_panorama_whose_middle_is_too_small_is_reported(tmp_path):
    root = write_tree(tmp_path / "CVACT", 3, 1)
    with pytest.raises(UserError, match="too small: 48 x 192 pixels"):
        open_dataset(root, tmp_path / "built", "half", ground_size=(64, 128))
    open_dataset(root, tmp_path / "built", ground_size=(64, 128))


def test_an_id_in_train_and_val_or_test_is_a_problem(tmp_path):
    root = write_tree(tmp_path / "CVACT", 6, 2, 3)
    indices = read_indices(root)
    train = indices["trainSet"]
    indices["valSet"] = np.append(indices["valSet"], train[0])
    indices["valSetAll"] = np.append(indices["valSetAll"], train[1])
    write_mat(root / "ACT_data.mat", 13, indices)
    found = folder_layout.list_pairs(root, False)
    assert [problem.kind for problem in found.problems] == ["duplicate", "duplicate"]
    for k, problem in zip(train, found.problems, strict=False):
        assert name_place(k - 1) in problem.reason
    assert count(found) == {"train": 6, "val": 2, "test": 5}


def test_ids_that_lead_out_of_the_folder_find_nothing(tmp_path):
    root = write_tree(tmp_path / "CVACT", 2, 1)
    names = [name_place(k) for k in range(5)]
    indices = read_indices(root)
    first = indices["trainSet"][0] - 1
    shutil.copy(root / "streetview" / f"{names[first]}_grdView.jpg", tmp_path / "x_grdView.jpg")
    names[first] = "../../x"
    ids = np.empty((5, 1), object)
    ids[:, 0] = names
    write_mat(root / "ACT_data.mat", 5, indices, panoIds=ids)
    found = folder_layout.list_pairs(root, False)
    assert [problem.kind for problem in found.problems] == ["missing", "missing"]
    assert "../../x" not in {pair.id for pair in found.pairs}
