import pytest

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import registry
from retroguide_jax.evaluation.scores import Score
from retroguide_jax.weights.catalog import CATALOG


def test_presets_and_defaults_are_known_metrics():
    for names in (registry.DEFAULT, *registry.PRESETS.values()):
        assert set(names) <= registry.METRICS.keys() and len(set(names)) == len(names)
    # Default metrics need no files from elsewhere.
    assert not [name for name in registry.DEFAULT if registry.METRICS[name].net]


def test_metrics_are_chosen_in_the_order_asked():
    assert registry.choose_metrics("fid, psnr,fid", None) == ("fid", "psnr")
    assert registry.choose_metrics(None, None) == registry.DEFAULT
    assert registry.choose_metrics(None, "shi") == registry.PRESETS["shi"]
    assert registry.choose_metrics("fid", "shi") == (*registry.PRESETS["shi"], "fid")
    assert set(registry.choose_metrics("all", None)) == registry.METRICS.keys()
    assert registry.choose_metrics("default,fid", None) == (*registry.DEFAULT, "fid")


@pytest.mark.parametrize(
    ("names", "preset", "message"),
    [
        ("psn", None, "did you mean psnr"),
        ("zzz", None, "there are psnr"),
        (None, "sat", "there are legacy_gan"),
        ("", "sat2denisty", "did you mean sat2density"),
    ],
)
def test_unknown_names(names, preset, message):
    with pytest.raises(UserError, match=message):
        registry.choose_metrics(names, preset)


def test_the_registry_as_text_names_everything():
    text = registry.describe_metrics()
    assert all(name in text for name in (*registry.METRICS, *registry.PRESETS))
    assert "(weights: alexnet, lpips_alex)" in text


@pytest.mark.parametrize(
    ("text", "metric", "better"),
    [
        ("psnr_shuffled", "psnr", "higher"),
        ("psnr_legacy", "psnr_legacy", "higher"),
        ("unverified_inception_score_real", "inception_score", "higher"),
        ("top1_places_sure", "accuracy_places", "higher"),
        ("inception_score_places_top5", "inception_score_places", "higher"),
        ("r@1_generated/judge", "retrieval", "higher"),
        ("r@1%+_same_view/judge", "retrieval_same_view", "higher"),
        ("mrr_reverse/judge", "retrieval_reverse", "higher"),
        ("fd_city", "fd_judge", "lower"),
        ("depth_error_real", "layout", "lower"),
        ("light_spread_ratio", "layout", "one"),
        ("kl_mine", None, "lower"),
        ("top1_mine", None, "higher"),
        ("from_a_later_version", None, "higher"),
    ],
)
def test_scores_belong_to_metrics(text, metric, better):
    score = Score.parse(text)
    assert (registry.find_metric(score), registry.find_direction(score)) == (metric, better)


def test_every_weight_file_is_in_the_catalog():
    nets = {metric.net for metric in registry.METRICS.values()} - {""}
    assert {name for net in nets for name in registry.list_weights(net)} == CATALOG.keys()
