"""How far the mapping network F strays from the styles of real images, and which it leaves out.

    python benchmarks/styles.py --workdir=runs/city_long [--data_dir=DIR]

The style encoder S gives codes to 2,048 training targets and to the test targets. Codes F(z) far
from all training codes are styles that G was never asked to reconstruct, and some of them break its
images; test codes far from all codes F(z) are weathers that G does not draw. Distances of test to
training codes are what a perfect F would have. S scales codes to unit mean square.
"""

import argparse

import jax
import numpy as np
from scipy.spatial import KDTree

from retroguide_jax.checkpoints.loading import load_model
from retroguide_jax.data.catalog import open_dataset
from retroguide_jax.data.reading import num_examples, read_pairs

NUM_CODES, NUM_DRAWN = 2048, 8192


def main() -> None:
    """Prints quantiles of the distances to the nearest of `NUM_CODES` codes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, help="of a run, or pretrained:NAME")
    parser.add_argument("--data_dir")
    args = parser.parse_args()
    model = load_model(args.workdir)
    config, generator = model.config, model.networks.generator
    params = {"params": model.variables["generator"]}
    builder = open_dataset(config.data, args.data_dir, build=False)

    def encode(split: str) -> np.ndarray:
        pairs = read_pairs(
            builder, config.data, split, min(NUM_CODES, num_examples(builder, split))
        )
        targets = np.stack([pair[model.target_view] for pair in pairs])
        return apply("encode_style", targets.astype(np.float32) / 127.5 - 1.0)

    def apply(method: str, rows: np.ndarray) -> np.ndarray:
        return np.asarray(jax.jit(lambda x: generator.apply(params, x, method=method))(rows))

    training, test = encode(config.data.train_split), encode(config.data.test_split)
    z = np.random.default_rng(0).standard_normal((NUM_DRAWN, model.z_dim), np.float32)
    drawn = apply("map_noise", z)
    print(f"{'distance to the nearest code':<34}{'median':>8}{'99 %':>8}{'99.9 %':>8}")
    print(_describe("F(z), to training targets", drawn, training))
    print(_describe("test targets, to training targets", test, training))
    print(_describe("test targets, to F(z)", test, drawn[:NUM_CODES]))


def _describe(title: str, codes: np.ndarray, others: np.ndarray) -> str:
    """A row of the table: how far `codes` [N, S] lie from the nearest of `others` [M, S]."""
    distances = KDTree(others).query(codes)[0]
    return f"{title:<34}" + "".join(
        f"{np.quantile(distances, q):>8.2f}" for q in (0.5, 0.99, 0.999)
    )


if __name__ == "__main__":
    main()
