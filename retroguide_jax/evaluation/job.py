"""The evaluation job: opens the networks, scores the examples, makes the ledger row."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retroguide_jax.data import listing
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import distributions, protocol, registry, summary
from retroguide_jax.evaluation.examples import Examples
from retroguide_jax.evaluation.judges import EMBEDDER, Judge, check_independent
from retroguide_jax.evaluation.nets import open_nets
from retroguide_jax.evaluation.reference import Reference
from retroguide_jax.evaluation.scores import UNVERIFIED, Scores, check_names
from retroguide_jax.evaluation.scoring import Instruments, Scorer
from retroguide_jax.fingerprints import hash_text
from retroguide_jax.metric_nets.frozen import FrozenNet
from retroguide_jax.provenance import describe_machine


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a job that do not depend on what is scored.

    Attributes:
      metrics: names of the registry.
      rows_per_device: images per device at a time, even. Scores depend on it only through the
        rounding of float32.
      seed: of the noise and of the bootstrap.
      weights: a file or folder that is searched for weights first.
      features: further feature networks, name -> file.
      classifiers: further classifiers, name -> file; their outputs are logits.
      max_bytes: memory limit for ranking, excluding the embeddings, at any size of the gallery.
      reference_stats: cache file of the frozen networks' outputs on the real images; made if it
        is missing.
    """

    metrics: Sequence[str] = registry.DEFAULT
    rows_per_device: int = 16
    seed: int = 0
    weights: Path | None = None
    features: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    classifiers: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    max_bytes: int = 2**30
    reference_stats: Path | None = None


class Job:
    """Scores sets of images under one protocol; its functions are compiled once.

    Attributes:
      metrics: those that can be computed.
      absent: metric -> why it cannot be computed: a weights file was not found.
    """

    def __init__(
        self,
        settings: Settings,
        judges: Mapping[str, Judge],
        layout_reader: FrozenNet | None = None,
    ):
        """Opens the networks.

        Args:
          settings: of the job.
          judges: by name, a model's own embedder under `judges.EMBEDDER`.
          layout_reader: see layout_readers.py; None if there is none.

        Raises:
          UserError: a network cannot be used or needs another name, or no metric is left.
        """
        check_names(judges, settings.features, settings.classifiers)
        self.settings, self.judges = settings, dict(judges)
        files = {**settings.features, **settings.classifiers}
        opened = open_nets(settings.metrics, settings.weights, files)
        self.absent, self._unverified = opened.absent, opened.unverified
        self.metrics = tuple(name for name in settings.metrics if name not in opened.absent)
        if not self.metrics and not opened.features:
            reasons = (f"{name}: {reason}" for name, reason in opened.absent.items())
            raise UserError("; ".join(reasons))
        self.nets = opened.list_all()
        if layout_reader is not None:
            self.nets["layout_reader"] = layout_reader
        instruments = Instruments(self.judges, opened.lpips, opened.features, layout_reader)
        self._reference = Reference(settings.reference_stats)
        self.scorer = Scorer(self.metrics, instruments, settings.rows_per_device)

    def describe(self, examples_key: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """The protocol of this job on certain examples."""
        others = {name: judge for name, judge in self.judges.items() if name != EMBEDDER}
        return protocol.make_protocol(
            examples_key,
            self.metrics,
            others,
            self.nets,
            seed=self.settings.seed,
            interval="95 %; bootstrap over images, of distances between sets a jackknife",
            **more,
        )

    def score(
        self,
        examples: Examples,
        described: Mapping[str, Any],
        progress_fn: Callable[[int, int], None] | None = None,
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Scores the examples.

        Args:
          examples: what is scored.
          described: their protocol, by `describe`.
          progress_fn: see `Scorer.score`.

        Returns:
          (row, columns of `results.write_per_image`). The row, which JSON can hold: {"direction",
          "metrics": {name: {"value", "low", "high", "n", ...}}, "absent": [{"name", "reason"}],
          "ties", "protocol", "protocol_hash", "manifest": digest of the ids, "real_images": that of
          the targets' pixels, "machine", "seconds"}.

        Raises:
          UserError: an example is missing or not finite, or a judge is the conditioning embedder
            itself. A metric that cannot be computed on these images is listed in "absent".
        """
        start = time.monotonic()
        known = self._reference.read(described)
        columns = self.scorer.score(examples, real=known, progress_fn=progress_fn)
        self._reference.write(described, columns)
        for name in self.judges:
            check_independent(name, columns)
        absent = self.absent | self.scorer.absent
        metrics = [name for name in self.metrics if name not in absent]
        scores = summary.summarize(
            columns,
            metrics,
            list(self.judges),
            source_view=examples.source_view,
            target_view=examples.target_view,
            tiles=self.scorer.embed_tiles(examples),
            seed=self.settings.seed,
            max_bytes=self.settings.max_bytes,
        )
        if examples.has_generated:
            names = ([*self.settings.features], [*self.settings.classifiers])
            distributions.add_distances(scores, columns, metrics, list(self.judges), *names)
        else:
            reason = "this model has no generator (mode contrastive)"
            scores.absent[:] = [{"name": "all but those of the real images", "reason": reason}]
        for name, reason in absent.items():
            scores.add_absent(name, reason)
        for net, paths in self._unverified.items():
            _rename_unverified(scores, net, paths)
        order = {name: place for place, name in enumerate(self.metrics)}
        keys = sorted(
            scores.found, key=lambda s: order.get(registry.find_metric(s) or "", len(order))
        )
        row = {
            "direction": f"{examples.source_view[0]}2{examples.target_view[0]}",
            "metrics": {score.text: scores.found[score] for score in keys},
            "absent": scores.absent,
            "ties": scores.ties,
            "protocol": dict(described),
            "protocol_hash": protocol.hash_protocol(described),
            "manifest": listing.fingerprint_ids(sorted(columns["id"].tolist())),
            "real_images": _hash_real(columns),
            "machine": describe_machine(),
            "seconds": round(time.monotonic() - start, 1),
        }
        return row, scores.per_image


def _hash_real(columns: Mapping[str, np.ndarray]) -> str:
    """Digest of all targets, in the order of their ids."""
    return hash_text("".join(columns["real_digest"][np.argsort(columns["id"])].tolist()))


def _rename_unverified(scores: Scores, net: str, paths: Sequence[str]) -> None:
    """Prefixes scores by unverified weights: they must not be taken for the published metric."""
    for score in list(scores.found):
        metric = registry.find_metric(score)
        if metric is not None and registry.METRICS[metric].net == net:
            renamed = dataclasses.replace(score, metric=UNVERIFIED + score.metric)
            scores.found[renamed] = scores.found.pop(score)
            reason = f"given as {renamed.text}: not known to be the published weights:"
            scores.add_absent(score.text, f"{reason} {', '.join(paths)}")
