"""Train an embedder and a generator, or go on with a run that was stopped.

The data set is built first if it is missing. Everything goes to the work directory: config,
checkpoints, metrics, sample grids. The same command again resumes from the last checkpoint; Ctrl-C
and SIGTERM save one and leave.
"""

import argparse
from pathlib import Path

USES_CONFIG = True
EXAMPLE = "retroguide train --config=city --workdir=runs/city --config.train.num_steps=2000"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `retroguide train`."""
    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="receives all that the run makes"
    )
    parser.add_argument(
        "--data_dir",
        metavar="DIR",
        help="where data sets lie (default: $TFDS_DATA_DIR, else ~/tensorflow_datasets)",
    )


def run(args: argparse.Namespace) -> int:
    """Trains; returns 0 at the end, 130 or 143 after Ctrl-C or SIGTERM."""
    from retroguide_jax.parallel.processes import join_processes

    join_processes()
    from retroguide_jax.training.loop import train

    return train(args.config, Path(args.workdir), args.data_dir)
