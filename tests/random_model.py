"""A model or a run with random weights of realistic size in every array, without compiling."""

import jax
import numpy as np

from retroguide_jax.checkpoints.saving import Checkpoints, Progress
from retroguide_jax.inference import Model
from retroguide_jax.networks import make_networks
from retroguide_jax.parallel.mesh import make_mesh
from retroguide_jax.state import abstract_state


def make_model(config):
    """Makes a model; unlike fresh weights, its weights are nowhere zero, so every layer matters."""
    model = Model(config, make_networks(config))
    model.load(_make_state(config).ema, step=7)
    return model


def save_run(workdir, config):
    """Writes the work directory of a run with the weights of `make_model`."""
    checkpoints = Checkpoints(workdir, config)
    checkpoints.save(Progress(_make_state(config)))
    checkpoints.close()


def draw_inputs(model, num_rows, seed=1):
    """Draws source images and noise for `generate`."""
    rng = np.random.default_rng(seed)
    source = rng.uniform(-1, 1, (num_rows, *model.source_size, 3)).astype(np.float32)
    return source, rng.normal(size=(num_rows, model.z_dim)).astype(np.float32)


def _make_state(config):
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if leaf.dtype == np.int32:  # steps and counts
            return jax.device_put(np.zeros(leaf.shape, leaf.dtype), leaf.sharding)
        name = jax.tree_util.keystr(path)
        values = rng.normal(size=leaf.shape) / max(1, np.prod(leaf.shape[:-1])) ** 0.5
        if "scale" in name:
            values = 1 + values / 10
        values = np.abs(values) if "var" in name else values
        return jax.device_put(values.astype(leaf.dtype), leaf.sharding)

    mesh = make_mesh({}, jax.devices()[:1])
    return jax.tree_util.tree_map_with_path(
        draw, abstract_state(config, make_networks(config), mesh)
    )
