"""The training loop: batches in, steps, and now and then numbers, pictures, scores, checkpoints."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from retroguide_jax.config import config_to_json
from retroguide_jax.data.catalog import open_dataset
from retroguide_jax.data.pipeline import make_train_iterator
from retroguide_jax.errors import UserError
from retroguide_jax.networks import make_networks
from retroguide_jax.parallel.mesh import make_mesh, place_batch
from retroguide_jax.training.checkpoints import Checkpoints, mark_finished
from retroguide_jax.training.loading import load_model
from retroguide_jax.training.reporter import Reporter
from retroguide_jax.training.state import abstract_state, create_state
from retroguide_jax.training.steps import make_train_step


def train(config: ConfigDict, workdir: Path, data_dir: str | None) -> int:
    """Trains until `config.train.num_steps`, from the newest checkpoint in `workdir` if any.

    Args:
      config: the run's configuration.
      workdir: receives config.json, metrics.jsonl, events/, samples/, checkpoints/ and best/.
      data_dir: where data sets lie; None for TFDS's own place.

    Returns:
      The exit status: 0 at the end, 128 + the signal's number when stopped by one.

    Raises:
      UserError: a config, data set or checkpoint that cannot be used, or a diverged run.
    """
    _check_batches(config)
    networks, mesh = make_networks(config), make_mesh(config.mesh)
    builder = open_dataset(config.data, data_dir)
    iterator = make_train_iterator(
        builder,
        config.data,
        batch_size=config.train.batch_size,
        seed=config.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    workdir.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(workdir, config.train.keep_checkpoints)
    abstract = abstract_state(config, networks, mesh)
    state = checkpoints.restore(abstract, iterator, config)
    if state is None:
        state = create_state(config, networks, mesh)
        if config.mode == "frozen":
            state = _adopt_embedder(state, config, abstract)
    start = int(state["step"])
    _write_config(workdir, config)
    if start >= config.train.num_steps:
        _mark_finished(workdir, start)
        print(f"{workdir}: already at step {start}; nothing to do")
        return 0
    _mark_finished(workdir, None)
    _describe(config, networks, state, mesh, start)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    reporter = Reporter(config, workdir, builder, checkpoints, networks, start)
    step_fn = make_train_step(config, networks, mesh, shardings)
    with contextlib.closing(reporter), _catch_signals() as stopped:
        for step in range(start + 1, config.train.num_steps + 1):
            state, metrics = step_fn(state, place_batch(next(iterator), mesh))
            reporter.after_step(step, state, metrics)
            if (
                stopped
                or step == config.train.num_steps
                or step % config.train.checkpoint_every == 0
            ):
                # Before the next batch is drawn, so that data and state stand at the same point.
                checkpoints.save(step, state, iterator, config)
            if stopped:
                print(f"stopped by {stopped[0].name} at step {step}: saved; run again to go on")
                return 128 + stopped[0]
    # After the last checkpoint is whole: an evaluation that waits for more then looks once again.
    _mark_finished(workdir, config.train.num_steps)
    return 0


def _mark_finished(workdir: Path, step: int | None) -> None:
    if jax.process_index() == 0:
        mark_finished(workdir, step)


def _check_batches(config: ConfigDict) -> None:
    train = config.train
    if train.batch_size % train.adversarial_batch_size:
        raise UserError(
            f"config.train.adversarial_batch_size={train.adversarial_batch_size} must divide "
            f"config.train.batch_size={train.batch_size}"
        )
    if train.batch_size % jax.device_count() or train.batch_size < 2:
        raise UserError(
            f"config.train.batch_size={train.batch_size} must be at least 2 and a multiple of the "
            f"number of devices, {jax.device_count()}"
        )


def _adopt_embedder(state: dict, config: ConfigDict, abstract: dict) -> dict:
    """Puts the embedder of `config.frozen_embedder` into a new state."""
    if not config.frozen_embedder:
        raise UserError(
            "config.mode=frozen needs config.frozen_embedder: the work directory of an embedder "
            "(`retroguide train --config=city_retrieval --workdir=...`)"
        )
    embedder = jax.device_get(load_model(config.frozen_embedder).variables["embedder"])
    wanted = abstract["ema"]["embedder"]
    if jax.tree.map(jnp.shape, embedder) != jax.tree.map(jnp.shape, wanted):
        raise UserError(
            f"config.frozen_embedder={config.frozen_embedder}: its networks differ from "
            "config.embedder; use the config it was trained with"
        )
    placed = jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), embedder, wanted)
    return state | {"ema": state["ema"] | {"embedder": placed}}


def _write_config(workdir: Path, config: ConfigDict) -> None:
    if jax.process_index() == 0:
        beside = workdir / "config.json.tmp"
        beside.write_text(config_to_json(config))
        beside.replace(workdir / "config.json")


def _describe(config, networks, state, mesh, start: int) -> None:
    from clu import parameter_overview

    if jax.process_index():
        return
    counts = {
        name: parameter_overview.count_parameters(params)
        for name, params in state["params"].items()
    }
    sizes = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in counts.items())
    print(
        f"{config.mode}, {networks.source_view} to {networks.target_view}, "
        f"{mesh.size} x {jax.devices()[0].device_kind}; parameters: {sizes}; "
        f"from step {start} to {config.train.num_steps}",
        flush=True,
    )


@contextlib.contextmanager
def _catch_signals() -> Iterator[list[signal.Signals]]:
    """Collects SIGINT and SIGTERM, to act on between two steps; a second one acts at once."""
    caught: list[signal.Signals] = []
    previous = {}

    def note(number, frame):
        del frame
        caught.append(signal.Signals(number))
        signal.signal(number, previous[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        previous[number] = signal.signal(number, note)
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
