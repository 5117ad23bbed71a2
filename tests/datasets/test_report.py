"""What `retroguide data check` finds."""

import json

import numpy as np
import pytest
import raw_cvusa
from pair_files import make_data_config, write_pairs
from PIL import Image
from retroguide_jax.datasets.common import report

from retroguide_jax.data import catalog


def check(data_config, full=False):
    builder_class = catalog.load_builder_class(data_config.name)
    return report.make_report(builder_class, data_config, full=full, num_workers=1)


def write_rolled(path, size, shift=0, cut=0):
    """A smooth image whose left and right edges meet, except for `cut` columns."""
    columns = np.arange(size[1] + cut) * 2 * np.pi / (size[1] + cut)
    wave = 127 + 100 * np.sin(columns + shift)
    pixels = np.broadcast_to(wave[None, : size[1], None], (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def test_a_good_folder_is_ready(tmp_path):
    found = check(make_data_config(write_pairs(tmp_path / "raw", 12)))
    assert found["ok"] and found["layout"] == "folders" and found["problems"] == []
    assert found["counts"] == {"no split": 12} and found["decoded"] == 12
    assert any("aerial: height x width in pixels: 16 x 16 (12)" in note for note in found["notes"])
    assert json.loads(json.dumps(found)) == found


def test_published_counts_stand_beside_those_listed(tmp_path):
    raw_dir = raw_cvusa.write_tree(tmp_path / "CVUSA")
    sizes = {"aerial_size": (64, 64), "ground_size": (32, 128)}
    found = check(make_data_config(raw_dir, name="cvusa", **sizes))
    assert found["ok"], found["problems"]
    assert found["counts"] == {"train": 32, "val": 8}
    assert found["published"] == {"train": 35532, "val": 8884}
    assert "train: 32 pairs listed, 35532 published" in found["notes"]


def test_every_problem_has_kind_path_and_fix_and_stops(tmp_path):
    raw_dir = write_pairs(tmp_path / "raw", 12)
    (raw_dir / "aerial" / "000.png").unlink()
    (raw_dir / "ground" / "001.png").write_bytes(b"")
    Image.new("RGB", (8, 8)).save(raw_dir / "aerial" / "002.png")
    found = check(make_data_config(raw_dir))
    assert not found["ok"]
    kinds = {problem["kind"]: problem for problem in found["problems"]}
    assert kinds.keys() == {"partner", "unreadable", "size"}
    for name, kind in (("000", "partner"), ("001", "unreadable"), ("002", "size")):
        assert f"{name}.png" in kinds[kind]["path"] and kinds[kind]["fix"] and kinds[kind]["reason"]
    text = report.format_report(found)
    assert "not ready" in text and "unreadable: 1" in text and "001.png" in text
    assert check(make_data_config(raw_dir, allow_bad=True))["ok"]


def test_a_folder_that_is_not_recognised_is_one_problem(tmp_path):
    found = check(make_data_config(tmp_path))
    (problem,) = found["problems"]
    assert not found["ok"] and found["layout"] is None and problem["kind"] == "layout"
    assert "neither the folders aerial and ground" in problem["reason"]


def test_ends_are_checked_in_all_files_pixels_in_a_sample_or_in_all(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "NUM_SAMPLED", 2)
    raw_dir = write_pairs(tmp_path / "raw", 9)
    victim = raw_dir / "ground" / "003.png"
    # Noise, because small files are decoded at once: they may be of one colour.
    noise = np.random.default_rng(0).integers(0, 256, (8, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(victim)
    whole = bytearray(victim.read_bytes())
    start = whole.index(b"IDAT") + 6
    whole[start : start + 6] = b"broken"
    victim.write_bytes(whole)
    assert check(make_data_config(raw_dir))["ok"]
    found = check(make_data_config(raw_dir), full=True)
    assert [problem["kind"] for problem in found["problems"]] == ["unreadable"]
    victim.write_bytes(whole[:-12])
    assert not check(make_data_config(raw_dir))["ok"]


def test_odd_modes_rotation_and_equal_files_are_reported(tmp_path):
    raw_dir = write_pairs(tmp_path / "raw", 5)
    Image.new("L", (16, 16)).save(raw_dir / "aerial" / "001.png")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (32, 8)).save(raw_dir / "ground" / "002.png", exif=exif)
    twin = (raw_dir / "aerial" / "003.png").read_bytes()
    (raw_dir / "aerial" / "004.png").write_bytes(twin)
    found = check(make_data_config(raw_dir), full=True)
    notes = "\n".join(found["notes"])
    assert found["ok"]
    assert "aerial: 1 images of mode L are converted" in notes
    assert "ground: 1 images are turned by an EXIF flag" in notes and "002.png" in notes
    assert "1 aerials lie in several files" in notes and "004.png" in notes
    assert "4 aerials for 5 pairs" in notes


@pytest.mark.parametrize("cut", [0, 16])
def test_panoramas_that_do_not_close_are_reported(tmp_path, cut):
    raw_dir = write_pairs(tmp_path / "raw", 4, ground_size=(8, 64))
    for number in range(4):
        write_rolled(raw_dir / "ground" / f"{number:03d}.png", (8, 64), number, cut)
    notes = "\n".join(check(make_data_config(raw_dir))["notes"])
    assert ("do not meet" in notes) == (cut > 0)
    plain = check(make_data_config(raw_dir, panorama=False))
    assert "do not meet" not in "\n".join(plain["notes"])
