"""cvusa: every folder layout and list format, stored bytes untouched, every fault by name."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pair_files import make_data_config
from PIL import Image
from raw_cvusa import find_list, read_rows, write_csv, write_tree
from retroguide_jax.datasets.cvusa import folder_layout

from retroguide_jax.data import catalog, pipeline, reading
from retroguide_jax.errors import UserError

HEADER = ("satellite_path", "ground_path")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A complete tree; tests only read it."""
    return write_tree(tmp_path_factory.mktemp("cvusa") / "CVUSA")


def make_config(raw_dir, **fields):
    sizes = {"aerial_size": (64, 64), "ground_size": (32, 128)}
    return make_data_config(raw_dir, name="cvusa", **sizes | fields)


def open_dataset(raw_dir, built, **fields):
    return catalog.open_dataset(make_config(raw_dir, **fields), built)


def read_examples(builder, split):
    """The stored examples by id, images still encoded."""
    skip = {"aerial": tfds.decode.SkipDecoding(), "ground": tfds.decode.SkipDecoding()}
    return {e["id"].decode(): e for e in builder.as_data_source(split, decoders=skip)}


def test_pairs_are_stored_as_they_are(tree, tmp_path):
    builder = open_dataset(tree, tmp_path)
    assert {k: v.num_examples for k, v in builder.info.splits.items()} == {"train": 32, "val": 8}
    for split in ("train", "val"):
        examples = read_examples(builder, split)
        assert set(examples) == {Path(row[1]).stem for row in read_rows(find_list(tree, split))}
        for name, example in examples.items():
            assert example["aerial"] == (tree / f"bingmap/19/{name}.jpg").read_bytes()
            assert example["ground"] == (tree / f"streetview/panos/{name}.jpg").read_bytes()
            # Row n of all.csv, third and fourth column.
            assert example["position"] == pytest.approx([20 + int(name) / 100, -int(name)])
            assert example["vertical_fov"] == 90.0 and example["heading"] == 0.0
            assert [p.decode() for p in example["positives"]] == [name]


def test_built_pairs_feed_the_model(tree, tmp_path):
    data_config = make_config(tree)
    builder = catalog.open_dataset(data_config, tmp_path)
    batch = next(pipeline.make_train_iterator(builder, data_config, batch_size=8, seed=0))
    assert batch["aerial"].shape == (8, 64, 64, 3) and batch["ground"].shape == (8, 32, 128, 3)


@pytest.mark.parametrize("inner", ["", "CVUSA", "CVPR_subset"])
@pytest.mark.parametrize("lists", ["splits", ""])
@pytest.mark.parametrize("slash", ["", "/"])
def test_every_layout_is_recognised_and_named(tmp_path, inner, lists, slash):
    root = write_tree(tmp_path / "raw" / inner, 3, 2, lists=lists)
    data_config = make_config(f"{tmp_path / 'raw'}{slash}")
    found = catalog.load_builder_class("cvusa").list_raw(data_config)
    assert found.folder_layout == "/".join(part for part in (inner, lists, "*-19zl.csv") if part)
    assert found.location == str(root) and not found.problems
    assert found.count_pairs() == {"train": 3, "val": 2}
    assert all(Path(pair.aerial).is_file() for pair in found.pairs)


def rewrite(path, change):
    write_csv(path, change(read_rows(path)))


def swap_columns(rows):
    return [["number", "Ground_Path", " satellite_path"]] + [
        [str(number), row[1], row[0]] for number, row in enumerate(rows)
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows,
        lambda rows: [row[:2] for row in rows],
        lambda rows: [HEADER, *(row[:2] for row in rows)],
        lambda rows: [("bingmap", "streetview", "street_annotation"), *rows],
        lambda rows: [[f" {cell}\t" for cell in row] for row in rows],
        lambda rows: [[cell.replace("/", "\\") for cell in row] for row in rows],
        lambda rows: [[], *rows[:1], ["", " "], *rows[1:]],
        swap_columns,
    ],
    ids=["3", "2", "header", "3-header", "spaces", "backslashes", "empty-rows", "order"],
)
@pytest.mark.parametrize("is_windows", [False, True])
def test_every_form_of_a_list_is_read(tmp_path, change, is_windows):
    root = write_tree(tmp_path, 3, 2)
    expected = folder_layout.list_pairs(root).pairs
    for split in folder_layout.LISTS:
        path = find_list(root, split)
        rewrite(path, change)
        if is_windows:
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    found = folder_layout.list_pairs(root)
    assert not found.problems
    assert found.pairs == expected and len(expected) == 5


@pytest.mark.parametrize("header", ["image_a,image_b", "satellite,sat_pano", "ground,pano,sat"])
def test_headers_that_do_not_name_the_columns_are_refused(tmp_path, header):
    root = write_tree(tmp_path, 3, 2, header=header.split(","))
    with pytest.raises(UserError, match="satellite_path,ground_path"):
        folder_layout.list_pairs(root)


@pytest.mark.parametrize("split, message", [("train", "lacks train"), ("val", "lacks val")])
def test_a_missing_list_is_named_with_the_next_step(tmp_path, split, message):
    root = write_tree(tmp_path, 3, 2)
    find_list(root, split).unlink()
    with pytest.raises(UserError, match=f"splits {message}-19zl.csv.*split.tar.gz"):
        folder_layout.list_pairs(root)


def test_what_was_looked_for_is_named(tmp_path):
    with pytest.raises(UserError, match="train-19zl.csv nor val-19zl.csv.*mirrors.*split.tar.gz"):
        folder_layout.list_pairs(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        folder_layout.list_pairs(tmp_path / "gone")


def test_empty_lists_are_refused(tmp_path):
    root = write_tree(tmp_path, 3, 2)
    find_list(root, "val").write_text("\n")
    with pytest.raises(UserError, match="val-19zl.csv names no pair"):
        folder_layout.list_pairs(root)


def spoil(root):
    """Makes one fault of each kind; returns the expected report of each."""
    aerial, ground = root / "bingmap/19", root / "streetview/panos"
    (aerial / "0000001.jpg").unlink()
    whole = (ground / "0000002.jpg").read_bytes()
    (ground / "0000002.jpg").write_bytes(whole[: len(whole) // 2])
    (aerial / "0000003.jpg").write_bytes(b"")
    Image.new("RGB", (96, 64)).save(aerial / "0000004.jpg")
    Image.new("RGB", (64, 64)).save(ground / "0000005.jpg")
    Image.new("RGB", (110, 20)).save(ground / "0000006.jpg")
    return {
        "0000001.jpg": "no such file",
        "0000002.jpg": "truncated",
        "0000003.jpg": "not a JPEG, PNG, WEBP, BMP, GIF or TIFF image",
        "0000004.jpg": "wrong size: 64 x 96 pixels",
        "0000005.jpg": "wrong size: 64 x 64 pixels",
        "0000006.jpg": "too small: 20 x 110 pixels",
    }


def test_every_unusable_file_is_listed_and_stops_the_build(tmp_path, capsys):
    root = write_tree(tmp_path / "CVUSA", 20, 10)
    faults = spoil(root)
    with pytest.raises(UserError, match="6 unusable in .*CVUSA.*allow_bad"):
        open_dataset(root, tmp_path / "built")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  ")]
    assert len(lines) == len(faults)
    for name, reason in faults.items():
        assert any(f"{name}: {reason}" in line for line in lines), name
    builder = open_dataset(root, tmp_path / "built", allow_bad=True)
    stored = {**read_examples(builder, "train"), **read_examples(builder, "val")}
    assert set(stored) == {f"{n:07d}" for n in range(7, 31)}
    skipped = json.loads((Path(builder.data_path) / "skipped.json").read_text())
    assert {Path(item["path"]).name for item in skipped} == set(faults)


def test_a_png_named_jpg_is_read_by_its_content(tmp_path):
    root = write_tree(tmp_path / "CVUSA", 3, 2)
    noise = np.random.default_rng(1).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "bingmap/19/0000001.jpg", "PNG")
    builder = open_dataset(root, tmp_path / "built", aerial_size=(96, 96))
    pairs = [p for s in ("train", "val") for p in reading.read_pairs(
        builder, make_config(root, aerial_size=(96, 96)), s, 9)]  # fmt: skip
    (pair,) = (pair for pair in pairs if pair["id"] == "0000001")
    np.testing.assert_array_equal(pair["aerial"], noise)


def test_bad_rows_are_listed_by_number(tmp_path, capsys):
    root = write_tree(tmp_path / "CVUSA", 4, 2)
    secret = tmp_path / "secret.jpg"
    secret.write_bytes((root / "bingmap/19/0000001.jpg").read_bytes())
    (root / "bingmap/19/loop.jpg").symlink_to("loop.jpg")
    ground = "streetview/panos/0000001.jpg"
    bad = [
        (["../secret.jpg", ground], "leaves the folder"),
        (["..\\secret.jpg", ground], "leaves the folder"),
        ([str(secret), ground], "leaves the folder"),
        ([ground, "../../etc/passwd"], "leaves the folder"),
        (["bingmap/19/a\0b.jpg", ground], "cannot be followed"),
        (["", ground], "empty path"),
        ([ground, "."], "names no file"),
        ([ground], "has 1 columns, 2 or 3"),
        ([ground, ground, "x.png", "7"], "has 4 columns, 2 or 3"),
    ]
    rewrite(find_list(root, "train"), lambda rows: rows + [row for row, _ in bad])
    found = folder_layout.list_pairs(root)
    assert [problem.kind for problem in found.problems] == ["row"] * len(bad)
    for number, ((_, reason), problem) in enumerate(zip(bad, found.problems, strict=True), start=5):
        assert problem.path == f"train-19zl.csv, row {number}" and reason in problem.reason
    with pytest.raises(UserError, match=f"{len(bad)} unusable"):
        open_dataset(root, tmp_path / "built")
    builder = open_dataset(root, tmp_path / "built", allow_bad=True)
    assert builder.info.splits["train"].num_examples == 4


def test_symlink_loops_are_reported(tmp_path):
    root = write_tree(tmp_path / "CVUSA", 3, 2)
    path = Path(folder_layout.list_pairs(root).pairs[0].aerial)
    path.unlink()
    path.symlink_to(path.name)
    with pytest.raises(UserError, match=f"1 unusable.*{path.name}"):
        open_dataset(root, tmp_path / "built")


def test_an_id_that_stands_twice_is_a_problem(tmp_path):
    root = write_tree(tmp_path, 3, 2)
    repeated = read_rows(find_list(root, "train"))[0]
    rewrite(find_list(root, "val"), lambda rows: [*rows, repeated])
    found = folder_layout.list_pairs(root)
    (problem,) = found.problems
    name = Path(repeated[1]).stem
    assert problem.kind == "duplicate" and f"id {name} stands there before" in problem.reason
    assert found.count_pairs() == {"train": 3, "val": 2}


def test_ids_may_have_spaces_and_commas(tmp_path):
    root = write_tree(tmp_path / "CVUSA", 3, 2)
    old = read_rows(find_list(root, "val"))[0]
    new = [f"{Path(name).parent}/Main St, 7 é.jpg" for name in old[:2]]
    for before, after in zip(old, new, strict=False):
        (root / before).rename(root / after)
    rewrite(find_list(root, "val"), lambda rows: [new, *rows[1:]])
    examples = read_examples(open_dataset(root, tmp_path / "built"), "val")
    assert "Main St, 7 é" in examples
    assert np.isnan(examples["Main St, 7 é"]["position"]).all()


def test_shuffled_columns_are_noted(tree, tmp_path):
    assert not any("shuffled" in note for note in folder_layout.list_pairs(tree).notes)
    root = write_tree(tmp_path, 20, 5)

    def shift(rows, num):
        aerials = [row[0] for row in rows]
        aerials[:num] = aerials[1:num] + aerials[:1]
        return [[aerial, *row[1:]] for aerial, row in zip(aerials, rows, strict=True)]

    rewrite(find_list(root, "train"), lambda rows: shift(rows, 2))  # 2 of 25: below a tenth
    assert not any("shuffled" in note for note in folder_layout.list_pairs(root).notes)
    rewrite(find_list(root, "train"), lambda rows: shift(shift(rows, 2), 3))
    (note,) = (note for note in folder_layout.list_pairs(root).notes if "shuffled" in note)
    assert note.startswith("3 of 25 rows")


def test_annotations_are_counted_and_not_needed(tmp_path):
    root = write_tree(tmp_path, 3, 2)
    for row in read_rows(find_list(root, "train"))[:2]:
        (root / row[2]).parent.mkdir(parents=True, exist_ok=True)
        (root / row[2]).write_bytes(b"x")
    rewrite(find_list(root, "val"), lambda rows: [[*row[:2], "../out.png"] for row in rows])
    found = folder_layout.list_pairs(root)
    assert not found.problems and len(found.pairs) == 5
    assert "2 of 5 listed annotations are there (they are not used)" in found.notes


def test_positions_are_rows_by_id_wherever_they_are(tmp_path):
    root = write_tree(tmp_path, 3, 2)
    expected = {pair.id: pair.position for pair in folder_layout.list_pairs(root).pairs}
    assert expected["0000002"] == (20.02, -2.0)
    path = root / "split_locations" / "all.csv"
    path.rename(root / "all.csv")
    assert {pair.id: pair.position for pair in folder_layout.list_pairs(root).pairs} == expected
    # An added header shifts no row.
    text = (root / "all.csv").read_text()
    (root / "all.csv").write_text("sat_lat,sat_lon,lat,lon,zoom\n" + text)
    assert {pair.id: pair.position for pair in folder_layout.list_pairs(root).pairs} == expected


def test_lost_positions_are_counted(tmp_path):
    root = write_tree(tmp_path, 3, 2)
    path = root / "split_locations" / "all.csv"
    rows = read_rows(path)
    rows[1][3], rows[2][2], rows[3][2:] = "nan", "91", []
    write_csv(path, rows)
    found = folder_layout.list_pairs(root)
    lost = {pair.id for pair in found.pairs if np.isnan(pair.position).all()}
    assert lost == {"0000002", "0000003", "0000004"} and not found.problems
    assert "3 of 5 pairs have no position in all.csv" in found.notes
    path.unlink()
    found = folder_layout.list_pairs(root)
    assert np.isnan([pair.position for pair in found.pairs]).all()
    assert any(note.startswith("no positions: ") for note in found.notes)


def test_counts_are_compared_with_the_published_ones(tree):
    assert folder_layout.list_pairs(tree).expected == {"train": 35532, "val": 8884}


CELLS = st.one_of(
    st.sampled_from(
        ["bingmap/19/0000001.jpg", "streetview/panos/1.png", "../x.jpg", "/etc/hosts.jpg", "a/..",
         "..\\..\\x.jpg", ".", "", " ", "satellite_path", "ground_path", "\0.jpg", "9" * 5000]
    ),
    st.text(max_size=8),
    st.text(max_size=5).map(lambda text: text + ".jpg"),
)  # fmt: skip
LINES = st.one_of(st.lists(CELLS, max_size=5).map(",".join), st.text(max_size=12))
CONTENTS = st.one_of(
    st.lists(LINES, max_size=6).map("\n".join).map(str.encode), st.binary(max_size=40)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(CONTENTS, CONTENTS)
def test_any_list_gives_pairs_inside_or_a_user_error(tmp_path, content, positions):
    root = tmp_path.resolve()
    (root / "train-19zl.csv").write_bytes(content)
    (root / "val-19zl.csv").write_bytes(b"bingmap/19/0000007.jpg,streetview/panos/0000007.jpg\n")
    (root / "all.csv").write_bytes(positions)
    try:
        found = folder_layout.list_pairs(root)
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert found.pairs or found.problems
    for pair in found.pairs:
        assert pair.id and Path(pair.aerial).is_relative_to(root)
        assert Path(pair.ground).is_relative_to(root)
        latitude, longitude = pair.position
        assert np.isnan(pair.position).all() or (abs(latitude) <= 90 and abs(longitude) <= 180)
    assert len({pair.id for pair in found.pairs}) == len(found.pairs)


def test_a_name_too_long_for_the_file_system_is_an_absent_annotation(tmp_path):
    root = tmp_path.resolve()
    long = "9" * 5000
    row = f"bingmap/19/0000001.jpg,streetview/panos/0000001.jpg,{long}.png\n"
    (root / "train-19zl.csv").write_text(row)
    (root / "val-19zl.csv").write_text("bingmap/19/0000007.jpg,streetview/panos/0000007.jpg\n")
    assert len(folder_layout.list_pairs(root).pairs) == 2


@given(
    st.lists(st.tuples(st.integers(1, 10**7), st.booleans()), min_size=1, unique_by=lambda x: x[0])
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_published_row_is_read(tmp_path, rows):
    path = tmp_path / "train-19zl.csv"
    lines = [
        f"bingmap/19/{n:07d}.jpg,streetview/panos/{n:07d}.jpg" + (",a.png" if three else "")
        for n, three in rows
    ]
    path.write_text("\r\n".join(lines))
    pairs, _, problems = folder_layout.read_list(path, "train", tmp_path.resolve())
    assert not problems and [pair.id for pair in pairs] == [f"{n:07d}" for n, _ in rows]
    assert {pair.split for pair in pairs} == {"train"}
