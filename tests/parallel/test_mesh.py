import jax
import numpy as np
import pytest

from retroguide_jax.errors import UserError
from retroguide_jax.parallel.mesh import batch_sharding, make_mesh, place_batch


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ({"data": -1}, (1, 8, 1)),
        ({"data": -1, "fsdp": 2}, (1, 4, 2)),
        ({"data": 1, "fsdp": -1}, (1, 1, 8)),
        ({"data": 2, "fsdp": 4}, (1, 2, 4)),
        ({"slice": 2, "data": -1, "fsdp": 2}, (2, 2, 2)),
        ({"slice": -1, "data": 4}, (2, 4, 1)),
    ],
)
def test_axes(sizes, shape):
    mesh = make_mesh(sizes)
    assert tuple(mesh.shape.items()) == tuple(zip(("slice", "data", "fsdp"), shape, strict=True))
    assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"data": 3, "fsdp": 1}, r"data=3, fsdp=1 does not fit 8 device"),
        ({"data": -1, "fsdp": 3}, r"data=-1, fsdp=3 does not fit 8 device"),
        ({"data": -1, "fsdp": -1}, "at most one may be -1"),
        ({"data": 0, "fsdp": 1}, "sizes are positive"),
        ({"data": 8, "fsdp": -2}, "sizes are positive"),
        ({"data": 16, "fsdp": 1}, "does not fit 8 device"),
    ],
)
def test_sizes_that_do_not_fit(sizes, message):
    with pytest.raises(UserError, match=message):
        make_mesh(sizes)


@pytest.mark.parametrize("fsdp", [1, 2, 8])
def test_every_device_holds_its_own_rows(fsdp):
    mesh = make_mesh({"data": -1, "fsdp": fsdp})
    rows = np.arange(16 * 3, dtype=np.float32).reshape(16, 3)
    placed = place_batch({"x": rows}, mesh)["x"]
    assert placed.sharding == batch_sharding(mesh)
    assert [shard.data.shape for shard in placed.addressable_shards] == [(2, 3)] * 8
    np.testing.assert_array_equal(placed, rows)
