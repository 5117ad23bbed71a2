import numpy as np
import pytest
import scipy.linalg

from retroguide_jax.errors import UserError
from retroguide_jax.metrics import classification, distribution, statistics
from retroguide_jax.metrics.moments import Moments, compute_moments


def draw(num, num_features, seed=0, decay=0.1):
    """Rows like those of an embedding: nonnegative, float32, with a falling spectrum."""
    rng = np.random.default_rng(seed)
    scale = np.geomspace(1, decay, num_features)
    mix = np.eye(num_features) + 0.3 * rng.standard_normal((num_features,) * 2) / num_features**0.5
    return np.maximum((rng.standard_normal((num, num_features)) @ mix + 0.4) * scale, 0).astype("f")


def measure(real, generated):
    return distribution.frechet_distance(compute_moments(real), compute_moments(generated))


def measure_by_sqrtm(real, generated):
    """The formula as pytorch-fid computes it."""
    real, generated = np.float64(real), np.float64(generated)
    difference = real.mean(axis=0) - generated.mean(axis=0)
    first, second = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    root = np.real(scipy.linalg.sqrtm(first @ second))
    return difference @ difference + np.trace(first + second - 2 * root)


def measure_by_svd(real, generated):
    """tr (S1 S2)^(1/2) as the nuclear norm of X1 X2^T, X the centred rows."""
    rows = [np.float64(side) for side in (real, generated)]
    difference = rows[0].mean(axis=0) - rows[1].mean(axis=0)
    first, second = ((side - side.mean(axis=0)) / (len(side) - 1) ** 0.5 for side in rows)
    norm = scipy.linalg.svdvals(first @ second.T).sum()
    return difference @ difference + np.sum(first**2) + np.sum(second**2) - 2 * norm


def test_frechet_distance_of_known_gaussians():
    rotation = scipy.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    deviations = np.array([1.0, 2, 3]), np.array([0.5, 2, 7])
    first, second = (rotation @ np.diag(d**2) @ rotation.T for d in deviations)
    real = Moments(11, np.array([1.0, 0, 0]), first * 10)
    generated = Moments(31, np.array([1.0, 3, 4]), second * 30)
    # Of commuting covariances: |m1 - m2|^2 + |d1 - d2|^2.
    np.testing.assert_allclose(
        distribution.frechet_distance(real, generated), 25 + 0.25 + 16, rtol=1e-12
    )


@pytest.mark.parametrize("decay", [1, 1e-2, 1e-4])
def test_frechet_distance_is_that_of_sqrtm(decay):
    real, generated = draw(600, 64, decay=decay), draw(500, 64, seed=1, decay=decay)
    np.testing.assert_allclose(
        measure(real, generated), measure_by_sqrtm(real, generated), rtol=1e-9
    )


@pytest.mark.parametrize("sizes", [(40, 40), (40, 500), (500, 40), (96, 97), (2, 3)])
def test_frechet_distance_of_fewer_images_than_features(sizes):
    real, generated = draw(sizes[0], 96), draw(sizes[1], 96, seed=1)
    expected = measure_by_svd(real, generated)
    np.testing.assert_allclose(measure(real, generated), expected, rtol=1e-10)
    np.testing.assert_allclose(distribution.frechet_between(real, generated), expected, rtol=1e-10)


def test_frechet_distance_of_identical_sets_is_zero():
    for features in (draw(300, 32), draw(20, 32), np.ones((5, 4))):
        assert 0 <= measure(features, features) < 1e-12


def test_frechet_distance_to_a_constant_set_is_its_mean_square():
    features = np.float64(draw(50, 8))
    expected = np.sum(np.mean(features**2, axis=0) - features.mean(axis=0) ** 2) * 50 / 49
    constant = np.tile(features.mean(axis=0), (9, 1))
    np.testing.assert_allclose(measure(features, constant), expected, rtol=1e-10)


def test_frechet_distance_of_one_image_or_unlike_features():
    for distance in (measure, distribution.frechet_between):
        with pytest.raises(UserError, match="at least 2"):
            distance(np.ones((1, 9)), np.ones((4, 9)))
        with pytest.raises(ValueError, match="differ"):
            distance(np.ones((4, 9)), np.ones((4, 2)))


@pytest.mark.parametrize("num", [7, 90, 400])
def test_frechet_replicates_leave_out_a_group_each(num):
    real, generated = draw(num, 48), draw(num, 48, seed=1)
    replicates = distribution.frechet_replicates(real, generated)
    num_groups = min(num, 20)
    expected = [
        measure(*(np.delete(rows, np.s_[g::num_groups], axis=0) for rows in (real, generated)))
        for g in range(num_groups)
    ]
    np.testing.assert_allclose(replicates, expected, rtol=1e-10)


def test_frechet_replicates_need_pairs():
    assert len(distribution.frechet_replicates(np.ones((2, 3)), np.ones((2, 3)))) == 0
    with pytest.raises(ValueError, match="no pairs"):
        distribution.frechet_replicates(np.ones((4, 3)), np.ones((5, 3)))


def test_jackknife_covers_the_distance_that_a_bootstrap_overshoots():
    rng = np.random.default_rng(0)
    mix = np.eye(16) + 0.1 * rng.standard_normal((16, 16))

    def draw_pair():
        return rng.standard_normal((150, 16)), rng.standard_normal((150, 16)) @ mix + 0.1

    expected = np.mean([measure(*draw_pair()) for _ in range(300)])
    num_covered = 0
    for _ in range(100):
        real, generated = draw_pair()
        replicates = distribution.frechet_replicates(real, generated)
        found = statistics.jackknife(measure(real, generated), replicates)
        num_covered += found.low <= expected <= found.high
    assert num_covered >= 90
    resampled = statistics.bootstrap(measure, draw_pair(), num_resamples=100)
    assert resampled.low > resampled.value


def kernel_pair():
    rng = np.random.default_rng(0)
    rng.standard_normal((57, 11))
    real = np.maximum(rng.standard_normal((40, 8)), 0)
    return real, np.maximum(rng.standard_normal((40, 8)) * 1.2 + 0.3, 0)


def test_kernel_distance_is_that_of_torch_fidelity():
    # One subset of all images; torch-fidelity 0.4.0 and clean-fid give the same.
    np.testing.assert_allclose(
        distribution.kernel_distance(*kernel_pair()).value, 0.6330695053198965, rtol=1e-12
    )


@pytest.mark.parametrize("entries", [1, 120, 10**6])
@pytest.mark.parametrize("sizes", [(40, 40), (40, 23), (2, 3)])
def test_kernel_distance_by_definition(monkeypatch, entries, sizes):
    monkeypatch.setattr(distribution, "_KERNEL_ENTRIES", entries)
    real, generated = (rows[:num] for rows, num in zip(kernel_pair(), sizes, strict=True))

    def mean_off_diagonal(rows):
        kernel = (rows @ rows.T / 8 + 1) ** 3
        return (kernel.sum() - np.trace(kernel)) / (len(rows) * (len(rows) - 1))

    across = np.mean((real @ generated.T / 8 + 1) ** 3)
    expected = mean_off_diagonal(real) + mean_off_diagonal(generated) - 2 * across
    found = distribution.kernel_distance(real, generated)
    np.testing.assert_allclose(found.value, expected, rtol=1e-10)
    assert len(found.replicates) == (40 if sizes == (40, 40) else 0)


def test_kernel_replicates_leave_out_a_pair_each():
    real, generated = kernel_pair()
    replicates = distribution.kernel_distance(real, generated).replicates
    expected = [
        distribution.kernel_distance(np.delete(real, i, 0), np.delete(generated, i, 0)).value
        for i in range(len(real))
    ]
    np.testing.assert_allclose(replicates, expected, rtol=1e-10)


def test_kernel_distance_is_unbiased_and_its_interval_covers():
    rng = np.random.default_rng(0)
    values, num_covered = [], 0
    # (x y + 1)^3 = 1 + 3 x y + 3 x^2 y^2 + x^3 y^3, so that the squared MMD is the sum of squared
    # differences of the moments with these weights: 0, 1, 0 of N(0, 1) and 1, 2, 4 of N(1, 1).
    true = 3 * 1**2 + 3 * 1**2 + 4**2
    for _ in range(200):
        real, generated = rng.standard_normal((200, 1)), rng.standard_normal((200, 1)) + 1
        found = distribution.kernel_distance(real, generated)
        interval = statistics.jackknife(found.value, found.replicates)
        num_covered += interval.low <= true <= interval.high
        values.append(found.value)
    assert abs(np.mean(values) - true) < 3 * np.std(values) / len(values) ** 0.5
    assert num_covered >= 180


def test_kernel_distance_of_one_image_or_unlike_features():
    with pytest.raises(UserError, match="at least 2"):
        distribution.kernel_distance(np.ones((1, 3)), np.ones((4, 3)))
    with pytest.raises(ValueError, match="differ"):
        distribution.kernel_distance(np.ones((4, 3)), np.ones((4, 2)))


PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])


def test_inception_score_is_that_of_torch_fidelity():
    logits = np.random.default_rng(0).standard_normal((57, 11)) * 3
    score = distribution.inception_score(classification.compute_probabilities(logits))
    np.testing.assert_allclose(score.value, 2.6791025791886147, rtol=1e-12)  # 0.4.0
    np.testing.assert_allclose(score.spread, 0.19550006189947022, rtol=1e-10)
    assert len(score.replicates) == 10
    np.testing.assert_allclose(score.replicates.mean(), score.value, rtol=1e-12)


def test_inception_score_is_number_of_classes_at_most_and_one_at_least():
    certain = np.eye(4)[np.arange(40) % 4]
    one_split = {"num_splits": 1, "seed": None}
    np.testing.assert_allclose(distribution.inception_score(certain, **one_split).value, 4)
    same = distribution.inception_score(np.tile(PROBABILITIES[:1], (40, 1)))
    np.testing.assert_allclose(same[:2], [1, 0], atol=1e-12)


@pytest.mark.parametrize("num", [2, 13, 50])
def test_inception_score_of_one_split_without_groups(num):
    logits = np.random.default_rng(0).standard_normal((num, 5))
    probabilities = classification.compute_probabilities(logits)
    one_split = {"num_splits": 1, "seed": None}
    expected = [
        distribution.inception_score(
            np.delete(probabilities, np.s_[g :: min(num, 20)], axis=0), **one_split
        ).value
        for g in range(min(num, 20))
    ]
    found = distribution.inception_score(probabilities, **one_split)
    np.testing.assert_allclose(found.replicates, expected, rtol=1e-12)
    assert len(distribution.inception_score(probabilities[:1], **one_split).replicates) == 0


def test_inception_score_of_the_likeliest_classes():
    kept = distribution.keep_top(PROBABILITIES, 1)
    np.testing.assert_array_equal(kept, [[0.7, 1e-9, 1e-9], [1e-9, 1e-9, 0.6]])
    score = distribution.inception_score(kept, num_splits=1, seed=None).value
    # Half of 0.7 log 2 + 0.6 log 2; what is left of 1e-9 is below 1e-7.
    np.testing.assert_allclose(score, 2**0.65, rtol=1e-6)


def test_keep_top_of_equal_classes_keeps_k():
    np.testing.assert_array_equal(
        distribution.keep_top(np.full((1, 4), 0.25), 2), [[0.25, 0.25, 1e-9, 1e-9]]
    )
    np.testing.assert_array_equal(distribution.keep_top(PROBABILITIES, 3), PROBABILITIES)


@pytest.mark.parametrize(
    "probabilities, error, words",
    [
        (np.full((9, 2), 0.5), UserError, "there are 9"),
        (np.full((20, 2), np.nan), UserError, "not finite"),
        (np.ones(20), ValueError, "must be"),
    ],
)
def test_inception_score_says_what_it_needs(probabilities, error, words):
    with pytest.raises(error, match=words):
        distribution.inception_score(probabilities)
