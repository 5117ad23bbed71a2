"""Check a folder of photographs, build a data set, or look at its pairs.

`check` reports the files recognised in a raw folder, what is missing or wrong, and what to do.
`build` makes a data set if it is missing: procedural_city is rendered, the others are read from
your files. `show` writes some pairs with their ids to one picture.
"""

import argparse
import os

from retroguide_jax.errors import UserError
from retroguide_jax.text import make_printable

TAKES_OVERRIDES = True
EXAMPLE = """
retroguide data check cvusa --raw_dir=CVUSA
retroguide data build vigor_gen --raw_dir=VIGOR --config.data.crop_metres=35
retroguide data show procedural_city --config_name=city_64 --num=8 --output=pairs.png
"""

# The packaged config that defines how a data set is read if no other config is given.
_DEFAULT_CONFIGS = {
    "procedural_city": "city",
    "image_pairs": "image_pairs",
    "cvusa": "cvusa",
    "cvact": "cvact",
    "vigor_gen": "vigor_gen",
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the actions `check`, `build` and `show` with their flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser(
        "check",
        help="say what is in a raw folder and whether it can be built from",
        description="Look at a raw folder; exit status 0 only if a build would succeed.",
    )
    build = actions.add_parser(
        "build",
        help="build a data set where it is missing",
        description="Build a data set; do nothing where it is already built.",
    )
    show = actions.add_parser(
        "show",
        help="write pairs with their ids to one PNG",
        description="Write a contact sheet of pairs; build the data set first if it is missing.",
    )
    for action in (check, build, show):
        _add_dataset_flags(action)
    for action in (build, show):
        action.add_argument(
            "--data_dir",
            help="where data sets lie (default: $TFDS_DATA_DIR, else ~/tensorflow_datasets)",
        )
    check.add_argument("--full", action="store_true", help="decode every image, not a sample")
    check.add_argument("--json", metavar="FILE", help="write the findings to this file too")
    show.add_argument(
        "--split", default="train", help="split to draw from, or a part of one, such as test[:100]"
    )
    show.add_argument("--num", type=positive_integer, default=8, help="number of pairs")
    show.add_argument("--output", default="pairs.png", metavar="FILE", help="the PNG to write")


def run(args: argparse.Namespace) -> int:
    """Runs the action; returns 0, or 1 if `check` finds that a build would fail.

    Raises:
      UserError: see `catalog.open_dataset`, `reading.read_pairs` and `images.write_png`.
    """
    data_config = _make_data_config(args)
    return {"check": _check, "build": _build, "show": _show}[args.action](args, data_config)


def _check(args: argparse.Namespace, data_config) -> int:
    from retroguide_jax.data import catalog
    from retroguide_jax.datasets.common import report
    from retroguide_jax.evaluation.results import write_json

    builder_class = catalog.load_builder_class(args.name)
    if not hasattr(builder_class, "list_raw"):
        raise UserError(f"{args.name} is made here, not read from files: there is nothing to check")
    if not data_config.raw_dir:
        raise UserError("say which folder to check: --raw_dir=DIR")
    found = report.make_report(
        builder_class,
        data_config,
        full=args.full,
        num_workers=min(len(os.sched_getaffinity(0)), 32),
    )
    if args.json:
        write_json(args.json, found)
    print(make_printable(report.format_report(found)))
    return 0 if found["ok"] else 1


def _build(args: argparse.Namespace, data_config) -> int:
    from retroguide_jax.data import catalog

    builder = catalog.open_dataset(data_config, args.data_dir)
    sizes = {name: split.num_examples for name, split in builder.info.splits.items()}
    print(f"{builder.info.full_name} in {builder.data_path}")
    print(", ".join(f"{name}: {count} pairs" for name, count in sizes.items()))
    return 0


def _show(args: argparse.Namespace, data_config) -> int:
    from retroguide_jax.data import catalog, images, reading

    builder = catalog.open_dataset(data_config, args.data_dir)
    for view in ("aerial", "ground"):
        height, width, _ = reading.get_features(builder)[view].shape
        if height and width:  # all images are stored in one size: show them in it
            data_config[f"{view}_size"] = (height, width)
    pairs = reading.read_pairs(builder, data_config, args.split, args.num)
    # Enlarge small images so that their content is visible.
    scale = max(1, 192 // pairs[0]["aerial"].shape[0])
    sheet = images.make_grid(
        [images.enlarge_lower([pair["aerial"], pair["ground"]]) for pair in pairs],
        gap=4,
        scale=scale,
        captions=[pair["id"] for pair in pairs],
        headings=["aerial", "ground"],
    )
    images.write_png(args.output, sheet)
    print(f"{len(pairs)} pairs of {builder.info.full_name} ({args.split}) in {args.output}")
    return 0


def _add_dataset_flags(parser: argparse.ArgumentParser) -> None:
    known = ", ".join(_DEFAULT_CONFIGS)
    parser.add_argument("name", metavar="NAME", help=f"the data set: {known}")
    parser.add_argument("--config_name", help="which variant, for example city_256")
    parser.add_argument("--raw_dir", help="your images, where the data set is made of them")
    parser.add_argument(
        "--allow_bad", action="store_true", help="leave unusable files out instead of stopping"
    )


def _make_data_config(args: argparse.Namespace):
    from retroguide_jax.config import load_config
    from retroguide_jax.data import catalog

    catalog.check_name(args.name)
    data_config = load_config(_DEFAULT_CONFIGS[args.name], args.overrides).data
    for field in ("config_name", "raw_dir", "allow_bad"):
        if getattr(args, field):
            data_config[field] = getattr(args, field)
    return data_config


def positive_integer(text: str) -> int:
    """An argparse type; argparse prints the function's name in its error."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number
