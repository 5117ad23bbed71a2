"""Speed, remaining time and data starvation, from step times."""

import os

from ml_collections import ConfigDict
from tqdm import tqdm

from retroguide_jax.data.pipeline import count_threads
from retroguide_jax.schedule import Schedule
from retroguide_jax.training.timing import Interval, StepTimer

# Metrics that depend on the machine and differ between any two runs.
SPEEDS = ("seconds/step", "seconds/waiting_for_data", "images_per_second")
_MEMORY = 0.8  # weight of an interval in the pace, relative to the next one
# Warn if this share of the time is spent waiting for data, once this many steps were timed.
_STARVED_SHARE, _STARVED_STEPS = 0.2, 40


class Speed:
    """Measures a run's speed, interval by interval.

    Args:
      config: the run's config.
      timer: the timer of the run's steps.
    """

    def __init__(self, config: ConfigDict, timer: StepTimer):
        self._config, self._timer, self._schedule = config, timer, Schedule(config)
        self._pace = Pace()
        self._interval = Interval(0, 0.0, 0.0)
        self._num_timed, self._warned = 0, False

    def measure(self, step: int, num_steps: int) -> dict[str, float]:
        """`SPEEDS` of the `num_steps` steps up to `step`; {} for the first alone, which compiles.

        Call this from the timer's thread.
        """
        self._interval = interval = self._timer.collect()
        start, ends = step - num_steps, self._schedule.phases
        if any(start <= end < step for end in ends):
            self._pace = Pace()  # these steps do different work from those before
        if not interval.num_steps:
            return {}
        if not any(start < end < step for end in ends):
            self._pace.add(interval)
        self._num_timed += interval.num_steps
        seconds = interval.seconds / interval.num_steps
        images_per_second = self._count_images(start, step) / (num_steps * seconds)
        waiting = interval.waiting / interval.num_steps
        return dict(zip(SPEEDS, (seconds, waiting, images_per_second), strict=True))

    def _count_images(self, start: int, step: int) -> int:
        """Counts the pairs that updated the generator or, if it had no update, the embedder."""
        train = self._config.train
        sizes = {"generator": train.adversarial_batch_size, "embedder": train.batch_size}
        counts = [
            int(self._schedule.count(name, step) - self._schedule.count(name, start)) * size
            for name, size in sizes.items()
        ]
        return counts[0] or counts[1]

    def describe_rest(self, step: int) -> str:
        """Remaining time of the phase, such as a warm-up; "" where it is unknown (no step of this
        phase was timed yet) or where the phase is over."""
        phases = self._schedule.phases
        end = next((end for end in phases if step < end), step)
        seconds = self._pace.estimate(end - step)
        if seconds is None or step in phases:
            return ""
        return f"{tqdm.format_interval(seconds)} {phases[end]}"

    def find_starvation(self) -> str:
        """A warning with remedies, given once, if the last interval waited for data; else ""."""
        data, interval = self._config.data, self._interval
        if self._warned or self._num_timed < _STARVED_STEPS or not interval.num_steps:
            return ""
        share, cores = interval.waiting / interval.seconds, os.cpu_count() or 1
        if share < _STARVED_SHARE:
            return ""
        self._warned = True
        remedies = []
        threads = count_threads(data)
        if threads < cores:
            remedies.append(f"set config.data.num_threads, now {threads}, up to {cores} cores")
        if not data.store_resized and data.name != "procedural_city":
            remedies.append("store images at the model's size: --config.data.store_resized=true")
        remedy = ", or ".join(remedies) or f"{cores} cores are too few for these devices"
        return f"{share:.0%} of the time is spent waiting for data: {remedy}"


class Pace:
    """Smoothed seconds per step."""

    def __init__(self):
        self._num_steps, self._seconds = 0.0, 0.0

    def add(self, interval: Interval) -> None:
        """Adds an interval and reduces the weight of earlier ones."""
        self._num_steps = _MEMORY * self._num_steps + interval.num_steps
        self._seconds = _MEMORY * self._seconds + interval.seconds

    def estimate(self, num_steps: int) -> float | None:
        """Expected seconds of `num_steps` more steps; None before any step was timed."""
        return num_steps * self._seconds / self._num_steps if self._num_steps else None
