import tracemalloc

import jax
import numpy as np
import pytest

from retroguide_jax.errors import UserError
from retroguide_jax.metrics import products, retrieval
from retroguide_jax.metrics.nearest import find_nearest


def make_rows(num, dim, seed):
    rows = np.random.default_rng(seed).normal(size=(num, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make_near_ties(spread):
    """A query, and 100 items [512] whose similarity with it is 0.6 to within `spread`."""
    query = make_rows(1, 512, 0)[0].astype(np.float64)
    aside = make_rows(100, 512, 1).astype(np.float64)
    aside -= (aside @ query)[:, None] / (query @ query) * query
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    similarity = 0.6 + np.random.default_rng(2).uniform(-spread, spread, 100)[:, None]
    items = similarity * query + np.sqrt(1 - similarity**2) * aside
    return query[None].astype(np.float32), items.astype(np.float32)


@pytest.fixture(params=[(20, 24), (40, 192)])
def tile(request, monkeypatch):
    """Many small tiles, or one, as `max_bytes` decides for longer galleries."""
    monkeypatch.setattr(products, "plan_tile", lambda *_: request.param)


@pytest.fixture(params=[None, 1, 8])
def devices(request):
    """The host, or this many devices."""
    return request.param and jax.local_devices()[: request.param]


def sort_out(similarity, matches, excluded=None):
    """Ranks by their definition, from float64 similarities [Q, R]."""
    ranks = []
    for query, (row, right) in enumerate(zip(similarity, matches, strict=True)):
        left_out = [*right[right >= 0], *(() if excluded is None else excluded[query])]
        left_out = [item for item in left_out if item >= 0]
        difference = np.delete(row, left_out) - row[right[right >= 0]].max()
        better = np.sum(difference > retrieval.TIE_TOLERANCE)
        ranks.append(1 + better + 0.5 * np.sum(np.abs(difference) <= retrieval.TIE_TOLERANCE))
    return np.array(ranks)


def multiply(queries, gallery):
    return queries.astype(np.float64) @ gallery.T.astype(np.float64)


def test_ranks_are_those_of_the_definition(tile, devices):
    queries, gallery = make_rows(37, 24, 0), make_rows(131, 24, 1)
    rng = np.random.default_rng(2)
    matches = np.stack([rng.permutation(131)[:3] for _ in range(37)])
    matches[::2, 1:] = -1  # every other query has but one
    excluded = np.stack([rng.permutation(131)[:4] for _ in range(37)])
    excluded[::3, 2:] = -1
    similarity = multiply(queries, gallery)
    for left_out in (None, excluded):
        ranks, num_tied = retrieval.rank_matches(
            queries, gallery, matches, excluded=left_out, devices=devices
        )
        np.testing.assert_array_equal(ranks, sort_out(similarity, matches, left_out))
        assert num_tied == 0
    assert not np.array_equal(ranks, sort_out(similarity, matches))


@pytest.mark.parametrize("num_others", [100, 2400])  # whole tiles in float64, single pairs
def test_near_ties_are_decided_exactly(tile, devices, num_others):
    query, items = make_near_ties(2e-6)
    order = np.random.default_rng(4).permutation(100 + num_others)
    gallery = np.concatenate([items, make_rows(num_others, 512, 3)])[order]
    queries, matches = query.repeat(40, axis=0), np.argsort(order)[:40]
    similarity = multiply(queries, gallery)
    edge = np.abs(np.abs(similarity - similarity[np.arange(40), matches][:, None]) - 1e-6)
    assert np.sum(edge < 1e-8) > 20  # float32 could not decide these
    assert edge.min() > 1e-13  # float64 can
    ranks, num_tied = retrieval.rank_matches(queries, gallery, matches, devices=devices)
    np.testing.assert_array_equal(ranks, sort_out(similarity, matches[:, None]))
    assert num_tied == 40


def test_the_tolerance_itself_is_an_exact_edge(tile, devices):
    # Similarities 0, as near to 1e-6 as float32 comes and one step further, many times each.
    tied = np.float32(1e-6)
    first = np.repeat([0, tied, np.nextafter(tied, np.float32(1))], [1, 50, 50])
    assert tied <= 1e-6 < np.nextafter(tied, np.float32(1))
    assert 1e-6 - tied < products.bound_error(64, np.float64)
    gallery = np.stack([first, *np.zeros((62, 101)), np.ones(101)], axis=1).astype(np.float32)
    query = np.eye(1, 64, dtype=np.float32)
    ranks, _ = retrieval.rank_matches(query, gallery, np.array([0]), devices=devices)
    assert ranks == 1 + 50 + 50 / 2


@pytest.mark.parametrize("num_others", [100, 2400])
def test_nearly_equal_items_are_sorted_exactly(tile, devices, num_others):
    query, items = make_near_ties(1e-7)
    order = np.random.default_rng(4).permutation(100 + num_others)
    gallery = np.concatenate([items, make_rows(num_others, 512, 3)])[order]
    expected = np.argsort(-multiply(query, gallery)[0])
    for k in (1, 5, 100):
        found = find_nearest(query, gallery, k, devices=devices)
        np.testing.assert_array_equal(found.indices[0], expected[:k])


@pytest.mark.parametrize("offset, rank", [(1e-7, 1.5), (0.9e-6, 1.5), (1.1e-6, 2), (2e-6, 2)])
def test_a_better_item_is_tied_within_the_tolerance(offset, rank):
    gallery = make_rows(40, 512, 0)
    angle = np.arccos(0.6 + np.array([0, offset]))
    ahead, aside = np.linalg.qr(gallery[:2].T.astype(np.float64))[0].T
    gallery[:2] = np.cos(angle)[:, None] * ahead + np.sin(angle)[:, None] * aside
    query = ahead[None].astype(np.float32)
    # Float32 alone cannot decide: the error of its products may exceed the difference.
    assert products.bound_error(512, np.float32) > 1e-5
    assert retrieval.rank_matches(query, gallery, np.array([0])).ranks[0] == rank


def test_constant_embedding_scores_chance(tile, devices):
    rows = np.tile(make_rows(1, 16, 0), (200, 1))
    ranks, num_tied = retrieval.rank_matches(rows, rows, np.arange(200), devices=devices)
    np.testing.assert_array_equal(ranks, np.full(200, 100.5))
    assert num_tied == 200
    assert [retrieval.compute_recall(ranks, k) for k in (1, 5, 10)] == [0, 0, 0]
    found = find_nearest(rows[:20], rows, 50, devices=devices)
    np.testing.assert_array_equal(found.indices, np.tile(np.arange(50), (20, 1)))


def test_nearly_constant_embedding_is_tied_too():
    rows = np.tile(make_rows(1, 16, 0), (64, 1))
    rows += np.random.default_rng(1).uniform(-3e-8, 3e-8, rows.shape).astype(np.float32)
    ranks, _ = retrieval.rank_matches(rows, rows, np.arange(64))
    np.testing.assert_array_equal(ranks, np.full(64, 32.5))


def test_ties_count_half():
    gallery = np.eye(4, dtype=np.float32)[[0, 0, 0, 1]]
    ranks, num_tied = retrieval.rank_matches(gallery[[0, 3]], gallery, np.array([1, 3]))
    np.testing.assert_array_equal(ranks, [2.0, 1.0])
    assert num_tied == 1
    assert retrieval.compute_recall(ranks, 1) == 0.5
    assert retrieval.compute_recall(ranks, 5) == 1.0
    assert retrieval.mean_reciprocal_rank(ranks) == 0.75


def test_identical_embeddings_are_found():
    rows = make_rows(50, 32, 3)
    ranks, _ = retrieval.rank_matches(rows, rows, np.arange(50))
    assert retrieval.compute_recall(ranks, 1) == 1.0


def test_excluded_items_make_the_hit_rate():
    gallery = np.eye(4, dtype=np.float32)
    query = (gallery[0] * 0.8 + gallery[1] * 0.6)[None]
    matches, near = np.array([1]), np.array([[0, -1]])
    assert retrieval.rank_matches(query, gallery, matches).ranks == 2
    assert retrieval.rank_matches(query, gallery, matches, excluded=near).ranks == 1
    # A query whose match is listed among its exclusions keeps the match.
    both = np.array([[0, 1]])
    assert retrieval.rank_matches(query, gallery, matches, excluded=both).ranks == 1


def test_a_process_without_queries_ranks_nothing():
    nothing = np.empty((0, 8), np.float32)
    ranks, num_tied = retrieval.rank_matches(nothing, make_rows(5, 8, 0), np.empty(0, int))
    assert ranks.shape == (0,)
    assert num_tied == 0
    assert find_nearest(nothing, make_rows(5, 8, 0), 3).indices.shape == (0, 3)


def test_one_percent_of_a_gallery_is_counted_in_two_ways():
    assert retrieval.recall_percent_k(8884) == (88, 89)
    assert retrieval.recall_percent_k(90618) == (906, 907)
    assert retrieval.recall_percent_k(30) == (1, 1)


@pytest.mark.parametrize("k", [1, 10, 131])
def test_nearest_items_are_those_of_a_full_sort(tile, devices, k):
    queries, gallery = make_rows(37, 24, 0), make_rows(131, 24, 1)
    gallery[40:60] = gallery[5]  # duplicates: the first in the gallery is the nearer
    gallery[-1] = gallery[0]
    queries[3] = gallery[5]
    pairs = np.arange(37 * 131)
    similarity = products.multiply_pairs(queries, gallery, pairs).reshape(37, 131)
    np.testing.assert_allclose(similarity, multiply(queries, gallery), rtol=0, atol=1e-14)
    found = find_nearest(queries, gallery, k, devices=devices)
    expected = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(found.indices, expected)
    expected = np.take_along_axis(similarity, expected, axis=1)
    np.testing.assert_array_equal(found.similarities, expected)


@pytest.mark.parametrize("order", [1, -1])
def test_nearest_items_are_found_in_any_order_of_the_gallery(order):
    gallery = make_rows(3000, 8, 0)
    gallery = gallery[np.argsort(order * gallery[:, 0])]
    found = find_nearest(np.eye(1, 8, dtype=np.float32), gallery, 7, max_bytes=2**24)
    expected = np.arange(7) if order < 0 else np.arange(2999, 2992, -1)
    np.testing.assert_array_equal(found.indices[0], expected)


def test_float32_products_err_by_less_than_the_bound():
    for dim in (1, 3, 64, 3072):
        queries, gallery = make_rows(20, dim, dim), make_rows(30, dim, dim + 1)
        # All of one sign: sums grow, and so do their rounding errors.
        queries, gallery = np.abs(queries), np.abs(gallery)
        error = np.abs(queries @ gallery.T - multiply(queries, gallery)).max()
        assert error < products.bound_error(dim, np.float32) < 1.01e-7 * (dim + 4)


def test_tiles_fit_into_the_memory_given():
    for dim in (8, 512, 3072):
        for max_bytes in (2**24, 2**28, 2**30, 2**34):
            tile = products.plan_tile(10**5, 10**6, dim, max_bytes)
            assert products.count_bytes(*tile, dim) <= max_bytes
            assert products.plan_tile(3, 70, dim, max_bytes) == (3, 128)
            few = products.plan_tile(3, 10**6, dim, max_bytes)
            assert products.count_bytes(*few, dim) <= max_bytes and few[1] >= tile[1]
    with pytest.raises(ValueError, match="max_bytes=1000 is too little"):
        products.plan_tile(10, 10, 8, 1000)


def test_memory_stays_within_the_limit():
    queries, gallery = make_rows(1500, 16, 0), make_rows(3000, 16, 1)
    constant = np.tile(gallery[:1], (3000, 1))
    for rows in (gallery, constant):
        tracemalloc.start()
        retrieval.rank_matches(queries, rows, np.arange(1500), max_bytes=2**25)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**25


@pytest.mark.parametrize("side", ["queries", "gallery"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_an_error(side, value):
    rows = {"queries": make_rows(6, 4, 0), "gallery": make_rows(6, 4, 1)}
    rows[side][2, 1] = value
    with pytest.raises(UserError, match="1 of 6 .* not finite"):
        retrieval.rank_matches(rows["queries"], rows["gallery"], np.arange(6))
    with pytest.raises(UserError, match="1 of 6 .* not finite"):
        find_nearest(rows["queries"], rows["gallery"], 2)


def test_lengths_are_checked_to_the_tolerance_in_every_chunk(tile):
    rows = make_rows(300, 3072, 0)
    longer = rows.astype(np.float64)
    longer /= np.linalg.norm(longer, axis=1, keepdims=True)
    for factor in (1 - 0.99e-3, 1 + 0.99e-3):
        longer_rows = (longer * factor).astype(np.float32)
        assert find_nearest(rows[:2], longer_rows, 1).indices.tolist() == [[0], [1]]
    for factor in (0, 1 - 1.01e-3, 1 + 1.01e-3, 1e30, np.nan):
        rows[299] = longer[299] * factor
        with pytest.raises((UserError, ValueError), match="1 of .* gallery embeddings are not"):
            find_nearest(rows[:2], rows, 1)


def test_wrong_arguments_are_refused():
    rows = make_rows(4, 3, 0)
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        retrieval.rank_matches(rows, make_rows(4, 2, 0), np.arange(4))
    with pytest.raises(ValueError, match="name an item"):
        retrieval.rank_matches(rows, rows, np.arange(3))
    with pytest.raises(ValueError, match="must lie in"):
        retrieval.rank_matches(rows, rows, np.arange(1, 5))
    with pytest.raises(ValueError, match="first must not be -1"):
        retrieval.rank_matches(rows, rows, np.array([0, 1, -1, 2]))
    with pytest.raises(ValueError, match="excluded must lie in"):
        retrieval.rank_matches(rows, rows, np.arange(4), excluded=np.full((4, 1), 4))
    with pytest.raises(ValueError, match="1 of 4 gallery .* not of length 1"):
        retrieval.rank_matches(rows, rows * [[1], [1], [1.002], [1]], np.arange(4))
    for k in (0, 5):
        with pytest.raises(ValueError, match="must lie in 1..4"):
            find_nearest(rows, rows, k)
