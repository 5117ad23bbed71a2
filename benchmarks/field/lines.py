"""Lines of the agreement table, and our side's scores for them."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from field import inputs


class Line(NamedTuple):
    """One comparison.

    metric: our name of the metric, or of the quantity compared.
    against: the other side, and its protocol where it has several.
    ours, theirs: the means over images and features.
    absolute: the largest absolute difference.
    relative: the largest over images of the length of the difference over the length of theirs.
    """

    metric: str
    against: str
    ours: float
    theirs: float
    absolute: float
    relative: float


def compare(metric: str, against: str, ours, theirs) -> Line:
    """Makes a line from scores, scalars or [N], or from features [N, ...]."""
    rows = []
    for side in (ours, theirs):
        side = np.atleast_1d(np.asarray(side, np.float64))
        rows.append(side.reshape(len(side), -1))
    difference = rows[0] - rows[1]
    relative = np.linalg.norm(difference, axis=1) / np.linalg.norm(rows[1], axis=1)
    values = rows[0].mean(), rows[1].mean(), np.abs(difference).max(), relative.max()
    return Line(metric, against, *map(float, values))


class Subject:
    """The images with our scores and features of them, each computed once.

    Attributes:
      generated, reference: uint8 [N, H, W, 3].
      weights: see inputs.py.
      score: name of a pixel metric -> [N].
      look: name of an Inception preprocessing -> its outputs of (generated, reference).
      measure_lpips: name of a trunk -> [8], for `few`.
    """

    def __init__(self, generated: np.ndarray, reference: np.ndarray, weights: inputs.Weights):
        self.generated, self.reference, self.weights = generated, reference, weights
        self.score = functools.cache(lambda metric: score_pixels(metric, *self.pair))
        self.look = functools.cache(self._look)
        self.measure_lpips = functools.cache(self._measure_lpips)

    @property
    def pair(self) -> tuple[np.ndarray, np.ndarray]:
        """(generated, reference)."""
        return self.generated, self.reference

    @property
    def few(self) -> tuple[np.ndarray, np.ndarray]:
        """The first eight of (generated, reference), for slow metrics."""
        return self.generated[:8], self.reference[:8]

    def get_features(self, preprocessing: str) -> tuple[np.ndarray, np.ndarray]:
        """Our Inception's features of (generated, reference), [N, 2048] each."""
        generated, reference = self.look(preprocessing)
        return generated["features"], reference["features"]

    def _look(self, preprocessing: str) -> tuple[dict, dict]:
        from retroguide_jax.metric_nets.inception import make_inception

        net = make_inception(self.weights.get("inception"), preprocessing)
        run = inputs.compile_rows(net.apply, net.variables)
        return run(self.generated), run(self.reference)

    def _measure_lpips(self, net: str) -> np.ndarray:
        from retroguide_jax.metric_nets.lpips import make_lpips

        frozen = make_lpips(net, *self.weights.get_lpips(net))
        return inputs.compile_rows(frozen.apply, frozen.variables)(*self.few)["distance"]


def score_pixels(metric: str, generated: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Scores by our metric of that name, float32 [N]."""
    return compile_pixels(metric)(generated, reference)["score"]


def compile_pixels(metric: str) -> Callable[..., dict[str, np.ndarray]]:
    """Our metric of that name as a function (generated, reference) -> {"score": [N]}."""
    from retroguide_jax.metrics import pixel_errors, sharpness, similarity

    modules = (pixel_errors, sharpness, similarity)
    metric_fn = next(getattr(m, metric) for m in modules if hasattr(m, metric))
    return inputs.compile_rows(lambda _, *pair: {"score": metric_fn(*pair)})
