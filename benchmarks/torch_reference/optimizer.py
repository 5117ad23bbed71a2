"""AdamW with optax's semantics, a guard against losses and gradients that are not finite, averages.

`torch.optim.AdamW` and `optax.adamw` are the same formula: lr m^ / (sqrt(v^) + eps) with eps 1e-8
outside the root, and a decay of lr x weight_decay (optax's own default for weight_decay is 1e-4,
PyTorch's 1e-2: it is always given). Three details follow optax here: the norm for clipping lacks
the 1e-6 that `clip_grad_norm_` adds; schedules count the updates taken from zero, without skipped
ones; a parameter without a gradient is updated with zeros, not left out. Nothing waits for the
device: the learning rate and the decision to skip are tensors on the device.
"""

import math
from collections.abc import Iterable

import torch
from ml_collections import ConfigDict
from torch import Tensor, nn


class Optimizer:
    """AdamW of one network, from one entry of `config.optimizer`."""

    def __init__(self, config: ConfigDict, params: Iterable[nn.Parameter], num_steps: int):
        self.params = list(params)
        self.config, self.num_steps = config, num_steps
        like = self.params[0]
        self.count = torch.zeros((), device=like.device, dtype=like.dtype)
        self.adamw = torch.optim.AdamW(
            self.params,
            lr=torch.zeros_like(self.count),
            betas=(config.b1, config.b2),
            weight_decay=config.weight_decay,
            fused=True,
        )

    def differentiate(self, loss: Tensor) -> tuple[Tensor, ...]:
        """The gradient of a loss; zeros for parameters that it does not depend on."""
        # Not autograd.grad: its results may have other memory strides than their parameters, and
        # the fused kernel, which reads both in memory order, would mix up their elements.
        torch.autograd.backward(loss, inputs=self.params)
        grads = tuple(
            torch.zeros_like(param) if param.grad is None else param.grad for param in self.params
        )
        self.adamw.zero_grad()
        return grads

    def update(self, loss: Tensor, grads: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Takes one step, or none if the loss or the gradient is not finite.

        Returns:
          Whether the step was taken, and the gradient's global norm.
        """
        norm = torch.nn.utils.get_total_norm(grads)
        ok = loss.detach().isfinite() & norm.isfinite()
        if self.config.clip_norm:
            torch._foreach_mul_(grads, (self.config.clip_norm / norm).clamp(max=1.0))
        for param, grad in zip(self.params, grads, strict=True):
            param.grad = grad
        self.adamw.param_groups[0]["lr"].copy_(self._rate())
        # As `torch.amp.GradScaler` does: if this is set, the fused kernel changes nothing.
        self.adamw.found_inf = (~ok).float()
        self.adamw.step()
        self.adamw.zero_grad()
        self.count += ok
        return ok, norm

    def _rate(self) -> Tensor:
        """Linear warm-up, then `decay`: none | linear | cosine to zero."""
        config = self.config
        warmup = config.warmup_steps
        done = ((self.count - warmup) / max(1, self.num_steps - warmup)).clamp(0.0, 1.0)
        rate = torch.ones_like(done)
        if config.decay == "linear":
            rate = 1.0 - done
        elif config.decay == "cosine":
            rate = 0.5 * (1.0 + torch.cos(math.pi * done))
        if warmup:
            rate = torch.where(self.count < warmup, self.count / warmup, rate)
        return config.learning_rate * rate


def average(averaged: list[Tensor], current: list[Tensor], decay: float, ok: Tensor) -> None:
    """averaged = decay averaged + (1 - decay) current, in place, where the scalar `ok` is true."""
    change = torch._foreach_sub(current, averaged)
    torch._foreach_mul_(change, (1.0 - decay) * ok.to(change[0].dtype))
    torch._foreach_add_(averaged, change)


def compute_decay(halflife: float, num_updates: int) -> float:
    """The factor of the moving average; `halflife` is in updates, and shorter in the beginning."""
    decay = 0.5 ** (1.0 / halflife)
    return min(decay, (1.0 + num_updates) / (10.0 + num_updates))
