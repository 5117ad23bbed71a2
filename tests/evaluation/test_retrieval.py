import numpy as np
import pytest

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import retrieval


def make_rows(num, dim, seed):
    rows = np.random.default_rng(seed).normal(size=(num, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_ranks_agree_with_sorting_for_any_chunk_sizes():
    queries, gallery = make_rows(37, 8, 0), make_rows(61, 8, 1)
    matches = np.random.default_rng(2).permutation(61)[:37]
    similarity = queries.astype(np.float64) @ gallery.T.astype(np.float64)
    true = similarity[np.arange(37), matches]
    expected = 1 + np.sum(similarity > true[:, None] + 1e-9, axis=1)
    for query_chunk, gallery_chunk in ((1024, 8192), (5, 7), (37, 60), (1, 61)):
        ranks, num_tied = retrieval.rank_matches(
            queries, gallery, matches, query_chunk=query_chunk, gallery_chunk=gallery_chunk
        )
        np.testing.assert_array_equal(ranks, expected)
        assert num_tied == 0


def test_constant_embedding_scores_chance():
    rows = np.tile(make_rows(1, 16, 0), (512, 1))
    ranks, num_tied = retrieval.rank_matches(rows, rows, np.arange(512), gallery_chunk=100)
    np.testing.assert_array_equal(ranks, np.full(512, 256.5))
    assert num_tied == 512
    assert [retrieval.compute_recall(ranks, k) for k in (1, 5, 10)] == [0, 0, 0]


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


def test_identical_embeddings_are_found():
    rows = make_rows(50, 32, 3)
    ranks, _ = retrieval.rank_matches(rows, rows, np.arange(50))
    assert retrieval.compute_recall(ranks, 1) == 1.0


def test_of_several_right_answers_the_nearest_counts():
    queries, gallery = make_rows(20, 6, 0), make_rows(30, 6, 1)
    rng = np.random.default_rng(2)
    matches = np.array([rng.permutation(30)[:3] for _ in range(20)])
    matches[::2, 1:] = -1  # every other query has but one
    similarity = queries @ gallery.T
    for query, right in enumerate(matches):
        right = right[right >= 0]
        others = np.delete(similarity[query], right)
        expected = 1 + np.sum(others > similarity[query, right].max())
        for chunk in (4, 100):
            ranks, _ = retrieval.rank_matches(
                queries, gallery, matches, query_chunk=7, gallery_chunk=chunk
            )
            assert ranks[query] == expected


@pytest.mark.parametrize("side", ["queries", "gallery"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_an_error(side, value):
    rows = {"queries": make_rows(6, 4, 0), "gallery": make_rows(6, 4, 1)}
    rows[side][2, 1] = value
    with pytest.raises(UserError, match="1 of 6 .* not finite"):
        retrieval.rank_matches(rows["queries"], rows["gallery"], np.arange(6))


def test_wrong_shapes_are_refused():
    rows = make_rows(4, 3, 0)
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        retrieval.rank_matches(rows, make_rows(4, 2, 0), np.arange(4))
    with pytest.raises(ValueError, match="name an item"):
        retrieval.rank_matches(rows, rows, np.arange(3))
    with pytest.raises(ValueError, match="must lie in"):
        retrieval.rank_matches(rows, rows, np.arange(1, 5))
