"""The training loop: batches in, steps, and now and then numbers, pictures, scores, checkpoints."""

import concurrent.futures
import contextlib
import dataclasses
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
from tqdm import tqdm

from retroguide_jax.config import config_to_json
from retroguide_jax.data.catalog import open_dataset
from retroguide_jax.data.pipeline import make_train_iterator
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation.job import evaluate
from retroguide_jax.inference import Model, load_model
from retroguide_jax.parallel.mesh import make_mesh, place_batch
from retroguide_jax.training.checkpoints import Checkpoints
from retroguide_jax.training.networks import Networks, make_networks
from retroguide_jax.training.samples import SampleGrid
from retroguide_jax.training.state import abstract_state, create_state
from retroguide_jax.training.steps import make_train_step
from retroguide_jax.training.writers import MetricWriter, average_metrics

# What a line on the screen has room for; everything is in metrics.jsonl.
_SHOWN = (
    "images_per_second",
    "contrastive/loss",
    "contrastive/accuracy",
    "d/loss",
    "g/adversarial",
    "g/l1",
    "val/r@1_real/embedder",
    "val/r@1_generated/embedder",
    "val/psnr",
)
# A contrastive loss still this close to chance after so many steps is not going to move.
_STALL_STEPS, _STALL_FRACTION = 150, 0.97


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
        print(f"{workdir}: already at step {start}; nothing to do")
        return 0
    _describe(config, networks, state, mesh, start)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    run = _Run(config, workdir, builder, checkpoints, networks, mesh, start)
    step_fn = make_train_step(config, networks, mesh, shardings)
    with contextlib.closing(run), _catch_signals() as stopped:
        for step in run.count_steps():
            state, metrics = step_fn(state, place_batch(next(iterator), mesh))
            run.after_step(step, state, metrics)
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
    return 0


@dataclasses.dataclass
class _Run:
    """What happens around the steps of one run."""

    config: ConfigDict
    workdir: Path
    builder: object
    checkpoints: Checkpoints
    networks: Networks
    mesh: jax.sharding.Mesh
    start: int

    def __post_init__(self):
        self.is_writer = jax.process_index() == 0
        self.writer = MetricWriter(self.workdir, self.start) if self.is_writer else None
        self.rows: list[dict] = []
        self.reporter = concurrent.futures.ThreadPoolExecutor(1)
        self.pending: concurrent.futures.Future | None = None
        draws = self.is_writer and self.networks.generator is not None
        self.samples = SampleGrid(self.builder, self.config.data) if draws else None
        # One Model for the whole run: its functions are compiled once, its weights are replaced.
        self.model = Model(self.config, self.networks, self.mesh, {}, self.start)
        self.last_time = time.monotonic()
        # Without a terminal a bar would fill the log; a line per interval is printed instead.
        self.bar = tqdm(
            total=self.config.train.num_steps, initial=self.start, unit="step", disable=None
        )

    def count_steps(self) -> Iterator[int]:
        """Numbers of the steps to do: the value of state["step"] after each."""
        return iter(range(self.start + 1, self.config.train.num_steps + 1))

    def after_step(self, step: int, state: dict, metrics: dict) -> None:
        """Logs, draws and scores where they are due."""
        train = self.config.train
        last = step == train.num_steps
        self.rows.append(metrics)
        self.bar.update()
        if last or step % train.log_every == 0:
            self._log(step)
        if self.samples and (last or step % train.sample_every == 0):
            path = self.workdir / "samples" / f"step_{step:06d}.png"
            self.samples.save(self._use(step, state), path)
        if last or step % train.eval_every == 0:
            self._evaluate(step, state)

    def _log(self, step: int) -> None:
        """Has the interval's metrics reported by another thread, which waits for the device."""
        self._settle()
        rows, self.rows = self.rows, []
        self.pending = self.reporter.submit(self._report, step, rows)

    def _settle(self) -> None:
        """Waits for the last report; what it found wrong is raised here."""
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.result()

    def _report(self, step: int, rows: list[dict]) -> None:
        train = self.config.train
        means = average_metrics(jax.device_get(rows))
        now = time.monotonic()
        images = train.batch_size * len(rows)
        means["images_per_second"] = images / max(now - self.last_time, 1e-9)
        self.last_time = now
        self._show(step, means)
        if means["skipped/streak"] >= train.max_nonfinite:
            raise UserError(
                f"{self.workdir}: the last {int(means['skipped/streak'])} updates were not finite; "
                "the run has diverged: lower the learning rates (config.optimizer.*.learning_rate) "
                "and start from the last checkpoint or anew"
            )
        chance = math.log(train.batch_size)
        loss = means.get("contrastive/loss", 0.0)
        stalled = self.config.losses.contrastive == "info_nce" and loss > _STALL_FRACTION * chance
        if stalled and step >= _STALL_STEPS:
            tqdm.write(
                f"warning: step {step}: the contrastive loss is {loss:.2f}, chance is "
                f"{chance:.2f}: the embedder has not learned anything yet"
            )

    def _show(self, step: int, scalars: dict[str, float]) -> None:
        if not self.is_writer:
            return
        self.writer.write(step, scalars)
        brief = {
            name: f"{scalars[name]:.3g}"
            for name in _SHOWN
            if not math.isnan(scalars.get(name, math.nan))
        }
        if self.bar.disable:
            text = " ".join(f"{name}={value}" for name, value in brief.items())
            print(f"step {step}/{self.config.train.num_steps} {text}", flush=True)
        else:
            self.bar.set_postfix(brief, refresh=False)

    def _use(self, step: int, state: dict) -> Model:
        self.model.variables, self.model.step = state["ema"], step
        return self.model

    def _evaluate(self, step: int, state: dict) -> None:
        """Scores the validation split and keeps the best checkpoint."""
        config = self.config
        row = evaluate(
            self._use(step, state),
            {},
            self.builder,
            config.data,
            config.data.val_split,
            batch_size=config.eval.batch_size,
            num_noises=config.eval.num_noises,
            seed=config.seed,
        )
        self._settle()
        scalars = {f"val/{name}": metric["value"] for name, metric in row["metrics"].items()}
        self._show(step, scalars)
        name = config.train.best_metric
        if name not in row["metrics"]:
            known = ", ".join(sorted(row["metrics"]))
            raise UserError(f"config.train.best_metric={name!r}: not measured here; known: {known}")
        self.checkpoints.save_best(step, state, config, row["metrics"][name]["value"])
        self.last_time = time.monotonic()

    def close(self) -> None:
        """Waits for the last report and for checkpoints under way; closes the files."""
        try:
            self._settle()
        finally:
            self._close_files()

    def _close_files(self) -> None:
        self.reporter.shutdown()
        self.bar.close()
        self.checkpoints.close()
        if self.writer is not None:
            self.writer.close()


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
    embedder = load_model(config.frozen_embedder).variables["embedder"]
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
