"""Two early-warning metrics, on validation places that no update has seen."""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from retroguide_jax.data.images import to_float
from retroguide_jax.data.reading import read_pairs
from retroguide_jax.networks import Networks, embedder_variables
from retroguide_jax.parallel.local import LocalDevices
from retroguide_jax.state import TrainState

_NUM_PLACES = 16


class Probe:
    """Measures two metrics, on the same few places at every call.

    guide/drift: mean cosine of the guide's source embeddings at this call and the one before. Below
      about 0.9, G and D chase a moving condition. Absent at the first call after a start or resume.
    d/real_val: D's mean logit for real pairs. If it is far below d/real, D has memorised its
      training images.
    """

    def __init__(self, config: ConfigDict, networks: Networks, builder):
        pairs = read_pairs(builder, config.data, config.data.val_split, _NUM_PLACES)
        self._images = {
            view: np.stack([to_float(pair[view]) for pair in pairs]) for view in networks.sizes
        }
        self._networks, self._devices = networks, LocalDevices()
        self._fn = self._devices.compile(self._measure)
        self._before: np.ndarray | None = None

    def measure(self, state: TrainState) -> dict[str, float]:
        """The two metrics: the drift from the second call on, if the embedder is trained; D's logit
        if there is a D.

        Every process must call this.
        """
        variables = {"embedder": state.ema["embedder"]}
        if "discriminator" in state.params:
            variables["discriminator"] = state.params["discriminator"]
        views = self._networks.source_view, self._networks.target_view
        rows = self._devices.spread(*(self._images[view] for view in views))
        found = self._fn(self._devices.replicate(variables), *rows)
        embedding, *logits = (np.asarray(array)[: len(self._images[views[0]])] for array in found)
        values, before = {}, self._before
        if before is not None and "embedder" in state.params:
            values["guide/drift"] = float((embedding * before).sum(-1).mean())
        if logits:
            values["d/real_val"] = float(logits[0].mean())
        self._before = embedding
        return values

    def _measure(self, variables: dict[str, Any], source: jax.Array, target: jax.Array):
        networks = self._networks
        guide = embedder_variables(**variables["embedder"])
        embedding, _ = networks.embedder.apply(guide, source, networks.source_view)
        if "discriminator" not in variables:
            return (embedding,)
        params = {"params": variables["discriminator"]}
        heads = networks.discriminator.apply(params, target, embedding, source)
        return embedding, heads[0]
