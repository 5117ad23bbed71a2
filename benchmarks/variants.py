"""Compares the processor time of the training step or its phases between variants of a config.

    python benchmarks/variants.py --works=D,G "" "generator.unfold=2 discriminator.width=64"

Each argument is one variant, a list of FIELD=VALUE of the config, "" for none. All variants run in
one process and take turns, so that a busy machine slows all alike; on a busy machine, compare the
minima. Images are noise. Works as in step.py: `step` is an update of D and G on the adversarial
batch, over full periods of the lazy penalty; `D`, `G` and `R1` are the gradients of its phases.
"""

import argparse
import statistics
import time

import numpy as np
from speed.ours import Side

from retroguide_jax.config import load_config


def main() -> None:
    """Prints one line per work and variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="+", help="FIELD=VALUE FIELD=VALUE ...")
    parser.add_argument("--config", default="city", help="as of `retroguide train`")
    parser.add_argument("--works", default="step", help="comma-separated")
    parser.add_argument("--num_rounds", type=int, default=15)
    args = parser.parse_args()
    sides = [_make_side(args.config, variant.split()) for variant in args.variants]
    for work in args.works.split(","):
        runs = sides[0].config.losses.penalty_every if work == "step" else 1
        for side in sides:
            side.run(work)  # compiles
        times = [[_time(side, work, runs) for side in sides] for _ in range(args.num_rounds)]
        for variant, seconds in zip(args.variants, zip(*times, strict=True), strict=True):
            least, median = (1e3 * fn(seconds) for fn in (min, statistics.median))
            print(f"{work:5} median {median:7.1f} ms, minimum {least:7.1f}  {variant}", flush=True)


def _make_side(name: str, fields: list[str]) -> Side:
    config = load_config(name, [f"--config.{field}" for field in fields])
    size = config.train.batch_size = config.train.adversarial_batch_size
    config.mode = "frozen"  # trains only D and G
    rng = np.random.default_rng(0)
    images = {
        view: rng.uniform(-1, 1, (size, *config.data[f"{view}_size"], 3)).astype(np.float32)
        for view in ("aerial", "ground")
    }
    return Side(config, images)


def _time(side: Side, work: str, runs: int) -> float:
    """Seconds of processor time per run, summed over threads."""
    started = time.process_time()
    for _ in range(runs):
        side.run(work)
    return (time.process_time() - started) / runs


if __name__ == "__main__":
    main()
