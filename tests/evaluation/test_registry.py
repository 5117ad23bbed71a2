import pytest

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import registry
from retroguide_jax.weights.catalog import CATALOG


def test_presets_and_defaults_are_known_metrics():
    for names in (registry.DEFAULT, *registry.PRESETS.values()):
        assert set(names) <= registry.METRICS.keys() and len(set(names)) == len(names)
    # What is on by default needs nothing from elsewhere.
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
    ("figure", "metric"),
    [
        ("psnr_shuffled", "psnr"),
        ("psnr_legacy", "psnr_legacy"),
        ("unverified_inception_score_real", "inception_score"),
        ("top1_places_sure", "accuracy_places"),
        ("inception_score_places_top5", "inception_score_places"),
        ("r@1_generated/judge", None),
        ("fd_judge", "fd_judge"),
    ],
)
def test_figures_belong_to_metrics(figure, metric):
    assert registry.find_metric(figure) == metric


def test_every_weight_file_is_in_the_catalog():
    nets = {metric.net for metric in registry.METRICS.values()} - {""}
    assert {name for net in nets for name in registry.list_weights(net)} == CATALOG.keys()
