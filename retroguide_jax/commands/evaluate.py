"""Measure a trained model: retrieval, image quality, diversity.

Scores the model of a work directory on a split of its data set, beside floors (images generated
from another source; the mean training image) and a ceiling (the real images). Prints a table and
appends one row to WORKDIR/eval/results.jsonl. A judge is the work directory of an embedder that was
trained on its own: only such a one can say that generated images show the right place, because the
generator was trained to please its own embedder.
"""

import argparse
import os
from pathlib import Path

from retroguide_jax.errors import UserError

EXAMPLE = "retroguide evaluate --workdir=runs/city --judge=runs/city/judge"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `retroguide evaluate`."""
    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="work directory of the trained model"
    )
    parser.add_argument(
        "--judge",
        action="append",
        default=[],
        metavar="DIR",
        help="work directory of an independent embedder; may be given several times",
    )
    parser.add_argument(
        "--split", help="split to score, such as test[:100] (default: the config's data.test_split)"
    )
    parser.add_argument(
        "--data_dir",
        metavar="DIR",
        help="where data sets lie (default: $TFDS_DATA_DIR, else ~/tensorflow_datasets)",
    )
    parser.add_argument(
        "--checkpoint", default="latest", choices=("latest", "best"), help="which one to score"
    )
    parser.add_argument("--num_noises", type=int, default=3, help="images generated a source")
    parser.add_argument("--seed", type=int, default=0, help="of the noise and of the shuffling")
    parser.add_argument("--batch_size", type=int, default=64, help="images at a time")
    parser.add_argument(
        "--max_examples", type=int, metavar="N", help="only the first N examples of the split"
    )
    parser.add_argument("--json", metavar="FILE", help="write the row to this file too")


def run(args: argparse.Namespace) -> int:
    """Scores the model, prints the table, stores the row; returns the exit code.

    Raises:
        UserError: a flag is out of range, or a work directory, a judge or the data cannot be used.
    """
    _check_numbers(args)
    judge_dirs = name_judges(args.workdir, args.judge)

    from tqdm import tqdm

    from retroguide_jax.data.catalog import open_dataset
    from retroguide_jax.evaluation import job, results
    from retroguide_jax.training.loading import load_model

    model = load_model(args.workdir, checkpoint=args.checkpoint)
    # A judge has one best state, whichever of the model's checkpoints it looks at.
    judges = {name: load_model(path) for name, path in judge_dirs.items()}
    data_config = model.config.data
    split = args.split or data_config.test_split
    builder = open_dataset(data_config, args.data_dir)
    with tqdm(unit="image", desc=f"evaluate {split}", leave=False, disable=None) as bar:

        def show_progress(num_done: int, num_total: int) -> None:
            bar.total = num_total
            bar.update(num_done - bar.n)

        row = job.evaluate(
            model,
            judges,
            builder,
            data_config,
            split,
            batch_size=args.batch_size,
            num_noises=args.num_noises,
            seed=args.seed,
            max_examples=args.max_examples,
            progress_fn=show_progress,
        )
    row["checkpoint"] = args.checkpoint
    row["dataset"] = f"{data_config.name}/{data_config.config_name}"
    row["judges"] = {
        name: {"workdir": str(judge_dirs[name]), "step": int(judge.step)}
        for name, judge in judges.items()
    }
    row["time"] = results.format_time()
    path = results.append_row(args.workdir, row)
    if args.json:
        results.write_json(args.json, row)
    print(results.format_table(row))
    print(f"step {row['step']}, split {row['split']}, {row['direction']}: appended to {path}")
    return 0


def name_judges(workdir: str, judges: list[str]) -> dict[str, Path]:
    """Names each judge after the last part of its directory, numbered where that is taken.

    Raises:
        UserError: a judge is the model itself, or is given twice.
    """
    named: dict[str, Path] = {}
    seen = {os.path.realpath(workdir): "is the model to be scored; give an independent embedder"}
    for judge in judges:
        place = os.path.realpath(judge)
        if place in seen:
            raise UserError(f"--judge={judge}: {seen[place]}")
        seen[place] = "is given twice; leave one out"
        base = os.path.basename(place) or "judge"
        taken = {"embedder", *named}  # "embedder" is the model's own
        numbered = (f"{base}_{number}" for number in range(2, len(taken) + 3))
        name = next(name for name in (base, *numbered) if name not in taken)
        named[name] = Path(judge)
    return named


def _check_numbers(args: argparse.Namespace) -> None:
    for flag, low in (("num_noises", 1), ("batch_size", 1), ("max_examples", 2), ("seed", 0)):
        value = getattr(args, flag)
        if value is not None and not low <= value < 2**31:
            raise UserError(f"--{flag}={value}: must be at least {low} and below 2^31")
