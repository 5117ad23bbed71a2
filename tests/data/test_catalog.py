"""Data sets by name: clear errors, and never half a data set."""

import shutil
from pathlib import Path

import pytest
from pair_files import make_data_config, write_pairs

from retroguide_jax.data import catalog
from retroguide_jax.errors import UserError


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
    with pytest.raises(UserError, match="raw_dir"):
        catalog.open_dataset(make_data_config(""), tmp_path)
    with pytest.raises(UserError, match="gone: no such folder"):
        catalog.open_dataset(make_data_config(tmp_path / "gone"), tmp_path)


def test_build_tells_what_and_where_and_happens_once(raw_dir, tmp_path, capsys):
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


def test_a_full_disk_leaves_nothing(raw_dir, tmp_path, monkeypatch):
    def fail(self, *args):
        raise OSError(28, "No space left on device")

    builder_class = catalog._load_builder_class("image_pairs")
    monkeypatch.setattr(builder_class, "_generate_examples", fail)
    with pytest.raises(UserError, match="No space left on device.*--data_dir"):
        catalog.open_dataset(make_data_config(raw_dir), tmp_path / "built")
    assert list_files(tmp_path / "built") == []


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
