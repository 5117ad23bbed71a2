"""How terms and heads are combined; test_losses.py covers the losses themselves."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from retroguide_jax.config import load_config
from retroguide_jax.training import objectives
from retroguide_jax.training.updates import Recipe

NUM, SIZE = 4, (2, 3, 3)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (NUM, *SIZE)).astype(np.float32)
GUIDANCE = objectives.Guidance(np.ones((NUM, 5), np.float32), None, IMAGES)


class TwoHeads:
    """A discriminator with `patch`, whose logits are its parameters times the image's sum and
    values, plus its biases."""

    has_late_condition = True

    def apply(self, variables, *args, method="heads"):
        return getattr(self, method)(variables["params"], *args)

    def extract(self, params, images, source):
        return images, params["patch"] * images.reshape(len(images), -1) + params["patch_bias"]

    def condition(self, params, embedding, source):
        return embedding

    def score(self, params, images, condition):
        return params["pair"] * images.sum((1, 2, 3)) + params["pair_bias"]

    def heads(self, params, images, embedding, source):
        return self.score(params, images, embedding), self.extract(params, images, source)[1]


def make_recipe(frozen=(), **fields):
    config = load_config("city")
    with config.unlocked():
        off = {"style": "none", "retrieval": "off", "token_weight": 0.0, "guide_blur": False}
        config.losses.update(off | fields)
    networks = types.SimpleNamespace(discriminator=TwoHeads())
    return Recipe(config, networks, None, {}, {}, dict(frozen))


def make_params(pair=0.0, patch=0.0, bias=0.0):
    values = {"pair": pair, "patch": patch, "pair_bias": bias, "patch_bias": bias}
    return {name: jnp.float32(value) for name, value in values.items()}


def make_generator_objective(recipe, params):
    drawn = {"image": jnp.asarray(IMAGES), "low": None, "rows": jnp.ones(len(IMAGES))}
    scene = objectives.Scene(recipe, GUIDANCE, IMAGES + 0.5, disc_params=params)
    loss_fn = objectives.generator_objective(scene)
    return lambda image: loss_fn(drawn | {"image": image})


def test_both_heads_have_half_of_every_gradient():
    # Where D is certain and always right, the gradient of a wrong logit is the logit's weight.
    recipe, right = make_recipe(), make_params(bias=30.0)
    d_loss = objectives.discriminator_objective(recipe, IMAGES, IMAGES, GUIDANCE)
    grads = jax.grad(d_loss, has_aux=True)(right)[0]
    np.testing.assert_allclose([grads["pair_bias"], grads["patch_bias"]], 0.5, rtol=1e-5)
    # Where D is certain and always wrong, so is the gradient of each of G's logits.
    g_loss = lambda params: make_generator_objective(recipe, params)(IMAGES)[1]  # noqa: E731
    grads = jax.grad(lambda params: g_loss(params)["g/adversarial"])(make_params(bias=-30.0))
    np.testing.assert_allclose([grads["pair_bias"], grads["patch_bias"]], -0.5, rtol=1e-5)
    penalty = objectives.penalty_objective(recipe, IMAGES, GUIDANCE)
    for name, slope in (("pair", 1.0), ("patch", 1.0 / np.prod(SIZE))):
        expected = 0.5 * np.prod(SIZE) * (0.5 * 3.0 * slope) ** 2
        np.testing.assert_allclose(penalty(make_params(**{name: 3.0})), expected, rtol=1e-5)


def test_the_same_place_is_no_mismatched_pair():
    recipe, right = make_recipe(), make_params(bias=30.0)
    for place, share in (([0, 1, 2, 3], 0.25), ([7, 7, 7, 7], 0.0)):
        guidance = GUIDANCE._replace(place=np.array(place, np.int32))
        d_loss = objectives.discriminator_objective(recipe, IMAGES, IMAGES, guidance)
        (loss, means), grads = jax.value_and_grad(d_loss, has_aux=True)(right)
        # Generated images have a quarter of it, mismatched ones another.
        np.testing.assert_allclose(grads["pair_bias"], 0.25 + share, rtol=1e-5)
        assert means["d/mismatched"] == (30.0 if share else 0.0)


def test_a_term_without_weight_is_not_computed(monkeypatch):
    def fail(scene):
        raise AssertionError("computed")

    term = objectives.Term(fail, "adversarial_weight")
    monkeypatch.setitem(objectives.GENERATOR_TERMS, "g/adversarial", term)
    loss_fn = make_generator_objective(make_recipe(adversarial_weight=0.0), make_params())
    loss, terms = loss_fn(IMAGES)
    assert set(terms) == {"g/l1"}
    np.testing.assert_allclose(loss, 25.0 * 0.5, rtol=1e-5)
    with pytest.raises(AssertionError, match="computed"):
        make_generator_objective(make_recipe(), make_params())(IMAGES)


def test_tokens_of_the_generated_image_are_compared_with_those_of_the_target():
    class Guide:
        def apply(self, variables, images, view):
            assert view == "ground"
            return None, variables * images.mean(3)

    recipe = make_recipe(token_weight=5.0, reconstruction_weight=0.0, adversarial_weight=0.0)
    recipe.networks.embedder, recipe.networks.target_view = Guide(), "ground"
    scene = objectives.Scene(recipe, GUIDANCE, IMAGES + 0.5, guide=2.0)
    objective = objectives.generator_objective(scene)
    loss, terms = objective({"image": jnp.asarray(IMAGES), "low": None})
    assert set(terms) == {"g/tokens"}
    np.testing.assert_allclose([loss, terms["g/tokens"]], [5.0, 1.0], rtol=1e-5)


def test_a_blurred_guide_sees_no_pattern_of_single_pixels():
    seen = []

    class Guide:
        def apply(self, variables, images, view):
            seen.append(np.asarray(images))
            return None, images.mean(3)

    recipe = make_recipe(
        token_weight=5.0, reconstruction_weight=0.0, adversarial_weight=0.0, guide_blur=True
    )
    recipe.networks.embedder, recipe.networks.target_view = Guide(), "ground"
    recipe.networks.generator = types.SimpleNamespace(circular=True)
    images = np.random.default_rng(1).uniform(-1, 1, (NUM, 4, 8, 3)).astype(np.float32)
    objective = objectives.generator_objective(objectives.Scene(recipe, GUIDANCE, images))
    checks = 1.0 - 2.0 * (np.indices(images.shape[1:3]).sum(0) % 2)
    _, terms = objective({"image": jnp.asarray(images + checks[..., None]), "low": None})
    assert seen[0].shape == images.shape
    np.testing.assert_allclose(terms["g/tokens"], 0.0, atol=1e-5)


def test_a_new_term_reads_a_frozen_network(monkeypatch):
    def perceptual(scene):
        features = scene.recipe.frozen["features"]
        return jnp.abs(scene.drawn["image"] @ features - scene.target @ features).mean()

    term = objectives.Term(perceptual, "mode_seeking_weight")
    monkeypatch.setitem(objectives.GENERATOR_TERMS, "g/perceptual", term)
    recipe = make_recipe({"features": jnp.full((3, 1), 2.0)}, mode_seeking_weight=0.25)
    objective = make_generator_objective(recipe, make_params())
    loss, terms = objective(jnp.asarray(IMAGES))
    np.testing.assert_allclose(terms["g/perceptual"], 3 * 2 * 0.5, rtol=1e-5)
    without = loss - 0.25 * terms["g/perceptual"]
    others = terms["g/adversarial"] + 25.0 * terms["g/l1"]
    np.testing.assert_allclose(without, others, rtol=1e-5)
    assert np.abs(jax.grad(lambda image: objective(image)[0])(IMAGES)).min() > 0
