"""The training loop: steps, and at intervals metrics, sample images, scores and checkpoints."""

import contextlib
import dataclasses
import functools
import gc
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from retroguide_jax.checkpoints.loading import load_model
from retroguide_jax.checkpoints.saving import Checkpoints, Progress, list_steps, mark_finished
from retroguide_jax.config import config_to_json
from retroguide_jax.data.catalog import open_dataset
from retroguide_jax.data.pipeline import get_position, make_train_iterator, set_position
from retroguide_jax.data.reading import num_examples
from retroguide_jax.errors import UserError
from retroguide_jax.files import append_row, write_beside
from retroguide_jax.fingerprints import hash_config, hash_dataset
from retroguide_jax.networks import make_networks
from retroguide_jax.parallel.agreement import check_agreement
from retroguide_jax.parallel.mesh import make_mesh, place_batch
from retroguide_jax.parallel.processes import writer_first
from retroguide_jax.parallel.rules import sharding_table
from retroguide_jax.parallel.stopping import Stopper
from retroguide_jax.progress import print_line, show_stage
from retroguide_jax.provenance import STARTS_PATH, describe_command, describe_machine, format_time
from retroguide_jax.scaling import describe_length, list_warnings, scale_config
from retroguide_jax.schedule import Schedule
from retroguide_jax.state import TrainState, abstract_state, create_state
from retroguide_jax.training.profiling import check_profile_steps
from retroguide_jax.training.reporter import Reporter
from retroguide_jax.training.skipped import DivergedError
from retroguide_jax.training.steps import check_batches, make_train_step


def train(
    config: ConfigDict,
    workdir: Path,
    data_dir: str | None,
    allow_change: Sequence[str] = (),
    beat_fn: Callable[[str], None] = lambda what: None,
) -> int:
    """Trains until `config.train.num_steps`, from the newest checkpoint in `workdir` if any.

    Args:
      config: the run's configuration.
      workdir: receives config.json, shardings.txt, starts.jsonl, metrics.jsonl, events/, samples/,
        checkpoints/ and best/.
      data_dir: folder of the data sets; None for TFDS's default.
      allow_change: fields in which `config` may differ from the checkpoint's, besides those that
        do not change what is learned.
      beat_fn: heartbeat; called with a description of the next operation, before each step and
        before anything that can block on another process; see `parallel.watchdog.Watchdog.beat`.

    Returns:
      The exit status: 0 at the end, 128 + the signal's number when stopped by one.

    Raises:
      UserError: a config, data set or checkpoint that cannot be used, a diverged run, or processes
        that do not agree on these.
    """
    config = scale_config(config)
    check_batches(config, jax.device_count())
    check_profile_steps(config)
    networks, mesh = make_networks(config), make_mesh(config.mesh)
    stage = functools.partial(show_stage, shown=jax.process_index() == 0)
    with stage("opening the data set"):
        with writer_first("data set"):
            builder = open_dataset(config.data, data_dir)
        iterator = make_train_iterator(
            builder,
            config.data,
            batch_size=config.train.batch_size,
            seed=config.seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
    beat_fn("comparing the processes")
    check_agreement(_list_facts(config, builder, workdir))
    beat_fn("restoring or creating the state")
    workdir.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(workdir, config, allow_change)
    with stage("restoring or creating the state"):
        abstract = abstract_state(config, networks, mesh)
        progress = checkpoints.restore(abstract)
        if progress is None:
            state = create_state(config, networks, mesh)
            if config.mode == "frozen":
                state = _adopt_embedder(state, config, abstract)
            progress = Progress(state)
    state, rollbacks = progress.state, progress.rollbacks
    schedule, batch = Schedule(config), None
    # A resumed run that was in the middle of a batch draws that batch again.
    if progress.position and not schedule.needs_batch(int(state.step)):
        progress = dataclasses.replace(progress, position=progress.position - 1)
    set_position(iterator, progress.position)
    start = step = int(state.step)
    _write_plans(workdir, config, abstract)
    if start >= config.train.num_steps:
        _mark_finished(workdir, start)
        print(f"{workdir}: already at step {start}; nothing to do")
        return 0
    _mark_finished(workdir, None)
    _describe(config, networks, state, mesh, start)
    if jax.process_index() == 0:
        num_pairs = num_examples(builder, config.data.train_split)
        print(describe_length(config, num_pairs), flush=True)
        for warning in list_warnings(config, jax.device_count(), num_pairs):
            print_line(f"warning: {warning}")
    _note_start(workdir, start)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    with stage("opening validation data and judges"):
        reporter = Reporter(config, workdir, builder, checkpoints, networks, progress, beat_fn)
    step_fn = make_train_step(config, networks, mesh, shardings)
    compiling = stage("compiling the training step")
    with contextlib.closing(reporter), Stopper() as stopper:
        while step < config.train.num_steps:
            with reporter.profiler.step(step + 1):
                if batch is None or schedule.needs_batch(step):
                    beat_fn(f"waiting for the batch of step {step + 1}")
                    with reporter.timer.waiting():
                        batch = place_batch(next(iterator), mesh)
                beat_fn(f"in step {step + 1}")
                with gc_disabled(), compiling:
                    state, metrics = step_fn(state, batch)
                compiling = contextlib.nullcontext()
            step += 1
            try:
                reporter.after_step(step, state, metrics)
            except DivergedError as error:
                if len(rollbacks) >= config.train.max_rollbacks:
                    raise
                beat_fn("going back to the last good checkpoint")
                state = metrics = batch = None  # memory may not hold two states
                position = get_position(iterator)
                progress = _roll_back(error, checkpoints, abstract, position, rollbacks)
                state, rollbacks = progress.state, progress.rollbacks
                step = rollbacks[-1]
                reporter.go_back(progress)
                continue
            stopped = stopper.check()
            if (
                stopped
                or step == config.train.num_steps
                or step % config.train.checkpoint_every == 0
            ):
                beat_fn(f"saving the checkpoint of step {step}")
                # Save before the next batch is drawn, so that data and state are at the same step.
                checkpoints.save(Progress(state, get_position(iterator), rollbacks))
                reporter.timer.resume()
            if stopped:
                print(f"stopped by {stopped.name} at step {step}: saved; run again to resume")
                return 128 + stopped
    # Only after the last checkpoint is complete: `evaluate --watch` polls once more after this.
    _mark_finished(workdir, config.train.num_steps)
    if jax.process_index() == 0:
        where = f"--workdir={workdir}" + (f" --data_dir={data_dir}" if data_dir else "")
        print(f"{workdir}: trained to step {step}; next:")
        print(f"  retroguide evaluate {where}\n  retroguide report {where}")
    return 0


@contextlib.contextmanager
def gc_disabled():
    """Disables garbage collection, which takes a quarter of the time of tracing (~1M objects)."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _list_facts(config: ConfigDict, builder, workdir: Path) -> dict[str, str]:
    """Facts that must match on all processes, or the job hangs or mixes two runs."""
    split = config.data.train_split
    return {
        "the config's hash": hash_config(config),
        "the hash of the data set": hash_dataset(builder, split),
        "batches per pass": str(num_examples(builder, split) // config.train.batch_size),
        f"the newest checkpoint in {workdir}": str(max(list_steps(workdir), default="none")),
    }


def _mark_finished(workdir: Path, step: int | None) -> None:
    if jax.process_index() == 0:
        mark_finished(workdir, step)


def _adopt_embedder(state: TrainState, config: ConfigDict, abstract: TrainState) -> TrainState:
    """Puts the embedder of `config.frozen_embedder` into a new state."""
    if not config.frozen_embedder:
        raise UserError(
            "config.mode=frozen needs config.frozen_embedder: the work directory of an embedder "
            "(`retroguide train --config=city_retrieval --workdir=...`)"
        )
    embedder = jax.device_get(load_model(config.frozen_embedder).variables["embedder"])
    wanted = abstract.ema["embedder"]
    if jax.tree.map(jnp.shape, embedder) != jax.tree.map(jnp.shape, wanted):
        raise UserError(
            f"config.frozen_embedder={config.frozen_embedder}: its networks differ from "
            "config.embedder; use the config it was trained with"
        )
    placed = jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), embedder, wanted)
    return state.update(ema={"embedder": placed})


def _roll_back(
    error: DivergedError,
    checkpoints: Checkpoints,
    abstract: TrainState,
    position: int,
    rollbacks: tuple[int, ...],
) -> Progress:
    """Restores the last good checkpoint but keeps the data position.

    A repeated step has the same noise but an unseen batch, so that the run takes another course.
    """
    good = checkpoints.roll_back(abstract, rollbacks)
    if good is None:
        raise error
    step = int(good.state.step)
    if jax.process_index() == 0:
        text = f"{error.cause}: ROLLED BACK to step {step}, on with new batches"
        print_line(f"warning: {text}")
    return Progress(good.state, position, (*rollbacks, step))


def _write_plans(workdir: Path, config: ConfigDict, abstract: TrainState) -> None:
    """Writes config.json, and shardings.txt: path, shape, dtype and spec of the state's arrays."""
    if jax.process_index():
        return
    rows = sharding_table(abstract, jax.tree.map(lambda leaf: leaf.sharding, abstract))
    table = "".join(f"{path} {shape} {dtype} {spec}\n" for path, shape, dtype, spec in rows)
    for name, text in (("config.json", config_to_json(config)), ("shardings.txt", table)):
        with write_beside(workdir / name) as beside:
            beside.write_text(text)


def _note_start(workdir: Path, step: int) -> None:
    """Appends a row to starts.jsonl: time, start step, command, code and machine."""
    if jax.process_index() == 0:
        row = {"time": format_time(), "step": step, "command": describe_command()}
        append_row(workdir / STARTS_PATH, row | {"machine": describe_machine()})


def _describe(config, networks, state, mesh, start: int) -> None:
    from clu import parameter_overview

    if jax.process_index():
        return
    counts = {
        name: parameter_overview.count_parameters(params) for name, params in state.params.items()
    }
    sizes = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in counts.items())
    print(
        f"{config.mode}, {networks.source_view} to {networks.target_view}, "
        f"{mesh.size} x {jax.devices()[0].device_kind}; parameters: {sizes}; "
        f"from step {start} to {config.train.num_steps}",
        flush=True,
    )
