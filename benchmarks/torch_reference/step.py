"""The training step: first the embedder, then D on images from G, then G through the updated D."""

import copy

from ml_collections import ConfigDict
from torch import Tensor

from torch_reference.adversarial import AdversarialUpdate, Noise
from torch_reference.contrastive import ContrastiveUpdate
from torch_reference.networks import Networks
from torch_reference.switches import PLAIN, Switches


class TrainStep:
    """Trains the networks in place, one step per call.

    Does what `retroguide_jax.training.steps` does with the same config, without its count of
    skipped updates; a metric that a step did not compute is absent.

    Args:
      config: of the run.
      networks: the networks to train, on their device and with their weights; averages start from
        these weights.
      switches: see `Switches`.

    Attributes:
      step: steps done.
      guide: the averaged embedder.
      averaged: the averaged generator, None in mode `contrastive`.
    """

    def __init__(self, config: ConfigDict, networks: Networks, switches: Switches = PLAIN):
        self.config, self.networks, self.switches, self.step = config, networks, switches, 0
        train = config.train
        self.warmup = train.contrastive_warmup_steps if config.mode == "joint" else 0
        self.parts = max(1, train.batch_size // train.adversarial_batch_size)
        updates_of_g = train.num_steps - self.warmup
        modules = networks.embedder, networks.generator, networks.discriminator
        switches.place(*(module for module in modules if module is not None))
        self.guide = _copy_for_averaging(networks.embedder)
        self.averaged = self.contrastive = self.adversarial = None
        if config.mode != "frozen":
            updates = sum(map(self._is_embedder_due, range(train.num_steps)))
            self.contrastive = ContrastiveUpdate(
                config, networks.embedder.train(), self.guide, updates, switches
            )
        if config.mode != "contrastive":
            self.averaged = _copy_for_averaging(networks.generator)
            self.adversarial = AdversarialUpdate(
                config, networks, self.guide, self.averaged, updates_of_g, switches
            )

    def __call__(self, batch: dict[str, Tensor], noise: Noise | None = None) -> dict[str, Tensor]:
        """Does one step.

        Args:
          batch: {"aerial": [B, 3, Ha, Wa], "ground": [B, 3, Hg, Wg]} in [-1, 1], B =
            config.train.batch_size.
          noise: the step's random numbers; None draws them.

        Returns:
          Metrics under the names of `retroguide_jax`: scalars on the device.
        """
        memory_format = self.switches.memory_format
        batch = {view: x.contiguous(memory_format=memory_format) for view, x in batch.items()}
        step, metrics = self.step, {}
        if self.contrastive and self._is_embedder_due(step):
            metrics |= self.contrastive(batch)
        if self.adversarial and step >= self.warmup:
            rows = self._take_part(batch, step)
            if step < self.warmup + self.config.train.structure_steps:
                metrics |= self.adversarial.update_structure(rows, step - self.warmup, noise)
            else:
                metrics |= self.adversarial(rows, step, step - self.warmup, noise)
        self.step += 1
        return metrics

    def _take_part(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """The rows for G and D: successive steps on one batch use successive parts of it."""
        train = self.config.train
        if self.contrastive and train.contrastive_every:
            step = step % train.contrastive_every
        part, num = step % self.parts, train.adversarial_batch_size
        return {view: x.view(num, -1, *x.shape[1:])[:, part] for view, x in batch.items()}

    def _is_embedder_due(self, step: int) -> bool:
        if self.config.mode == "contrastive" or step < self.warmup:
            return True
        every = self.config.train.contrastive_every
        return every > 0 and step % every == 0


def _copy_for_averaging(module):
    return copy.deepcopy(module).eval().requires_grad_(False)
