"""A model as a folder of .safetensors files: read like a work directory, never written to."""

import numpy as np
import pytest
from random_model import make_model
from safetensors.numpy import load_file, save_file
from tiny import make_tiny_config

import retroguide_jax as rg
from retroguide_jax.checkpoints.loading import load_model
from retroguide_jax.checkpoints.saving import Checkpoints
from retroguide_jax.config import config_to_json
from retroguide_jax.fingerprints import hash_weights
from retroguide_jax.torch_layout import folder


def write(model, path, dtype="float32"):
    folder.write_networks(model.variables, path, model.step, dtype)
    (path / folder.CONFIG).write_text(config_to_json(model.config))
    return path


@pytest.fixture(scope="module")
def model():
    """A model at step 7."""
    return make_model(make_tiny_config(**{"embedder.learned_temperature": True}))


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    return write(model, tmp_path_factory.mktemp("model"))


@pytest.mark.smoke
def test_what_is_read_is_what_was_written(model, written):
    found = load_model(written)
    assert hash_weights(found.variables) == hash_weights(model.variables)
    assert found.step == 7 and found.config.to_dict() == model.config.to_dict()
    other = load_model(written, step=7, into=make_model(model.config))
    assert hash_weights(other.variables) == hash_weights(model.variables)
    assert repr(rg.load(written)) == "TrainedModel(aerial 16x16 to ground 8x32, step 7)"


def test_half_precision_differs_by_its_rounding_only(model, tmp_path):
    path = write(model, tmp_path / "half", "float16")
    assert {str(a.dtype) for a in load_file(path / "generator.safetensors").values()} == {"float16"}
    found, wanted = (
        np.asarray(one.variables["generator"]["rgb"]["kernel"]) for one in (load_model(path), model)
    )
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, wanted.astype(np.float16))
    assert not np.array_equal(found, wanted)


def test_an_embedder_alone_is_a_model_too(tmp_path):
    model = make_model(make_tiny_config(mode="contrastive"))
    path = write(model, tmp_path)
    assert [file.name for file in path.glob("*.safetensors")] == ["embedder.safetensors"]
    assert hash_weights(load_model(path).variables) == hash_weights(model.variables)


def test_what_an_export_does_not_hold_is_an_error(written):
    with pytest.raises(rg.UserError, match="holds one checkpoint: step 7, not best"):
        load_model(written, "best")
    with pytest.raises(rg.UserError, match="holds one checkpoint: step 7, not step 3"):
        load_model(written, step=3)


def test_a_run_is_not_written_into_it(model, written):
    with pytest.raises(rg.UserError, match="holds an exported model, which cannot be resumed"):
        Checkpoints(written, model.config)
    assert not (written / "checkpoints").exists()


@pytest.mark.parametrize("change", ["missing", "of another shape"])
def test_an_array_that_does_not_fit_is_named(model, tmp_path, change):
    path = write(model, tmp_path) / "generator.safetensors"
    arrays = load_file(path)
    kernel = arrays.pop("rgb.weight")
    save_file(arrays | ({} if change == "missing" else {"rgb.weight": kernel[:, 1:]}), path)
    with pytest.raises(rg.UserError, match=r"generator.safetensors: has no array rgb.weight"):
        load_model(tmp_path)


def test_files_that_name_no_step_are_of_step_0(model, tmp_path):
    path = write(model, tmp_path) / "embedder.safetensors"
    arrays = load_file(path)
    save_file(arrays, path)
    assert load_model(tmp_path).step == 0
    save_file(arrays, path, {"step": "seven"})
    with pytest.raises(rg.UserError, match="its step 'seven' is no number"):
        load_model(tmp_path)
