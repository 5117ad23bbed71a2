import jax
import jax.numpy as jnp
import numpy as np
import pytest

from retroguide_jax.errors import UserError
from retroguide_jax.models.discriminator import Discriminator

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-1, 1, (2, 8, 32, 3)).astype(np.float32)
EMBEDDING = RNG.normal(size=(2, 5)).astype(np.float32)


def make(**fields):
    """A small discriminator and its parameters."""
    discriminator = Discriminator((4, 4), width=8, **fields)
    return discriminator, jax.jit(discriminator.init)(jax.random.key(0), IMAGES, EMBEDDING)


@pytest.mark.parametrize(
    ("circular", "fold", "commutes"), [(True, 1, True), (True, 2, True), (False, 1, False)]
)
def test_features_commute_with_rolling_the_panorama(circular, fold, commutes):
    discriminator, variables = make(circular=circular, fold=fold)
    extract = jax.jit(lambda images: discriminator.apply(variables, images, method="extract")[0])
    out, rolled = extract(IMAGES), extract(np.roll(IMAGES, 3 * 4 * fold, 2))
    assert out.shape == (2, 2 // fold, 8 // fold, 4)
    error = np.abs(rolled - np.roll(out, 3, 2)).max()
    assert (error < 1e-5) == commutes


@pytest.mark.parametrize("conditioning", ["projection", "concat"])
def test_logits_score_the_pair(conditioning):
    discriminator, variables = make(conditioning=conditioning)
    apply_fn = jax.jit(lambda *args: discriminator.apply(*args)[0])
    logits = apply_fn(variables, IMAGES, EMBEDDING)
    assert logits.shape == (2,) and logits.dtype == jnp.float32
    for other in (
        apply_fn(variables, IMAGES, EMBEDDING[::-1]),
        apply_fn(variables, IMAGES[::-1], EMBEDDING),
    ):
        assert np.abs(other - logits).min() > 1e-4


def test_patch_logits_score_the_image_alone():
    discriminator, variables = make(patch=True)
    apply_fn = jax.jit(discriminator.apply)
    logits, patches = apply_fn(variables, IMAGES, EMBEDDING)
    assert logits.shape == (2,) and patches.shape == (2, 8 * 32)
    _, other = apply_fn(variables, IMAGES, EMBEDDING[::-1])
    np.testing.assert_array_equal(other, patches)


def test_unknown_conditioning():
    with pytest.raises(UserError, match="discriminator.conditioning='cat'"):
        make(conditioning="cat")


def test_the_gain_keeps_the_second_moment():
    """The second moment of images as in data sets; with a scale of 1 each leaky ReLU halves it."""
    images = RNG.normal(size=(2, 16, 64, 3)).astype(np.float32)
    found = {}
    for scale in (1.0, 2 / 1.04):
        discriminator = Discriminator((32, 64, 64, 64), width=32, init_scale=scale)
        run = jax.jit(lambda key, d=discriminator: d.init_with_output(key, images, EMBEDDING))
        variables = run(jax.random.key(0))[1]
        features, _ = discriminator.apply(variables, images, method="extract")
        found[scale] = float(np.sqrt(np.square(features).mean()))
    assert found[1.0] < 0.3 < 0.5 < found[2 / 1.04] < 2.0, found


def test_logits_are_float32_under_bfloat16():
    """Not merely cast at the end: a bfloat16 logit has 8 bits."""
    discriminator, variables = make(dtype=jnp.bfloat16)
    logits = np.asarray(jax.jit(discriminator.apply)(variables, IMAGES, EMBEDDING)[0])
    assert logits.dtype == np.float32
    assert (logits != logits.astype(jnp.bfloat16).astype(np.float32)).all()
