"""Trained weights as two functions: embed and generate."""

import torch
from torch import Tensor

from torch_reference.networks import Networks
from torch_reference.switches import PLAIN, Switches


class Model:
    """Computes what `retroguide_jax.inference.Model` does."""

    def __init__(self, networks: Networks, switches: Switches = PLAIN):
        self.embedder, self.generator = networks.embedder.eval(), networks.generator
        self.source_view, self.switches = networks.source_view, switches
        switches.place(self.embedder)
        if self.generator is not None:
            switches.place(self.generator.eval())
        self._embed_fn = switches.prepare(self._embed)
        self._generate_fn = switches.prepare(self._generate)

    @torch.inference_mode()
    def embed(self, images: Tensor, view: str) -> Tensor:
        """Images [B, 3, H, W] in [-1, 1] of a view to unit rows [B, D]."""
        return self._embed_fn(self._place(images), view)[0]

    @torch.inference_mode()
    def generate(self, source: Tensor, z: Tensor) -> Tensor:
        """Generates target images [B, 3, H', W'] from sources [B, 3, H, W] and z [B, Z]."""
        return self._generate_fn(self._place(source), z)

    def _place(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=self.switches.memory_format)

    def _embed(self, images: Tensor, view: str) -> tuple[Tensor, Tensor]:
        with self.switches.cast(images.device):
            return self.embedder(images, view)

    def _generate(self, source: Tensor, z: Tensor) -> Tensor:
        with self.switches.cast(source.device):
            embedding, tokens = self.embedder.guide(source, self.source_view)
            style = self.generator.mapping(z)
            return self.generator.synthesize(embedding, tokens, style)[0]
