"""The embedder's update: a contrastive loss over the batch, and the moving average as guide."""

import torch
from ml_collections import ConfigDict
from torch import Tensor

from torch_reference import losses
from torch_reference.embedder import Embedder
from torch_reference.optimizer import Optimizer, average, compute_decay
from torch_reference.switches import Switches


class ContrastiveUpdate:
    """Trains `embedder` and averages it into `guide`."""

    def __init__(
        self,
        config: ConfigDict,
        embedder: Embedder,
        guide: Embedder,
        num_steps: int,
        switches: Switches,
    ):
        self.config, self.embedder, self.switches = config, embedder, switches
        self.optimizer = Optimizer(config.optimizer.embedder, embedder.parameters(), num_steps)
        self.buffers = list(embedder.buffers())
        self.current = [*self.optimizer.params, *self.buffers]
        self.averaged = [*guide.parameters(), *guide.buffers()]
        self.compute_loss = switches.prepare(self._compute_loss)
        self.num_updates = 0

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Does one update with images [B, 3, H, W] per view; returns metrics."""
        kept = [buffer.clone() for buffer in self.buffers]
        loss, accuracy = self.compute_loss(batch["aerial"], batch["ground"])
        metrics = {
            "contrastive/loss": loss.detach(),
            "contrastive/accuracy": accuracy,
            "contrastive/param_norm": torch.nn.utils.get_total_norm(self.optimizer.params).detach(),
        }
        ok, norm = self.optimizer.update(loss, self.optimizer.differentiate(loss))
        for buffer, before in zip(self.buffers, kept, strict=True):
            buffer.copy_(torch.where(ok, buffer, before))
        decay = compute_decay(self.config.train.ema_halflife_guide, self.num_updates)
        self.num_updates += 1
        with torch.no_grad():
            average(self.averaged, self.current, decay, ok)
        return metrics | {"contrastive/grad": norm}

    def _compute_loss(self, aerial: Tensor, ground: Tensor) -> tuple[Tensor, Tensor]:
        with self.switches.cast(aerial.device):
            aerial, ground = self.embedder.both(aerial, ground)
        if self.config.losses.contrastive == "info_nce":
            loss = losses.info_nce(ground, aerial, self.embedder.inverse_temperature())
        else:
            loss = losses.soft_margin_triplet(ground, aerial)
        return loss, losses.retrieval_accuracy(ground, aerial)
