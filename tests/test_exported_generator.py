import argparse
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from retroguide_jax import exported
from retroguide_jax.commands import generate
from retroguide_jax.errors import UserError
from retroguide_jax.exported import ExportedGenerator

SHAPES = (("b", 16, 16, 3), ("b", 4))
ONNX = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[b, 16, 16, 3] source, float[b, 4] z) => (float[b, 8, 32, 3] target)
<int64[2] rows = {1, 2}, int64[1] zero = {0}, int64[1] one = {1}, int64[2] inner = {2, 3},
 float[1] tenth = {0.1}, int64[4] size = {1, 8, 32, 3}>
{
  colour = ReduceMean(source, rows)
  entry = Slice(z, zero, one, one)
  column = Unsqueeze(entry, inner)
  shift = Mul(column, tenth)
  sum = Add(colour, shift)
  target = Expand(sum, size)
}
"""


def draw(source, z):
    """A generator: the mean colour of its source plus the first entry of the noise."""
    colour = source.mean((1, 2), keepdims=True) + 0.1 * z[:, :1, None, None]
    return jnp.broadcast_to(colour, (source.shape[0], 8, 32, 3))


@pytest.fixture
def write_stablehlo(tmp_path):
    """Returns write(fn, shapes, **options): a function as a StableHLO file."""
    pytest.importorskip("flatbuffers")
    from jax import export

    def write(fn=draw, shapes=SHAPES, **options):
        (batch,) = export.symbolic_shape("b")
        free = [(batch if shape[0] == "b" else shape[0], *shape[1:]) for shape in shapes]
        arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in free]
        path = tmp_path / "net.stablehlo"
        path.write_bytes(export.export(jax.jit(fn), **options)(*arrays).serialize())
        return path

    return write


@pytest.fixture
def write_onnx(tmp_path):
    """Returns write(text): an ONNX file."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")

    def write(text=ONNX):
        path = tmp_path / "net.onnx"
        onnx.save(onnx.parser.parse_model(text), path)
        return path

    return write


@pytest.fixture
def tiles(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "tiles").mkdir()
    for name in ("a", "b", "c"):
        pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "tiles" / f"{name}.png")
    return tmp_path / "tiles"


def check_generator(path):
    generator = ExportedGenerator(path)
    assert (generator.source_size, generator.z_dim) == ((16, 16), 4)
    rng = np.random.default_rng(0)
    source = rng.uniform(-1, 1, (5, 16, 16, 3)).astype(np.float32)
    z = rng.normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(generator.generate(source, z), draw(source, z), atol=1e-6)


def test_stablehlo(write_stablehlo):
    check_generator(write_stablehlo())


def test_onnx(write_onnx):
    check_generator(write_onnx())


def test_onnx_of_a_fixed_number_of_rows(write_onnx):
    check_generator(write_onnx(ONNX.replace("[b", "[2")))


@pytest.mark.parametrize("kind", ["stablehlo", "onnx"])
def test_command(kind, write_stablehlo, write_onnx, tiles, tmp_path):
    """The command must not import modules of networks or training."""
    path = {"stablehlo": write_stablehlo, "onnx": write_onnx}[kind]()
    program = (
        "import sys\n"
        "from retroguide_jax.__main__ import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "parts = {'.'.join(name.split('.')[:2]) for name in sys.modules}\n"
        "banned = {f'retroguide_jax.{part}' for part in ('models', 'networks', 'training')}\n"
        "assert not parts & {*banned, 'retroguide_jax.inference', 'flax', 'orbax'}, parts\n"
    )
    flags = [f"--exported={path}", f"--input={tiles}", f"--output={tmp_path / 'views'}"]
    command = [sys.executable, "-c", program, "generate", *flags, "--batch_size=2", "--seed=3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "3 images from 3 files" in done.stdout
    z = jax.random.normal(jax.random.fold_in(jax.random.key(3), 0), (4,))
    for name in ("a", "b", "c"):
        with Image.open(tiles / f"{name}.png") as image:
            colour = np.asarray(image).mean((0, 1)) + 127.5 * 0.1 * float(z[0])
        view = np.asarray(Image.open(tmp_path / "views" / f"{name}.png"))
        assert view.shape == (8, 32, 3)
        np.testing.assert_allclose(view.mean((0, 1)), colour, atol=3)


def test_other_programs_are_reported(write_stablehlo, write_onnx, tmp_path):
    other = r"a generator takes .*this has \[\(b, 16, 16, 3\)\] -> \[\(b, 3\)\] of float32; name"
    with pytest.raises(UserError, match=other):
        ExportedGenerator(write_stablehlo(lambda x: x.mean((1, 2)), SHAPES[:1]))
    with pytest.raises(UserError, match="a generator takes"):
        ExportedGenerator(write_onnx(ONNX.replace("float[b, 4]", "float[b] mask, float[b, 4]")))
    with pytest.raises(UserError, match="takes exactly 2 images at a time"):
        ExportedGenerator(write_stablehlo(draw, ((2, 16, 16, 3), (2, 4))))
    with pytest.raises(UserError, match="is made for tpu, not for this machine's cpu"):
        ExportedGenerator(write_stablehlo(platforms=["tpu"]))
    with pytest.raises(UserError, match="calls 'lapack"):
        ExportedGenerator(write_stablehlo(lambda x, z: draw(x, z + jnp.linalg.det(z @ z.T))))
    path = write_stablehlo()
    path.write_bytes(write_onnx().read_bytes())
    with pytest.raises(UserError, match="jax.export cannot read it"):
        ExportedGenerator(path)
    with pytest.raises(UserError, match="not a generator that can be read; export it as .onnx"):
        ExportedGenerator(tmp_path / "weights.safetensors")


def test_a_file_that_the_parser_crashes_on(write_stablehlo, monkeypatch):
    path = write_stablehlo()
    monkeypatch.setattr(exported, "_LIST_CALLS", "import os; os.abort()")
    with pytest.raises(UserError, match="jax.export cannot read it .*its parser crashes"):
        ExportedGenerator(path)


@pytest.mark.parametrize("flags", [[], ["--workdir=w", "--exported=p.onnx"]])
def test_either_a_work_directory_or_a_program(flags, tiles, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    generate.add_flags(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([f"--input={tiles}", f"--output={tmp_path}", *flags])
    assert "--workdir" in capsys.readouterr().err


def test_checkpoints_are_of_work_directories(tiles, tmp_path):
    parser = argparse.ArgumentParser()
    generate.add_flags(parser)
    flags = ["--exported=net.onnx", "--checkpoint=best"]
    args = parser.parse_args([f"--input={tiles}", f"--output={tmp_path / 'out'}", *flags])
    with pytest.raises(UserError, match="--checkpoint: an exported program holds one model"):
        generate.run(args)
