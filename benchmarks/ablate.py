"""Trains and scores every ablation and baseline over several seeds, and prints their tables.

    python benchmarks/ablate.py --output=runs/ablations [--names=full,no_style] [--num_seeds=3]
    python benchmarks/ablate.py --output=runs/ablations --num_workers=2 --judges=runs/judges
    python benchmarks/ablate.py --output=runs/ablations --table

Two judges of two families (configs/city_judge.py) are trained once and kept in --judges, where
other outputs can use them too. Each seed trains one embedder, which is then frozen and shared by
every change of configs/ablations.py, every baseline of configs/baselines.py and `nearest`, the
training panorama that the embedder finds nearest. All generators see equally many images (the
embedder was trained on images before, which a baseline without it was not), and are scored on the
same places with the same noise. Further --config.FIELD=VALUE apply to all trainings.

Finished tasks are kept: run the same command again to resume; --table prints the scores so far.
Seeds are the outer loop, so that the first seeds already cover all names. A task that fails is
reported, and the others continue.
"""

import argparse
import os
import sys
from pathlib import Path

from ablation import table
from ablation.running import count_processors, run_tasks
from ablation.tasks import NAMES, list_tasks


def main() -> int:
    """Runs the missing tasks and prints the tables; returns 1 if a task failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--judges", type=Path, help="folder of both judges (default: OUTPUT/judge)")
    parser.add_argument("--names", default=",".join(NAMES), help="comma-separated (default: all)")
    parser.add_argument("--num_seeds", type=int, default=3, help="(default: 3)")
    parser.add_argument(
        "--num_steps",
        type=int,
        default=3500,
        help="of G, 1,500 of them of its structure stage (default: 3500)",
    )
    parser.add_argument(
        "--num_workers", type=int, default=1, help="commands at a time, which share the processors"
    )
    parser.add_argument("--table", action="store_true", help="run nothing")
    args, overrides = parser.parse_known_args()
    if wrong := [text for text in overrides if not text.startswith("--config.")]:
        parser.error(f"unknown: {' '.join(wrong)}")
    if not 1 <= args.num_workers <= count_processors():
        parser.error(f"--num_workers: between 1 and the {count_processors()} processors")
    names = args.names.split(",")
    if wrong := [name for name in names if name not in NAMES]:
        parser.error(f"--names: no {', '.join(wrong)}; there are {', '.join(NAMES)}")
    failed = [] if args.table else _run_all(args, names, overrides)
    scores = table.read_scores(args.output)
    if args.table and not scores:
        sys.exit(f"error: no scores in {args.output}; name another --output, or leave --table out")
    print(table.format_tables(scores))
    for place in dict.fromkeys(failed):
        print(f"failed: see {place / 'log.txt'}", file=sys.stderr)
    return 1 if failed else 0


def _run_all(args: argparse.Namespace, names: list[str], overrides: list[str]) -> list[Path]:
    """Returns the folders of failed tasks."""
    # Runs that differ only in the seed share compiled programs; huge pages as in the demo.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(args.output.absolute() / "compiled"))
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    judges = args.judges or args.output / "judge"
    tasks = list_tasks(args.output, judges, names, args.num_seeds, args.num_steps, overrides)
    return run_tasks(tasks, args.num_workers)


if __name__ == "__main__":
    sys.exit(main())
