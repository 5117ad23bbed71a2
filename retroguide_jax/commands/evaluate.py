"""Measure a trained model, or anyone's images, by metrics that name their protocol.

--workdir scores the model of a work directory on a split of its data set, beside floors (images
generated from another source; the mean training image) and a ceiling (the real images), and appends
one row to WORKDIR/eval/results.jsonl. --generated and --reference score two folders of images that
are matched by name, whatever made them. --compare tells whether A is better than B, image by image.
A judge is the work directory of an embedder that was trained on its own: only such a one can say
that generated images show the right place, because the generator was trained to please its own.
"""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retroguide_jax.errors import UserError

EXAMPLE = """
retroguide evaluate --workdir=runs/city --judge=runs/city/judge
retroguide evaluate --generated=my_views --reference=real_views --metrics=psnr_legacy,ssim_lua,fid
retroguide evaluate --compare runs/a runs/b
"""


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
    how.add_argument("--seed", type=int, default=0, help="of the noise and of the bootstrap")
    how.add_argument(
        "--batch_size", type=int, default=16, help="images a device works on at a time, even"
    )
    how.add_argument(
        "--ranking_gib", type=float, default=1.0, help="GiB for ranking beside the embeddings"
    )
    how.add_argument(
        "--reference_stats",
        type=Path,
        metavar="FILE",
        help="keeps what networks say of the real images, for the next time",
    )

    model = parser.add_argument_group("with --workdir")
    model.add_argument("--split", help="such as test[:100] (default: the config's data.test_split)")
    model.add_argument(
        "--data_dir",
        metavar="DIR",
        help="where data sets lie (default: $TFDS_DATA_DIR, else ~/tensorflow_datasets)",
    )
    model.add_argument(
        "--checkpoint", default="latest", choices=("latest", "best"), help="which one to score"
    )
    model.add_argument("--num_noises", type=int, default=3, help="images generated a source")
    model.add_argument(
        "--max_examples", type=int, metavar="N", help="only the first N examples of the split"
    )
    model.add_argument(
        "--gallery",
        default="pairs",
        choices=("pairs", "all"),
        help="what aerials are searched: those of the pairs, or with the data set's other tiles",
    )
    model.add_argument(
        "--save_images", type=Path, metavar="DIR", help="writes what was scored as PNG files"
    )
    model.add_argument(
        "--watch",
        action="store_true",
        help="scores every checkpoint of a running training once, until that has ended",
    )
    model.add_argument(
        "--poll_seconds", type=float, default=10.0, help="of --watch, between two looks"
    )

    folders = parser.add_argument_group("with --generated")
    folders.add_argument("--reference", metavar="DIR", help="the real images, by the same names")
    folders.add_argument("--source", metavar="DIR", help="what they were generated from")
    folders.add_argument("--sky_mask", metavar="DIR", help="masks of the real images, white is sky")
    folders.add_argument(
        "--direction", default="a2g", choices=("a2g", "g2a"), help="what was generated, for judges"
    )
    folders.add_argument(
        "--resize", metavar="METHOD:HxW", help="brings generated and reference to one size"
    )
    folders.add_argument(
        "--manifest", type=Path, metavar="FILE", help="names, one a line: exactly these"
    )

    out = parser.add_argument_group("results")
    out.add_argument("--json", metavar="FILE", help="write the row to this file too")
    out.add_argument(
        "--per_image",
        type=Path,
        metavar="FILE",
        help="one line an image, ranks included, as CSV (default: in WORKDIR/eval/per_image)",
    )


def run(args: argparse.Namespace) -> int:
    """Scores or compares, prints the table, stores the row; returns the exit code.

    Raises:
        UserError: a flag is out of range, or a work directory, a judge, images or the data cannot
            be used.
    """
    _check_flags(args)
    if args.list_metrics:
        from retroguide_jax.evaluation.registry import describe_metrics

        print(describe_metrics())
        return 0
    if args.compare:
        return _compare(args)

    from retroguide_jax.parallel.processes import join_processes

    join_processes()
    return _score_folders(args) if args.generated else _score_workdir(args)


def _compare(args: argparse.Namespace) -> int:
    from retroguide_jax.evaluation import results
    from retroguide_jax.evaluation.compare import compare

    text, report = compare(*map(Path, args.compare))
    if args.json:
        results.write_json(args.json, report)
    print(text)
    return 0


def _score_workdir(args: argparse.Namespace) -> int:
    from retroguide_jax.evaluation import results
    from retroguide_jax.evaluation.watch import wait_for_checkpoint, watch
    from retroguide_jax.evaluation.workdir import Target, WorkdirJob
    from retroguide_jax.parallel.processes import is_writer

    workdir = Path(args.workdir)
    target = Target(
        workdir,
        name_judges(args.workdir, args.judge),
        checkpoint=args.checkpoint,
        step=wait_for_checkpoint(workdir, args.poll_seconds) if args.watch else None,
        split=args.split,
        data_dir=args.data_dir,
        num_noises=args.num_noises,
        max_examples=args.max_examples,
        all_tiles=args.gallery == "all",
        save_images=args.save_images,
        per_image=args.per_image,
    )
    job = WorkdirJob(target, _make_settings(args))

    def score_step(step: int) -> dict[str, Any]:
        job.use(step)
        row = _run_with_bar(job.score, f"evaluate step {step}")
        _show(row, args)
        return row

    if args.watch:
        num_scored = watch(workdir, job.protocol_hash, score_step, args.poll_seconds)
        if is_writer():
            print(f"{workdir}: training has ended; {num_scored} checkpoints scored")
        return 0
    row = _run_with_bar(job.score, f"evaluate {job.examples.split}")
    if is_writer():
        path = results.append_row(workdir, row)
        _show(row, args)
        print(f"step {row['step']}, split {row['split']}, {row['direction']}: appended to {path}")
    return 0


def _score_folders(args: argparse.Namespace) -> int:
    from retroguide_jax.evaluation import results
    from retroguide_jax.evaluation.folder_job import score_folders
    from retroguide_jax.parallel.processes import is_writer

    def score(progress_fn):
        return score_folders(
            {
                name: getattr(args, name)
                for name in ("generated", "reference", "source", "sky_mask")
            },
            name_judges(None, args.judge),
            _make_settings(args),
            direction=args.direction,
            resize=args.resize,
            manifest=args.manifest,
            progress_fn=progress_fn,
        )

    row, per_image = _run_with_bar(score, "evaluate")
    if is_writer():
        if args.per_image:
            results.write_per_image(args.per_image, per_image)
        _show(row, args)
    return 0


def _make_settings(args: argparse.Namespace):
    from retroguide_jax.evaluation.job import Settings
    from retroguide_jax.evaluation.registry import choose_metrics

    return Settings(
        metrics=choose_metrics(args.metrics, args.preset),
        rows_per_device=args.batch_size,
        seed=args.seed,
        weights=args.weights,
        features=_name_files("features", args.features),
        classifiers=_name_files("classifier", args.classifier, taken=args.features),
        max_bytes=int(args.ranking_gib * 2**30),
        reference_stats=args.reference_stats,
    )


def _name_files(flag: str, texts: list[str], taken: list[str] = ()) -> dict[str, Path]:
    """{NAME: FILE} of NAME=FILE flags."""
    files: dict[str, Path] = {}
    used = {text.partition("=")[0] for text in taken}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not name.isidentifier() or name in {*files, *used}:
            raise UserError(f"--{flag}={text}: give NAME=FILE, each NAME a word of its own")
        files[name] = Path(path)
    return files


def _run_with_bar(fn, title: str):
    from tqdm import tqdm

    from retroguide_jax.parallel.processes import is_writer

    disable = None if is_writer() else True
    with tqdm(unit="image", desc=title, leave=False, disable=disable) as bar:

        def show_progress(num_done: int, num_total: int) -> None:
            bar.total = num_total
            bar.update(num_done - bar.n)

        return fn(progress_fn=show_progress)


def _show(row: Mapping[str, Any], args: argparse.Namespace) -> None:
    from retroguide_jax.evaluation import results
    from retroguide_jax.evaluation.table import format_table

    if args.json:
        results.write_json(args.json, dict(row))
    print(format_table(row), flush=True)


def name_judges(workdir: str | None, judges: list[str]) -> dict[str, Path]:
    """Names each judge after the last part of its directory, numbered where that is taken.

    Args:
        workdir: of the model to be scored, which cannot judge itself; None where images are.
        judges: work directories.

    Raises:
      UserError: a judge is the model itself, or is given twice.
    """
    named: dict[str, Path] = {}
    seen = {}
    if workdir is not None:
        seen[os.path.realpath(workdir)] = "is the model to be scored; give an independent embedder"
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


_ONE_OF = ("workdir", "generated", "compare", "list_metrics")
# Flags that say nothing where something else is scored: better an error than a flag without effect.
_ONLY_WITH = {
    "workdir": (
        "split", "data_dir", "checkpoint", "num_noises", "max_examples", "gallery", "save_images",
        "watch", "poll_seconds",
    ),
    "generated": ("reference", "source", "sky_mask", "direction", "resize", "manifest"),
}  # fmt: skip


def _check_flags(args: argparse.Namespace) -> None:
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
    for flag, low in (("num_noises", 1), ("batch_size", 2), ("max_examples", 2), ("seed", 0)):
        value = getattr(args, flag)
        if value is not None and not low <= value < 2**31:
            raise UserError(f"--{flag}={value}: must be at least {low} and below 2^31")
    if args.batch_size % 2:
        raise UserError(f"--batch_size={args.batch_size}: must be even")
    if not 0.01 <= args.ranking_gib <= 2**20:
        raise UserError(f"--ranking_gib={args.ranking_gib}: must be at least 0.01")
    if args.poll_seconds <= 0:
        raise UserError(f"--poll_seconds={args.poll_seconds}: must be above 0")
