import sys
import types

import jax
import numpy as np
import pytest
from random_model import draw_inputs, make_model
from tiny import make_tiny_config

from retroguide_jax.errors import UserError
from retroguide_jax.exchange.onnx_export import export_onnx
from retroguide_jax.exchange.programs import list_functions
from retroguide_jax.exported import ExportedGenerator
from retroguide_jax.metric_nets.external import open_net

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def embedder():
    return make_model(make_tiny_config(mode="contrastive"))


@pytest.fixture
def give_onnx(monkeypatch):
    """Returns give(graph text): makes jax2onnx return this graph for any function."""

    def give(text):
        model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {text}')
        stand_in = types.SimpleNamespace(to_onnx=lambda *args, **kwargs: model)
        monkeypatch.setitem(sys.modules, "jax2onnx", stand_in)

    return give


def test_a_wrong_file_is_not_left(embedder, tmp_path, give_onnx):
    give_onnx(
        "net (float[b, 16, 16, 3] images) => (float[b, 16] embedding)"
        "<int64[1] first = {0}, int64[1] end = {16}, int64[1] axis = {1}>"
        "{ pixels = Flatten(images) embedding = Slice(pixels, first, end, axis) }"
    )
    with pytest.raises(
        UserError, match="embed_aerial by ONNX Runtime differs from JAX by .*, more than"
    ):
        export_onnx(embedder, tmp_path)
    assert not list(tmp_path.iterdir())


def test_operations_do_not_depend_on_the_platform(embedder, tmp_path, monkeypatch):
    """jax2onnx cannot read such a choice; this runs without it."""
    seen = []

    def look(call, shapes, **_):
        images = np.zeros((2, *shapes[0][1:]), np.float32)
        seen.append(str(jax.make_jaxpr(call)(images)))
        raise ValueError("enough")

    monkeypatch.setitem(sys.modules, "jax2onnx", types.SimpleNamespace(to_onnx=look))
    with pytest.raises(UserError, match="enough"):
        export_onnx(embedder, tmp_path)
    assert "conv_general_dilated" in seen[0] and "platform_index" not in seen[0]
    call = list_functions(embedder, dtype="float32")[0].call
    assert "platform_index" in str(jax.make_jaxpr(call)(np.zeros((2, 16, 16, 3), np.float32)))


def test_what_onnx_runtime_cannot_read(embedder, tmp_path, give_onnx):
    give_onnx("net (float[b, 16, 16, 3] images) => (float[b, 16] y) { y = NoSuchThing(images) }")
    with pytest.raises(UserError, match="embed_aerial cannot be converted .*stablehlo"):
        export_onnx(embedder, tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_jax2onnx(embedder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(UserError, match="needs jax2onnx; pip install .*--no-deps jax2onnx"):
        export_onnx(embedder, tmp_path)


def test_files_are_the_models(tmp_path):
    """Needs jax2onnx, which no extra installs: its dependencies exclude ours."""
    pytest.importorskip("jax2onnx")
    reader = {"generator.reader_width": 16}
    model = make_model(make_tiny_config(dtype="bfloat16", **reader))
    files = export_onnx(model, tmp_path)
    assert list(files) == ["embed_aerial.onnx", "embed_ground.onnx", "generate.onnx"]
    properties = onnx.load(tmp_path / "generate.onnx").metadata_props
    metadata = {entry.key: entry.value for entry in properties}
    assert metadata["target_view"] == "ground" and metadata["ground_size"] == "8x32"
    exact = make_model(make_tiny_config(**reader))
    source, z = draw_inputs(exact, 5)
    found = ExportedGenerator(tmp_path / "generate.onnx").generate(source, z)
    np.testing.assert_allclose(found, exact.generate(source, z), atol=1e-4)
    net = open_net(tmp_path / "embed_ground.onnx")
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 32, 3), np.uint8)
    expected = exact.embed(images.astype(np.float32) / 127.5 - 1, "ground")
    np.testing.assert_allclose(net.apply({}, images)["features"], expected, atol=1e-4)
