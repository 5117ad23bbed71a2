"""How far the mapping network F strays from the styles of real images.

    python benchmarks/styles.py --workdir=runs/city_long [--data_dir=DIR]

A code's distance is that to the nearest of the codes that the style encoder S gives 2,048 training
targets; S scales codes to unit standard deviation. The limit is what one in a hundred test targets
exceeds, so codes F(z) like those of real images exceed it as often. Codes beyond it are styles that
G was never asked to reconstruct, and some of them break its images (docs/results_appendix.md).
"""

import argparse

import jax
import numpy as np
from scipy.spatial import KDTree

from retroguide_jax.checkpoints.loading import load_model
from retroguide_jax.data.catalog import open_dataset
from retroguide_jax.data.reading import num_examples, read_pairs

NUM_TRAINING, NUM_TEST, NUM_DRAWN, QUANTILE = 2048, 512, 8192, 0.99


def main() -> None:
    """Prints the limit and the share of codes F(z) beyond it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, help="of a run, or pretrained:NAME")
    parser.add_argument("--data_dir")
    args = parser.parse_args()
    model = load_model(args.workdir)
    config, generator = model.config, model.networks.generator
    params = {"params": model.variables["generator"]}
    builder = open_dataset(config.data, args.data_dir, build=False)

    def encode(split: str, num: int) -> np.ndarray:
        pairs = read_pairs(builder, config.data, split, min(num, num_examples(builder, split)))
        targets = np.stack([pair[model.target_view] for pair in pairs])
        images = targets.astype(np.float32) / 127.5 - 1.0
        return np.asarray(jax.jit(apply("encode_style"))(images))

    def apply(method: str):
        return lambda rows: generator.apply(params, rows, method=method)

    training = encode(config.data.train_split, NUM_TRAINING)
    z = np.random.default_rng(0).standard_normal((NUM_DRAWN, model.z_dim), np.float32)
    drawn = np.asarray(jax.jit(apply("map_noise"))(z))
    print(_report(training, encode(config.data.test_split, NUM_TEST), drawn))


def _report(training: np.ndarray, test: np.ndarray, drawn: np.ndarray) -> str:
    """The lines for codes [N, S], [M, S] of targets and [K, S] of noise."""
    tree = KDTree(training)
    real, mapped = tree.query(test)[0], tree.query(drawn)[0]
    limit = np.quantile(real, QUANTILE)
    return (
        f"limit: {limit:.2f}, which {1 - QUANTILE:.0%} of {len(test)} test targets exceed\n"
        f"codes F(z) beyond it: {(mapped > limit).mean():.1%} of {len(drawn)}\n"
        f"median distance: {np.median(mapped):.2f}, of test targets {np.median(real):.2f}"
    )


if __name__ == "__main__":
    main()
