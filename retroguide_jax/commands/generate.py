"""Generate target views from source images.

Takes one image file or a folder of images, resizes each to the size the model was trained with, and
writes the generated view. No ground truth is needed. NAME.jpg becomes NAME.png, or NAME_0.png,
NAME_1.png, ... with several samples; subfolders are kept. Sample k uses the same noise for every
file, so a file's picture does not depend on the other files. Files that cannot be read are listed
and skipped, and the exit status is then 1.

The model is that of a work directory, or a program that `retroguide weights export` wrote
(generate.stablehlo, generate.onnx), which gives the same pictures.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from retroguide_jax.errors import UserError
from retroguide_jax.files import to_local_path

EXAMPLE = """
retroguide generate --workdir=pretrained:city --input=docs/tiles --output=my_views
retroguide generate --workdir=runs/city --input=my_tiles --output=my_views
retroguide generate --exported=generate.stablehlo --input=my_tiles --output=my_views
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `retroguide generate`."""
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument(
        "--workdir",
        metavar="DIR",
        help="work directory of the trained model, or the address of an installed one: "
        "pretrained:city",
    )
    model.add_argument("--exported", metavar="FILE", help="an exported .stablehlo or .onnx program")
    parser.add_argument(
        "--input", required=True, metavar="FILE|DIR", help="an image, or a folder of images"
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder for the generated PNG files"
    )
    parser.add_argument("--num_samples", type=int, default=1, metavar="K", help="images per file")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise")
    parser.add_argument("--batch_size", type=int, default=8, help="images at a time")
    parser.add_argument(
        "--checkpoint",
        choices=("latest", "best"),
        help="checkpoint of --workdir to use (default: latest)",
    )


def run(args: argparse.Namespace) -> int:
    """Generates the images; returns 1 if a file had to be skipped, else 0.

    Raises:
      UserError: a flag is out of range, there is nothing to read, two files would have the same
        output, an output would overwrite an input or lie outside the folder, or the model cannot
        be used.
    """
    for flag, low in (("num_samples", 1), ("batch_size", 1), ("seed", 0)):
        if not low <= getattr(args, flag) < 2**31:
            raise UserError(f"--{flag}={getattr(args, flag)}: must be at least {low}, below 2^31")
    source, output = to_local_path(args.input), to_local_path(args.output)
    outputs = plan_outputs(source, output, args.num_samples)

    from retroguide_jax.data.remarks import Remarks
    from retroguide_jax.progress import make_bar

    model = _open_model(args)
    skipped: dict[Path, str] = {}
    remarks = Remarks()
    with make_bar(total=len(outputs) * args.num_samples, unit="image", desc="generate") as bar:
        for num_written in _write_images(model, outputs, args, skipped, remarks):
            bar.update(num_written)
    for line in remarks.list_lines():
        print(f"note: {line}", file=sys.stderr)
    for path, reason in skipped.items():
        print(f"skipped {path}: {reason}", file=sys.stderr)
    num_read = len(outputs) - len(skipped)
    print(f"{num_read * args.num_samples} images from {num_read} files in {args.output}")
    if skipped:
        print(f"{len(skipped)} of {len(outputs)} files could not be read", file=sys.stderr)
    return 1 if skipped else 0


def _open_model(args: argparse.Namespace):
    """Opens the model, an object with `source_size`, `z_dim` and `generate`."""
    if not args.exported:
        from retroguide_jax.checkpoints.loading import load_model

        return load_model(args.workdir, checkpoint=args.checkpoint or "latest")
    if args.checkpoint:
        raise UserError("--checkpoint: an exported program holds one model; give --workdir for it")
    from retroguide_jax.exported import ExportedGenerator

    return ExportedGenerator(to_local_path(args.exported))


def plan_outputs(source: Path, output: Path, num_samples: int) -> dict[Path, list[Path]]:
    """Maps each input file to its output files, before anything is generated.

    Args:
      source: an image file, or a folder, see `listing.list_images`; `output` within it is left out.
      output: folder for the results; need not exist.
      num_samples: images per file.

    Returns:
      {input file: its `num_samples` output files}, in order of the names.

    Raises:
      UserError: nothing to read; see `listing.list_images`; an output that is also an input or lies
        outside `output` (through a link).
    """
    if output.exists() and not output.is_dir():
        raise UserError(f"--output={output}: is a file; name a folder")
    files = _list_images(source, output)
    outputs: dict[Path, list[Path]] = {}
    inputs = {path.resolve() for path in files.values()}
    for name, path in files.items():
        stem = output / name
        numbers = [""] if num_samples == 1 else [f"_{number}" for number in range(num_samples)]
        outputs[path] = [stem.with_name(f"{stem.name}{number}.png") for number in numbers]
        for target in outputs[path]:
            if target.resolve() in inputs:
                raise UserError(f"{target} would overwrite an input; choose another --output")
            if not target.parent.resolve().is_relative_to(output.resolve()):
                raise UserError(f"{target.parent} leads out of --output; remove the link")
    return outputs


def _list_images(source: Path, output: Path) -> dict[str, Path]:
    from retroguide_jax.data import listing

    if not source.exists():
        raise UserError(f"--input={source}: no such file or folder")
    if not source.is_dir():
        return {listing.make_id(source.name): source}
    if output.resolve() == source.resolve():
        raise UserError(f"--output={output}: is the input folder; choose another one")
    # Results of an earlier run must not become inputs of the next one.
    return listing.list_images(source, leave_out=output)


def _write_images(
    model,
    outputs: dict[Path, list[Path]],
    args: argparse.Namespace,
    skipped: dict[Path, str],
    remarks,
) -> Iterator[int]:
    """Generates and writes batch by batch; yields the number of images completed.

    The last batch is filled up to `args.batch_size` rows, so that the model compiles only once.
    """
    import numpy as np

    from retroguide_jax.data import images
    from retroguide_jax.noise import draw_noise

    noise = draw_noise(args.seed, args.num_samples, model.z_dim)

    def flush(waiting: list[tuple[np.ndarray, np.ndarray, Path]]) -> None:
        padded = waiting + waiting[-1:] * (args.batch_size - len(waiting))
        sources, z, _ = zip(*padded, strict=True)
        generated = np.asarray(model.generate(np.stack(sources), np.stack(z)), np.float32)
        if not np.all(np.isfinite(generated)):
            raise UserError("the generated images are not finite; use an earlier checkpoint")
        for image, (_, _, target) in zip(generated, waiting, strict=False):
            images.write_png(target, images.to_uint8(image))

    waiting: list[tuple[np.ndarray, np.ndarray, Path]] = []
    for path, targets in outputs.items():
        try:
            picture = images.read_image(path, model.source_size, formats=images.READABLE_FORMATS)
        except UserError as error:
            skipped[path] = str(error).removeprefix(f"{path}: ")
            yield len(targets)
            continue
        remarks.add(str(path), picture)
        image = images.to_float(picture.pixels)
        for z, target in zip(noise, targets, strict=True):
            waiting.append((image, z, target))
            if len(waiting) == args.batch_size:
                flush(waiting)
                yield len(waiting)
                waiting = []
    if waiting:
        flush(waiting)
        yield len(waiting)
