"""Opens the frozen networks that metrics need, or records why one is not available."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation.registry import METRICS, list_weights
from retroguide_jax.metric_nets.frozen import FrozenNet
from retroguide_jax.weights.files import MissingWeightsError, load

# The output of its network that a metric needs, where that is not "features".
_OUTPUTS = {
    "inception_score": "logits",
    "kl_places": "probabilities",
    "accuracy_places": "probabilities",
    "inception_score_places": "probabilities",
}


@dataclasses.dataclass
class OpenedNets:
    """The frozen networks of a job.

    Attributes:
      lpips: metric -> network with the output "distance".
      features: network name -> (network, outputs that metrics need).
      absent: metric -> why it is absent: a weights file was not found.
      unverified: network name -> its weight files that differ from the published ones by digest.
        Scores by such a network must not be reported under the metric's name.
    """

    lpips: dict[str, FrozenNet] = dataclasses.field(default_factory=dict)
    features: dict[str, tuple[FrozenNet, tuple[str, ...]]] = dataclasses.field(default_factory=dict)
    absent: dict[str, str] = dataclasses.field(default_factory=dict)
    unverified: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def list_all(self) -> dict[str, FrozenNet]:
        """Every network by its name."""
        return {name: net for name, (net, _) in self.features.items()} | self.lpips


def open_nets(
    metrics: Sequence[str], weights: Path | None, features: Mapping[str, Path]
) -> OpenedNets:
    """Opens every network that the metrics need.

    Args:
      metrics: names of the registry.
      weights: a file or folder that is searched first, as --weights.
      features: further networks, name -> file, as --features=NAME=FILE and --classifier=NAME=FILE.

    Raises:
      UserError: a file is damaged, or is not what its name says.
    """
    opened = OpenedNets()
    for metric in metrics:
        name = METRICS[metric].net
        if not name:
            continue
        try:
            known = opened.list_all().get(name) or _open(name, weights, opened.unverified)
        except MissingWeightsError as error:
            opened.absent[metric] = str(error)
            continue
        if name.startswith("lpips"):
            opened.lpips[metric] = known
        else:
            output = _OUTPUTS.get(metric, "features")
            outputs = opened.features.get(name, (known, ()))[1]
            opened.features[name] = (known, tuple(dict.fromkeys((*outputs, output))))
    for name, path in features.items():
        from retroguide_jax.metric_nets.external import open_net

        if name in {"judge", *(metric.net for metric in METRICS.values())}:
            raise UserError(f"{name}={path}: that name is taken; choose another")
        opened.features[name] = (open_net(path), ("features",))
    return opened


def _open(name: str, weights: Path | None, unverified: dict[str, list[str]]) -> FrozenNet:
    from retroguide_jax.metric_nets.inception import make_inception
    from retroguide_jax.metric_nets.lpips import make_lpips
    from retroguide_jax.metric_nets.places import make_places

    files = [load(file, weights) for file in list_weights(name)]
    if doubtful := [str(file.path) for file in files if not file.is_verified]:
        unverified[name] = doubtful
    arrays = [file.arrays for file in files]
    kind, _, variant = name.partition("_")
    if kind == "inception":
        return make_inception(arrays[0], variant)
    return make_lpips(variant, *arrays) if kind == "lpips" else make_places(*arrays)
