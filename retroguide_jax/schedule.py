"""When each part of a training step is due, and how often in a whole run."""

import dataclasses
import functools
import operator
from typing import NamedTuple, overload

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from retroguide_jax.errors import UserError

_NETWORKS = {
    "joint": ("embedder", "generator", "discriminator"),
    "frozen": ("generator", "discriminator"),
    "contrastive": ("embedder",),
}


class Interval(NamedTuple):
    """The steps from `begin` to before `end` that are multiples of `every`."""

    begin: int
    end: int
    every: int = 1

    def has(self, step):
        """Whether it includes a step, which may be traced."""
        return (step >= self.begin) & (step < self.end) & (step % self.every == 0)

    def count(self, step):
        """The number of its steps before `step`, which may be traced."""
        low, high = (jnp.minimum, jnp.maximum) if isinstance(step, jax.Array) else (min, max)
        step = high(low(step, self.end), self.begin)
        return -(-step // self.every) + -self.begin // self.every


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The single source of which updates each step makes.

    The parts are the trained networks (`embedder`, `generator`, `discriminator`); `structure`, the
    generator's first updates, which train its structure stage alone; and `penalty`, the
    discriminator's gradient penalty. Steps count from 0.

    Raises:
      UserError: a field that allows no schedule.
    """

    config: ConfigDict

    def __post_init__(self):
        train, penalty = self.config.train, self.config.losses.penalty_every
        if train.contrastive_every < 0:
            raise UserError(
                f"config.train.contrastive_every={train.contrastive_every}: give 1 or more steps, "
                "or 0 to stop updating the embedder after the warm-up"
            )
        if train.structure_steps < 0:
            raise UserError(
                f"config.train.structure_steps={train.structure_steps}: give the number of steps "
                "that train the structure stage alone, or 0"
            )
        if penalty < 1:
            raise UserError(f"config.losses.penalty_every={penalty}: give at least 1 step")

    @property
    def networks(self) -> tuple[str, ...]:
        """The trained networks."""
        return _NETWORKS[self.config.mode]

    @property
    def warmup(self) -> int:
        """Steps at the start that update the embedder alone."""
        train = self.config.train
        return train.contrastive_warmup_steps if self.config.mode == "joint" else 0

    @functools.cached_property
    def intervals(self) -> dict[str, tuple[Interval, ...]]:
        """Part -> the steps on which it is due; parts that are never due are absent."""
        train, end, warmup = self.config.train, self.config.train.num_steps, self.warmup
        table = {}
        if self.config.mode == "contrastive":
            table["embedder"] = (Interval(0, end),)
        elif self.config.mode == "joint":
            table["embedder"] = (Interval(0, warmup),)
            if train.contrastive_every:
                table["embedder"] += (Interval(warmup, end, train.contrastive_every),)
        if "generator" in self.networks:
            adversarial = warmup + train.structure_steps
            table["generator"] = (Interval(warmup, end),)
            table["structure"] = (Interval(warmup, adversarial),)
            table["discriminator"] = (Interval(adversarial, end),)
            table["penalty"] = (Interval(adversarial, end, self.config.losses.penalty_every),)
        return table

    @property
    def phases(self) -> dict[int, str]:
        """Last step of each phase in which all steps do the same work -> what ends with it."""
        num_steps, ends = self.config.train.num_steps, {}
        for part in ("discriminator", "generator"):
            for interval in self.intervals.get(part, ()):
                ends[interval.begin] = f"until the {part} starts"
        return {end: ends[end] for end in sorted(ends) if end < num_steps} | {num_steps: "left"}

    @overload
    def is_due(self, part: str, step: int) -> bool: ...
    @overload
    def is_due(self, part: str, step: jax.Array) -> jax.Array: ...
    def is_due(self, part: str, step: int | jax.Array) -> bool | jax.Array:
        """Whether a step updates a part; `step` may be traced."""
        due = [interval.has(step) for interval in self.intervals.get(part, ())]
        return functools.reduce(operator.or_, due, step < 0)

    @overload
    def count(self, part: str, step: None = None) -> int: ...
    @overload
    def count(self, part: str, step: int | jax.Array) -> jax.Array: ...
    def count(self, part: str, step: int | jax.Array | None = None) -> int | jax.Array:
        """The number of a part's updates before `step`, which may be traced.

        With `step` None, the number in the whole run, an int.
        """
        step = self.config.train.num_steps if step is None else step
        return sum(interval.count(step) for interval in self.intervals.get(part, ()))

    @overload
    def find_part(self, step: int) -> int: ...
    @overload
    def find_part(self, step: jax.Array) -> jax.Array: ...
    def find_part(self, step: int | jax.Array) -> int | jax.Array:
        """The part of its batch that G and D see, from 0; `step` may be traced.

        They see one part of `adversarial_batch_size` pairs per step, and successive steps see
        successive parts of one batch, until the embedder's next update needs a new one.
        """
        train = self.config.train
        every = train.contrastive_every if self.config.mode == "joint" else 0
        return (step % every if every else step) % self._num_parts

    def needs_batch(self, step: int) -> bool:
        """Whether a step draws a new batch; other steps use the last one."""
        return step <= self.warmup or self.find_part(step) == 0

    def count_batches(self, step: int) -> int:
        """The number of batches that the steps before `step` draw."""
        first = min(step, self.warmup + 1)
        return first + self._count_first_parts(step) - self._count_first_parts(first)

    @property
    def _num_parts(self) -> int:
        train = self.config.train
        if "generator" not in self.networks:
            return 1
        return train.batch_size // train.adversarial_batch_size

    def _count_first_parts(self, step: int) -> int:
        """The number of steps before `step` that see part 0."""
        every = self.config.train.contrastive_every if self.config.mode == "joint" else 0
        cycles, rest = divmod(step, every) if every else (0, step)
        return cycles * -(-every // self._num_parts) - (-rest // self._num_parts)
