"""Weights under other programs' names make the same numbers here as there.

golden_*.npz are made by those programs, see make_*_golden.py.
"""

import functools
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from layout_arrays import make_images, make_state
from safetensors.numpy import save_file
from tiny import make_tiny_config

from retroguide_jax.errors import UserError
from retroguide_jax.exchange import importing, timm_convnext
from retroguide_jax.networks import embedder_variables, make_networks
from retroguide_jax.state import initial_state
from retroguide_jax.torch_layout import variables
from retroguide_jax.torch_layout.names import name_parameter

SAIG = {
    "mode": "contrastive",
    "data.aerial_size": (256, 256),
    "data.ground_size": (128, 512),
    "data.panorama": False,
    "embedder.head_outputs": 8,
    "embedder.saig.width": 24,
    "embedder.saig.depth": 2,
    "embedder.saig.num_heads": 3,
    "embedder.saig.stem_features": (64, 128, 128, 256, 256, 512),
    "embedder.saig.stem_strides": (2, 2, 1, 2, 1, 2),
    "embedder.saig.stem_norm": "batch",
}
CONVNEXT = {
    "mode": "contrastive",
    "data.aerial_size": (64, 96),
    "data.ground_size": (64, 96),
    "embedder.backbone": "convnext",
    "embedder.head": "gap",
    "embedder.shared": True,
    "embedder.convnext.widths": (8, 16, 24, 32),
    "embedder.convnext.depths": (1, 1, 2, 1),
}


def load_golden(name):
    with np.load(Path(__file__).with_name(name)) as file:
        return {key: file[key] for key in file.files}


def map_file(tmp_path, layout, arrays, config, **options):
    save_file(arrays, tmp_path / "a.safetensors")
    return importing.map_weights(config, layout, [tmp_path / "a.safetensors"], **options)


def build(config, found):
    """The embedder and its variables, from a mapping that covers all of them."""
    networks = make_networks(config)
    state = jax.eval_shape(lambda: initial_state(config, networks))
    embedder = variables.get_networks(state)["embedder"]
    leaves, tree = jax.tree.flatten({"embedder": embedder})
    names = variables.flatten({"embedder": embedder})
    assert [leaf.shape for leaf in leaves] == [found.match.arrays[name].shape for name in names]
    filled = jax.tree.unflatten(tree, [found.match.arrays[name] for name in names])["embedder"]
    return networks.embedder, embedder_variables(**filled)


@pytest.mark.parametrize("pool", ["GAP", "SMD"])
def test_the_pair_of_saig_embeds_as_its_own_code_does(tmp_path, pool):
    golden = load_golden("golden_saig.npz")
    head = {"GAP": "gap", "SMD": "smd"}[pool]
    config = make_tiny_config(**SAIG, **{"embedder.head": head})
    state = make_state(json.loads(str(golden[f"{pool}_shapes"])))
    found = map_file(tmp_path, "saig", state, config)
    found.check()
    assert not found.match.leftover
    embedder, weights = build(config, found)
    embed_fn = jax.jit(embedder.apply, static_argnums=2)
    for view, size in (("aerial", (256, 256)), ("ground", (128, 512))):
        embedding = embed_fn(weights, make_images(*size), view)[0]
        np.testing.assert_allclose(embedding, golden[f"{pool}_{view}"], atol=1e-5)


def test_features_of_timm_are_those_before_the_last_normalisation(tmp_path):
    golden = load_golden("golden_timm.npz")
    config = make_tiny_config(**CONVNEXT)
    state = make_state(json.loads(str(golden["shapes"])))
    found = map_file(tmp_path, "timm-convnext", state, config, allow_leftover=["head.fc.*"])
    found.check()
    assert found.match.leftover == ["head.fc.bias", "head.fc.weight"]
    embedder, weights = build(config, found)
    embed_fn = jax.jit(functools.partial(embedder.apply, view="aerial", capture_intermediates=True))
    (_, tokens), kept = embed_fn(weights, make_images(64, 96))
    features = kept["intermediates"]["towers_aerial"]["stage_3_block_0"]["__call__"][0]
    wanted = golden["features"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(features, wanted, atol=1e-4 * np.abs(wanted).max())
    # As the note about the embedding says: pooled before the normalisation, ours equals timm's.
    scale, shift = state["head.norm.weight"], state["head.norm.bias"]

    def normalise(x):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-6) * scale + shift

    pooled = np.asarray(features).mean((1, 2))
    np.testing.assert_allclose(normalise(pooled), golden["pooled"], atol=1e-4)
    np.testing.assert_allclose(
        tokens[0], normalise(np.asarray(features).reshape(-1, 32)), atol=1e-4
    )
    assert np.abs(tokens.mean(1) - golden["pooled"]).max() > 0.1 and "tokens" in found.note


def test_sample4geo_is_timm_with_a_prefix_and_a_temperature(tmp_path):
    shapes = json.loads(str(load_golden("golden_timm.npz")["shapes"]))
    plain = {k: v for k, v in make_state(shapes).items() if not k.startswith("head.fc")}
    config = make_tiny_config(**CONVNEXT, **{"embedder.learned_temperature": True})
    state = {f"model.{name}": array for name, array in plain.items()}
    state["logit_scale"] = np.array(2.5, np.float32)
    found = map_file(tmp_path, "timm-convnext", state, config)
    found.check()
    assert not found.match.leftover and found.match.arrays["embedder/log_scale"] == 2.5
    other = map_file(tmp_path, "timm-convnext", plain, make_tiny_config(**CONVNEXT))
    for name, array in other.match.arrays.items():
        np.testing.assert_array_equal(found.match.arrays[name], array)


@pytest.mark.parametrize("prefix", ["net.", "model.model.", "encoder.backbone."])
def test_a_network_inside_of_another_is_found(tmp_path, prefix):
    """Prefixes as Lightning and other training scripts write them; two networks are ambiguous."""
    shapes = json.loads(str(load_golden("golden_timm.npz")["shapes"]))
    plain = {k: v for k, v in make_state(shapes).items() if not k.startswith("head.fc")}
    config = make_tiny_config(**CONVNEXT)
    state = {f"{prefix}{name}": array for name, array in plain.items()}
    found = map_file(tmp_path, "timm-convnext", state, config)
    found.check()
    name = "embedder/towers_aerial/stem/kernel"
    wanted = map_file(tmp_path, "timm-convnext", plain, config).match.arrays[name]
    np.testing.assert_array_equal(found.match.arrays[name], wanted)
    state |= {f"ema.{name}": array + 1 for name, array in plain.items()}
    with pytest.raises(UserError, match=f"several such networks, under 'e.*--entry={prefix[:-1]}"):
        map_file(tmp_path, "timm-convnext", state, config)


def test_a_norm_of_each_token_is_ours(tmp_path):
    shapes = json.loads(str(load_golden("golden_timm.npz")["shapes"]))
    state = {k.replace("head.norm", "norm_pre"): v for k, v in make_state(shapes).items()}
    options = {"allow_leftover": ["head.fc.*"]}
    found = map_file(tmp_path, "timm-convnext", state, make_tiny_config(**CONVNEXT), **options)
    found.check()
    assert found.note == ""
    name = "embedder/towers_aerial/norm/scale"
    np.testing.assert_array_equal(found.match.arrays[name], state["norm_pre.weight"])


def test_both_towers_start_from_a_pretrained_one_and_its_square_is_resized(tmp_path):
    shapes = json.loads(str(load_golden("golden_saig.npz")["GAP_shapes"]))
    mark = "model_sat.backbone."
    shapes = {k.removeprefix(mark): v for k, v in shapes.items() if k.startswith(mark)}
    shapes |= {"pos_embed": [1, 196, 24], "head.weight": [5, 24]}
    state = make_state(shapes)
    options = {"only": ["embedder/towers_*"], "allow_leftover": ["head.*"]}
    found = map_file(tmp_path, "saig", state, make_tiny_config(**SAIG), **options)
    found.check()
    arrays = found.match.arrays
    assert {re.split("[/_]", name)[1] for name in found.match.kept} == {"heads"}
    square = state["pos_embed"].reshape(14, 14, 24)
    for view, grid in (("aerial", (16, 16)), ("ground", (8, 32))):
        resized = jax.image.resize(square, (*grid, 24), "bicubic")
        np.testing.assert_array_equal(arrays[f"embedder/towers_{view}/position"], resized)
        kernel = arrays[f"embedder/towers_{view}/block_1/qkv/kernel"]
        np.testing.assert_array_equal(kernel, state["blocks.1.attn.qkv.weight"].T)
    rows = {row.name: row for row in found.match.rows}
    row = rows["embedder/towers_ground/position"]
    assert row.transform == "resized bicubically from 14 x 14" and "square" in row.remark


def test_a_pair_on_another_grid_is_refused(tmp_path):
    golden = load_golden("golden_saig.npz")
    shapes = json.loads(str(golden["GAP_shapes"])) | {"model_grd.backbone.pos_embed": [1, 128, 24]}
    config = make_tiny_config(**SAIG, **{"embedder.head": "gap"})
    found = map_file(tmp_path, "saig", make_state(shapes), config)
    with pytest.raises(
        UserError, match=r"model_grd.backbone.pos_embed is \[1, 128, 24\], not \[8,"
    ):
        found.check()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"embedder.saig.stem_norm": "batch", "embedder.learned_temperature": True},
        {"embedder.shared": True, "embedder.head": "gap", "generator.aain_form": "tokens"},
        {
            "generator.aain_form": "rays",
            "generator.query_position": True,
            "generator.fine_tokens": 1,
            "generator.normalise_last": True,
            "generator.reader_width": 16,
            "generator.start_rank": 2,
        },
        {"generator.aain_form": "channel", "generator.start_from_embedding": False},
        {"generator.aain_form": "plain", "discriminator.conditioning": "concat"},
        {"generator.facade_features": (), "discriminator.patch": True},
        CONVNEXT | {"embedder.shared": False},
    ],
)
def test_every_array_has_a_name_of_its_own_in_pytorch(fields):
    shapes = variables.list_shapes(make_tiny_config(**fields))
    names = [name_parameter(name.partition("/")[2]) for name in shapes]
    assert len(set(names)) == len(names)
    # PyTorch has no such leaves.
    assert not [name for name in names if name.endswith((".kernel", ".mean", ".var"))]
    assert not [name for name in names if "norm" in name and name.endswith(".scale")]


@pytest.mark.parametrize("layout", ["saig", "timm-convnext"])
def test_another_layout_is_reported(tmp_path, layout):
    with pytest.raises(UserError, match=r"a.safetensors: not .*layout.*begins with rgb.bias"):
        map_file(tmp_path, layout, {"rgb.bias": np.zeros(3, np.float32)}, make_tiny_config())


@pytest.mark.parametrize("shape", [(), (8,), (0,), (1, 0, 8), (1, 16, 0), (1, 2, 8), (4, 4, 4, 4)])
def test_arrays_of_odd_shapes_are_reported(tmp_path, shape):
    config = make_tiny_config(mode="contrastive")
    odd, only = np.ones(shape, np.float32), ["embedder/towers_aerial/position"]
    found = map_file(tmp_path, "saig", {"pos_embed": odd}, config, only=only)
    with pytest.raises(UserError, match=r"\(pos_embed is \[.*\], not \[4, 4, 8\]\)"):
        found.check()
    with pytest.raises(UserError, match="not the layout of timm's ConvNeXt"):
        map_file(tmp_path, "timm-convnext", {"stem.0.weight": odd, "stem.0.bias": odd}, config)


def test_the_first_convolution_is_the_same_function_of_other_images():
    draw = np.random.default_rng(0)
    weight, bias = draw.normal(size=(5, 3, 4, 4)), draw.normal(size=5)
    source = timm_convnext.open_source({"stem.0.weight": weight, "stem.0.bias": bias})
    patch = draw.uniform(-1, 1, (3, 4, 4))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normal = ((patch + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    wanted = np.tensordot(weight, normal, 3) + bias
    found = np.tensordot(source.arrays["stem.0.weight"], patch, 3) + source.arrays["stem.0.bias"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
