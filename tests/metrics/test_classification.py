import numpy as np
import pytest

from retroguide_jax.metrics import classification, statistics

GENERATED = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
REAL = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])


def test_kl_score_of_the_published_example():
    divergences = classification.compute_divergences(GENERATED, REAL)
    by_hand = [
        0.7 * np.log(1.4) + 0.2 * np.log(2 / 3) + 0.1 * np.log(0.5),
        0.1 * np.log(0.5) + 0.3 * np.log(1.5),
    ]
    np.testing.assert_allclose(divergences, by_hand, rtol=1e-12)
    score = classification.kl_score(divergences)
    np.testing.assert_allclose(score.value, 1.071140, atol=5e-7)
    np.testing.assert_allclose(score.spread, abs(by_hand[0] - by_hand[1]) / 2, rtol=1e-10)


def test_kl_score_of_equal_images_is_one():
    assert classification.kl_score(classification.compute_divergences(REAL, REAL)) == (1, 0)


def test_divergence_with_zero_probabilities():
    certain, doubtful = np.array([[1.0, 0]]), np.array([[0.5, 0.5]])
    np.testing.assert_allclose(classification.compute_divergences(certain, doubtful), np.log(2))
    impossible = classification.compute_divergences(doubtful, certain)
    assert impossible[0] == np.inf
    assert classification.kl_score(impossible) == (np.inf, np.inf)


def test_pairs_must_have_one_shape():
    for function in (classification.compute_divergences, classification.compute_accuracies):
        with pytest.raises(ValueError, match="one"):
            function(GENERATED, REAL[:1])


def test_accuracies_by_hand():
    #                 likeliest: 2, 0.6        0, 0.5: not sure         1, 0.9
    real = np.array([[0.1, 0, 0.6, 0.3, 0, 0, 0], [0.5, 0, 0, 0, 0, 0, 0.5], [0.1, 0.9] + 5 * [0]])
    generated = np.array(
        [
            [0.2, 0.1, 0.4, 0.1, 0.1, 0.05, 0.05],  # 2 first
            [0.1, 0.2, 0.2, 0.2, 0.2, 0.1, 0],  # 0 fifth, as the lower of two equal
            [0.3, 0.01, 0.02, 0.3, 0.2, 0.1, 0.07],  # 1 last
        ]
    )
    columns = classification.compute_accuracies(generated, real)
    assert {name: column.tolist() for name, column in columns.items() if "sure" not in name} == {
        "top1": [1, 0, 0],
        "top5": [1, 1, 0],
    }
    np.testing.assert_array_equal(columns["top1_sure"], [1, np.nan, 0])
    np.testing.assert_array_equal(columns["top5_sure"], [1, np.nan, 0])
    assert statistics.bootstrap_mean(columns["top1_sure"])[3:] == (2, 1)


def test_accuracies_of_equal_images_are_one():
    probabilities = classification.compute_probabilities(
        np.random.default_rng(0).standard_normal((50, 20))
    )
    columns = classification.compute_accuracies(probabilities, probabilities)
    assert columns["top1"].all() and columns["top5"].all()


def test_constant_images_have_accuracy_of_chance():
    real = classification.compute_probabilities(
        np.random.default_rng(0).standard_normal((20_000, 10))
    )
    columns = classification.compute_accuracies(np.full_like(real, 0.1), real)
    assert abs(columns["top1"].mean() - 0.1) < 0.01
    assert abs(columns["top5"].mean() - 0.5) < 0.015


def test_probabilities_of_large_logits():
    found = classification.compute_probabilities(np.array([[1000.0, 1000, 0]], np.float32))
    np.testing.assert_array_equal(found, [[0.5, 0.5, 0]])
    assert found.dtype == np.float64
