"""Scores the baseline without a generator: the training panorama that the embedder finds nearest.

Takes those flags of `retroguide evaluate --workdir` that `ablation.tasks` passes.
"""

import argparse
from pathlib import Path

import numpy as np

from retroguide_jax.data.images import to_float
from retroguide_jax.data.pipeline import iterate_batches
from retroguide_jax.evaluation import results
from retroguide_jax.evaluation.job import Settings
from retroguide_jax.evaluation.judges import name_judges
from retroguide_jax.evaluation.registry import choose_metrics
from retroguide_jax.evaluation.workdir import Target, WorkdirJob
from retroguide_jax.metrics.nearest import find_nearest


class NearestTargets:
    """The interface of a model that `ModelExamples` needs, without a generator.

    Args:
      model: an `inference.Model`; its embedder is used, and its other attributes describe the row.
      builder: the data set; its training targets are held in memory as uint8.
      data_config: `config.data`.
    """

    has_generator, z_dim = True, 1

    def __init__(self, model, builder, data_config):
        self._model = model
        images, rows = [], []
        for batch in iterate_batches(builder, data_config, data_config.train_split, batch_size=64):
            target = batch[model.target_view]
            rows.append(model.embed(target, model.target_view)[batch["mask"]])
            images.append(target[batch["mask"]])
        self._images, self._rows = np.concatenate(images), np.concatenate(rows)

    def __getattr__(self, name):
        return getattr(self._model, name)

    def generate(self, source: np.ndarray, z: np.ndarray) -> np.ndarray:
        """[B, H, W, 3] in [-1, 1] to the nearest targets; `z` has no effect."""
        del z
        queries = self._model.embed(source, self._model.source_view)
        return to_float(self._images[find_nearest(queries, self._rows, 1).indices[:, 0]])


def main() -> None:
    """Scores the baseline and writes its row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for flag in ("workdir", "metrics", "json", "per_image"):
        parser.add_argument(f"--{flag}", required=True)
    parser.add_argument("--judge", action="append", default=[])
    args = parser.parse_args()
    target = Target(
        Path(args.workdir),
        name_judges(args.workdir, args.judge),
        per_image=Path(args.per_image),
    )
    job = WorkdirJob(target, Settings(choose_metrics(args.metrics, None)))
    examples = job.examples
    examples.model = NearestTargets(examples.model, examples.builder, examples.data_config)
    results.write_json(args.json, job.score())


if __name__ == "__main__":
    main()
