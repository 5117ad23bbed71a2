"""The flags of `retroguide evaluate` and their valid combinations."""

import argparse
from pathlib import Path

from retroguide_jax.errors import UserError
from retroguide_jax.files import to_local_path, to_path

FOLDERS = ("generated", "reference", "source", "sky_mask")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `retroguide evaluate`."""
    what = parser.add_argument_group("what is scored (one of these)")
    what.add_argument("--workdir", metavar="DIR", help="work directory of the trained model")
    what.add_argument("--generated", metavar="DIR", help="folder of generated images")
    what.add_argument(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="two per-image files, or work directories whose newest ones are compared",
    )
    what.add_argument(
        "--list_metrics", action="store_true", help="print every metric with its protocol"
    )

    how = parser.add_argument_group("metrics")
    how.add_argument("--metrics", metavar="A,B,C", help="names, or default, or all")
    how.add_argument("--preset", help="the columns of a family of papers: see --list_metrics")
    how.add_argument(
        "--judge",
        action="append",
        default=[],
        metavar="DIR",
        help="work directory of an independent embedder; may be given several times",
    )
    how.add_argument(
        "--features",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a feature network (.onnx, .stablehlo) for the distance fd_NAME",
    )
    how.add_argument(
        "--classifier",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a network that gives logits, for kl_NAME, top1_NAME, inception_score_NAME",
    )
    how.add_argument(
        "--weights", type=Path, metavar="PATH", help="file or folder to look for weights in first"
    )
    how.add_argument("--seed", type=int, default=0, help="seed of the noise and of the bootstrap")
    how.add_argument("--batch_size", type=int, default=16, help="images per device at a time, even")
    how.add_argument(
        "--ranking_gib",
        type=float,
        default=1.0,
        help="memory limit for ranking in GiB, excluding the embeddings",
    )
    how.add_argument(
        "--reference_stats",
        type=to_local_path,
        metavar="FILE",
        help="cache features of the real images in FILE",
    )

    model = parser.add_argument_group("with --workdir")
    model.add_argument(
        "--split", help="split to score, such as test[:100] (default: config.data.test_split)"
    )
    model.add_argument(
        "--data_dir",
        metavar="DIR",
        help="where data sets lie (default: $TFDS_DATA_DIR, else ~/tensorflow_datasets)",
    )
    model.add_argument(
        "--checkpoint", default="latest", choices=("latest", "best"), help="checkpoint to score"
    )
    model.add_argument("--num_noises", type=int, default=3, help="images per source")
    model.add_argument(
        "--max_examples", type=int, metavar="N", help="only the first N examples of the split"
    )
    model.add_argument(
        "--gallery",
        default="pairs",
        choices=("pairs", "all"),
        help="aerials to search: those of the pairs, or all tiles of the data set",
    )
    model.add_argument(
        "--save_images",
        type=to_local_path,
        metavar="DIR",
        help="write the scored images as PNG files",
    )
    model.add_argument(
        "--watch",
        action="store_true",
        help="score every new checkpoint of a training run once, until it has ended",
    )
    model.add_argument(
        "--poll_seconds", type=float, default=10.0, help="seconds between polls, with --watch"
    )

    folders = parser.add_argument_group("with --generated")
    folders.add_argument(
        "--reference", metavar="DIR", help="folder of the real images, under the same names"
    )
    folders.add_argument(
        "--source", metavar="DIR", help="folder of the images that they were generated from"
    )
    folders.add_argument(
        "--sky_mask", metavar="DIR", help="folder of masks of the real images, white for sky"
    )
    folders.add_argument(
        "--direction",
        default="a2g",
        choices=("a2g", "g2a"),
        help="direction of the generation, for judges",
    )
    folders.add_argument(
        "--resize", metavar="METHOD:HxW", help="brings generated and reference to one size"
    )
    folders.add_argument(
        "--manifest", type=Path, metavar="FILE", help="names, one per line: exactly these"
    )
    folders.add_argument(
        "--names",
        action="append",
        default=[],
        metavar="ROLE=PATTERN",
        help="what the names in a folder look like, * for the id: 'generated=*_fake_B'; "
        "for each of generated, reference, source and sky_mask",
    )
    folders.add_argument(
        "--num_samples",
        type=int,
        default=1,
        metavar="K",
        help="generated images of each place, named NAME_0 to NAME_{K-1} as `generate` does",
    )

    out = parser.add_argument_group("results")
    out.add_argument("--json", metavar="FILE", help="write the row to this file too")
    out.add_argument(
        "--per_image",
        type=to_path,
        metavar="FILE",
        help="one line per image, ranks included, as CSV (default: in WORKDIR/eval/per_image)",
    )


_LEAST = {"num_noises": 1, "num_samples": 1, "batch_size": 2, "max_examples": 1, "seed": 0}
_ONE_OF = ("workdir", "generated", "compare", "list_metrics")
# Flags that apply to one mode only: elsewhere they are an error rather than silently ignored.
_ONLY_WITH = {
    "workdir": (
        "split", "data_dir", "checkpoint", "num_noises", "max_examples", "gallery", "save_images",
        "watch", "poll_seconds",
    ),
    "generated": (
        "reference", "source", "sky_mask", "direction", "resize", "manifest", "names",
        "num_samples",
    ),
}  # fmt: skip


def check_flags(args: argparse.Namespace) -> None:
    """Checks that the flags can be combined and that numbers are in range.

    Raises:
      UserError: an invalid combination, or a number out of range.
    """
    given = [name for name in _ONE_OF if getattr(args, name)]
    if len(given) != 1:
        raise UserError(
            "give one of --workdir=DIR, --generated=DIR (with --reference=DIR), --compare A B and "
            "--list_metrics"
        )
    defaults = argparse.ArgumentParser()
    add_flags(defaults)
    for mode, flags in _ONLY_WITH.items():
        for flag in flags if mode != given[0] else ():
            if getattr(args, flag) != defaults.get_default(flag):
                raise UserError(f"--{flag} goes with --{mode}, not with --{given[0]}")
    if args.generated and not args.reference:
        raise UserError("--generated needs --reference, the real images by the same names")
    if args.watch and args.checkpoint != "latest":
        raise UserError("--watch scores every checkpoint; leave out --checkpoint")
    for flag, low in _LEAST.items():
        value = getattr(args, flag)
        if value is not None and not low <= value < 2**31:
            raise UserError(f"--{flag}={value}: must be at least {low} and below 2^31")
    if args.batch_size % 2:
        raise UserError(f"--batch_size={args.batch_size}: must be even")
    if not 0.01 <= args.ranking_gib <= 2**20:
        raise UserError(f"--ranking_gib={args.ranking_gib}: must be at least 0.01")
    if args.poll_seconds <= 0:
        raise UserError(f"--poll_seconds={args.poll_seconds}: must be above 0")
