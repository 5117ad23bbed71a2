"""Fields of the config that may differ between a checkpoint and the run that resumes from it."""

import fnmatch
from collections.abc import Collection, Iterator
from typing import Any

import jax
from ml_collections import ConfigDict

from retroguide_jax.config import complete_config
from retroguide_jax.errors import UserError
from retroguide_jax.networks import make_networks
from retroguide_jax.state import initial_state
from retroguide_jax.text import find_nearest

# Fields that do not change what is learned: up to rounding, the run is the same for any value.
_FREE = (
    "mesh.*",
    "sharding_rules",
    "eval.*",
    "data.num_threads",
    "losses.contrastive_chunk",
    "train.micro_batch_size",
    "train.remat",
    "train.compiler_level",
    "train.log_every",
    "train.sample_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.profile_steps",
    "train.max_nonfinite",
    "train.max_rollbacks",
)


def check_change(place: Any, saved: ConfigDict, given: ConfigDict, allowed: Collection[str]) -> str:
    """Checks whether a run of one config can resume from a checkpoint of another.

    Args:
      place: the checkpoint, for errors.
      saved: the config it was made with.
      given: the config of this run.
      allowed: fields that may differ although they change what is learned, as "train.num_steps".

    Returns:
      The fields that differ, with old and new values; "" for none.

    Raises:
      UserError: other fields differ, the networks have other shapes, or `allowed` names no field.
    """
    saved, given = complete_config(saved), complete_config(given)
    old, new = dict(_flatten(saved)), dict(_flatten(given))
    for name in allowed:
        if name not in new:
            nearest = find_nearest(name, new)
            hint = f"; did you mean {nearest}?" if nearest else ""
            raise UserError(f"--allow_change={name}: the config has no such field{hint}")
    changed = {
        name: f"config.{name} was {old.get(name)!r}, now {new.get(name)!r}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    }
    bound = [name for name in changed if not any(fnmatch.fnmatch(name, free) for free in _FREE)]
    forbidden = [name for name in bound if name not in allowed]
    if forbidden:
        changes = "; ".join(changed[name] for name in forbidden)
        raise UserError(
            f"{place} was made with another config: {changes}; run "
            f"with the old values, allow the change by --allow_change={','.join(bound)}, or use "
            "another --workdir"
        )
    if bound:
        _check_shapes(place, saved, given)
    return "; ".join(changed.values())


def _check_shapes(place: Any, saved: ConfigDict, given: ConfigDict) -> None:
    old, new = _list_shapes(saved), _list_shapes(given)
    differing = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    if differing:
        name = differing[0]
        raise UserError(
            f"{place} does not fit this config's networks or optimizers: {len(differing)} arrays "
            f"differ, such as {name}: saved {old.get(name, 'none')}, now {new.get(name, 'none')}; "
            "run with the old values, or use another --workdir"
        )


def _list_shapes(config: ConfigDict) -> dict[str, tuple[int, ...]]:
    networks = make_networks(config)
    state = jax.eval_shape(lambda: initial_state(config, networks))
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}


def _flatten(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
