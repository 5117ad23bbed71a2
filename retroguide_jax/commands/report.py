"""Write a report on a run as one HTML page: scores, pictures and the evidence behind them.

The page holds scores with their baselines and ceilings, galleries, a judge's retrievals, the
generator's attention and regions, learning curves, tables, a map of the embeddings and the config.
It is one file that needs no network, so it can be mailed or put anywhere. Where a part is missing,
because nothing was evaluated yet or the data set is not available, a note names the command that
fills it. Pictures, ranks and similarities are computed again from the newest checkpoint.
"""

import argparse
from pathlib import Path

from retroguide_jax.files import to_path

EXAMPLE = """
retroguide report --workdir=runs/city --data_dir=runs/city/data
retroguide report --workdir=runs/a --compare runs/b runs/c --output=abc.html
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    from retroguide_jax.commands.data import positive_integer

    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="work directory of the run to show"
    )
    parser.add_argument(
        "--compare", nargs="+", default=[], metavar="DIR", help="runs to show beside it"
    )
    parser.add_argument(
        "--judge",
        action="append",
        default=[],
        metavar="DIR",
        help="work directory of an independent embedder; repeatable (default: those that the last "
        "evaluation names, where they still are)",
    )
    parser.add_argument(
        "--data_dir",
        metavar="DIR",
        help="where data sets lie (default: $TFDS_DATA_DIR, else ~/tensorflow_datasets)",
    )
    parser.add_argument(
        "--output", metavar="FILE.html", help="the page (default: WORKDIR/report.html)"
    )
    parser.add_argument(
        "--max_examples",
        type=positive_integer,
        default=512,
        help="how many examples of the test split are drawn and ranked, at most",
    )
    parser.add_argument("--num_noises", type=positive_integer, default=3, help="images per place")


def run(args: argparse.Namespace) -> int:
    """Writes the page and prints its path and the parts that are missing.

    Raises:
      UserError: a folder is not a work directory, a judge is the model itself or given twice, or
        the page cannot be written.
    """
    from retroguide_jax.evaluation.judges import name_judges
    from retroguide_jax.report.collect import find_judges, name_apart, open_run
    from retroguide_jax.report.page import write_page

    runs = name_apart([open_run(path) for path in (args.workdir, *args.compare)])
    judges = name_judges(args.workdir, args.judge) or find_judges(runs[0])
    output = to_path(args.output or runs[0].workdir / "report.html")
    missing = write_page(output, runs, lambda: _open_examples(args, judges))
    for problem in missing:
        print(f"not on the page: {problem}")
    print(f"report in {output}")
    return 0


def _open_examples(args: argparse.Namespace, judges: dict[str, Path]):
    from retroguide_jax.progress import follow, make_bar
    from retroguide_jax.report.ranked import RankedExamples

    with make_bar(unit="image", desc="report") as bar:
        return RankedExamples(
            to_path(args.workdir),
            judges,
            data_dir=args.data_dir,
            num_noises=args.num_noises,
            max_examples=args.max_examples,
            progress_fn=follow(bar),
        )
