from pathlib import Path

import numpy as np
import pytest
from random_weights import make_state

from retroguide_jax.metric_nets import inception, lpips, places, torchvision_nets
from retroguide_jax.metric_nets.conversion import to_torch_shape
from retroguide_jax.metric_nets.layers import list_layers


@pytest.fixture(scope="session")
def golden():
    """Outputs of the field's packages, see make_golden.py; every 16th column of each row."""
    with np.load(Path(__file__).with_name("golden.npz")) as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def inception_state():
    shapes = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}
    for name, shape in list_layers(inception._run, 299, 299).items():
        shapes[f"{name}.conv.weight"] = to_torch_shape(shape)
        for norm in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.bn.{norm}"] = shape[-1:]
    return make_state(shapes)


@pytest.fixture(scope="session")
def places_state():
    return make_layers_state(list_layers(places._run, 224, 224))


@pytest.fixture(scope="session")
def make_lpips_states():
    def make(net):
        trunk = torchvision_nets.TRUNKS[net]
        heads = {f"lin{i}.model.1.weight": (1, n, 1, 1) for i, n in enumerate(trunk.channels)}
        return make_layers_state(list_layers(trunk.run, 64, 64)), make_state(heads)

    return make


@pytest.fixture(scope="session")
def make_random_lpips(make_lpips_states):
    return lambda net: lpips.make_lpips(net, *make_lpips_states(net))


def make_layers_state(layers):
    shapes = {f"{name}.weight": to_torch_shape(shape) for name, shape in layers.items()}
    return make_state(shapes | {f"{name}.bias": shape[-1:] for name, shape in layers.items()})
