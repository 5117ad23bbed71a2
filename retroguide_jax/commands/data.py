"""Build a data set, or look at its pairs before training on them.

`build` makes a data set where it is missing: procedural_city is rendered, image_pairs is read from
a folder of your photographs. `show` writes some pairs with their ids to one picture.
"""

import argparse

EXAMPLE = """
retroguide data build image_pairs --raw_dir=my_photos
retroguide data show procedural_city --config_name=city_64 --num=8 --output=pairs.png
"""

# The packaged config that says how a data set is read when no other config is in play.
_DEFAULT_CONFIGS = {"procedural_city": "city", "image_pairs": "image_pairs"}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the actions `build` and `show` with their flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser(
        "build",
        help="build a data set where it is missing",
        description="Builds a data set; does nothing where it is already built.",
    )
    show = actions.add_parser(
        "show",
        help="write pairs with their ids to one PNG",
        description="Writes a contact sheet of pairs; builds the data set first if it is missing.",
    )
    for action in (build, show):
        _add_dataset_flags(action)
    show.add_argument("--split", default="train", help="a split or a part of one, test[:100]")
    show.add_argument("--num", type=positive_integer, default=8, help="how many pairs")
    show.add_argument("--output", default="pairs.png", metavar="FILE", help="the PNG to write")


def run(args: argparse.Namespace) -> int:
    """Runs the action; returns 0.

    Raises:
      UserError: see `catalog.open_dataset`, `pipeline.read_pairs` and `images.write_png`.
    """
    from retroguide_jax.data import catalog, images, pipeline

    data_config = _make_data_config(args)
    builder = catalog.open_dataset(data_config, args.data_dir)
    if args.action == "build":
        sizes = {name: split.num_examples for name, split in builder.info.splits.items()}
        print(f"{builder.info.full_name} in {builder.data_path}")
        print(", ".join(f"{name}: {count} pairs" for name, count in sizes.items()))
        return 0
    for view in ("aerial", "ground"):
        height, width, _ = builder.info.features[view].shape
        if height and width:  # stored in one size: show it as it is
            data_config[f"{view}_size"] = (height, width)
    pairs = pipeline.read_pairs(builder, data_config, args.split, args.num)
    # Small images are enlarged until a person can see something in them.
    scale = max(1, 192 // pairs[0]["aerial"].shape[0])
    sheet = images.make_grid(
        [[pair["aerial"], pair["ground"]] for pair in pairs],
        gap=4,
        scale=scale,
        captions=[pair["id"] for pair in pairs],
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
        "--data_dir",
        help="where built data sets live (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)",
    )
    parser.add_argument(
        "--allow_bad", action="store_true", help="leave unusable files out instead of stopping"
    )


def _make_data_config(args: argparse.Namespace):
    from retroguide_jax.config import load_config
    from retroguide_jax.data import catalog

    catalog.check_name(args.name)
    data_config = load_config(_DEFAULT_CONFIGS[args.name]).data
    for field in ("config_name", "raw_dir", "allow_bad"):
        if getattr(args, field):
            data_config[field] = getattr(args, field)
    return data_config


def positive_integer(text: str) -> int:
    """An argparse type; its name is what the error calls it."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number
