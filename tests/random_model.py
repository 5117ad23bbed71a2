"""A model with random weights of sensible size in every array, made without compiling anything."""

import jax
import numpy as np

from retroguide_jax.inference import Model
from retroguide_jax.networks import make_networks
from retroguide_jax.training.state import initial_state


def make_model(config):
    """Unlike fresh ones, its weights are nowhere zero: every layer has a part in the output."""
    networks = make_networks(config)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        values = rng.normal(size=leaf.shape) / max(1, np.prod(leaf.shape[:-1])) ** 0.5
        name = jax.tree_util.keystr(path)
        if "scale" in name:
            values = 1 + values / 10
        return (np.abs(values) if "var" in name else values).astype(np.float32)

    shapes = jax.eval_shape(lambda: initial_state(config, networks))["ema"]
    model = Model(config, networks)
    model.load(jax.tree_util.tree_map_with_path(draw, shapes), step=7)
    return model


def draw_inputs(model, num_rows, seed=1):
    """Source images and noise for `generate`."""
    rng = np.random.default_rng(seed)
    source = rng.uniform(-1, 1, (num_rows, *model.source_size, 3)).astype(np.float32)
    return source, rng.normal(size=(num_rows, model.z_dim)).astype(np.float32)
