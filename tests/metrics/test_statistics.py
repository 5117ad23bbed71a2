import numpy as np
import pytest
import scipy.stats

from retroguide_jax.metrics import statistics


def test_bootstrap_mean_is_that_of_scipy():
    values = np.random.default_rng(1).exponential(size=500)
    found = statistics.bootstrap_mean(values, num_resamples=4000)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", random_state=0
    )
    assert found.value == values.mean()
    assert (found.num, found.num_left_out) == (500, 0)
    ends = [theirs.confidence_interval.low, theirs.confidence_interval.high]
    np.testing.assert_allclose([found.low, found.high], ends, atol=0.1 * np.diff(ends)[0])


def test_bootstrap_is_a_function_of_the_seed():
    values = np.random.default_rng(1).standard_normal(50)
    assert statistics.bootstrap_mean(values, seed=3) == statistics.bootstrap_mean(values, seed=3)
    assert statistics.bootstrap_mean(values, seed=3) != statistics.bootstrap_mean(values, seed=4)


def test_bootstrap_mean_covers():
    rng = np.random.default_rng(0)
    found = [
        statistics.bootstrap_mean(rng.exponential(size=200), num_resamples=200) for _ in range(300)
    ]
    share = np.mean([interval.low <= 1 <= interval.high for interval in found])
    assert 0.90 <= share <= 0.98


def test_a_wider_level_holds_the_narrower():
    values = np.random.default_rng(1).standard_normal(100)
    narrow, wide = (statistics.bootstrap_mean(values, level=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_columns_share_resamples():
    values = np.random.default_rng(1).standard_normal(100)
    found = statistics.bootstrap_mean(np.stack([values, values + 7], axis=1))
    one = statistics.bootstrap_mean(values)
    np.testing.assert_allclose(found.value, [one.value, one.value + 7])
    np.testing.assert_allclose(found.low, [one.low, one.low + 7])
    np.testing.assert_allclose(found.high, [one.high, one.high + 7])


def test_rows_with_nan_are_left_out_and_counted():
    values = np.random.default_rng(1).standard_normal(100)
    holed = np.insert(values, [3, 60], np.nan)
    assert statistics.bootstrap_mean(holed)[:4] == statistics.bootstrap_mean(values)[:4]
    assert statistics.bootstrap_mean(holed).num_left_out == 2
    with pytest.raises(ValueError, match="no row"):
        statistics.bootstrap_mean(np.full(5, np.nan))


def test_ends_of_infinite_scores():
    values = np.random.default_rng(1).standard_normal(100)
    values[:1] = np.inf  # a share of 0.37 of the resamples misses it
    found = statistics.bootstrap_mean(values)
    assert found.value == np.inf and np.isfinite(found.low) and found.high == np.inf
    values[:30] = np.inf
    assert statistics.bootstrap_mean(values)[:3] == (np.inf, np.inf, np.inf)
    values[0] = -np.inf
    with pytest.raises(ValueError, match="not defined"):
        statistics.bootstrap_mean(values)


def test_one_row_has_no_spread():
    assert statistics.bootstrap_mean(np.array([2.0])) == (2, -np.inf, np.inf, 1, 0)


def test_bootstrap_ratio_covers():
    rng = np.random.default_rng(0)
    num_covered = 0
    for _ in range(200):
        bottom = rng.uniform(1, 3, 100)
        top = 2 * bottom + rng.standard_normal(100)
        found = statistics.bootstrap_ratio(top, bottom, num_resamples=200)
        num_covered += found.low <= 2 <= found.high
    assert found.value == top.mean() / bottom.mean()
    assert 176 <= num_covered <= 198


def test_bootstrap_ratio_of_proportional_columns_has_no_width():
    bottom = np.random.default_rng(0).uniform(1, 3, 50)
    np.testing.assert_allclose(statistics.bootstrap_ratio(4 * bottom, bottom)[:3], 4)
    with pytest.raises(ValueError, match="not defined"):
        statistics.bootstrap_ratio(np.zeros(5), np.zeros(5))


def test_bootstrap_resamples_columns_together_and_skips_what_is_undefined():
    rows = np.arange(4.0)

    def difference_of_two(first, second):
        np.testing.assert_array_equal(first, second[:, 0, 1])
        return np.nan if len(set(first)) < 3 else float(first.mean())

    found = statistics.bootstrap(difference_of_two, (rows, np.tile(rows[:, None, None], (1, 2, 2))))
    assert found.value == 1.5
    # The least and greatest means of at least three of 0, 1, 2, 3.
    assert found.low >= 0.75 and found.high <= 2.25
    with pytest.raises(ValueError, match="different numbers"):
        statistics.bootstrap(difference_of_two, (rows, rows[:2]))


def test_compare_paired_sees_what_unpaired_intervals_hide():
    rng = np.random.default_rng(0)
    images = rng.normal(0, 5, 400)
    a, b = images + rng.normal(0.1, 0.3, 400), images + rng.normal(0, 0.3, 400)
    found = statistics.compare_paired(a, b)
    assert 0 < found.low < found.difference < found.high and found.probability > 0.99
    alone = statistics.bootstrap_mean(a), statistics.bootstrap_mean(b)
    assert alone[0].low < alone[1].high
    other_way = statistics.compare_paired(b, a)
    np.testing.assert_allclose(other_way.difference, -found.difference)
    np.testing.assert_allclose(other_way.probability, 1 - found.probability)


def test_compare_paired_errs_as_often_as_it_says():
    rng = np.random.default_rng(0)
    num_wrong = 0
    for _ in range(300):
        found = statistics.compare_paired(
            rng.standard_normal(80), rng.standard_normal(80), num_resamples=200
        )
        num_wrong += not found.low <= 0 <= found.high
    assert 4 <= num_wrong <= 33


def test_compare_paired_of_equal_infinite_and_missing_scores():
    same = np.array([np.inf, 2.0, 3.0])
    assert statistics.compare_paired(same, same) == (0, 0, 0, 0.5, 3, 0)
    missing = statistics.compare_paired(np.array([1.0, np.nan, 3]), np.array([0.0, 0, 2]))
    assert missing == (1, 1, 1, 1, 2, 1)
    greater = statistics.compare_paired(np.array([np.inf, 1, 1]), np.array([1.0, 1, 1]))
    assert greater.difference == np.inf and greater.low == 0 and greater.high == np.inf
    with pytest.raises(ValueError, match="not defined"):
        statistics.compare_paired(np.array([np.inf, 0]), np.array([0, np.inf]))
    with pytest.raises(ValueError, match="no pairs"):
        statistics.compare_paired(same, same[:2])


def test_jackknife_of_a_mean_is_students_interval():
    values = np.random.default_rng(0).standard_normal(30)
    replicates = (values.sum() - values) / 29
    found = statistics.jackknife(values.mean(), replicates)
    theirs = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose([found.low, found.high], theirs, rtol=1e-10)
    by_groups = statistics.jackknife_groups(np.mean, (values,), num_groups=100)
    np.testing.assert_allclose(by_groups[:3], found[:3], rtol=1e-10)


def test_jackknife_groups_covers():
    rng = np.random.default_rng(0)
    num_covered = 0
    for _ in range(300):
        found = statistics.jackknife_groups(np.var, (rng.standard_normal(300),))
        num_covered += found.low <= 299 / 300 <= found.high
    assert found.num == 20
    assert 0.90 * 300 <= num_covered <= 0.99 * 300


def test_jackknife_of_too_little_or_not_finite():
    assert statistics.jackknife(3.0, np.empty(0))[:3] == (3, -np.inf, np.inf)
    assert statistics.jackknife(3.0, np.array([3.0]))[:3] == (3, -np.inf, np.inf)
    for value, replicates in ((np.inf, np.zeros(3)), (0.0, np.array([0, np.nan]))):
        with pytest.raises(ValueError, match="finite"):
            statistics.jackknife(value, replicates)


def test_spread_over_noises_is_that_of_the_column_means():
    values = np.array([[1.0, 2, 3], [3, 4, 8]])  # means 2, 3, 5.5
    np.testing.assert_allclose(
        statistics.spread_over_noises(values), np.sqrt((1.5**2 + 0.5**2 + 2**2) / 2)
    )
    for wrong in (values[:, :1], values[0], np.full((2, 2), np.inf)):
        with pytest.raises(ValueError, match="noises"):
            statistics.spread_over_noises(wrong)
