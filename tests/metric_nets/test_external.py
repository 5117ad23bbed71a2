import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import make_images

from retroguide_jax.errors import UserError
from retroguide_jax.metric_nets.external import open_net

IMAGES = make_images(3, 16, 24)
SCALED = IMAGES.astype(np.float32) / 127.5 - 1


@pytest.fixture
def write_onnx(tmp_path):
    """Returns write(ops, shape, num_inputs=1): a chain of operators as an ONNX file."""
    pytest.importorskip("onnxruntime")

    def write(ops, shape, num_inputs=1):
        path = tmp_path / "net.onnx"
        path.write_bytes(encode_onnx(ops, shape, num_inputs))
        return path

    return write


@pytest.fixture
def write_stablehlo(tmp_path):
    """Returns write(fn, shape): a function as a StableHLO file."""
    pytest.importorskip("flatbuffers")
    from jax import export

    def write(fn, shape):
        image = jax.ShapeDtypeStruct(export.symbolic_shape(shape), jnp.float32)
        path = tmp_path / "net.stablehlo"
        path.write_bytes(export.export(jax.jit(fn))(image).serialize())
        return path

    return write


def encode_onnx(ops, shape, num_inputs):
    """An ONNX model written as a protocol buffer by hand, with the field numbers of onnx.proto3."""

    def varint(value):
        more = b""
        while value >= 128:
            more, value = more + bytes([value & 127 | 128]), value >> 7
        return more + bytes([value])

    def field(number, value):
        if isinstance(value, int):
            return varint(number << 3) + varint(value)
        value = value.encode() if isinstance(value, str) else value
        return varint(number << 3 | 2) + varint(len(value)) + value

    def tensor(name, shape):
        sides = [field(1, side) if isinstance(side, int) else field(2, side) for side in shape]
        dims = b"".join(field(1, side) for side in sides)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))

    names = ["x", *(f"y{i}" for i in range(len(ops)))]
    nodes = [
        field(1, field(1, before) + field(2, after) + field(4, op))
        for op, before, after in zip(ops, names, names[1:], strict=False)
    ]
    inputs = [field(11, tensor(name, shape)) for name in ("x", "z")[:num_inputs]]
    output = field(12, tensor(names[-1], ("b", "d")))
    graph = b"".join([*nodes, field(2, "net"), *inputs, output])
    return field(1, 8) + field(8, field(2, 13)) + field(7, graph)


def test_onnx_channels_first(write_onnx):
    net = open_net(write_onnx(["GlobalAveragePool", "Flatten"], ("b", 3, "h", "w")))
    assert net.name == "net" and net.on_host and "[-1, 1]" in net.protocol
    features = net.apply(net.variables, IMAGES)["features"]
    np.testing.assert_allclose(features, SCALED.mean((1, 2)), atol=1e-6)


def test_onnx_channels_last(write_onnx):
    net = open_net(write_onnx(["Flatten"], ("b", 16, 24, 3)))
    features = net.apply(net.variables, jnp.asarray(IMAGES))["features"]
    np.testing.assert_array_equal(features, SCALED.reshape(3, -1))
    with pytest.raises(UserError, match="takes images of 16 x 24, got 8 x 24"):
        net.apply(net.variables, IMAGES[:, :8])


@pytest.mark.parametrize("shape", [("b", 16, 24, 4), ("b", 3, 24, 3), ("b", 3), ("b", "c", 8, 8)])
def test_onnx_of_another_shape(write_onnx, shape):
    with pytest.raises(UserError, match=r"takes one float32 array \[B, 3, H, W\]"):
        open_net(write_onnx(["Flatten"], shape))


def test_onnx_of_another_signature(write_onnx):
    with pytest.raises(UserError, match="takes one float32 array"):
        open_net(write_onnx(["Flatten"], ("b", 3, 8, 8), num_inputs=2))


def test_onnx_of_a_fixed_number_of_images(write_onnx):
    net = open_net(write_onnx(["Flatten"], (2, 16, 24, 3)))
    features = net.apply(net.variables, IMAGES)["features"]
    np.testing.assert_array_equal(features, SCALED.reshape(3, -1))


def test_damaged_onnx(write_onnx):
    path = write_onnx(["NoSuchOperator"], ("b", 3, 8, 8))
    with pytest.raises(UserError, match="ONNX Runtime cannot read it.*export it again"):
        open_net(path)
    path.write_bytes(b"not a protocol buffer")
    with pytest.raises(UserError, match="ONNX Runtime cannot read it"):
        open_net(path)


def test_stablehlo(write_stablehlo):
    net = open_net(write_stablehlo(lambda x: jax.nn.gelu(x.mean((1, 2))), "b, h, w, 3"))
    features = jax.jit(net.apply)(net.variables, IMAGES)["features"]
    np.testing.assert_allclose(features, jax.nn.gelu(SCALED.mean((1, 2))), atol=1e-6)
    assert not net.on_host


def test_stablehlo_on_every_device(write_stablehlo):
    from retroguide_jax.parallel.local import LocalDevices

    net = open_net(write_stablehlo(lambda x: x.reshape(x.shape[0], -1), "b, 16, 24, 3"))
    devices = LocalDevices()
    apply = devices.compile(net.apply)
    features = apply(net.variables, *devices.spread(IMAGES))["features"]
    np.testing.assert_allclose(features[:3], SCALED.reshape(3, -1), atol=1e-6)


def test_stablehlo_of_another_size_or_shape(write_stablehlo):
    net = open_net(write_stablehlo(lambda x: x.mean((1, 2)), "b, 16, 24, 3"))
    with pytest.raises(UserError, match="takes images of 16 x 24, got 16 x 12"):
        jax.jit(net.apply)(net.variables, IMAGES[:, :, :12])
    with pytest.raises(UserError, match="takes one float32 array"):
        open_net(write_stablehlo(lambda x: x.mean((2, 3)), "b, 3, h, w"))
    with pytest.raises(UserError, match="takes exactly 2 images at a time"):
        open_net(write_stablehlo(lambda x: x.mean((1, 2)), "2, h, w, 3"))


def test_stablehlo_that_calls_the_machines_code_is_refused(write_stablehlo):
    path = write_stablehlo(lambda x: jnp.linalg.qr(x[:, :, :, 0])[1].mean(1), "b, 16, 24, 3")
    with pytest.raises(UserError, match="calls 'lapack.*not run from a file"):
        open_net(path)


def test_damaged_stablehlo(write_stablehlo):
    path = write_stablehlo(lambda x: x.mean((1, 2)), "b, h, w, 3")
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], bytes(len(whole))):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="jax.export cannot read it.*export it again"):
            open_net(path)


def test_fingerprint_is_the_files(write_stablehlo):
    first = open_net(write_stablehlo(lambda x: x.mean((1, 2)), "b, h, w, 3")).fingerprint
    second = open_net(write_stablehlo(lambda x: x.max((1, 2)), "b, h, w, 3")).fingerprint
    assert len(first) == 64 and first != second


@pytest.mark.parametrize("name", ["net.pt2", "net.pt", "net.ts"])
def test_pytorchs_programs_are_refused_unread(tmp_path, name):
    with pytest.raises(UserError, match="can execute code in the file; export it as"):
        open_net(tmp_path / name)


def test_what_cannot_be_opened(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="not a feature network that can be read"):
        open_net(tmp_path / "net.bin")
    with pytest.raises(UserError, match="net.onnx: cannot be read .No such file"):
        open_net(tmp_path / "net.onnx")
    for library, suffix in (("onnxruntime", "onnx"), ("flatbuffers", "stablehlo")):
        monkeypatch.setitem(sys.modules, library, None)
        path = tmp_path / f"other.{suffix}"
        path.touch()
        with pytest.raises(UserError, match=f"pip install {library}"):
            open_net(path)
