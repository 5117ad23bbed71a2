"""`retroguide data` as a user runs it."""

import pytest
from pair_files import write_pairs
from PIL import Image


@pytest.fixture(scope="module")
def raw_dir(tmp_path_factory):
    raw_dir = tmp_path_factory.mktemp("photos") / "photos"
    return write_pairs(raw_dir, 10, aerial_size=(300, 300), ground_size=(128, 512))


@pytest.mark.smoke
def test_build_and_show(run_command, raw_dir, tmp_path):
    flags = ["image_pairs", f"--raw_dir={raw_dir}", f"--data_dir={tmp_path / 'built'}"]
    built = run_command("data", "build", *flags)
    assert built.returncode == 0, built.stderr
    assert "building data set image_pairs/photos_" in built.stderr
    assert "train: " in built.stdout and "Traceback" not in built.stderr
    again = run_command("data", "build", *flags)
    assert again.returncode == 0 and again.stdout == built.stdout and again.stderr == ""
    sheet = tmp_path / "pairs.png"
    shown = run_command("data", "show", *flags, "--num=3", f"--output={sheet}", "--split=train")
    assert shown.returncode == 0, shown.stderr
    with Image.open(sheet) as image:
        assert image.width > 64 + 128 and image.height > 3 * 64


def test_wrong_input_is_one_line(run_command, raw_dir, tmp_path):
    data_dir = f"--data_dir={tmp_path}"
    broken = write_pairs(tmp_path / "broken", 4, (300, 300), (128, 512))
    (broken / "ground" / "002.png").write_bytes(b"")
    for arguments, message in (
        (["build", "image_pears", data_dir], "did you mean 'image_pairs'"),
        (["build", "image_pairs", data_dir], "raw_dir"),
        (["build", "image_pairs", f"--raw_dir={tmp_path / 'gone'}", data_dir], "no such folder"),
        (["build", "image_pairs", f"--raw_dir={broken}", data_dir], "002.png: not a JPEG, PNG"),
        (["show", "procedural_city", "--config_name=city_9", data_dir], "no config 'city_9'"),
        (
            ["show", "image_pairs", f"--raw_dir={raw_dir}", data_dir, "--split=tset"],
            "no examples for split 'tset'",
        ),
        (
            ["show", "image_pairs", f"--raw_dir={raw_dir}", data_dir, f"--output={tmp_path}"],
            "cannot write",
        ),
    ):
        ended = run_command("data", *arguments)
        errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
        assert ended.returncode == 1 and "Traceback" not in ended.stderr, ended.stderr
        assert len(errors) == 1 and message in errors[0], ended.stderr


@pytest.mark.parametrize("arguments", [[], ["mend"], ["build"], ["show", "x", "--num=0"]])
def test_wrong_usage_exits_with_2(run_command, arguments):
    assert run_command("data", *arguments).returncode == 2
