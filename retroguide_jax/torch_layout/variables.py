"""The networks' arrays in a training state, by names such as `generator/rgb/kernel`."""

from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from retroguide_jax.networks import make_networks
from retroguide_jax.parallel.rules import path_name
from retroguide_jax.state import TrainState, initial_state


def get_networks(state: TrainState) -> dict[str, Any]:
    """The networks of a training state: {embedder, generator?, discriminator?}.

    The embedder, which is {params, stats}, and the generator are the averaged ones.
    """
    params = state.params
    discriminator = {name: params[name] for name in ("discriminator",) if name in params}
    return {**state.ema, **discriminator}


def put_networks(state: TrainState, networks: Mapping[str, Any]) -> TrainState:
    """A state with these networks as both the trained and the averaged ones."""
    params, stats = dict(state.params), dict(state.stats)
    for name in params:
        params[name] = networks[name]["params"] if name == "embedder" else networks[name]
    if "embedder" in stats:
        stats["embedder"] = networks["embedder"]["stats"]
    ema = {name: networks[name] for name in state.ema}
    return state.replace(params=params, stats=stats, ema=ema)


def flatten(networks: Mapping[str, Any]) -> dict[str, Any]:
    """Name -> leaf. The embedder's `params` and `stats` share one namespace.

    They cannot collide: Linen names a normalisation's parameters scale and bias, its statistics
    mean and var.
    """
    leaves = jax.tree_util.tree_leaves_with_path(networks)
    return {join_path(path): leaf for path, leaf in leaves}


def list_shapes(config: ConfigDict) -> dict[str, tuple[int, ...]]:
    """Name -> shape of all arrays of a config's networks, without computing them."""
    networks = make_networks(config)
    state = jax.eval_shape(lambda: initial_state(config, networks))
    return {name: leaf.shape for name, leaf in flatten(get_networks(state)).items()}


def replace(networks: Mapping[str, Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The networks with the leaves named in `arrays` replaced, with the same sharding."""

    def choose(path, leaf):
        name = join_path(path)
        return jax.device_put(arrays[name], leaf.sharding) if name in arrays else leaf

    return jax.tree_util.tree_map_with_path(choose, networks)


def join_path(path: tuple[Any, ...]) -> str:
    """The name of the leaf at a path of `get_networks`' tree, see `flatten`."""
    network, *rest = path_name(path).split("/")
    return "/".join([network, *(rest[1:] if network == "embedder" else rest)])
