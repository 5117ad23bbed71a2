"""False alarms of `broken_share`: how many real targets it classifies as broken.

    python benchmarks/broken.py [--config=city] [--config.FIELD=VALUE ...] [--data_dir=DIR]

Each real target is classified by the range of the others of its split, as in `broken_share_real`,
and by the range of 128 and of 512 targets drawn at random, 200 times. Results: docs/evaluation.md.
"""

import argparse
import sys

import numpy as np

from retroguide_jax.config import load_config, split_overrides
from retroguide_jax.data.catalog import open_dataset
from retroguide_jax.data.reading import num_examples, read_pairs
from retroguide_jax.metrics.breakage import find_broken, find_false_alarms, measure_breakage

BATCH, DRAWS = 256, 200


def main() -> None:
    """Prints one line per split and one per size of the drawn sets."""
    overrides, rest = split_overrides(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="city")
    parser.add_argument("--data_dir")
    args = parser.parse_args(rest)
    config = load_config(args.config, overrides)
    builder = open_dataset(config.data, args.data_dir, build=False)
    view = "ground" if config.direction == "a2g" else "aerial"
    parts = []
    for split in sorted(builder.info.splits):
        pairs = read_pairs(builder, config.data, split, num_examples(builder, split))
        images = np.stack([pair[view] for pair in pairs])
        rows = [measure_breakage(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
        parts.append(np.concatenate([np.asarray(part, np.float64) for part in rows]))
        print(f"{split}: {find_false_alarms(parts[-1]).sum()} of {len(images)}", flush=True)
    measures, rng = np.concatenate(parts), np.random.default_rng(0)
    for num in (128, 512):
        shares = []
        for _ in range(DRAWS):
            order = rng.permutation(len(measures))
            broken = find_broken(measures[order[num:]], measures[order[:num]])
            shares.append(broken.mean())
        print(f"by the range of {num}: {np.mean(shares):.3%} of the others")


if __name__ == "__main__":
    main()
