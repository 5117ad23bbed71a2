"""Trained weights as two functions: embed and generate."""

import functools

import jax
import numpy as np
from ml_collections import ConfigDict

from retroguide_jax.errors import UserError
from retroguide_jax.models.layers import scale_pixels
from retroguide_jax.networks import Networks, embedder_variables
from retroguide_jax.parallel.local import LocalDevices


class Model:
    """The averaged weights of a run with the functions that use them.

    Each function is compiled once per batch size. Rows are spread over this process's devices; if
    these do not divide a batch, it is padded and the result is cut.
    """

    def __init__(self, config: ConfigDict, networks: Networks):
        self.config, self.networks = config, networks
        self.source_view, self.target_view = networks.source_view, networks.target_view
        self.devices = LocalDevices()
        self._embed = {
            view: self.devices.compile(functools.partial(self.embed_rows, view=view))
            for view in ("aerial", "ground")
        }
        self._generate = self.devices.compile(self.generate_rows)

    def load(self, variables: dict, step: int) -> None:
        """Replaces the weights by these averaged ones (`state.ema`), of training step `step`.

        Nothing is compiled again. If weights are sharded over processes, every process must call
        this.
        """
        self.variables, self.step = self.devices.replicate(variables), step

    @property
    def has_generator(self) -> bool:
        """False for an embedder trained on its own."""
        return self.networks.generator is not None

    @property
    def source_size(self) -> tuple[int, int]:
        """Height and width of the images that `generate` takes, in pixels."""
        return self.networks.sizes[self.source_view]

    @property
    def z_dim(self) -> int:
        """Length of the noise vector that `generate` takes."""
        return self._require_generator().z_dim

    def embed(self, images: np.ndarray, view: str) -> np.ndarray:
        """Images [B, H, W, 3] of a view ("aerial", "ground") to unit rows [B, D].

        They are uint8 in [0, 255], or float32 in [-1, 1].
        """
        return self._by_rows(self._embed[view], images)

    def generate(self, source: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Draws one target image per source.

        Args:
          source: [B, H, W, 3] of the source view, uint8 in [0, 255] or float32 in [-1, 1].
          z: [B, z_dim], standard normal. The per-layer noise of training is left out: as it is
            drawn, it is grain, and single pixels that stand out on edges.

        Returns:
          float32 [B, H', W', 3] in [-1, 1].

        Raises:
          UserError: the checkpoint holds no generator.
        """
        self._require_generator()
        return self._by_rows(self._generate, source, z)

    def embed_rows(self, variables: dict, images: jax.Array, view: str) -> jax.Array:
        """`embed` as a traceable function of the weights too; shapes as there."""
        embedder = embedder_variables(**variables["embedder"])
        return self.networks.embedder.apply(embedder, scale_pixels(images), view)[0]

    def generate_rows(self, variables: dict, source: jax.Array, z: jax.Array) -> jax.Array:
        """`generate` as a traceable function of the weights too; shapes as there."""
        return self._synthesize(variables, source, z)[0]

    def generate_rows_with_maps(
        self, variables: dict, source: jax.Array, z: jax.Array
    ) -> tuple[jax.Array, dict]:
        """`generate_rows`, and the intermediate maps of the generator's layers.

        Returns:
          (images, Linen's collection "intermediates": tuples of one array [B, ...] each, "gates" of
          every AttentionalAdaIN and "masks" of every RegionMask, under the names of their blocks).
        """
        (images, _), state = self._synthesize(variables, source, z, mutable=["intermediates"])
        return images, state.get("intermediates", {})

    def _synthesize(self, variables: dict, source: jax.Array, z: jax.Array, **options):
        source = scale_pixels(source)
        embedder = embedder_variables(**variables["embedder"])
        embedding, tokens = self.networks.embedder.apply(
            embedder, source, self.source_view, method="guide"
        )
        generator, params = self.networks.generator, {"params": variables["generator"]}
        style = generator.apply(params, z, method="map_noise")
        inputs = (embedding, tokens, style, None, source)  # no keys: without per-layer noise
        return generator.apply(params, *inputs, method="synthesize", **options)

    def _require_generator(self):
        if self.networks.generator is None:
            raise UserError("this checkpoint is an embedder only (mode contrastive): no generator")
        return self.networks.generator

    def _by_rows(self, fn, *arrays: np.ndarray) -> np.ndarray:
        return np.asarray(fn(self.variables, *self.devices.spread(*arrays)))[: len(arrays[0])]
