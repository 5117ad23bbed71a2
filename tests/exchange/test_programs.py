import re
import sys

import jax
import numpy as np
import pytest
from random_model import draw_inputs, make_model
from tiny import make_tiny_config

from retroguide_jax.config import load_config
from retroguide_jax.errors import UserError
from retroguide_jax.exchange.programs import PLATFORMS, export_stablehlo
from retroguide_jax.metric_nets.external import open_net

pytest.importorskip("flatbuffers")
from jax import export  # noqa: E402  needs flatbuffers


@pytest.fixture(scope="module")
def model():
    return make_model(make_tiny_config(**{"generator.reader_width": 16}))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    files = export_stablehlo(model, folder)
    assert sorted(files) == sorted(path.name for path in folder.iterdir())
    return folder


def load(path):
    return export.deserialize(bytearray(path.read_bytes()))


def check_generate(folder, inputs, expected):
    found = load(folder / "generate.stablehlo").call(*inputs)
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-5)


def generate_on_one_device(model, inputs):
    """`model.generate`, whose program for eight devices takes longer to compile."""
    return jax.jit(model.generate_rows)(jax.device_get(model.variables), *inputs)


@pytest.mark.parametrize("num_rows", [1, 5])
def test_generate_is_the_models(model, folder, num_rows):
    inputs = draw_inputs(model, num_rows)
    check_generate(folder, inputs, model.generate(*inputs))


@pytest.mark.parametrize("view", ["aerial", "ground"])
def test_embedders_serve_as_feature_networks(model, folder, view):
    net = open_net(folder / f"embed_{view}.stablehlo")
    height, width = model.networks.sizes[view]
    images = np.random.default_rng(2).integers(0, 256, (3, height, width, 3), np.uint8)
    features = net.apply(net.variables, images)["features"]
    expected = model.embed(images.astype(np.float32) / 127.5 - 1, view)
    np.testing.assert_allclose(features, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)


def test_what_programs_hold(folder):
    for path in folder.iterdir():
        program = load(path)
        text = program.mlir_module()
        assert program.platforms == PLATFORMS == ("cpu", "cuda", "tpu")
        assert set(re.findall(r"custom_call @(\w+)", text)) <= {"shape_assertion", "mhlo.erf"}
        assert "threefry" not in text
        # Names of source files are allowed, folders of this machine are not.
        assert ".py" in text and not re.findall(r"/[^\"\s]*\.py", text)
    assert load(folder / "embed_aerial.stablehlo").in_avals[0].shape[1:] == (16, 16, 3)
    assert not jax.config.jax_hlo_source_file_canonicalization_regex


def test_other_networks(tmp_path):
    """The other direction, backbone and forms; rematerialisation affects training only."""
    fields = {
        "embedder.backbone": "convnext",
        "embedder.head": "gap",
        "data.aerial_size": (32, 32),
        "data.ground_size": (32, 64),
        "generator.aain_form": "rays",
        "generator.num_regions": 2,
        "train.remat": "blocks",
    }
    model = make_model(make_tiny_config("g2a", **fields))
    export_stablehlo(model, tmp_path)
    inputs = draw_inputs(model, 2)
    check_generate(tmp_path, inputs, generate_on_one_device(model, inputs))


def test_an_embedder_alone(tmp_path):
    model = make_model(make_tiny_config(mode="contrastive"))
    assert list(export_stablehlo(model, tmp_path)) == [
        "embed_aerial.stablehlo",
        "embed_ground.stablehlo",
    ]


def test_without_flatbuffers(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(UserError, match="--format=stablehlo: needs flatbuffers; pip install"):
        export_stablehlo(model, tmp_path)


@pytest.mark.slow
def test_the_city(tmp_path):
    model = make_model(load_config("city", []))
    export_stablehlo(model, tmp_path)
    inputs = draw_inputs(model, 3)
    check_generate(tmp_path, inputs, generate_on_one_device(model, inputs))
    weights = [model.variables["embedder"]["params"], model.variables["generator"]]
    num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(weights))
    assert (tmp_path / "generate.stablehlo").stat().st_size < 1.2 * num_bytes
