"""image_pairs from files that hold a pair side by side, as older repositories wrote them."""

import itertools

import numpy as np
import pytest
import tensorflow_datasets as tfds
from pair_files import make_data_config
from PIL import Image
from retroguide_jax.datasets.common import checking, report
from retroguide_jax.datasets.image_pairs import combined

from retroguide_jax.data import catalog, images
from retroguide_jax.errors import UserError

AERIAL, GROUND, OTHER = (200, 30, 30), (30, 200, 30), (30, 30, 200)
# The content of a file, as (what, width in units of the height).
PARTS = {
    "x_fork": [(GROUND, 1), (AERIAL, 1), (OTHER, 1), (OTHER, 1)],
    "selectiongan_cvusa": [(AERIAL, 1), (GROUND, 4), (OTHER, 1), (OTHER, 4)],
    "panogan": [(AERIAL, 1), (GROUND, 4), (OTHER, 4)],
}


def write_file(path, parts, height=16):
    path.parent.mkdir(parents=True, exist_ok=True)
    strip = [np.full((height, height * times, 3), colour, np.uint8) for colour, times in parts]
    options = {} if path.suffix == ".png" else {"quality": 95, "subsampling": 0}
    Image.fromarray(np.concatenate(strip, axis=1)).save(path, **options)


def write_files(root, name, numbers, suffix="png", height=16):
    for number in numbers:
        # Files with equal content would count as one place.
        numbered = {OTHER: (30, 30, 200 + number)}
        parts = [(numbered.get(colour, colour), times) for colour, times in PARTS[name]]
        write_file(root / f"{number:04d}.{suffix}", parts, height)
    return root


def make_config(raw_dir, name, **fields):
    sizes = {"aerial_size": (16, 16), "ground_size": (16, 16 if name == "x_fork" else 64)}
    return make_data_config(raw_dir, **(sizes | {"config_name": name} | fields))


def build(raw_dir, built, name, **fields):
    return catalog.open_dataset(make_config(raw_dir, name, **fields), built)


def read_examples(builder, split):
    decoders = {name: tfds.decode.SkipDecoding() for name in ("aerial", "ground")}
    source = builder.as_data_source(split, decoders=decoders)
    return {example["id"].decode(): example for example in source}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("suffix, tolerance", [("png", 0), ("jpg", 3)])
def test_parts_are_cut_out_and_splits_follow_the_folders(name, suffix, tolerance, tmp_path):
    raw_dir = tmp_path / "raw"
    for split, numbers in (("train", range(3)), ("val", range(1)), ("test", range(2))):
        write_files(raw_dir / split, name, numbers, suffix)
    builder = build(raw_dir, tmp_path / "built", name)
    assert builder.builder_config.name.startswith(f"{name}_")
    stored = {split: read_examples(builder, split) for split in builder.info.splits}
    assert {split: set(examples) for split, examples in stored.items()} == {
        "train": {"train/0000", "train/0001", "train/0002"},
        "val": {"val/0000"},
        "test": {"test/0000", "test/0001"},
    }
    for example in [each for examples in stored.values() for each in examples.values()]:
        for view, colour in (("aerial", AERIAL), ("ground", GROUND)):
            assert example[view].startswith(b"\x89PNG") == (suffix == "png")
            pixels = images.decode_image(example[view]).astype(int)
            width = 64 if view == "ground" and name != "x_fork" else 16
            assert pixels.shape == (16, width, 3)
            assert np.abs(pixels - colour).max() <= tolerance
        assert example["vertical_fov"] == (180 if name == "x_fork" else 90)


@pytest.mark.parametrize("name", PARTS)
def test_files_of_one_folder_are_split_by_hash(name, tmp_path):
    raw_dir = write_files(tmp_path / "raw", name, range(12))
    (raw_dir / "Thumbs.db").write_text("")
    builder = build(raw_dir, tmp_path / "built", name)
    ids = [set(read_examples(builder, split)) for split in ("train", "val", "test")]
    assert all(ids) and set.union(*ids) == {f"{number:04d}" for number in range(12)}


def test_parts_can_be_stored_resized(tmp_path):
    raw_dir = write_files(tmp_path / "raw", "panogan", range(3), height=32)
    builder = build(raw_dir, tmp_path / "built", "panogan", store_resized=True)
    (example,) = read_examples(builder, "test").values()
    assert (images.decode_image(example["aerial"]) == AERIAL).all()
    assert images.decode_image(example["ground"]).shape == (16, 64, 3)


def find_problems(raw_dir, name, **fields):
    config = catalog.load_builder_class("image_pairs").make_config(
        make_config(raw_dir, name, **fields)
    )
    return checking.check_listing(config.found, config.recipe, 1)[1]


@pytest.mark.parametrize("name, other", list(itertools.permutations(PARTS, 2)))
def test_files_of_another_format_are_distinguished(name, other, tmp_path):
    raw_dir = write_files(tmp_path / "raw", other, range(3))
    for problem in (problems := find_problems(raw_dir, name)):
        times = combined.FORMATS[name].times
        assert f"{name} files are {times} times as wide as tall" in problem.reason
        assert (problem.kind, problem.fix) == ("size", f"it fits config_name {other}")
    assert len(problems) == 3
    with pytest.raises(UserError, match="3 unusable in .*raw, the first being .*0000.png"):
        build(raw_dir, tmp_path / "built", name)


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("more", [-1, 1, 4])
def test_widths_must_fit_to_the_pixel(name, more, tmp_path):
    raw_dir = write_files(tmp_path / "raw", name, range(3))
    odd = Image.new("RGB", (16 * combined.FORMATS[name].times + more, 16))
    odd.save(raw_dir / "0001.png")
    (problem,) = find_problems(raw_dir, name)
    assert problem.path.endswith("0001.png") and problem.kind == "size"
    assert problem.fix.startswith("it fits none of")
    assert all(other in problem.fix for other in PARTS)


def test_each_faulty_file_is_one_problem(tmp_path):
    raw_dir = write_files(tmp_path / "raw", "panogan", range(4))
    (raw_dir / "0001.png").write_bytes((raw_dir / "0001.png").read_bytes()[:-20])
    write_file(raw_dir / "0002.jpg", PARTS["panogan"])
    (raw_dir / "notes.txt").write_text("")
    problems = find_problems(raw_dir, "panogan")
    assert [(p.path.rpartition("/")[2], p.kind) for p in problems] == [
        ("notes.txt", "unreadable"), ("0002.png", "duplicate"), ("0001.png", "unreadable"),
    ]  # fmt: skip


def test_a_report_looks_at_the_panorama_and_not_at_the_whole_file(tmp_path):
    raw_dir = write_files(tmp_path / "raw", "panogan", range(3))
    builder_class = catalog.load_builder_class("image_pairs")
    data_config = make_config(raw_dir, "panogan")
    found = report.make_report(builder_class, data_config, full=True, num_workers=1)
    assert found["ok"] and found["layout"] == "panogan" and found["decoded"] == 3
    assert not any("do not meet" in note for note in found["notes"])


def test_the_parts_must_be_large_enough(tmp_path):
    raw_dir = write_files(tmp_path / "raw", "x_fork", range(3))
    problems = find_problems(raw_dir, "x_fork", ground_size=(16, 64))
    assert len(problems) == 3
    assert "too small: 16 x 16 pixels" in problems[0].reason
    assert "at least 16 x 64" in problems[0].reason


def test_files_beside_the_folders_are_noted(tmp_path):
    write_files(tmp_path / "train", "panogan", range(2))
    write_files(tmp_path, "panogan", range(3))
    found = combined.list_pairs(tmp_path, "panogan")
    assert [pair.id for pair in found.pairs] == ["train/0000", "train/0001"]
    assert found.notes == ["3 images beside the folders train are not read"]


def test_nothing_to_read_is_said(tmp_path):
    with pytest.raises(UserError, match="gone: no such folder"):
        combined.list_pairs(tmp_path / "gone", "x_fork")
    with pytest.raises(UserError, match="no images; put the x_fork files there"):
        combined.list_pairs(tmp_path, "x_fork")
    (tmp_path / "test").mkdir()
    with pytest.raises(UserError, match="test: no images"):
        combined.list_pairs(tmp_path, "x_fork")
    write_files(tmp_path / "test", "x_fork", range(3))
    with pytest.raises(UserError, match="no usable pair has split train"):
        build(tmp_path, tmp_path / "built", "x_fork")
