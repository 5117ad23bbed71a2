import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from retroguide_jax.parallel.local import LocalDevices
from retroguide_jax.parallel.mesh import make_mesh


@pytest.fixture
def weights():
    rng = np.random.default_rng(0)
    return {"w": rng.normal(size=(3, 3, 3, 16)).astype(np.float32)}


def convolve(variables, images):
    features = jax.lax.conv_general_dilated(
        images, variables["w"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jnp.tanh(features).mean(axis=(1, 2)) / jnp.sqrt(features.var(axis=(1, 2, 3))[:, None])


def test_results_do_not_depend_on_the_number_of_devices(weights):
    """Equal bit by bit, as long as the number of rows per device is equal."""
    rows = np.random.default_rng(1).normal(size=(32, 12, 20, 3)).astype(np.float32)
    found = []
    for num in (1, 2, 4, 8):
        devices = LocalDevices(jax.devices()[:num])
        fn, variables = devices.compile(convolve), devices.replicate(weights)
        parts = np.split(rows, 8 // num)  # four rows per device
        found.append(
            np.concatenate([np.asarray(fn(variables, *devices.spread(part))) for part in parts])
        )
        assert fn._cache_size() == 1
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_rows_are_filled_up_with_the_last():
    devices = LocalDevices(jax.devices()[:4])
    (rows,) = devices.spread(np.arange(6).reshape(6, 1))
    np.testing.assert_array_equal(np.asarray(rows)[:, 0], [0, 1, 2, 3, 4, 5, 5, 5])
    assert {len(shard.data) for shard in rows.addressable_shards} == {2}


def test_sharded_weights_become_whole_on_each_device(weights):
    mesh = make_mesh({"data": 4, "fsdp": 2})
    sharding = NamedSharding(mesh, PartitionSpec(None, None, None, "fsdp"))
    split = jax.device_put(weights, sharding)
    whole = LocalDevices().replicate(split)
    assert len(whole["w"].addressable_shards) == 8
    for shard in whole["w"].addressable_shards:
        np.testing.assert_array_equal(shard.data, weights["w"])
