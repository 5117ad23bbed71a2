"""A trace of some training steps, for TensorBoard's profile plugin or ui.perfetto.dev."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
from ml_collections import ConfigDict

from retroguide_jax.errors import UserError
from retroguide_jax.training.timing import StepTimer


def check_profile_steps(config: ConfigDict) -> None:
    """Checks `config.train.profile_steps`.

    Raises:
      UserError: they are not the first and the last step of a range within the run.
    """
    steps, num_steps = config.train.profile_steps, config.train.num_steps
    if steps != (0, 0) and not (len(steps) == 2 and 1 <= steps[0] <= steps[1] <= num_steps):
        raise UserError(
            f"config.train.profile_steps={steps}: give the first and the last step to trace, "
            f"between 1 and config.train.num_steps={num_steps}, or (0, 0) for no trace"
        )


class Profiler:
    """Traces the steps from `config.train.profile_steps[0]` to `[1]`, both included.

    Args:
      config: the run's config.
      timer: the timer of the run's steps.
      folder_fn: returns the folder that receives plugins/profile/TIME/, where TensorBoard looks for
        traces; None on processes that trace nothing.
    """

    def __init__(
        self, config: ConfigDict, timer: StepTimer, folder_fn: Callable[[], Path] | None = None
    ):
        self._first, self._last = config.train.profile_steps if folder_fn else (0, 0)
        self._timer, self._folder_fn, self._running = timer, folder_fn, False

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Context of a step, numbered from 1; starts or ends the trace where due."""
        self._switch(self._first <= number <= self._last)
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            yield

    def close(self) -> None:
        """Ends a trace that is running."""
        self._switch(False)

    def _switch(self, on: bool) -> None:
        if on == self._running:
            return
        self._timer.finish()  # trace complete steps only
        self._running = on
        if on:
            jax.profiler.start_trace(self._folder_fn())  # pyright: ignore[reportOptionalCall]
        else:
            jax.profiler.stop_trace()
        self._timer.resume()
