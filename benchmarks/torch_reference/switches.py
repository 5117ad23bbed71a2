"""Speed switches for PyTorch's step and inference; they change no formula."""

import dataclasses
from collections.abc import Callable

import torch
from torch import nn


@dataclasses.dataclass(frozen=True)
class Switches:
    """Speed switches; with all off, PyTorch computes in plain float32 NCHW.

    channels_last: maps and kernels lie in memory as NHWC. autocast: convolutions and products in
    bfloat16. compile: the networks and their losses go through `torch.compile`.
    """

    channels_last: bool = False
    autocast: bool = False
    compile: bool = False

    def place(self, *modules: nn.Module) -> None:
        """Moves modules to the memory format."""
        for module in modules:
            module.to(memory_format=self.memory_format)

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory format for `Tensor.contiguous` and `Module.to`."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def cast(self, device: torch.device) -> torch.autocast:
        """The autocast context for the networks' forward passes."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.autocast)

    def prepare(self, fn: Callable) -> Callable:
        """`fn`, compiled for its fixed shapes if `compile` is on."""
        return torch.compile(fn, dynamic=False) if self.compile else fn


PLAIN = Switches()
