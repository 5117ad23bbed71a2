"""Shared by every update of the step: the recipe, one guarded optimizer step, averaging."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from retroguide_jax.networks import Networks
from retroguide_jax.schedule import Schedule
from retroguide_jax.state import TrainState


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything static that an update needs.

    Attributes:
      config: the run's config.
      networks: its modules.
      mesh: the devices.
      shardings: shardings of the trained parameters, by network.
      optimizers: optimizers by network.
      frozen: name -> values that terms of an objective read and no update changes, such as the
        variables of a network that was trained elsewhere; constants of the compiled step.
    """

    config: ConfigDict
    networks: Networks
    mesh: Mesh
    shardings: dict[str, Any]
    optimizers: dict[str, optax.GradientTransformation]
    frozen: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def schedule(self) -> Schedule:
        """Which updates are due when."""
        return Schedule(self.config)


@jax.named_scope("optimizer")
def apply_gradients(
    recipe: Recipe, state: TrainState, name: str, loss: jax.Array, grads: Any
) -> tuple[TrainState, jax.Array, jax.Array]:
    """One optimizer step of the network `name`, skipped if its loss or gradient is not finite.

    Gradients are taken with respect to parameters that `replicate` has gathered.

    Returns:
      The state, whether the step was taken (bool scalar), and the gradient's global norm.
    """
    params, opt = state.params[name], state.opt[name]
    # Shard gradients like the parameters first: each device needs only its part of the sum over
    # all devices, which so becomes a reduce-scatter.
    grads = jax.lax.with_sharding_constraint(grads, recipe.shardings[name])
    norm = optax.tree.norm(grads)
    ok = jnp.isfinite(loss) & jnp.isfinite(norm)
    updates, new_opt = recipe.optimizers[name].update(grads, opt, params)
    new_params = optax.apply_updates(params, updates)
    state = state.update(
        params={name: select(ok, new_params, params)}, opt={name: select(ok, new_opt, opt)}
    )
    return state, ok, norm


def select(ok: jax.Array, new: Any, old: Any) -> Any:
    """The tree `new` where the scalar `ok` is true, else `old`."""
    return jax.tree.map(lambda n, o: jnp.where(ok, n, o), new, old)


@jax.named_scope("average")
def average(halflife: float, averaged: Any, current: Any, num_updates: jax.Array) -> Any:
    """One step of the exponential moving average of a tree.

    The half-life counts updates, not images: at any batch size, it averages out the noise of the
    same number of updates. Early in a run, it is 0.08 of the updates so far.

    Args:
      halflife: half-life in updates.
      averaged: the average so far.
      current: the new values.
      num_updates: updates due so far.
    """
    decay = 0.5 ** (1.0 / halflife)
    decay = jnp.minimum(decay, (1.0 + num_updates) / (10.0 + num_updates))
    return jax.tree.map(lambda a, c: decay * a + (1.0 - decay) * c, averaged, current)
