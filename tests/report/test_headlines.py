import pytest

from retroguide_jax.report.headlines import make_headlines


def figure(value, low=None, high=None):
    return {"value": value, "low": low, "high": high, "n": 512}


def test_a_figure_stands_between_floor_and_ceiling():
    figures = {
        "r@1_generated/embedder": figure(0.9),
        "r@1_generated/judge": figure(0.6, 0.55, 0.65),
        "r@1_shuffled/judge": figure(0.1),
        "r@1_real/judge": figure(0.7),
    }
    (headline,) = make_headlines(figures, "panorama")
    assert headline.metric == "r@1/judge"  # not by the embedder that the generator pleases
    assert headline.marks == {
        "figure": (60.0, "60.0 %"),
        "floor": (10.0, "10.0 %"),
        "ceiling": (70.0, "70.0 %"),
    }
    assert headline.ends == pytest.approx((55.0, 65.0))
    assert "never saw (judge)" in headline.words and "70.0 %" in headline.words


def test_every_independent_judge_is_heard():
    judges = ("embedder", "alike", "other")
    figures = {f"r@1_generated/{name}": figure(0.5) for name in judges}
    found = make_headlines(figures, "panorama")
    assert [headline.metric for headline in found] == ["r@1/alike", "r@1/other"]
    assert [headline.title.split()[-1] for headline in found] == ["alike", "other"]


def test_without_a_judge_the_words_say_whose_eyes_these_are():
    figures = {"r@1_generated/embedder": figure(0.9), "r@1_shuffled/embedder": figure(0.1)}
    (headline,) = make_headlines(figures, "panorama")
    assert "trained to please" in headline.words


def test_an_embedder_on_its_own_has_the_recall_of_real_images():
    (headline,) = make_headlines({"r@1_real/embedder": figure(0.5)}, "panorama")
    assert headline.text == "50.0 %" and "real panoramas" in headline.words
    assert list(headline.marks) == ["figure"]


def test_a_ratio_is_drawn_from_zero_and_a_blurred_floor_is_called_so():
    figures = {
        "psnr": figure(14.0),
        "psnr_shuffled": figure(12.0),
        "psnr_mean_image": figure(15.0),
        "sharpness_ratio": figure(0.5),
    }
    psnr, sharpness = make_headlines(figures, "panorama")
    assert "rewards blur" in psnr.words and psnr.text == "14.00 dB"
    assert 0 < psnr.marks["floor"][0] < psnr.marks["figure"][0] < psnr.marks["mean image"][0] < 100
    half, one = sharpness.marks["figure"][0], sharpness.marks["ceiling"][0]
    assert one == pytest.approx(2 * half, abs=0.02)


def test_figures_without_a_number_are_left_to_the_table():
    assert make_headlines({"psnr": figure(None) | {"infinite": 2}}, "panorama") == []
