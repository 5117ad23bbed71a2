"""Ours beside the PyTorch twin in one process: networks, penalties, inference."""

import jax
import numpy as np
import pytest
from parity_cases import arrays, layers, losses, networks, updates
from parity_cases.case import compare

from retroguide_jax.inference import Model
from retroguide_jax.networks import make_networks
from retroguide_jax.state import initial_state

torch = pytest.importorskip("torch")

CASES = {
    case.name: case
    for module in (layers, networks, losses, updates)
    for case in module.make_cases()
}
# In float64, where rounding hides nothing; golden.npz holds others in float32.
FEW = (
    "embedder, shared, mean, learned temperature",
    "generator, one stage, learned start, no embedding",
    "discriminator, concat",
    "gradient penalty, matching_aware, projection",
    "AdamW, cosine, one of 7 updates skipped",
)
TOLERANCES = {"float32": 1e-4, "float64": 1e-11}


def check(name, dtype):
    found = compare(CASES[name].ours(np.dtype(dtype)), CASES[name].theirs(np.dtype(dtype)))
    assert max(found.output, found.gradient) < TOLERANCES[dtype], found


@pytest.mark.parametrize("name", FEW)
def test_same_function(name):
    check(name, "float64")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", CASES)
def test_same_function_in_both_precisions(name, dtype):
    check(name, dtype)


def test_same_inference():
    from torch_reference.inference import Model as Twin
    from torch_reference.networks import build_networks

    config = networks.make_tiny_config()
    ours, theirs = make_networks(config), build_networks(config)
    shapes = jax.eval_shape(lambda: initial_state(config, ours)).ema
    variables = arrays.draw_variables(shapes, np.float32)
    model = Model(config, ours)
    model.load(variables, 0)
    arrays.load(theirs.embedder, arrays.flatten(variables["embedder"]["params"]), np.float32)
    arrays.load(theirs.generator, arrays.flatten(variables["generator"]), np.float32)
    twin = Twin(theirs)
    views = {
        view: arrays.draw(view, (3, *config.data[f"{view}_size"], 3)).astype(np.float32)
        for view in ("aerial", "ground")
    }
    z = arrays.draw("z", (3, config.generator.z_dim)).astype(np.float32)
    tensors = {view: torch.from_numpy(arrays.swap(x).copy()) for view, x in views.items()}
    for view in views:
        np.testing.assert_allclose(
            twin.embed(tensors[view], view), model.embed(views[view], view), atol=1e-5
        )
    drawn = model.generate(views["aerial"], z)
    assert drawn.std() > 0.1
    made = twin.generate(tensors["aerial"], torch.from_numpy(z))
    np.testing.assert_allclose(made, arrays.swap(drawn), atol=1e-4)
