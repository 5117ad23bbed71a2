"""`retroguide weights export`: writes a trained model as files for other programs."""

import argparse

from retroguide_jax.errors import UserError

FORMATS = ("safetensors", "stablehlo", "onnx")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the action."""
    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="work directory of the trained model"
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="a new or empty folder for the files"
    )
    parser.add_argument(
        "--checkpoint", default="latest", choices=("latest", "best"), help="checkpoint to use"
    )
    parser.add_argument(
        "--format",
        default="safetensors",
        choices=FORMATS,
        help="safetensors: arrays under PyTorch's names; stablehlo, onnx: programs with their "
        "weights inside",
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "float16"),
        help="type of the arrays, with --format=safetensors; float16 halves the files, changes "
        "scores slightly and leaves the discriminator out",
    )
    parser.add_argument(
        "--license",
        metavar="ID",
        help="licence of the weights, for the card, such as Apache-2.0 (default: none is stated)",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the files and the model card beside them; returns 0.

    Raises:
      UserError: the output folder is not empty, or see `load_model` and the format's `export`.
    """
    from retroguide_jax.checkpoints.loading import load_model
    from retroguide_jax.exchange import card
    from retroguide_jax.files import to_local_path, to_path

    workdir, output = to_path(args.workdir), to_local_path(args.output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output={output}: is not empty; name a new folder")
    if args.dtype != "float32" and args.format != "safetensors":
        raise UserError(f"--dtype={args.dtype} goes with --format=safetensors; leave it out")
    model = load_model(workdir, args.checkpoint)
    files = _export(model, workdir, output, args)
    card.write_card(model, workdir, output, files, args.license)
    for name, what in files.items():
        print(f"{output / name}: {what}")
    print(f"{output / card.NAME}: what the model is, and what it is not for")
    return 0


def _export(model, workdir, output, args: argparse.Namespace) -> dict[str, str]:
    """Writes the files; returns {file name: description of its content}."""
    if args.format == "safetensors":
        from retroguide_jax.exchange import safetensors_export

        if args.dtype == "float16":
            safetensors_export.round_to_half(model)
        return safetensors_export.export(model, workdir, output, args.dtype)
    if args.format == "stablehlo":
        from retroguide_jax.exchange import programs

        return programs.export_stablehlo(model, output)
    from retroguide_jax.exchange import onnx_export

    return onnx_export.export_onnx(model, output)
