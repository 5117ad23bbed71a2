import itertools

import pytest

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import registry
from retroguide_jax.evaluation.scores import VARIANTS, Score, check_names, parse_scores
from retroguide_jax.evaluation.table import format_table

TEXTS = {
    "psnr": Score("psnr"),
    "psnr_mean_image": Score("psnr", "mean_image"),
    "r@1_generated/judge": Score("r@1", judge="judge"),
    "r@1%+_shuffled/city_real": Score("r@1%+", "shuffled", "city_real"),
    "mrr_same_view/judge": Score("mrr_same_view", judge="judge"),
    "fd_city_real": Score("fd", judge="city_real"),
    "fd_inception_score": Score("fd", judge="inception_score"),
    "top5_mine_sure": Score("top5_sure", judge="mine"),
    "top1_sure": Score("top1", judge="sure"),
    "inception_score_real": Score("inception_score", "real"),
    "inception_score_places_top1": Score("inception_score_top1", judge="places"),
    "unverified_fid": Score("unverified_fid"),
    "unverified_kl_places": Score("unverified_kl", judge="places"),
    "unverified_inception_score_real": Score("unverified_inception_score", "real"),
}


@pytest.mark.parametrize(("text", "score"), TEXTS.items())
def test_names_are_keys_and_keys_are_names(text, score):
    assert Score.parse(text) == score and score.text == text


def test_every_metric_and_variant_survives_the_text():
    names = [*registry.METRICS, *(part for m in registry.METRICS.values() for part in m.parts)]
    plain = [n for n in names if not n.endswith("_places") and n != "fd_judge"]
    for name, variant in itertools.product(plain, VARIANTS):
        assert Score.parse(Score(name, variant).text) == Score(name, variant)


@pytest.mark.parametrize("name", ["city_real", "x_shuffled", "a_mean_image", "real", "v1.5", "a#2"])
def test_a_judge_named_like_a_variant_is_shown_right(name):
    check_names([name], [])
    entries = {
        f"r@1_generated/{name}": 0.25,
        f"r@1_real/{name}": 0.75,
        f"fd_{name}": 3.5,
    }
    metrics = {text: {"value": v, "low": None, "high": None, "n": 8} for text, v in entries.items()}
    _, _, recall, distance = format_table({"metrics": metrics, "absent": []}).splitlines()
    generated, ceiling = 1, 7
    assert [recall.split()[i] for i in (0, generated, ceiling)] == [
        f"r@1/{name}",
        "0.2500",
        "0.7500",
    ]
    assert [distance.split()[i] for i in (0, generated, ceiling)] == [f"fd_{name}", "3.5000", "-"]


def test_two_judges_whose_names_differ_by_a_variant_have_rows_of_their_own():
    names = ("a", "a_real")
    keys = parse_scores({f"fd_{name}": {} for name in names})
    assert [key.judge for key in keys] == ["a", "a_real"] and len({key.label for key in keys}) == 2


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((["x"], ["x"], []), "features x: its score fd_x .* that of judge x"),
        (([], [], ["real"]), "inception_score_real .* inception_score of the real images"),
        (([], [], ["x_sure"]), "top1_x_sure .* top1_sure of the generated images, by x"),
        (([], [], ["x_top5"]), "inception_score_x_top5 .* inception_score_top5"),
    ],
)
def test_names_that_cannot_be_distinguished_are_refused(names, message):
    with pytest.raises(UserError, match=message):
        check_names(*names)


def test_features_named_like_a_variant_are_distinguished():
    check_names(["city_real"], ["x_real", "x"], ["y_real", "y"])
