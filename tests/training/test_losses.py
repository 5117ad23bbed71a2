import jax
import jax.numpy as jnp
import numpy as np
import pytest

from retroguide_jax.errors import UserError
from retroguide_jax.training import losses

RNG = np.random.default_rng(0)


def unit_rows(num, dim):
    rows = RNG.normal(size=(num, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


SOURCE, TARGET = unit_rows(6, 4), unit_rows(6, 4)


def softplus(x):
    return np.logaddexp(0.0, x)


def test_retrieval_cosine_by_hand():
    expected = np.mean([1 - a @ b for a, b in zip(SOURCE, TARGET, strict=True)])
    np.testing.assert_allclose(losses.retrieval_cosine(SOURCE, TARGET), expected, rtol=1e-5)
    assert abs(losses.retrieval_cosine(SOURCE, SOURCE)) < 1e-6


def test_adversarial_losses_by_hand():
    real, fake, wrong = RNG.normal(size=(3, 5, 2)).astype(np.float32) * 2
    expected = softplus(-real).mean() + 0.5 * (softplus(fake).mean() + softplus(wrong).mean())
    found = losses.discriminator_loss("logistic", real, fake, wrong)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    relu = lambda x: np.maximum(x, 0)  # noqa: E731
    expected = relu(1 - real).mean() + 0.5 * (relu(1 + fake).mean() + relu(1 + wrong).mean())
    found = losses.discriminator_loss("hinge", real, fake, wrong)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(
        losses.generator_loss("logistic", fake), softplus(-fake).mean(), rtol=1e-5
    )
    np.testing.assert_allclose(losses.generator_loss("hinge", fake), -fake.mean(), rtol=1e-5)
    with pytest.raises(UserError, match="losses.adversarial='wasserstein'"):
        losses.discriminator_loss("wasserstein", real, fake, wrong)


def test_gradient_penalties_of_a_quadratic_discriminator():
    """D(x, e) = |x|^2 / 2 + 3 sum(e): the gradients are x and 3."""
    images = RNG.normal(size=(4, 2, 3, 1)).astype(np.float32)
    embedding = RNG.normal(size=(4, 5)).astype(np.float32)

    def logits_fn(images, embedding):
        return 0.5 * jnp.square(images).sum((1, 2, 3)) + 3.0 * embedding.sum(1)

    squared = np.square(images).sum((1, 2, 3))
    found = losses.gradient_penalty("r1", logits_fn, images, embedding)
    np.testing.assert_allclose(found, 0.5 * squared.mean(), rtol=1e-5)
    found = losses.gradient_penalty("matching_aware", logits_fn, images, embedding)
    expected = 2.0 * np.mean(np.sqrt(squared + 9.0 * 5) ** 6)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(UserError, match="losses.penalty='r9'"):
        losses.gradient_penalty("r9", logits_fn, images, embedding)


def test_masked_l1():
    prediction, target = RNG.normal(size=(2, 4, 2, 3, 3)).astype(np.float32)
    mask = np.array([1, 0, 1, 0], np.float32)
    expected = np.abs(prediction - target)[[0, 2]].mean()
    np.testing.assert_allclose(losses.masked_l1(prediction, target, mask), expected, rtol=1e-5)
    assert losses.masked_l1(prediction, target, np.zeros(4, np.float32)) == 0.0


def test_a_sample_of_one_has_a_finite_energy_distance():
    x, y = np.ones((1, 3), np.float32), np.zeros((4, 3), np.float32)
    value, grads = jax.value_and_grad(losses.energy_distance)(x, y)
    np.testing.assert_allclose(value, 2 * np.sqrt(3), atol=1e-3)
    assert np.isfinite(grads).all()


def test_mode_seeking_falls_as_images_differ_more():
    image, other = RNG.uniform(-1, 1, (2, 4, 2, 3, 3)).astype(np.float32)
    code, other_code = RNG.normal(size=(2, 4, 5)).astype(np.float32)
    pixels = np.abs(image - other).mean((1, 2, 3))
    styles = np.abs(code - other_code).mean(1)
    found = losses.mode_seeking(image, other, code, other_code)
    np.testing.assert_allclose(found, np.mean(styles / (pixels + 1e-5)), rtol=1e-4)
    assert losses.mode_seeking(2 * image, 2 * other, code, other_code) < found
    # This loss must not draw the codes together.
    grads = jax.grad(losses.mode_seeking, argnums=2)(image, other, code, other_code)
    np.testing.assert_array_equal(grads, 0.0)


def test_energy_distance_by_hand():
    x, y = RNG.normal(size=(5, 3)).astype(np.float32), RNG.normal(size=(7, 3)).astype(np.float32)
    length = lambda a, b: np.linalg.norm(a - b)  # noqa: E731
    between = np.mean([length(a, b) for a in x for b in y])
    within = [
        np.mean([length(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j])
        for s in (x, y)
    ]
    found = losses.energy_distance(x, y)
    np.testing.assert_allclose(found, 2 * between - sum(within), atol=1e-3)


def test_the_energy_distance_leaves_rows_out_that_do_not_count():
    x, y = RNG.normal(size=(5, 3)).astype(np.float32), RNG.normal(size=(7, 3)).astype(np.float32)
    counts = np.array([1, 0, 1, 1, 0, 0, 1], bool)
    found = losses.energy_distance(x, y, counts)
    np.testing.assert_allclose(found, losses.energy_distance(x, y[counts]), rtol=1e-5)


def test_energy_distance_of_equal_and_of_different_distributions():
    samples = RNG.normal(size=(400, 2, 16, 3)).astype(np.float32)
    distances = jax.jit(jax.vmap(lambda pair: losses.energy_distance(pair[0], pair[1])))
    equal = np.asarray(distances(samples))
    # Unbiased: its mean is zero within the error of the mean, and single values lie on both sides.
    assert abs(equal.mean()) < 4 * equal.std() / np.sqrt(len(equal))
    assert (equal < 0).mean() > 0.2
    samples[:, 1] += 2.0
    assert distances(samples).min() > 0.5


def test_descending_the_energy_distance_moves_samples_together():
    x, y = RNG.normal(size=(2, 32, 2)).astype(np.float32)
    y += 3.0
    gradient = jax.jit(jax.grad(losses.energy_distance))
    before = losses.energy_distance(x, y)
    for _ in range(100):
        x = x - 2.0 * gradient(x, y)
    assert losses.energy_distance(x, y) < 0.05 * before
    assert np.abs(np.mean(x, 0) - np.mean(y, 0)).max() < 0.5
    assert np.all(np.isfinite(gradient(y, y)))
