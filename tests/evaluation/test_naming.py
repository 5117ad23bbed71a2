"""Folders whose names differ in more than the suffix, as other scripts write them."""

import numpy as np
import pytest
from PIL import Image

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import naming
from retroguide_jax.evaluation.folders import match_folders


def write(folder, names, first=0):
    folder.mkdir(exist_ok=True)
    for level, name in enumerate(names, first):
        path = folder / f"{name}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(np.full((4, 8, 3), level, np.uint8)).save(path)
    return folder


IDS = ["000", "001", "011"]


def get_flags(error):
    """(patterns, number of samples) that an error message proposes."""
    flags = [part.strip("'") for part in str(error).replace("'", "").split() if "--" in part]
    samples = [int(flag.partition("=")[2]) for flag in flags if flag.startswith("--num_samples")]
    names = [flag.removeprefix("--names=") for flag in flags if flag.startswith("--names=")]
    return naming.parse_names(names), (samples or [1])[0]


@pytest.mark.parametrize(
    "generated, reference",
    [
        ([f"{name}_fake_B" for name in IDS], [f"{name}_real_B" for name in IDS]),
        ([f"fake-{name}" for name in IDS], IDS),
        ([f"{name}/output" for name in IDS], [f"{name}/target" for name in IDS]),
        ([f"run7/{name}.syn" for name in IDS], [f"val/{name}_gt" for name in IDS]),
        ([f"{name}_{k}" for name in IDS for k in range(2)], IDS),
    ],
)
def test_the_error_proposes_flags_that_work(tmp_path, generated, reference):
    folders = write(tmp_path / "g", generated), write(tmp_path / "r", reference, 50)
    with pytest.raises(UserError, match="names must agree but for the suffix: give --") as caught:
        match_folders(*folders)
    names, num_samples = get_flags(caught.value)
    pairs = match_folders(*folders, names=names, num_samples=num_samples)
    assert len(pairs) == len(IDS) and pairs.num_samples == num_samples
    (batch,) = pairs.read([range(len(IDS))])
    levels = batch["generated"][:, 0, 0, 0], batch["reference"][:, 0, 0, 0]
    assert levels[0].tolist() == [num_samples * k for k in range(len(IDS))]
    assert levels[1].tolist() == [50 + k for k in range(len(IDS))]
    if num_samples == 2:
        assert batch["generated_1"][:, 0, 0, 0].tolist() == [1, 3, 5]


def test_names_with_nothing_in_common_get_no_flags(tmp_path):
    with pytest.raises(UserError, match="add or rename images, or say .* --names, or .*--manifest"):
        match_folders(write(tmp_path / "g", ["a", "b"]), write(tmp_path / "r", ["b", "c"]))


def test_one_folder_of_results_is_distinguished_by_names(tmp_path):
    kinds = ("fake_B", "real_A", "real_B")
    folder = write(tmp_path / "images", [f"{name}_{kind}" for name in IDS for kind in kinds])
    with pytest.raises(UserError, match=r"the same 9 images, named .*=\*_fake_B' .*=\*_real_B'"):
        match_folders(folder, folder)
    names = {"generated": "*_fake_B", "reference": "*_real_B", "source": "*_real_A"}
    pairs = match_folders(folder, folder, folder, names=names)
    assert pairs.ids == tuple(IDS) and pairs.has_source
    assert pairs.notes[0] == f"3 of 9 images in {folder} fit *_fake_B"
    (batch,) = pairs.read([[0]])
    levels = [batch[role][0, 0, 0, 0] for role in ("generated", "source", "reference")]
    assert levels == [0, 1, 2]


def test_images_that_are_their_own_reference_are_noted(tmp_path):
    folder = write(tmp_path / "images", IDS)
    (tmp_path / "links").symlink_to(folder)
    (note,) = match_folders(folder, tmp_path / "links").notes
    assert note.startswith("3 generated images are their own reference")


def test_a_manifest_may_name_files(tmp_path):
    folders = write(tmp_path / "g", [*IDS, "a.png"]), write(tmp_path / "r", IDS + ["a.png"])
    (tmp_path / "list.txt").write_text("000.png\n011.png\na.png\n")
    pairs = match_folders(*folders, manifest=tmp_path / "list.txt")
    assert pairs.ids == ("000", "011", "a.png")  # the last one's file is a.png.png
    (tmp_path / "list.txt").write_text("000.png\n000\n")
    with pytest.raises(UserError, match="stand in it twice: 000"):
        match_folders(*folders, manifest=tmp_path / "list.txt")


@pytest.mark.parametrize(
    "names, message",
    [
        (["a_0", "a_1", "b_0"], "1 samples missing: b_1"),
        (["a_0", "a_1", "a_2"], "1 files of other names: a_2"),
        (["a_0", "a_1", "b"], "1 files of other names: b"),
        (["a_0", "a_01"], "1 files of other names: a_01"),
    ],
)
def test_samples_must_be_complete(tmp_path, names, message):
    folders = write(tmp_path / "g", names), write(tmp_path / "r", ["a", "b"])
    with pytest.raises(UserError, match=f"{message}; --num_samples=2 scores"):
        match_folders(*folders, num_samples=2)


@pytest.mark.parametrize("text", ["generated", "fake=*", "generated=a", "generated=*_*"])
def test_patterns_of_another_form_are_refused(text):
    with pytest.raises(UserError, match="give ROLE=PATTERN"):
        naming.parse_names([text])
    with pytest.raises(UserError, match="give ROLE=PATTERN"):
        naming.parse_names(["source=a*", "source=b*"])


def test_a_pattern_that_fits_nothing_is_reported(tmp_path):
    folder = write(tmp_path / "g", IDS)
    with pytest.raises(UserError, match=r"none of 3 images: 000, 001, 011 fits \*_x"):
        match_folders(folder, folder, names={"generated": "*_x"})
