"""The table of chips: numbers that must agree with each other."""

import pytest

from retroguide_jax.errors import UserError
from retroguide_jax.plan.chips import CHIPS, GIB, find_chip

# Published per chip, all links and both directions (docs.cloud.google.com/tpu/docs/...).
_LINKS = {"v5e": 400e9, "v6e": 800e9, "v5p": 1200e9, "tpu7x": 1200e9}


@pytest.mark.parametrize(("name", "total"), _LINKS.items())
def test_links_add_up_to_the_published_total(name, total):
    chip = CHIPS[name]
    assert chip.link_bandwidth * 2 * 2 * chip.torus_dims == total


@pytest.mark.parametrize(
    ("name", "gib"), [("v4", 32), ("v5e", 16), ("v5p", 96), ("v6e", 32), ("tpu7x", 192)]
)
def test_limits_are_a_little_less_than_the_memory(name, gib):
    chip = CHIPS[name]
    assert 0.95 * gib <= chip.hbm_limit * chip.devices_per_chip / GIB < gib


def test_joints():
    v5e, v5p = CHIPS["v5e"], CHIPS["v5p"]
    assert CHIPS["h100"].is_gpu and not CHIPS["h100"].is_ring(8, (8,)) and not v5e.is_gpu
    assert v5e.is_ring(16, (8, 16)) and not v5e.is_ring(8, (8, 16))
    assert v5p.is_ring(4, (4, 4, 8)) and not v5p.is_ring(4, (2, 2, 4))


def test_an_unknown_chip_is_named():
    with pytest.raises(UserError, match="v9.*v5e"):
        find_chip("v9:2x2")
