"""The figures of one row, gathered one by one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from retroguide_jax.metrics import statistics


class Figures:
    """The figures of one row, those that are absent, and what they were made from.

    Attributes:
      metrics: name -> {"value", "low", "high", "n"} with the ends of the 95 % interval, and of
        several noises "noise_std", the standard deviation of the figure over them. An infinite
        figure has no number in JSON: value, low and high are then None and "infinite" says how many
        images are so.
      absent: [{"name", "reason"}].
      ties: "KIND/J" -> number of queries with tied items.
      seed: of the bootstrap.
      per_image: name -> [N] or [N, K], for `results.write_per_image`.
    """

    def __init__(self, seed: int):
        self.seed = seed
        self.metrics: dict[str, dict[str, Any]] = {}
        self.absent: list[dict[str, str]] = []
        self.ties: dict[str, int] = {}
        self.per_image: dict[str, np.ndarray] = {}

    def add_mean(self, name: str, values: np.ndarray, *, keep: bool = True) -> None:
        """Adds the mean of [N] or [N, K] figures; rows that are NaN are left out of it.

        Args:
          name: of the figure.
          values: one an image, or one an image and noise.
          keep: also list them image by image.
        """
        values = np.asarray(values, np.float64)
        table = values[:, None] if values.ndim == 1 else values
        if keep:
            self.per_image[name] = values
        known = table[~np.isnan(table).any(axis=1)]
        if not len(known):
            self.add_absent(name, "is defined for none of the images")
            return
        num_infinite = int(np.sum(np.isinf(known).any(axis=1)))
        if num_infinite:
            nothing = dict.fromkeys(("value", "low", "high"))
            self.metrics[name] = {**nothing, "n": len(known), "infinite": num_infinite}
            return
        found = statistics.bootstrap_mean(known.mean(axis=1), seed=self.seed)
        self.add(name, found.value, found.low, found.high, len(known), known.mean(axis=0))

    def add(
        self,
        name: str,
        value: float,
        low: float,
        high: float,
        num: int,
        per_noise: Sequence[float] = (),
        reason: str = "is not finite",
    ) -> None:
        """Adds a figure, or lists it as absent for `reason` where it is not finite."""
        if not np.isfinite(value):
            self.add_absent(name, reason)
            return
        ends = {"low": float(low), "high": float(high)} if np.isfinite([low, high]).all() else {}
        self.metrics[name] = {"value": float(value), "low": None, "high": None, **ends}
        self.metrics[name]["n"] = int(num)
        if len(per_noise) > 1:
            self.metrics[name]["noise_std"] = float(np.std(per_noise, ddof=1))

    def add_absent(self, name: str, reason: str) -> None:
        """Lists a figure that could not be computed."""
        self.absent.append({"name": name, "reason": reason})
