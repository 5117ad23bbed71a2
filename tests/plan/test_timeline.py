"""The prediction's arithmetic, by hand and on programs that are really compiled."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from programs import CHAIN, PROGRAM

from retroguide_jax.plan.chips import CHIPS
from retroguide_jax.plan.collectives import Collective, Network
from retroguide_jax.plan.hlo import parse_module
from retroguide_jax.plan.timeline import Assumptions, Timeline, Usage, predict, sum_collectives

IDEAL = Assumptions(1.0, 1.0, 1.0, 1e-6, 1e-4)
CHIP = CHIPS["v5e"]
W = CHIP.link_bandwidth


def make_network(shape, num_slices=1, assumptions=IDEAL):
    sides = (*shape, *[1] * (3 - len(shape)))
    places = [[s, *place] for s in range(num_slices) for place in np.ndindex(sides)]
    shares = dataclasses.astuple(assumptions)[2:]
    return Network(CHIP, shape, np.array(places), *shares)


def measure(text, shape=(2, 2), shares=None):
    module = parse_module(text)
    return Timeline(module, CHIP, make_network(shape), IDEAL, shares or {}).measure()


def test_gather_over_a_whole_pod():
    num_bytes = 10**8
    network = make_network((16, 16))
    gather = Collective("all-gather", num_bytes, np.arange(256)[None], "")
    # Both directions of both rings; 8 hops half way around each.
    expected = num_bytes * 255 / 256 / (4 * W) + 16e-6
    assert network.estimate(gather) == pytest.approx(expected)
    reduce = dataclasses.replace(gather, kind="all-reduce")
    assert network.estimate(reduce) == pytest.approx(2 * expected)


def test_a_side_that_is_no_ring_takes_twice_as_long():
    gather = Collective("all-gather", 10**8, np.arange(4)[None], "")
    line = make_network((1, 4)).estimate(gather)
    assert line == pytest.approx(10**8 * 3 / 4 / W + 3e-6)


def test_exchange_with_every_on_a_ring():
    swap = Collective("all-to-all", 10**6, np.arange(16)[None], "")
    # "How to Scale Your Model", part 3: a quarter of gathering the whole array of 16 devices.
    assert make_network((1, 16)).estimate(swap) == pytest.approx(16e6 / (4 * 2 * W) + 8e-6)


def test_permute_pays_the_longest_way():
    shift = Collective("collective-permute", 10**6, np.array([[0, 1], [1, 2], [2, 0]]), "")
    assert make_network((1, 4)).estimate(shift) == pytest.approx(2 * (1e6 / W + 1e-6))


def test_between_slices_each_device_sends_its_part():
    network = make_network((2, 2), num_slices=2)
    reduce = Collective("all-reduce", 10**8, np.arange(8)[None], "")
    inside = 2 * (10**8 * 3 / 4 / (2 * W) + 2e-6)
    between = 2 * (10**8 / 4) / 2 / CHIP.dcn_bandwidth + 1e-4
    assert network.crosses_slices(reduce)
    assert network.estimate(reduce) == pytest.approx(inside + between)


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("all-reduce", 2 * 2 / 3),
        ("reduce-scatter", 2 / 3),
        ("all-gather", 2),
        ("collective-permute", 1),
    ],
)
def test_what_the_compiler_puts_between_three_slices(kind, sent):
    network = make_network((2, 2), num_slices=3)
    part = Collective(kind, 10**6, np.arange(12)[None], "", over_dcn=True)
    assert network.estimate(part) == pytest.approx(sent * 1e6 / CHIP.dcn_bandwidth + 1e-4)


def test_loops_multiply_and_branches_weigh():
    usage = measure(PROGRAM, shares={"penalty": 0.25})
    conv = 2 * 4 * 32 * 64 * (16 * 3 - 2) ** 2  # a row and a column of the kernel miss the border
    assert usage.flops == pytest.approx(0.25 * conv)
    sums = sum_collectives(usage)
    assert sums["all-reduce"]["count"] == 5
    assert sums["all-reduce"]["bytes"] == 5 * 8 * 128 * 4
    assert sums["all-gather"]["count"] == 0.25
    assert sums["all-gather"]["async_bytes"] == 0.25 * 16 * 16 * 16 * 32 * 2
    assert not usage.unknown


def test_asynchronous_exchanges_hide_behind_computation():
    usage = measure(CHAIN)
    (exchange,) = usage.exchanges
    product = 2 * 128 * 128 * 4 / CHIP.hbm_bandwidth
    assert exchange.is_async and exchange.seconds > product
    assert usage.compute_seconds == pytest.approx(product)
    assert usage.scheduled_seconds == pytest.approx(exchange.seconds)


def test_prediction_by_hand():
    usage = Usage(compute_seconds=0.08, scheduled_seconds=0.1)
    predicted = predict(usage, one_chip_seconds=0.08, batch_size=64, num_steps=864_000)
    assert predicted["images_per_second"] == pytest.approx(640)
    assert predicted["scaling_efficiency"] == pytest.approx(0.8)
    assert predicted["days"] == pytest.approx(1.0)


@pytest.fixture(scope="module")
def compiled():
    """A real program of eight devices: a loop of three convolutions, and its gradient's sum."""

    def loss(kernel, images):
        def layer(x, _):
            dims = ("NHWC", "HWIO", "NHWC")
            return jnp.tanh(
                jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", None, None, dims)
            ), None

        out, _ = jax.lax.scan(layer, images, None, length=3)
        return jnp.square(out).mean()

    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    whole, rows = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    kernel = jax.ShapeDtypeStruct((3, 3, 4, 4), jnp.float32, sharding=whole)
    images = jax.ShapeDtypeStruct((16, 8, 8, 4), jnp.float32, sharding=rows)
    gradient = jax.jit(jax.grad(loss), out_shardings=whole)
    return gradient.lower(kernel, images).compile()


def test_a_real_program(compiled):
    usage = measure(compiled.as_text(), shape=(2, 4))
    # Three passes of three layers over two images: forward, to the input, to the kernel. The first
    # layer's input needs no gradient, but the loop computes it.
    layer = 2 * 2 * 4 * 4 * (8 * 3 - 2) ** 2
    assert usage.flops == pytest.approx(9 * layer)
    sums = sum_collectives(usage)
    assert sum(kind["bytes"] for kind in sums.values()) >= 3 * 3 * 4 * 4 * 4
    assert "all-reduce" in sums and not usage.unknown
