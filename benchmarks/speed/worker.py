"""One side of step.py in a process of its own, controlled through a pipe."""

import math
import multiprocessing
import os
import resource
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

TWINS = ("eager", "compiled")  # the other side is "ours"


class Worker:
    """Handle of a side's process: `ask(question, *args)` returns its answer.

    The questions are the methods of `_Served`. If a side fails, `ask` raises RuntimeError with its
    error message; other sides keep running.
    """

    def __init__(self, side: str, config_spec: str, overrides: list[str], **env: str):
        self.side, self._born = side, time.perf_counter()
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        # The new process inherits the environment as it is when it starts.
        kept = dict(os.environ)
        os.environ.update(env)
        self._process = context.Process(
            target=_serve, args=(theirs, side, config_spec, overrides), daemon=True
        )
        self._process.start()
        os.environ.clear()
        os.environ.update(kept)
        theirs.close()

    def ask(self, question: str, *args: Any) -> Any:
        """Sends a question and waits for the answer."""
        self._pipe.send((question, args))
        try:
            answer, error = self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"{self.side}: its process ended") from None
        if error:
            raise RuntimeError(f"{self.side}: {error}")
        return answer

    def read_age(self) -> float:
        """Seconds since the process was started."""
        return time.perf_counter() - self._born

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join(10)
        self._process.kill()


class _Served:
    """The questions that a side answers, in its process."""

    def __init__(self, side: str, config_spec: str, overrides: list[str]):
        from retroguide_jax.config import load_config

        config = load_config(config_spec, overrides)
        self._period = config.losses.penalty_every
        images = make_images(config)
        if side == "ours":
            from speed.ours import Side

            self._side = Side(config, images)
        else:
            from speed.theirs import Side

            self._side = Side(config, images, compile=side == "compiled")

    def prepare(self, work: str) -> float:
        """Seconds that the first run takes, compilation included."""
        start = time.perf_counter()
        self._side.run(work)
        return time.perf_counter() - start

    def count_runs(self, work: str, seconds: float) -> int:
        """Number of runs that fill the time; of steps, full periods of the lazy penalty."""
        start = time.perf_counter()
        self._side.run(work)
        num = max(1, math.ceil(seconds / (time.perf_counter() - start)))
        return math.ceil(num / self._period) * self._period if work == "step" else num

    def time(self, work: str, num: int) -> float:
        """Mean seconds per run over `num` runs."""
        start = time.perf_counter()
        for _ in range(num):
            self._side.run(work)
        return (time.perf_counter() - start) / num

    def read_peak(self) -> int:
        """Peak bytes of the device if it has a memory of its own, else of the process."""
        return self._side.read_peak() or 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def make_images(config) -> dict[str, np.ndarray]:
    """A batch of noise: view -> float32 [B, H, W, 3] in [-1, 1]."""
    rng = np.random.default_rng(0)
    sizes = {"aerial": config.data.aerial_size, "ground": config.data.ground_size}
    return {
        view: rng.uniform(-1, 1, (config.train.batch_size, *size, 3)).astype(np.float32)
        for view, size in sizes.items()
    }


def _serve(pipe: Connection, side: str, config_spec: str, overrides: list[str]) -> None:
    served = None
    while True:
        try:
            question, args = pipe.recv()
        except EOFError:
            return
        try:
            served = served or _Served(side, config_spec, overrides)
            pipe.send((getattr(served, question)(*args), None))
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            print(f"{side}: {question} {args}: {error!r}", file=sys.stderr)
            pipe.send((None, f"{type(error).__name__}: {reason}"))
