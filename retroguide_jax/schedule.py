"""When each part of a training step is due, and how often in a whole run."""

import dataclasses

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

    The parts are the trained networks (`embedder`, `generator`, `discriminator`) and `penalty`, the
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

    def is_due(self, part: str, step: int | jax.Array) -> bool | jax.Array:
        """Whether a step updates a part; `step` may be traced."""
        head, every = self._find_pattern(part)
        later = (step >= self.warmup) & (step % every == 0) if every else False
        return (step < head) | later

    def count(self, part: str, step: int | jax.Array | None = None) -> int | jax.Array:
        """The number of a part's updates before `step`, which may be traced.

        With `step` None, the number in the whole run, an int.
        """
        head, every = self._find_pattern(part)
        if step is None:
            return _count(head, every, self.warmup, self.config.train.num_steps, min, max)
        return _count(head, every, self.warmup, step, jnp.minimum, jnp.maximum)

    def _find_pattern(self, part: str) -> tuple[int, int]:
        """(head, every): due at every step before `head`, at multiples of `every` after the
        warm-up (0: at none)."""
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


def _count(head, every, warmup, step, min_fn, max_fn):
    done = min_fn(step, head)
    if every:
        # The multiples of `every` from the end of the warm-up to before the step.
        done += max_fn(-(-step // every) + -warmup // every, 0)
    return done
