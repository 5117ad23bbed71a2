"""Reports of a run while it trains: metrics, sample images, scores and warnings."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import math
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from tqdm import tqdm

from retroguide_jax.checkpoints.saving import Checkpoints, Progress
from retroguide_jax.data.images import enlarge_lower, make_grid, to_uint8, write_png
from retroguide_jax.data.pipeline import read_batch_ids
from retroguide_jax.data.reading import num_examples, read_pairs
from retroguide_jax.files import is_in_bucket
from retroguide_jax.inference import Model
from retroguide_jax.networks import Networks
from retroguide_jax.progress import is_quiet, make_bar, show_stage
from retroguide_jax.schedule import Schedule
from retroguide_jax.state import TrainState
from retroguide_jax.training.probe import Probe
from retroguide_jax.training.profiling import Profiler
from retroguide_jax.training.skipped import DivergedError, SkippedUpdates
from retroguide_jax.training.speed import Speed
from retroguide_jax.training.timing import StepTimer
from retroguide_jax.training.validation import Validation
from retroguide_jax.training.writers import MetricWriter, average_metrics

_NUM_ROWS = 8
_NUM_NOISES = 3


class SampleGrid:
    """Sample images of the same few validation places and noises every time, for comparison.

    Args:
      builder: a built data set.
      data_config: `config.data`; the first pairs of its validation split are used.
    """

    def __init__(self, builder, data_config):
        self._pairs = read_pairs(builder, data_config, data_config.val_split, _NUM_ROWS)

    def draw(self, model: Model) -> np.ndarray:
        """One row per place, columns source, real, generated 1 to 3: uint8 [H, W, 3]."""
        source = np.stack([pair[model.source_view] for pair in self._pairs])
        noise = np.random.default_rng(0).standard_normal(
            (_NUM_NOISES, len(source), model.z_dim), np.float32
        )
        generated = [to_uint8(model.generate(source, z)) for z in noise]
        rows = [
            [pair[model.source_view], pair[model.target_view], *(images[i] for images in generated)]
            for i, pair in enumerate(self._pairs)
        ]
        headings = ["source", "real", *(f"generated {k + 1}" for k in range(_NUM_NOISES))]
        return make_grid([enlarge_lower(row) for row in rows], scale=2, headings=headings)


# Metrics that fit on one line of the terminal; metrics.jsonl has all of them.
_SHOWN = (
    "images_per_second",
    "contrastive/loss",
    "contrastive/accuracy",
    "d/loss",
    "g/adversarial",
    "structure/l1_low",
    "g/l1",
    "val/r@1_real/embedder",
    "val/r@1_generated/embedder",
    "val/psnr",
)
# Warn if, after this many steps, the contrastive loss is still above this fraction of chance.
_STALL_STEPS, _STALL_FRACTION = 150, 0.97


@dataclasses.dataclass
class Reporter:
    """Logs, draws and scores one run; every process calls every method, process 0 writes.

    Args as in `loop.train`; `start` is the progress that the run resumes from.
    """

    config: ConfigDict
    workdir: Path
    builder: tfds.core.DatasetBuilder
    checkpoints: Checkpoints
    networks: Networks
    start: dataclasses.InitVar[Progress]
    beat_fn: Callable[[str], None]

    def __post_init__(self, start: Progress):
        self.is_writer = jax.process_index() == 0
        self.writer: MetricWriter | None = None  # of process 0
        self.thread = concurrent.futures.ThreadPoolExecutor(1)
        self.timer = StepTimer(self.thread)
        self.speed = Speed(self.config, self.timer)
        self.pending: concurrent.futures.Future | None = None
        self.last_logged = 0
        val_split = self.config.data.val_split
        # A dozen photographs may leave one for validation, too few to rank: train without scores.
        scores = num_examples(self.builder, val_split) >= 2
        if not scores and self.is_writer:
            print(f"split {val_split!r} has fewer than 2 examples: no validation, no best/")
        draws = self.networks.generator is not None
        self.samples = SampleGrid(self.builder, self.config.data) if draws else None
        self.probe = Probe(self.config, self.networks, self.builder)
        # One Model for the whole run: its functions are compiled once, its weights are replaced.
        self.model = Model(self.config, self.networks)
        self.validation, self.best = None, ""
        if scores:
            self.validation = Validation(self.config, self.workdir, self.builder, self.model)
            self.best = f"val/{self.validation.best.text}"
        ids_fn = functools.partial(
            read_batch_ids,
            self.builder,
            self.config.data,
            batch_size=self.config.train.batch_size,
            seed=self.config.seed,
        )
        self.skipped = SkippedUpdates(
            self.workdir, Schedule(self.config), lambda number: ids_fn(number=number)
        )
        step = int(start.state.step)
        self.bar = make_bar(
            total=self.config.train.num_steps,
            initial=step,
            leave=True,
            # Without a terminal, `_print` writes one line per interval instead.
            shown=self.is_writer and sys.stderr.isatty(),
            # tqdm's own estimate of the remaining time would include the compilation.
            bar_format="{percentage:3.0f}%|{bar:20}| step {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
        )
        self.go_back(start)
        self.profiler = Profiler(
            self.config, self.timer, self._find_events if self.is_writer else None
        )

    def go_back(self, progress: Progress) -> None:
        """Continues from another step; rows that were written after it are dropped."""
        step = int(progress.state.step)
        totals = [count["total"] for count in jax.device_get(progress.state.skipped).values()]
        self.skipped.begin(step, progress.position, int(sum(totals)))
        if self.is_writer:
            if self.writer is not None:
                self.writer.close()
            self.writer = MetricWriter(self.workdir, step)
        self.rows: list[dict] = []
        self.timer.resume()
        self.bar.n = step

    def _find_events(self) -> Path:
        return self.writer.events_folder  # pyright: ignore[reportOptionalMemberAccess]  process 0

    def after_step(self, step: int, state: TrainState, metrics: dict) -> None:
        """Logs, draws and scores where due.

        Raises:
          DivergedError: the run diverged in an earlier interval, or in its last one.
        """
        train = self.config.train
        last = step == train.num_steps
        self.rows.append(metrics)
        self.timer.follow(metrics)
        self.bar.update()
        if last or step % train.log_every == 0:
            self._log(step)
        if last or step % train.sample_every == 0:
            self._sample(step, state)
            self.timer.resume()
        if self.validation and (last or step % self.config.eval.every == 0):
            self._evaluate(step, state, self.validation)
            self.timer.resume()
        if last:
            self._settle()
        if step % train.checkpoint_every == 0 and is_in_bucket(self.workdir):
            self._put()

    def _sample(self, step: int, state: TrainState) -> None:
        """Draws the sample grid and probes guide and D on places that no update has seen."""
        self.beat_fn(f"drawing samples at step {step}")
        if self.samples:
            with show_stage("drawing samples", shown=self.is_writer):
                picture = self.samples.draw(self._use(step, state))
            if self.is_writer:
                write_png(self.workdir / "samples" / f"step_{step:06d}.png", picture)
        values = self.probe.measure(state)
        self._settle()
        if self.writer is not None and values:
            self.writer.write(step, values)

    def _put(self) -> None:
        """Uploads metrics before a checkpoint, so that a resumed run has all earlier rows."""
        self._settle()
        if self.writer is not None:
            self.writer.put()

    def _log(self, step: int) -> None:
        """Reports the interval's metrics in another thread, which waits for the devices."""
        self._settle()
        rows, self.rows = self.rows, []
        self.pending = self.thread.submit(self._report, step, rows)
        self.last_logged = step

    def _settle(self) -> None:
        """Waits for the last report and raises its errors."""
        pending, self.pending = self.pending, None
        if pending is not None:
            # The loop blocks on the devices here: while they hang, no further heartbeat is sent.
            self.beat_fn(f"waiting for the numbers of the steps up to {self.last_logged}")
            pending.result()

    def _report(self, step: int, rows: list[dict]) -> None:
        train = self.config.train
        speed = self.speed.measure(step, len(rows))
        rows = jax.device_get(rows)
        culprits = self.skipped.report(step, rows)
        means = average_metrics(rows) | speed
        self._show(step, means)
        streak = int(means["skipped/streak"])
        # If no update was skipped in this interval, the streak is an old one and does not count.
        if culprits and streak >= train.max_nonfinite:
            raise DivergedError(self.workdir, self.config, streak, culprits)
        if self.is_writer and (starvation := self.speed.find_starvation()):
            tqdm.write(f"warning: step {step}: {starvation}")
        chance = math.log(train.batch_size)
        loss = means.get("contrastive/loss", 0.0)
        stalled = self.config.losses.contrastive == "info_nce" and loss > _STALL_FRACTION * chance
        if stalled and step >= _STALL_STEPS:
            tqdm.write(
                f"warning: step {step}: the contrastive loss is {loss:.2f}, chance is "
                f"{chance:.2f}: the embedder has not learned anything yet"
            )

    def _show(self, step: int, scalars: dict[str, float]) -> None:
        if self.writer is None:
            return
        self.writer.write(step, scalars)
        brief = [
            f"{name}={scalars[name]:.3g}"
            for name in dict.fromkeys((*_SHOWN, self.best))
            if math.isfinite(scalars.get(name, math.nan))
        ]
        rest, text = self.speed.describe_rest(step), " ".join(brief)
        if not self.bar.disable:
            self.bar.set_postfix_str(f"{rest} {text}".strip(), refresh=False)
        rest = rest and f" ({rest})"
        self._print(f"step {step}/{self.config.train.num_steps}{rest} {text}")

    def _print(self, text: str) -> None:
        """Prints a line for a log, where no bar is drawn."""
        if self.is_writer and self.bar.disable and not is_quiet():
            print(text, flush=True)

    def _use(self, step: int, state: TrainState) -> Model:
        self.model.load(state.ema, step)
        return self.model

    def _evaluate(self, step: int, state: TrainState, validation: Validation) -> None:
        """Scores the validation split and keeps the best checkpoint."""
        self._use(step, state)
        self._print(f"step {step}: scoring {validation.num} validation pairs")

        def beat(num_done: int, num_total: int) -> None:
            self.beat_fn(f"evaluating at step {step}: {num_done} of {num_total} examples")

        beat(0, validation.num)
        with show_stage(f"scoring {validation.num} pairs", shown=self.is_writer):
            values, merit = validation.score(beat)
        self._settle()
        self._show(step, {f"val/{name}": value for name, value in values.items()})
        if merit is not None:
            self.checkpoints.save_best(state, merit, validation.best.text)

    def close(self) -> None:
        """Waits for the last report and for checkpoints under way; closes the files."""
        try:
            self.profiler.close()
            # A run that is stopped while it diverges reports it again when it resumes.
            with contextlib.suppress(DivergedError):
                self._settle()
        finally:
            self._close_files()

    def _close_files(self) -> None:
        self.thread.shutdown()
        self.bar.close()
        self.checkpoints.close()
        if self.writer is not None:
            self.writer.close()
