import pytest

from retroguide_jax.evaluation.scores import parse_scores
from retroguide_jax.report import headlines


def make_headlines(names, noun):
    return headlines.make_headlines(parse_scores(names), noun)


def entry(value, low=None, high=None):
    return {"value": value, "low": low, "high": high, "n": 512}


def test_a_score_stands_between_floor_and_ceiling():
    scores = {
        "r@1_generated/embedder": entry(0.9),
        "r@1_generated/judge": entry(0.6, 0.55, 0.65),
        "r@1_shuffled/judge": entry(0.1),
        "r@1_real/judge": entry(0.7),
    }
    (headline,) = make_headlines(scores, "panorama")
    assert headline.metric == "r@1/judge"  # not the embedder that guided the generator
    assert headline.marks == {
        "score": (60.0, "60.0 %"),
        "floor": (10.0, "10.0 %"),
        "ceiling": (70.0, "70.0 %"),
    }
    assert headline.ends == pytest.approx((55.0, 65.0))
    assert headline.good == "higher is better"
    assert "never saw (judge)" in headline.words and "70.0 %" in headline.words


def test_every_independent_judge_is_heard():
    judges = ("embedder", "alike", "other")
    scores = {f"r@1_generated/{name}": entry(0.5) for name in judges}
    found = make_headlines(scores, "panorama")
    assert [headline.metric for headline in found] == ["r@1/alike", "r@1/other"]
    assert [headline.title.split()[-1] for headline in found] == ["alike", "other"]


def test_without_a_judge_the_words_say_whose_eyes_these_are():
    scores = {"r@1_generated/embedder": entry(0.9), "r@1_shuffled/embedder": entry(0.1)}
    (headline,) = make_headlines(scores, "panorama")
    assert "trained to please" in headline.words


def test_an_embedder_on_its_own_has_the_recall_of_real_images():
    (headline,) = make_headlines({"r@1_real/embedder": entry(0.5)}, "panorama")
    assert headline.text == "50.0 %" and "real panoramas" in headline.words
    assert list(headline.marks) == ["score"]


def test_a_ratio_is_drawn_from_zero_and_a_blurred_floor_is_called_so():
    scores = {
        "psnr": entry(14.0),
        "psnr_shuffled": entry(12.0),
        "psnr_mean_image": entry(15.0),
        "sharpness_ratio": entry(0.5),
    }
    psnr, sharpness = make_headlines(scores, "panorama")
    assert "rewards blur" in psnr.words and psnr.text == "14.00 dB"
    assert (psnr.good, sharpness.good) == ("higher is better", "1 is best")
    assert 0 < psnr.marks["floor"][0] < psnr.marks["score"][0] < psnr.marks["mean image"][0] < 100
    half, one = sharpness.marks["score"][0], sharpness.marks["ceiling"][0]
    assert one == pytest.approx(2 * half, abs=0.02)


def test_scores_without_a_number_are_left_to_the_table():
    assert make_headlines({"psnr": entry(None) | {"infinite": 2}}, "panorama") == []
