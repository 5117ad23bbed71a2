"""The search for the largest batch, and the choice among the rows of a sweep."""

import pytest
from tiny import make_tiny_config

from retroguide_jax.errors import UserError
from retroguide_jax.plan.planning import read_assumptions
from retroguide_jax.plan.search import (
    format_sweep,
    list_variants,
    recommend,
    scale_batches,
    search_batch,
)

LIMIT = 1000


@pytest.mark.parametrize("first", [1, 4, 16, 64])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("each", [7, 23, 60])
def test_search_finds_the_largest(first, known, each):
    asked = []

    def measure(batch):
        asked.append(batch)
        size = 50 + each * batch
        return size <= LIMIT, size if known or size <= LIMIT else None

    largest, tried = search_batch(measure, LIMIT, 1, first)
    assert largest == (LIMIT - 50) // each
    assert len(asked) == len(set(asked)) == len(tried)


def test_search_steps_down_from_a_wrong_estimate():
    # From 8 pairs on a batch takes far more memory than the first two sizes suggest.
    largest, _ = search_batch(lambda b: (b < 8, 100 * b if b < 8 else None), 2000, 1, 2)
    assert largest == 7


def test_search_keeps_to_multiples_and_may_find_none():
    assert search_batch(lambda b: (b <= 13, 70 * b), LIMIT, 4, 4)[0] == 12
    assert search_batch(lambda b: (False, None), LIMIT, 2, 8)[0] == 0


def row(images, memory, fits=True):
    return {"fits": fits, "images_per_second": images, "hbm_bytes": memory}


def test_recommendation_takes_the_fastest_and_of_ties_the_smallest():
    assert recommend([row(100, 9), row(200, 20), row(199, 10), row(900, 1, fits=False)])[0] == 2
    assert recommend([row(1, 1, fits=False)])[0] is None


def test_sweep_without_batches_is_refused():
    with pytest.raises(UserError, match="--sweep_batches"):
        list_variants([1], [], ["none"], None)
    assert len(list_variants([1, 8], [], ["none"], 4)) == 4


def test_a_sweep_that_fits_nowhere_says_so():
    rows = [dict(fsdp=1, per_device_batch=4, remat="none", fits=False, hbm_bytes=None)]
    text = format_sweep({"sweep": rows, "recommended": None, "reason": "none fits"})
    assert "none fits" in text and "fsdp=1 batch=4" in text


@pytest.mark.parametrize("text", ["hbm_share", "hbm_share=0", "speed=1", "hbm_share=x"])
def test_assumptions_that_cannot_be(text):
    with pytest.raises(UserError, match="--assume"):
        read_assumptions([text])


def test_batches_follow_the_devices():
    config = make_tiny_config()  # 16 pairs, 8 of them adversarial
    scaled = scale_batches(config, 256, 4)
    assert (scaled.train.batch_size, scaled.train.adversarial_batch_size) == (1024, 512)
    with pytest.raises(UserError, match="--per_device_batch=N"):
        scale_batches(config, 256, None)
    with pytest.raises(UserError, match="multiple of 2"):
        scale_batches(config, 256, 3)
