import argparse
import sys
import types

import numpy as np
import pytest
from PIL import Image

from retroguide_jax.commands import generate
from retroguide_jax.errors import UserError


class FakeModel:
    """Generates the mean colour of its source plus the first entry of the noise."""

    source_size, z_dim = (16, 16), 3

    def __init__(self):
        self.batches = []

    def generate(self, source, z):
        assert source.shape[1:] == (16, 16, 3) and z.shape == (len(source), 3)
        self.batches.append(len(source))
        colour = source.mean(axis=(1, 2), keepdims=True) + 0.1 * z[:, :1, None, None]
        return np.broadcast_to(colour, (len(source), 8, 32, 3))


@pytest.fixture
def model(monkeypatch):
    fake = FakeModel()
    module = types.ModuleType("retroguide_jax.checkpoints.loading")
    module.load_model = lambda workdir, checkpoint: fake
    monkeypatch.setitem(sys.modules, "retroguide_jax.checkpoints.loading", module)
    return fake


def run(source, output, *flags):
    parser = argparse.ArgumentParser()
    generate.add_flags(parser)
    arguments = ["--workdir=w", f"--input={source}", f"--output={output}", *flags]
    return generate.run(parser.parse_args(arguments))


def write(path, level=100, size=(20, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), level, np.uint8)).save(path)
    return path


def list_files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def read(path):
    return np.asarray(Image.open(path))


def test_one_file_of_any_size(tmp_path, model):
    source = write(tmp_path / "tile.jpg", size=(301, 177))
    assert run(source, tmp_path / "out") == 0
    assert list_files(tmp_path / "out") == ["tile.png"]
    assert read(tmp_path / "out" / "tile.png").shape == (8, 32, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tiff"])
def test_any_kind_of_image_file(tmp_path, model, suffix):
    source = write(tmp_path / f"tile{suffix}", level=128)
    assert run(source, tmp_path / "out", "--seed=3") == 0
    reference = write(tmp_path / "reference.png", level=128)
    assert run(reference, tmp_path / "out", "--seed=3") == 0
    found, wanted = (read(tmp_path / "out" / f"{name}.png") for name in ("tile", "reference"))
    assert np.abs(found.astype(int) - wanted).max() <= 2  # lossy formats


def test_folder_keeps_its_structure(tmp_path, model):
    for name in ("b.png", "sub/deep/a.JPG", "a.b.jpeg", ".hidden/x.png"):
        write(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    assert run(tmp_path / "in", tmp_path / "out", "--num_samples=2") == 0
    assert list_files(tmp_path / "out") == [
        "a.b_0.png",
        "a.b_1.png",
        "b_0.png",
        "b_1.png",
        "sub/deep/a_0.png",
        "sub/deep/a_1.png",
    ]
    first, second = (read(tmp_path / "out" / f"b_{k}.png") for k in (0, 1))
    assert not np.array_equal(first, second)


def test_result_does_not_depend_on_the_neighbours(tmp_path, model):
    for number in range(5):
        write(tmp_path / "in" / f"{number}.png", level=40 * number)
    flags = ("--num_samples=2", "--seed=4", "--batch_size=3")
    assert run(tmp_path / "in", tmp_path / "all", *flags) == 0
    assert run(tmp_path / "in" / "3.png", tmp_path / "one", *flags) == 0
    assert set(model.batches) == {3}
    for name in ("3_0.png", "3_1.png"):
        np.testing.assert_array_equal(read(tmp_path / "all" / name), read(tmp_path / "one" / name))
    assert run(tmp_path / "in", tmp_path / "other", "--num_samples=2", "--seed=5") == 0
    other = read(tmp_path / "other" / "3_0.png")
    assert not np.array_equal(read(tmp_path / "all" / "3_0.png"), other)


def test_unreadable_files_are_listed_and_skipped(tmp_path, model, capsys):
    write(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "empty.jpg").touch()
    (tmp_path / "in" / "torn.png").write_bytes(write(tmp_path / "x.png").read_bytes()[:60])
    assert run(tmp_path / "in", tmp_path / "out") == 1
    assert list_files(tmp_path / "out") == ["good.png"]
    captured = capsys.readouterr()
    assert "empty.jpg: " in captured.err and "torn.png: " in captured.err
    assert "2 of 3 files could not be read" in captured.err
    assert "1 images from 1 files" in captured.out


def test_only_unreadable_files(tmp_path, model):
    (tmp_path / "empty.jpg").touch()
    assert run(tmp_path / "empty.jpg", tmp_path / "out") == 1
    assert model.batches == []


def test_two_inputs_for_one_output_are_an_error_beforehand(tmp_path, model):
    write(tmp_path / "in" / "a.jpg")
    write(tmp_path / "in" / "a.png")
    with pytest.raises(UserError, match=r"1 images of one name: .*a\.jpg and a\.png"):
        run(tmp_path / "in", tmp_path / "out")
    assert model.batches == [] and not (tmp_path / "out").exists()


def test_empty_folder_is_an_error(tmp_path, model):
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match="no images in it"):
        run(tmp_path / "in", tmp_path / "out")


def test_missing_input_is_an_error(tmp_path, model):
    with pytest.raises(UserError, match="no such file or folder"):
        run(tmp_path / "in", tmp_path / "out")


def test_inputs_are_never_overwritten(tmp_path, model):
    source = write(tmp_path / "in" / "a.png")
    before = source.read_bytes()
    with pytest.raises(UserError, match="is the input folder"):
        run(tmp_path / "in", tmp_path / "in")
    with pytest.raises(UserError, match="overwrite an input"):
        run(source, tmp_path / "in")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(UserError, match="overwrite an input"):
        run(source, tmp_path / "link")
    assert source.read_bytes() == before


def test_output_within_the_input_is_not_read_again(tmp_path, model):
    write(tmp_path / "in" / "a.jpg")
    for _ in range(2):
        assert run(tmp_path / "in", tmp_path / "in" / "out") == 0
    assert list_files(tmp_path / "in") == ["a.jpg", "out/a.png"]


def test_nothing_is_written_through_a_link_out_of_the_output(tmp_path, model):
    write(tmp_path / "in" / "sub" / "a.jpg")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="leads out of --output"):
        run(tmp_path / "in", tmp_path / "out")
    assert list_files(tmp_path / "elsewhere") == []


def test_output_that_is_a_file_is_an_error(tmp_path, model):
    source = write(tmp_path / "a.jpg")
    with pytest.raises(UserError, match="is a file"):
        run(source, source)


@pytest.mark.parametrize("flag", ["--num_samples=0", "--batch_size=0", "--seed=-1"])
def test_numbers_out_of_range(tmp_path, model, flag):
    with pytest.raises(UserError, match=flag.split("=")[0]):
        run(write(tmp_path / "a.jpg"), tmp_path / "out", flag)


def test_images_that_are_not_finite_are_an_error(tmp_path, model):
    model.generate = lambda source, z: np.full((len(source), 8, 32, 3), np.nan, np.float32)
    with pytest.raises(UserError, match="not finite"):
        run(write(tmp_path / "a.jpg"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_was_done_to_samples_is_said(tmp_path, model, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30)).astype(np.uint16) * 257
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "deep.png")
    write(tmp_path / "in" / "flat.png")
    assert run(tmp_path / "in", tmp_path / "out") == 0
    printed = capsys.readouterr().err
    assert f"note: 16-bit samples: the high byte: 1 images: {tmp_path}/in/deep.png" in printed
    assert f"note: one colour: 1 images: {tmp_path}/in/flat.png" in printed
