"""Measure a trained model, or anyone's images, by metrics that name their protocol.

--workdir scores the model of a work directory on a split of its data set, beside baselines (images
generated from another source; the mean training image) and a ceiling (the real images), and appends
one row to WORKDIR/eval/results.jsonl. --generated and --reference score two folders of images from
any method, matched by name. --compare shows whether A is better than B, by paired differences. A
judge is the work directory of an independently trained embedder: only a judge can measure whether
generated images show the right place, because the generator was trained to please its own embedder.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from retroguide_jax.commands.evaluate_flags import add_flags, check_flags
from retroguide_jax.errors import UserError
from retroguide_jax.files import to_path

__all__ = ["EXAMPLE", "add_flags", "run"]

EXAMPLE = """
retroguide evaluate --workdir=runs/city --judge=pretrained:city_judge_saig
retroguide evaluate --generated=my_views --reference=real_views --metrics=psnr_legacy,ssim_lua,fid
retroguide evaluate --compare runs/a runs/b
"""


def run(args: argparse.Namespace) -> int:
    """Scores or compares, prints the table, stores the row; returns the exit code.

    Raises:
      UserError: a flag is out of range, or a work directory, a judge, images or the data cannot be
        used.
    """
    check_flags(args)
    if args.list_metrics:
        from retroguide_jax.evaluation.registry import describe_metrics

        print(describe_metrics())
        return 0
    if args.compare:
        return _compare(args)

    from retroguide_jax.parallel.processes import join_processes

    join_processes()
    from retroguide_jax.parallel.agreement import check_agreement

    check_agreement({})
    return _score_folders(args) if args.generated else _score_workdir(args)


def _compare(args: argparse.Namespace) -> int:
    from retroguide_jax.evaluation import results
    from retroguide_jax.evaluation.compare import compare

    text, report = compare(*map(to_path, args.compare))
    if args.json:
        results.write_json(args.json, report)
    print(text)
    return 0


def _score_workdir(args: argparse.Namespace) -> int:
    from retroguide_jax.evaluation import results
    from retroguide_jax.evaluation.judges import name_judges
    from retroguide_jax.evaluation.watch import wait_for_checkpoint, watch
    from retroguide_jax.evaluation.workdir import Target, WorkdirJob
    from retroguide_jax.parallel.agreement import check_agreement
    from retroguide_jax.parallel.processes import is_writer

    workdir = to_path(args.workdir)
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
    check_agreement({"the hash of protocol and data": job.protocol_hash} | _name_step(job, args))

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


def _name_step(job, args: argparse.Namespace) -> dict[str, str]:
    """The checkpoint to compare over processes; with --watch they agree on each one later."""
    return {} if args.watch else {"the checkpoint's step": str(int(job.examples.model.step))}


def _score_folders(args: argparse.Namespace) -> int:
    from retroguide_jax.evaluation import results
    from retroguide_jax.evaluation.judges import name_judges
    from retroguide_jax.evaluation.naming import parse_names
    from retroguide_jax.evaluation.workdir import score_folders
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
            names=parse_names(args.names),
            num_samples=args.num_samples,
            progress_fn=progress_fn,
        )

    row, per_image = _run_with_bar(score, "evaluate")
    if is_writer():
        if args.per_image:
            results.write_per_image(args.per_image, per_image, row)
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


def _name_files(flag: str, texts: list[str], taken: Sequence[str] = ()) -> dict[str, Path]:
    """Parses NAME=FILE flags into {NAME: FILE}."""
    files: dict[str, Path] = {}
    used = {text.partition("=")[0] for text in taken}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not name.isidentifier() or name in {*files, *used}:
            raise UserError(f"--{flag}={text}: give NAME=FILE, each NAME a word of its own")
        files[name] = Path(path)
    return files


def _run_with_bar(fn, title: str):
    from retroguide_jax.parallel.processes import is_writer
    from retroguide_jax.progress import follow, make_bar

    with make_bar(unit="image", desc=title, shown=is_writer()) as bar:
        return fn(progress_fn=follow(bar))


def _show(row: Mapping[str, Any], args: argparse.Namespace) -> None:
    from retroguide_jax.evaluation import results
    from retroguide_jax.evaluation.table import format_table

    if args.json:
        results.write_json(args.json, dict(row))
    for note in row.get("notes", ()):
        print(f"note: {note}")
    print(format_table(row), flush=True)
