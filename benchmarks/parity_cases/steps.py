"""Whole training steps on both sides, from the same weights, batches and noise."""

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from parity_cases import precision
from parity_cases.arrays import flatten, load, swap
from parity_cases.case import twin
from parity_cases.noise import draw_step
from retroguide_jax.config import load_config
from retroguide_jax.networks import make_networks
from retroguide_jax.parallel.mesh import make_mesh, place_batch
from retroguide_jax.state import abstract_state, create_state
from retroguide_jax.training.steps import make_train_step

NETWORKS = ("embedder", "generator", "discriminator")


class StepDifference(NamedTuple):
    """The differences between both sides after a step.

    step: counted from one. metrics: the largest relative difference of a loss or norm, with its
    name. params: for each network, the length of the difference of its parameters over the length
    of their change since the start; nan before the first change. average: the same for the averaged
    embedder and generator together. free: the largest absolute difference of the biases that
    `find_free` lists, which `params` and `average` leave out.
    """

    step: int
    metrics: float
    metric_name: str
    params: dict[str, float]
    average: float
    free: float


def find_free(names: Iterable[str]) -> set[str]:
    """The generator's biases that instance normalisation cancels.

    A block's first bias is added to every position of a channel just before the channel's mean is
    subtracted: it has no effect, and its gradient is only rounding, which Adam scales up to steps
    of full length. The other case is the first convolution of a region mask.
    """
    blocks: dict[str, list[str]] = {}
    for name in names:
        if found := re.match(r"(.*(structure|facade)\.\d+\.)(mask\.0\.)?conv\.\d+\.bias", name):
            blocks.setdefault(found[1] + (found[3] or ""), []).append(name)
    return {min(biases) for biases in blocks.values()}


def make_city_config() -> ConfigDict:
    """`city`, changed only so that all kinds of updates occur within ten steps."""
    config = load_config("city", [])
    config.train.contrastive_warmup_steps = 2
    config.train.structure_steps = 2
    config.train.contrastive_every = 2
    config.losses.penalty_every = 4
    config.train.num_steps = 20
    for optimizer in config.optimizer.values():
        optimizer.warmup_steps = 2
    return config


def compare_steps(config: ConfigDict, num_steps: int, dtype: np.dtype) -> Iterator[StepDifference]:
    """Trains both sides, ours on one device, and compares them after each step."""
    ours = _train_ours(config, num_steps, dtype)
    start = next(ours)
    return _compare(start, ours, _train_theirs(config, num_steps, dtype, dtype, start))


def compare_rounding(config: ConfigDict, num_steps: int) -> Iterator[StepDifference]:
    """Trains the twin in float64 and in float32, from the same float32 weights, batches and noise.

    Measures the effect of float32 alone, as the reference for `compare_steps` in float32.
    """
    start = next(_train_ours(config, 0, np.dtype("float32")))
    exact, rounded = (
        _train_theirs(config, num_steps, np.dtype(dtype), np.dtype("float32"), start)
        for dtype in ("float64", "float32")
    )
    return _compare(start, exact, rounded)


def _compare(start: "_Moment", left: Iterator, right: Iterator) -> Iterator[StepDifference]:
    for step, (a, b) in enumerate(zip(left, right, strict=True), 1):
        relative = {
            name: abs(value - b.metrics[name]) / abs(value)
            for name, value in a.metrics.items()
            if np.isfinite(value) and value
        }
        name = max(relative, key=relative.get)
        params = {
            network: _compare_paths(a.params[network], b.params[network], start.params[network])
            for network in a.params
        }
        average = _compare_paths(a.average, b.average, start.average)
        mine, other = a.params["generator"], b.params["generator"]
        free = max(float(np.abs(mine[name] - other[name]).max()) for name in find_free(mine))
        yield StepDifference(step, relative[name], name, params, average, free)


class _Moment(NamedTuple):
    params: dict[str, dict[str, np.ndarray]]
    average: dict[str, np.ndarray]
    metrics: dict[str, float]


def make_batch(config: ConfigDict, step: int, dtype: np.dtype) -> dict[str, np.ndarray]:
    """Smooth random images [B, H, W, 3] of both views in [-1, 1]; pairs are related in colour."""
    draw = np.random.RandomState(step)
    colours = draw.uniform(-0.5, 0.5, (config.train.batch_size, 1, 1, 3))
    return {
        view: np.clip(
            colours + draw.normal(0, 0.3, (len(colours), *config.data[f"{view}_size"], 3)), -1, 1
        ).astype(dtype)
        for view in ("aerial", "ground")
    }


def _train_ours(config: ConfigDict, num_steps: int, dtype: np.dtype) -> Iterator[_Moment]:
    """Yields the state at the start, then after each step."""
    mesh = make_mesh({"data": 1, "fsdp": 1}, jax.devices()[:1])
    networks = make_networks(config)
    shardings = jax.tree.map(lambda x: x.sharding, abstract_state(config, networks, mesh))
    state = precision.widen_state(jax.device_get(create_state(config, networks, mesh)), dtype)
    wide = {name: precision.widen(getattr(networks, name), dtype) for name in NETWORKS}
    networks = dataclasses.replace(networks, **wide)
    step_fn = make_train_step(config, networks, mesh, shardings)
    yield _freeze(state, {})
    with precision.use(dtype):
        state = jax.device_put(state, shardings)
    for step in range(num_steps):
        with precision.use(dtype):
            state, metrics = step_fn(state, place_batch(make_batch(config, step, dtype), mesh))
            moment = _freeze(jax.device_get(state), jax.device_get(metrics))
        yield moment


def _freeze(state: dict[str, Any], metrics: dict[str, np.ndarray]) -> _Moment:
    # The step donates the state's buffers, and may write its results there.
    state = jax.tree.map(np.array, state)
    params = {name: flatten(tree) for name, tree in state.params.items()}
    average = flatten(state.ema["embedder"]["params"])
    average |= flatten(state.ema["embedder"]["stats"])
    average |= {f"g.{name}": x for name, x in flatten(state.ema["generator"]).items()}
    metrics = {
        name: float(value) for name, value in metrics.items() if not name.startswith("skipped")
    }
    return _Moment(params, average, metrics)


def _train_theirs(
    config: ConfigDict, num_steps: int, dtype: np.dtype, drawn: np.dtype, start: _Moment
) -> Iterator[_Moment]:
    """Yields the state after each step; batches and noise are drawn in the type `drawn`."""
    import torch

    to_tensor = functools.partial(torch.as_tensor, dtype=getattr(torch, dtype.name))

    networks = twin.networks.build_networks(config)
    averaged = {name: x for name, x in start.average.items() if not name.startswith("g.")}
    load(networks.embedder, averaged | start.params.get("embedder", {}), dtype)
    load(networks.generator, start.params["generator"], dtype)
    load(networks.discriminator, start.params["discriminator"], dtype)
    step_fn = twin.step.TrainStep(config, networks)
    for step in range(num_steps):
        batch = {
            view: to_tensor(swap(x).copy()) for view, x in make_batch(config, step, drawn).items()
        }
        with precision.use(drawn):
            z, other, maps = draw_step(config, networks.generator, step)
        noise = twin.adversarial.Noise(
            to_tensor(z), None if other is None else to_tensor(other), list(map(to_tensor, maps))
        )
        metrics = step_fn(batch, noise)
        params = {
            name: {key: x.detach().numpy().copy() for key, x in module.named_parameters()}
            for name, module in zip(
                NETWORKS,
                (networks.embedder, networks.generator, networks.discriminator),
                strict=True,
            )
        }
        average = {key: x.numpy().copy() for key, x in step_fn.guide.state_dict().items()}
        average |= {
            f"g.{key}": x.numpy().copy() for key, x in step_fn.averaged.state_dict().items()
        }
        yield _Moment(params, average, {key: float(x) for key, x in metrics.items()})


def _compare_paths(a: dict, b: dict, start: dict) -> float:
    """Length of the difference over the length of the change since the start."""
    names = a.keys() - find_free(a)
    apart, moved = (
        np.sqrt(sum(float(np.square(a[name] - other[name]).sum()) for name in names))
        for other in (b, start)
    )
    length = np.sqrt(sum(float(np.square(a[name]).sum()) for name in names))
    # Even the average of equal numbers changes, by rounding.
    has_moved = moved > np.finfo(next(iter(a.values())).dtype).eps * length
    return apart / moved if has_moved else float("nan")
