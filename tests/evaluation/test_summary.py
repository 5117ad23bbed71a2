import numpy as np

from retroguide_jax.evaluation.summary import summarize


def make_columns(num, num_broken):
    rng = np.random.default_rng(0)
    real = np.exp(rng.normal(0, 0.2, (num, 8))) * ([1e-3] + 7 * [1])
    generated = np.stack([real, real], axis=1)
    generated[:num_broken, 0, 1:3] *= 9  # under the first noise
    columns = {"id": np.arange(num).astype(str)}
    return columns | {"broken_share": generated, "broken_share_real": real}


def summarize_broken(columns):
    views = {"source_view": "aerial", "target_view": "ground"}
    return summarize(columns, ("broken_share",), [], **views, tiles={}, seed=0, max_bytes=2**20)


def test_the_broken_are_counted_by_the_range_of_the_real_ones():
    scores = summarize_broken(make_columns(200, num_broken=20))
    values = {score.text: entry["value"] for score, entry in scores.found.items()}
    assert values == {"broken_share": 0.05, "broken_share_real": 0}
    np.testing.assert_array_equal(scores.per_image["broken_share"].sum(axis=0), [20, 0])
    assert scores.absent == []


def test_few_real_images_do_not_show_their_range():
    scores = summarize_broken(make_columns(99, num_broken=20))
    (absent,) = scores.absent
    assert not scores.found and absent["name"] == "broken_share"
    assert absent["reason"] == "needs at least 100 real images to know their range, there are 99"
