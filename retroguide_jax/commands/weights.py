"""Manage weight files: those that metrics need, and import and export of your own models.

`list` shows the files that metrics need and where they were found. `fetch` downloads some and
verifies their checksums. `convert` converts a PyTorch file to .safetensors, for machines without
PyTorch. Files are searched in $RETROGUIDE_WEIGHTS, PyTorch's cache, installed packages and our own
cache. `import` makes a work directory from weights that were trained elsewhere; `export` writes
those of a work directory for other programs.
"""

import argparse
from pathlib import Path

from retroguide_jax.commands import weights_export, weights_import
from retroguide_jax.errors import UserError

TAKES_OVERRIDES = True
EXAMPLE = """
retroguide weights list
retroguide weights fetch inception lpips_alex alexnet
retroguide weights fetch vgg16 --mirror=https://mirror.example/models
retroguide weights convert inception --output=weights/inception.safetensors
retroguide weights import --from=saig saig.pth --config=cvusa --only=embedder --output=runs/s
retroguide weights export --workdir=runs/city --output=city_weights
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the actions with their flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser(
        "list",
        help="say which weights there are and where they were found",
        description="List the weights that metrics can need, and where they lie on this machine.",
    )
    show.add_argument("--weights", metavar="PATH", help="a file or folder to look in first")
    fetch = actions.add_parser(
        "fetch",
        help="download weights",
        description="Download weights into ~/.cache/retroguide and compare their checksums.",
    )
    fetch.add_argument(
        "names", nargs="+", metavar="NAME", help="name of a weight file, as `list` prints it"
    )
    fetch.add_argument(
        "--mirror", metavar="URL", help="where the files lie under their published names"
    )
    fetch.add_argument("--url", help="the address of the file itself; for one NAME")
    convert = actions.add_parser(
        "convert",
        help="make a .safetensors of a weight file",
        description="Write the arrays of a weight file in a form that can be read without PyTorch.",
    )
    convert.add_argument("source", metavar="NAME_OR_FILE", help="a name of `list`, or a file")
    convert.add_argument(
        "--output",
        required=True,
        metavar="FILE.safetensors",
        help="the file to write; named NAME.safetensors it is found by its folder",
    )
    convert.add_argument("--entry", default="", metavar="NAME", help=weights_import.ENTRY_HELP)
    bring = actions.add_parser(
        "import",
        help="make a work directory of weights that were trained elsewhere",
        description="Make a work directory of weights that were trained elsewhere.\n\n"
        "`retroguide generate`, `evaluate` and `train` use it like any other, and so does\n"
        "--config.frozen_embedder.",
    )
    weights_import.add_flags(bring)
    export = actions.add_parser(
        "export",
        help="write a trained model for other programs",
        description="Write the averaged weights of a work directory, with a model card.",
    )
    weights_export.add_flags(export)


def run(args: argparse.Namespace) -> int:
    """Runs the action; returns 0.

    Raises:
      UserError: see `files.find`, `fetch.fetch`, `files.load`, `reading.write_arrays`,
        `weights_import.run` and `weights_export.run`; or an action other than `import` got a config
        override.
    """
    if args.overrides and args.action != "import":
        raise UserError(f"{args.overrides[0]}: `weights {args.action}` reads no config")
    actions = {
        "list": _list,
        "fetch": _fetch,
        "convert": _convert,
        "import": weights_import.run,
        "export": weights_export.run,
    }
    return actions[args.action](args)


def _list(args: argparse.Namespace) -> int:
    from retroguide_jax.weights import catalog, files

    width = max(map(len, catalog.CATALOG))
    for name, weights in catalog.CATALOG.items():
        size = f"{weights.size:,} bytes" if weights.size else "size not known"
        checksum = "" if weights.sha256 else ", checksum not known"
        found = files.find(name, args.weights)
        print(f"{name:<{width}}  {found or 'not found'}")
        print(f"{'':<{width}}  {weights.purpose}; {size}{checksum}; {weights.licence}")
    return 0


def _fetch(args: argparse.Namespace) -> int:
    from retroguide_jax.weights import catalog, fetch, files

    if args.url and len(args.names) > 1:
        raise UserError("--url is the address of one file; give one NAME, or --mirror")
    for weights in [catalog.get_weights(name) for name in args.names]:
        path = fetch.fetch(weights.name, mirror=args.mirror, url=args.url)
        print(f"{weights.name}: {path} ({weights.licence})")
        if not weights.sha256:
            print(
                f"{weights.name}: sha256 {files.compute_sha256(path)}, recorded in "
                f"{files.get_record_path(path)}; its publisher names none to compare it with"
            )
    return 0


def _convert(args: argparse.Namespace) -> int:
    from retroguide_jax.weights import catalog, files, reading

    if args.source in catalog.CATALOG:
        if args.entry:
            raise UserError(f"--entry: {args.source} has one set of arrays; leave it out")
        loaded = files.load(args.source)
        path, arrays, origin = loaded.path, loaded.arrays, loaded.origin
    else:
        path = Path(args.source)
        arrays = reading.read_arrays(path, args.entry)
        origin = files.compute_sha256(path)
    reading.write_arrays(args.output, arrays, origin)
    num_values = sum(array.size for array in arrays.values())
    print(f"{len(arrays)} arrays, {num_values:,} floats of {path} in {args.output}")
    return 0
