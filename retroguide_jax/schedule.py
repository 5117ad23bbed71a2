"""When each part of a training step is due, and how often in a whole run."""

import dataclasses
from typing import overload

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from retroguide_jax.errors import UserError

_NETWORKS = {
    "joint": ("embedder", "generator", "discriminator"),
    "frozen": ("generator", "discriminator"),
    "contrastive": ("embedder",),
}


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

    @property
    def phases(self) -> dict[int, str]:
        """Last step of each phase in which all steps do the same work -> what ends with it."""
        ends = {
            self._begin["discriminator"]: "until the discriminator starts",
            self.warmup: "until the generator starts",
        }
        num_steps = self.config.train.num_steps
        return {end: ends[end] for end in sorted(ends) if end < num_steps} | {num_steps: "left"}

    @property
    def _begin(self) -> dict[str, int]:
        """Part -> first step of its updates at regular intervals."""
        adversarial = self.warmup
        if "generator" in self.networks:
            adversarial += self.config.train.structure_steps
        return {
            "embedder": self.warmup,
            "generator": self.warmup,
            "discriminator": adversarial,
            "penalty": adversarial,
        }

    @overload
    def is_due(self, part: str, step: int) -> bool: ...
    @overload
    def is_due(self, part: str, step: jax.Array) -> jax.Array: ...
    def is_due(self, part: str, step: int | jax.Array) -> bool | jax.Array:
        """Whether a step updates a part; `step` may be traced."""
        if part == "structure":
            return (step >= self.warmup) & (step < self._begin["discriminator"])
        head, every = self._find_pattern(part)
        later = (step >= self._begin[part]) & (step % every == 0) if every else False
        return (step < head) | later

    @overload
    def count(self, part: str, step: None = None) -> int: ...
    @overload
    def count(self, part: str, step: int | jax.Array) -> jax.Array: ...
    def count(self, part: str, step: int | jax.Array | None = None) -> int | jax.Array:
        """The number of a part's updates before `step`, which may be traced.

        With `step` None, the number in the whole run, an int.
        """
        if part == "structure":
            return self.count("generator", step) - self.count("discriminator", step)
        head, every = self._find_pattern(part)
        if step is None:
            return _count(head, every, self._begin[part], self.config.train.num_steps, min, max)
        return _count(head, every, self._begin[part], step, jnp.minimum, jnp.maximum)

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

    def _find_pattern(self, part: str) -> tuple[int, int]:
        """(head, every): due at every step before `head`, and later at multiples of `every` (0: at
        none), from its first regular step on."""
        train = self.config.train
        if part == "penalty":
            trained, every = "discriminator" in self.networks, self.config.losses.penalty_every
        else:
            trained, every = part in self.networks, 1
        if not trained:
            return 0, 0
        if part != "embedder":
            return 0, every
        if self.config.mode == "contrastive":
            return train.num_steps, 0
        return self.warmup, train.contrastive_every


def _count(head, every, begin, step, min_fn, max_fn):
    done = min_fn(step, head)
    if every:
        # The multiples of `every` from `begin` to before the step.
        done += max_fn(-(-step // every) + -begin // every, 0)
    return done
