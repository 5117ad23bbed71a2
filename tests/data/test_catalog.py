"""Data sets by name: clear errors, and no partial data sets."""

import concurrent.futures
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pair_files import make_data_config, write_pairs
from PIL import Image

from retroguide_jax.data import catalog, reading
from retroguide_jax.errors import UserError
from retroguide_jax.files import lock_folder


@pytest.fixture
def raw_dir(tmp_path):
    return write_pairs(tmp_path / "raw", 4)


def list_files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_unknown_names_get_the_nearest():
    with pytest.raises(UserError, match="no data set 'image_pair'; did you mean 'image_pairs'"):
        catalog.open_dataset(make_data_config("", name="image_pair"), None)
    with pytest.raises(UserError, match="there are procedural_city, image_pairs"):
        catalog.open_dataset(make_data_config("", name="zzz"), None)


def test_unknown_configs_list_the_valid_ones(tmp_path):
    data_config = make_data_config("", name="procedural_city", config_name="city_63")
    with pytest.raises(UserError, match="no config 'city_63'; did you mean 'city_64'.*city_256"):
        catalog.open_dataset(data_config, tmp_path)


def test_image_pairs_needs_a_folder(tmp_path):
    with pytest.raises(UserError, match="no copy of image_pairs is built in .*set raw_dir"):
        catalog.open_dataset(make_data_config(""), tmp_path)
    with pytest.raises(UserError, match="gone: no such folder"):
        catalog.open_dataset(make_data_config(tmp_path / "gone"), tmp_path)


def test_a_build_says_what_and_where_and_happens_once(raw_dir, tmp_path, capsys):
    data_config = make_data_config(raw_dir)
    with pytest.raises(UserError, match="is not built"):
        catalog.open_dataset(data_config, tmp_path / "built", build=False)
    first = catalog.open_dataset(data_config, tmp_path / "built")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"building data set {first.info.full_name} in {first.data_path}" in captured.err
    again = catalog.open_dataset(data_config, tmp_path / "built", build=False)
    assert capsys.readouterr().err == ""
    assert again.data_path == first.data_path


def test_a_failed_build_leaves_nothing(raw_dir, tmp_path):
    (raw_dir / "aerial" / "001.png").write_bytes(b"")
    with pytest.raises(UserError, match="001.png"):
        catalog.open_dataset(make_data_config(raw_dir), tmp_path / "built")
    assert list_files(tmp_path / "built") == []


def run_build(raw_dir, built, before):
    """Builds in a separate process, which first runs the lines `before`."""
    script = (
        "import sys\n"
        "from pair_files import make_data_config\n"
        "from retroguide_jax.data import catalog\n"
        f"{before}\n"
        "catalog.open_dataset(make_data_config(sys.argv[1]), sys.argv[2])\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, str(raw_dir), str(built)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("room", [500, 50_000])
def test_a_full_disk_leaves_nothing(raw_dir, tmp_path, room):
    """A limit on file sizes makes the real writer fail, immediately or midway."""
    rng = np.random.default_rng(0)
    for number in range(4):
        noise = rng.integers(0, 256, (100, 100, 3), dtype=np.uint8)
        Image.fromarray(noise).save(raw_dir / "aerial" / f"{number:03d}.png")
    limit = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))"
    error = run_build(raw_dir, tmp_path / "built", limit).communicate(timeout=120)[1]
    assert re.search("UserError: .*could not be built in .*File too large.*--data_dir", error), (
        error
    )
    assert list_files(tmp_path / "built") == []
    with pytest.raises(UserError, match="is not built"):
        catalog.open_dataset(make_data_config(raw_dir), tmp_path / "built", build=False)
    catalog.open_dataset(make_data_config(raw_dir), tmp_path / "built")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a bug")])
def test_only_what_the_disk_says_is_blamed_on_the_disk(raw_dir, tmp_path, monkeypatch, error):
    def fail(recipe, pair):
        if pair.id == "002":
            raise error
        return make_example(recipe, pair)

    builder_class = catalog.load_builder_class("image_pairs")
    make_example = builder_class._make_example
    monkeypatch.setattr(builder_class, "_make_example", staticmethod(fail))
    wanted = UserError if isinstance(error, OSError) else RuntimeError
    with pytest.raises(wanted, match=str(error.args[-1])) as caught:
        catalog.open_dataset(make_data_config(raw_dir), tmp_path / "built")
    assert ("--data_dir" in str(caught.value)) == isinstance(error, OSError)
    assert list_files(tmp_path / "built") == []


def test_a_killed_build_is_swept_away(raw_dir, tmp_path):
    built, data_config = tmp_path / "built", make_data_config(raw_dir)
    pause = """
import time
builder_class = catalog.load_builder_class("image_pairs")
make_example = builder_class._make_example
def pause(recipe, pair, seen=[]):
    seen.append(pair)
    if len(seen) == 3:
        print("midway", file=sys.stderr, flush=True)
        time.sleep(600)
    return make_example(recipe, pair)
builder_class._make_example = staticmethod(pause)
"""
    process = run_build(raw_dir, built, pause)
    for line in process.stderr:
        if line == "midway\n":
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    (leftover,) = built.rglob("*incomplete*")
    with pytest.raises(UserError, match="is not built"):
        catalog.open_dataset(data_config, built, build=False)
    with pytest.raises(UserError, match="no copy of image_pairs is built"):
        catalog.open_dataset(make_data_config(""), built)
    builder = catalog.open_dataset(data_config, built)
    assert sum(split.num_examples for split in builder.info.splits.values()) == 4
    assert not leftover.exists() and not list(built.rglob("*incomplete*"))


def test_a_leftover_is_never_opened_even_if_all_is_in_it(raw_dir, tmp_path):
    built, data_config = tmp_path / "built", make_data_config(raw_dir)
    path = Path(catalog.open_dataset(data_config, built).data_path)
    # Killed between the last write and the renaming.
    leftover = path.rename(path.with_name(f"incomplete.ABCDEF_{path.name}"))
    with pytest.raises(UserError, match="is not built"):
        catalog.open_dataset(data_config, built, build=False)
    with pytest.raises(UserError, match="no copy of image_pairs is built"):
        catalog.open_dataset(make_data_config(""), built)
    assert catalog.open_dataset(data_config, built).data_path == path
    assert path.exists() and not leftover.exists()


def test_builds_of_one_data_set_wait_for_each_other(raw_dir, tmp_path, monkeypatch):
    built, data_config = tmp_path / "built", make_data_config(raw_dir)
    path = Path(catalog.open_dataset(data_config, built).data_path)
    away = path.rename(tmp_path / "away")

    def build_again(*args, **kwargs):
        raise AssertionError("built twice")

    builder_class = catalog.load_builder_class("image_pairs")
    monkeypatch.setattr(builder_class, "download_and_prepare", build_again)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with lock_folder(path.parent):
            waiting = pool.submit(catalog.open_dataset, data_config, built)
            with pytest.raises(concurrent.futures.TimeoutError):
                waiting.result(timeout=0.5)
            away.rename(path)
        builder = waiting.result(timeout=30)
    assert sum(split.num_examples for split in builder.info.splits.values()) == 4


def test_without_raw_dir_the_one_copy_is_opened(raw_dir, tmp_path):
    built, unknown = tmp_path / "built", make_data_config("")
    first = catalog.open_dataset(make_data_config(raw_dir), built)
    shutil.rmtree(raw_dir)
    again = catalog.open_dataset(unknown, built)
    assert again.data_path == first.data_path
    shown, wanted = (
        [pair["id"] for pair in reading.read_pairs(builder, unknown, "train", 9)]
        for builder in (again, first)
    )
    assert shown == wanted and len(shown) == 2
    other = write_pairs(tmp_path / "other", 3)
    catalog.open_dataset(make_data_config(other), built)
    with pytest.raises(UserError, match="holds 2 copies of image_pairs: other_.*, raw_.*; say wh"):
        catalog.open_dataset(unknown, built)
    with pytest.raises(UserError, match="no copy of image_pairs"):
        catalog.open_dataset(make_data_config("", config_name="x_fork"), built)
    with pytest.raises(UserError, match="no config 'xfork'; did you mean 'x_fork'.* '', x_fork"):
        catalog.open_dataset(make_data_config("", config_name="xfork"), built)


def test_a_damaged_copy_is_noticed_without_raw_dir(raw_dir, tmp_path):
    builder = catalog.open_dataset(make_data_config(raw_dir), tmp_path / "built")
    (shard,) = Path(builder.data_path).glob("image_pairs-train*")
    shard.unlink()
    with pytest.raises(UserError, match="lacks image_pairs-train.*delete"):
        catalog.open_dataset(make_data_config(""), tmp_path / "built")
    (Path(builder.data_path) / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match="cannot be opened.*delete"):
        catalog.open_dataset(make_data_config(""), tmp_path / "built")


def test_links_that_lead_in_a_circle_are_named(raw_dir, tmp_path):
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    with pytest.raises(UserError, match="circle: no such folder"):
        catalog.open_dataset(make_data_config(circle), tmp_path / "built")
    with pytest.raises(UserError, match="circle"):
        catalog.open_dataset(make_data_config(raw_dir), circle)
    (raw_dir / "ground" / "001.png").unlink()
    (raw_dir / "ground" / "001.png").symlink_to("001.png")
    with pytest.raises(UserError, match="001.png: too many levels of symbolic links"):
        catalog.open_dataset(make_data_config(raw_dir), tmp_path / "built")
    shutil.rmtree(raw_dir / "ground")
    (raw_dir / "ground").symlink_to("ground")
    with pytest.raises(UserError, match="has neither the folders"):
        catalog.open_dataset(make_data_config(raw_dir), tmp_path / "built")
    (raw_dir / "manifest.csv").symlink_to("manifest.csv")
    with pytest.raises(UserError, match="has neither the folders"):
        catalog.open_dataset(make_data_config(raw_dir), tmp_path / "built")


def test_a_data_dir_that_cannot_be_written_is_named(raw_dir, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        catalog.open_dataset(make_data_config(raw_dir), tmp_path / "file")


@pytest.mark.parametrize("what", ["dataset_info.json", "image_pairs-train"])
def test_a_damaged_copy_is_noticed(raw_dir, tmp_path, what):
    data_config = make_data_config(raw_dir)
    builder = catalog.open_dataset(data_config, tmp_path / "built")
    (victim,) = (p for p in Path(builder.data_path).iterdir() if p.name.startswith(what))
    victim.unlink()
    with pytest.raises(UserError, match="delete"):
        catalog.open_dataset(data_config, tmp_path / "built")
    shutil.rmtree(builder.data_path)
    catalog.open_dataset(data_config, tmp_path / "built")


def test_a_garbled_info_file_is_noticed(raw_dir, tmp_path):
    data_config = make_data_config(raw_dir)
    builder = catalog.open_dataset(data_config, tmp_path / "built")
    for content in ("", "{", "{}"):
        (Path(builder.data_path) / "dataset_info.json").write_text(content)
        with pytest.raises(UserError, match="delete"):
            catalog.open_dataset(data_config, tmp_path / "built")
