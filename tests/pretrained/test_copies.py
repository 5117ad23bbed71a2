"""`pretrained:NAME`: a copy in the user's cache; and the models that are really packaged."""

import re
import shutil

import numpy as np
import pytest

import retroguide_jax as rg
from retroguide_jax.evaluation.judges import name_judges
from retroguide_jax.files import to_path
from retroguide_jax.pretrained import copies


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A package with one model, `city`, whose files are no weights."""
    folder = tmp_path / "package" / "city"
    folder.mkdir(parents=True)
    for name in ("embedder.safetensors", "config.json"):
        (folder / name).write_text(name)
    (tmp_path / "package" / "__pycache__").mkdir()
    monkeypatch.setattr(copies, "PACKAGED", folder.parent)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.mark.smoke
def test_an_address_is_a_writable_copy_under_the_models_name(packaged, tmp_path):
    copy = to_path("pretrained:city")
    assert copy.name == "city" and copy.is_relative_to(tmp_path / "cache")
    assert {path.name: path.read_text() for path in copy.iterdir()} == {
        path.name: path.read_text() for path in packaged.iterdir()
    }
    (copy / "eval").mkdir()
    assert to_path("pretrained:city") == copy and (copy / "eval").is_dir()
    assert not [path for path in copy.parent.iterdir() if path != copy]


def test_other_weights_have_another_copy(packaged):
    before = to_path("pretrained:city")
    (packaged / "embedder.safetensors").write_text("others")
    after = to_path("pretrained:city")
    assert before != after and (after / "embedder.safetensors").read_text() == "others"


def test_two_processes_may_copy_at_the_same_time(packaged, monkeypatch):
    copy = to_path("pretrained:city")
    shutil.rmtree(copy)
    copyfile = shutil.copyfile

    def copy_second(source, target):
        copy.mkdir(exist_ok=True)  # as the first process does meanwhile
        (copy / "config.json").touch()
        copyfile(source, target)

    monkeypatch.setattr(shutil, "copyfile", copy_second)
    assert to_path("pretrained:city") == copy
    assert [path.name for path in copy.parent.iterdir()] == ["city"]


@pytest.mark.parametrize("name", ["cities", "", "../city", "__pycache__"])
def test_an_unknown_name_lists_what_there_is(packaged, name):
    with pytest.raises(rg.UserError, match="no packaged model of that name.*pretrained:city$"):
        to_path(f"pretrained:{name}")


def test_a_cache_that_cannot_be_written_is_an_error(packaged, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(rg.UserError, match=r"cannot be made: .*\$XDG_CACHE_HOME"):
        to_path("pretrained:city")


def test_a_judge_is_named_after_the_model(packaged):
    assert list(name_judges(None, ["pretrained:city"])) == ["city"]
    with pytest.raises(rg.UserError, match="is the model to be scored"):
        name_judges("pretrained:city", ["pretrained:city"])


def test_what_is_packaged_is_small():
    folders = [copies.PACKAGED / name for name in copies.list_names()]
    sizes = [sum(file.stat().st_size for file in folder.iterdir()) for folder in folders]
    assert max(sizes) <= 8_000_000 and sum(sizes) <= 9_000_000


@pytest.mark.parametrize("name", copies.list_names())
def test_a_packaged_model_has_a_card_and_works(name, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = copies.PACKAGED / name
    card = (folder / "README.md").read_text()
    assert "license: apache-2.0" in card and "under Apache-2.0" in card
    assert re.search(r"retroguide(_jax)? train --config=", card)
    assert re.search(r"commit [0-9a-f]{7,}\b(?!-)", card)
    assert "retroguide evaluate" in card and "Not measured" not in card
    for path in folder.glob("*.[jm]*"):
        assert not re.search(r"[\s=\"']/\w", path.read_text()), f"{path}: a path of a machine"
    model = rg.load(f"pretrained:{name}")
    rows = model.embed(np.zeros((1, *model.source_size, 3), np.uint8), model.source_view)
    assert np.isfinite(rows).all()
    if model.has_generator:
        drawn = model.generate(np.zeros((*model.source_size, 3), np.uint8))
        assert drawn.shape == (1, *model.target_size, 3) and drawn.std() > 1
