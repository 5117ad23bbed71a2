"""The configs of full size: their two stages and common fields."""

import pytest

from retroguide_jax.config import load_config
from retroguide_jax.errors import UserError
from retroguide_jax.schedule import Schedule


@pytest.mark.parametrize("name", ["city_256", "cvusa", "cvact", "vigor_gen:g2a"])
def test_the_embedder_is_trained_to_its_end_and_then_stays(name):
    config = load_config(name)
    schedule = Schedule(config)
    first = schedule.count("embedder")
    assert 0 < first <= config.train.num_steps / 5
    assert not schedule.is_due("embedder", first) and schedule.is_due("generator", first)
    assert not schedule.is_due("generator", first - 1)
    assert config.optimizer.embedder.decay == "cosine"


def test_r1_is_weighted_by_resolution_and_batch():
    for spec, size in (("cvusa", 128 * 512), ("cvusa:g2a", 256 * 256)):
        weight = load_config(spec).losses.penalty_weight
        assert weight == pytest.approx(0.0002 * size / 32, abs=1e-3)


def test_published_keeps_the_published_rate_of_the_embedder():
    published, ours = load_config("cvusa:g2a,published"), load_config("cvusa:g2a")
    assert published.optimizer.embedder.learning_rate == 1e-4
    assert published.optimizer.embedder.warmup_steps == 0
    assert ours.optimizer.embedder.learning_rate > 1e-4 and ours.optimizer.embedder.warmup_steps
    with pytest.raises(UserError, match="say a2g or g2a, and smoke, or published and chips"):
        load_config("cvusa:unpublished")


def test_chips_changes_the_networks_and_nothing_else():
    ours, chips = load_config("cvusa"), load_config("cvusa:chips,a2g")
    for name in ("embedder", "generator", "discriminator"):
        assert ours[name] != chips[name]
        chips[name] = ours[name]
    assert ours == chips
