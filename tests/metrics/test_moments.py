import numpy as np
import pytest

from retroguide_jax.errors import UserError
from retroguide_jax.metrics.moments import compute_moments, merge, remove


def draw(num, num_features, seed=0):
    rng = np.random.default_rng(seed)
    return np.maximum(rng.standard_normal((num, num_features)) + 0.4, 0).astype(np.float32)


def test_moments_are_those_of_numpy_over_several_chunks():
    features = draw(9000, 5)
    moments = compute_moments(features)
    assert moments.num == 9000
    np.testing.assert_allclose(moments.mean, np.float64(features).mean(axis=0), rtol=1e-12)
    covariance = np.cov(np.float64(features), rowvar=False)
    np.testing.assert_allclose(moments.covariance, covariance, rtol=1e-12, atol=1e-14)


def test_merging_in_any_shares_is_one_pass():
    features = np.float64(draw(1000, 6)) + 50
    whole = compute_moments(features)
    merged = compute_moments(features[:1])
    for part in (features[1:2], features[2:40], features[40:]):
        merged = merge(merged, compute_moments(part))
    assert merged.num == 1000
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.scatter, whole.scatter, rtol=1e-12, atol=1e-10)


def test_removing_undoes_merging():
    a, b = compute_moments(draw(700, 6)), compute_moments(draw(50, 6, seed=1) + 3)
    rest = remove(merge(a, b), b)
    assert rest.num == 700
    np.testing.assert_allclose(rest.mean, a.mean, rtol=1e-12)
    np.testing.assert_allclose(rest.scatter, a.scatter, rtol=1e-10, atol=1e-10)


def test_moments_of_a_large_mean_hold_where_float32_sums_do_not():
    rng = np.random.default_rng(0)
    features = (rng.standard_normal((50_000, 8)) * 0.5 + 100).astype(np.float32)
    true = np.var(np.float64(features), axis=0, ddof=1)
    ours = np.diag(compute_moments(features).covariance)
    mean = features.sum(axis=0) / np.float32(len(features))
    naive = (np.sum(features**2, axis=0) - len(features) * mean**2) / np.float32(len(features) - 1)
    assert naive.dtype == np.float32
    assert np.max(np.abs(ours / true - 1)) < 1e-12
    assert np.max(np.abs(naive / true - 1)) > 1e-3


@pytest.mark.parametrize(
    "features, error", [(np.ones(3), ValueError), (np.empty((0, 2)), UserError)]
)
def test_moments_of_no_rows(features, error):
    with pytest.raises(error):
        compute_moments(features)


def test_moments_name_rows_that_are_not_finite():
    with pytest.raises(UserError, match="1 of 3 rows"):
        compute_moments(np.array([[0.0, 1], [np.nan, 1], [2, 2]]))
