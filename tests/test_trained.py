"""The Python interface: lazily imported names, and a model that checks its inputs."""

import subprocess
import sys
import time
import warnings

import jax
import numpy as np
import pytest
from random_model import draw_inputs, save_run
from tiny import make_tiny_config

import retroguide_jax as rg
from retroguide_jax.noise import draw_noise

CONFIG = make_tiny_config(**{"eval.batch_size": 1})  # on eight devices: parts of eight rows


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save_run(folder, CONFIG)
    return folder


@pytest.fixture(scope="module")
def model(workdir):
    return rg.load(workdir)


@pytest.fixture(scope="module")
def sources(model):
    return rg.to_uint8(draw_inputs(model.compiled, 3)[0])


def test_importing_the_package_imports_nothing_heavy():
    program = (
        "import sys, retroguide_jax as rg\n"
        "heavy = {'jax', 'flax', 'numpy', 'scipy', 'tensorflow', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "rg.UserError, rg.metrics\n"
        "assert 'jax' not in sys.modules"
    )
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", program], check=True)
    assert time.monotonic() - start < 5  # it takes a fifth of a second on an idle machine


@pytest.mark.parametrize("package", [rg, rg.metrics], ids=lambda package: package.__name__)
def test_every_name_is_there(package):
    assert all(getattr(package, name) is not None for name in dir(package))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing


def test_a_mistyped_name_is_mended():
    done = subprocess.run(
        [sys.executable, "-c", "import retroguide_jax; retroguide_jax.Embeder"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert "Did you mean: 'Embedder'" in done.stderr


def test_what_a_model_says_of_itself(model):
    assert repr(model) == "TrainedModel(aerial 16x16 to ground 8x32, step 0)"
    assert (model.direction, model.source_view, model.target_view) == ("a2g", "aerial", "ground")
    assert (model.source_size, model.target_size) == ((16, 16), (8, 32))
    assert model.has_generator and model.config.train.batch_size == 16


def test_pictures_are_drawn_without_the_layers_noise(model, sources):
    kept = model.compiled.variables
    scales = []

    def louder(path, leaf):
        if "NoiseInjection" not in jax.tree_util.keystr(path):
            return leaf
        scales.append(np.abs(leaf).max())
        return 100 * leaf

    try:
        drawn = model.generate(sources)
        model.compiled.load(jax.tree_util.tree_map_with_path(louder, kept), step=0)
        np.testing.assert_array_equal(model.generate(sources), drawn)
        assert min(scales) > 0
    finally:
        model.compiled.load(kept, step=0)


def test_it_draws_what_the_model_below_draws(model, sources):
    drawn = model.generate(sources, seed=3, num_samples=2)
    assert (drawn.shape, drawn.dtype) == ((3, 2, 8, 32, 3), np.uint8)
    noise = draw_noise(3, 2, model.compiled.z_dim)
    expected = model.compiled.generate(rg.to_float(sources).repeat(2, 0), np.tile(noise, (3, 1)))
    close = {"atol": 1}  # pixels are scaled on the device, which may round the last bit differently
    expected = rg.to_uint8(expected).reshape(drawn.shape).astype(int)
    np.testing.assert_allclose(drawn.astype(int), expected, **close)
    floats = model.generate(rg.to_float(sources), seed=3, num_samples=2)
    assert floats.dtype == np.float32
    np.testing.assert_allclose(rg.to_uint8(floats).astype(int), drawn.astype(int), **close)


def test_an_image_alone_is_drawn_as_in_a_batch_of_many(model, sources):
    alone = model.generate(sources[1], seed=5)
    assert alone.shape == (1, 8, 32, 3)
    many = model.generate(np.concatenate([sources] * 4), seed=5)  # more than one part
    np.testing.assert_array_equal(many[::3], many[:1].repeat(4, 0))
    np.testing.assert_allclose(many[1].astype(int), alone.astype(int), atol=1)


def test_embeddings_have_length_one(model, sources):
    rows = model.embed(sources, "aerial")
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(model.embed(sources[0], "aerial"), rows[0], atol=1e-5)
    np.testing.assert_allclose(rows, model.embed(rg.to_float(sources), "aerial"), atol=1e-5)


IMAGE = np.zeros((2, 16, 16, 3), np.uint8)
MISTAKES = {
    "dtype": (IMAGE.astype(int), "images: of dtype int64; give uint8 in [0, 255] or float in [-1"),
    "range": (IMAGE + np.float32(100), "images: float values from 100 to 100; give float in [-1"),
    "nan": (IMAGE * np.nan, "images: float values from nan to nan"),
    "size": (IMAGE[:, :8], r"of shape (2, 8, 16, 3); this model's aerial images are [16, 16, 3]"),
    "hint": (IMAGE[:, :8], "`rg.resize_image(image, (16, 16))` resizes one"),
    "channels first": (IMAGE.transpose(0, 3, 1, 2), "channels come last"),
    "grey": (IMAGE[..., 0], "of shape (2, 16, 16)"),
    "ragged": ([IMAGE[0], IMAGE[0, :8]], "images: differ in size"),
    "empty": (IMAGE[:0], "an empty batch"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_wrong_images_are_one_line_of_error(name, model):
    images, text = MISTAKES[name]
    for use in (model.generate, lambda images: model.embed(images, "aerial")):
        with pytest.raises(rg.UserError) as error:
            use(images)
        assert text in str(error.value) and "\n" not in str(error.value)


def test_wrong_arguments_are_one_line_of_error(model, workdir, tmp_path):
    for options in ({"seed": -1}, {"seed": 0.5}, {"num_samples": 0}):
        (name,) = options
        with pytest.raises(rg.UserError, match=f"^{name}="):
            model.generate(IMAGE, **options)
    with pytest.raises(rg.UserError, match="view='arial': must be 'aerial' or 'ground'"):
        model.embed(IMAGE, "arial")
    with pytest.raises(rg.UserError, match="checkpoint='bset': must be 'latest' or 'best'"):
        rg.load(workdir, "bset")
    with pytest.raises(rg.UserError, match="no such work directory"):
        rg.load(tmp_path / "nothing")


def test_floats_that_look_scaled_to_one_are_warned_of(model, sources):
    with pytest.warns(UserWarning, match="give 2 [*] images - 1") as caught:
        model.embed(sources / np.float32(255), "aerial")
    assert caught[0].filename == __file__
    with warnings.catch_warnings(action="error"):
        model.embed(np.zeros((1, 16, 16, 3), np.float32), "aerial")
