"""Cases of the optimiser, with a skipped update in the middle, and of the moving average."""

from collections.abc import Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from parity_cases import precision
from parity_cases.arrays import draw
from parity_cases.case import Case, Results, twin
from retroguide_jax.parallel.mesh import make_mesh, replicate
from retroguide_jax.state import TrainState, make_optimizer
from retroguide_jax.training import updates
from retroguide_jax.training.updates import Recipe, apply_gradients

_SHAPES = {"a": (3, 4), "b": (5,)}
_NUM_UPDATES, _BAD = 7, 3
_HALFLIFE = 1.25
# Schedule -> optimiser fields: "none" as in a city config, the others for the other switches.
_FORMS = {
    "none": {"b1": 0.0, "b2": 0.99, "weight_decay": 0.0, "warmup_steps": 2, "clip_norm": 0.0},
    "linear": {"b1": 0.0, "b2": 0.99, "weight_decay": 0.0, "warmup_steps": 0, "clip_norm": 0.0},
    "cosine": {"b1": 0.9, "b2": 0.999, "weight_decay": 0.03, "warmup_steps": 2, "clip_norm": 4.0},
}


def make_cases() -> Iterator[Case]:
    """AdamW with each schedule, and the moving average of both kinds of network."""
    for decay, fields in _FORMS.items():
        config = ConfigDict(fields | {"decay": decay, "learning_rate": 0.1})
        yield Case(
            f"AdamW, {decay}, one of {_NUM_UPDATES} updates skipped",
            lambda dtype, config=config: _update_ours(config, dtype),
            lambda dtype, config=config: _update_theirs(config, dtype),
        )
    yield Case("moving average", _average_ours, _average_theirs)


def _draw(name: str, dtype: np.dtype) -> Results:
    return {leaf: draw(f"{name} {leaf}", shape).astype(dtype) for leaf, shape in _SHAPES.items()}


def _draw_updates(dtype: np.dtype) -> Iterator[tuple[np.ndarray, Results]]:
    for i in range(_NUM_UPDATES):
        yield np.array(np.inf if i == _BAD else 1.0, dtype), _draw(f"gradient {i}", dtype)


def _update_ours(config: ConfigDict, dtype: np.dtype) -> Results:
    with precision.use(dtype):
        mesh = make_mesh({"data": 1, "fsdp": 1}, jax.devices()[:1])
        optimizer = make_optimizer(config, _NUM_UPDATES)
        params = _draw("start", dtype)
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        shardings = {"net": jax.tree.map(lambda _: sharding, params)}
        recipe = Recipe(config, None, mesh, shardings, {"net": optimizer})
        opt = precision.widen_state(jax.device_get(optimizer.init(params)), dtype)
        state = TrainState({}, {"net": opt}, {"net": params}, {}, {}, 0)
        step_fn = jax.jit(
            lambda state, loss, grads: apply_gradients(
                recipe, state, "net", loss, replicate(grads, mesh)
            )
        )
        found = {}
        for i, (loss, grads) in enumerate(_draw_updates(dtype)):
            state, ok, norm = step_fn(state, loss, grads)
            found |= {f"{i} {leaf}": np.asarray(x) for leaf, x in state.params["net"].items()}
            found |= {f"{i} taken": np.asarray(ok, dtype), f"{i} norm": np.asarray(norm)}
        return found


def _update_theirs(config: ConfigDict, dtype: np.dtype) -> Results:
    import torch

    params = {
        name: torch.nn.Parameter(torch.from_numpy(x)) for name, x in _draw("start", dtype).items()
    }
    optimizer = twin.optimizer.Optimizer(config, params.values(), _NUM_UPDATES)
    found = {}
    for i, (loss, grads) in enumerate(_draw_updates(dtype)):
        grads = tuple(torch.from_numpy(grad) for grad in grads.values())
        ok, norm = optimizer.update(torch.from_numpy(loss), grads)
        found |= {f"{i} {leaf}": x.detach().numpy().copy() for leaf, x in params.items()}
        found |= {f"{i} taken": ok.numpy().astype(dtype), f"{i} norm": norm.numpy()}
    return found


def _average_ours(dtype: np.dtype) -> Results:
    with precision.use(dtype):
        averaged, found = _draw("average", dtype), {}
        for i in range(3):
            averaged = updates.average(_HALFLIFE, averaged, _draw(f"current {i}", dtype), 10**i)
            found |= {f"{i} {leaf}": np.asarray(x) for leaf, x in averaged.items()}
        return found


def _average_theirs(dtype: np.dtype) -> Results:
    import torch

    def to_tensors(arrays):
        return [torch.from_numpy(array) for array in arrays.values()]

    averaged, found = to_tensors(_draw("average", dtype)), {}
    for i in range(3):
        decay = twin.optimizer.compute_decay(_HALFLIFE, 10**i)
        current = to_tensors(_draw(f"current {i}", dtype))
        twin.optimizer.average(averaged, current, decay, torch.tensor(True))
        found |= {f"{i} {x}": y.numpy().copy() for x, y in zip(_SHAPES, averaged, strict=True)}
    return found
