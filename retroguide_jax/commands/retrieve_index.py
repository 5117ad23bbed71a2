"""`retroguide retrieve index`: embeds images and stores the embeddings."""

import argparse

from retroguide_jax.errors import UserError
from retroguide_jax.files import make_absolute, to_local_path, to_path


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the action."""
    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="work directory of the trained embedder"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--images", metavar="DIR", help="a folder of image files, of any size")
    what.add_argument(
        "--data",
        nargs="?",
        const="",
        metavar="SPLIT",
        help="split of the model's data set, such as test[:100] (default: config.data.test_split)",
    )
    parser.add_argument(
        "--data_dir",
        metavar="DIR",
        help="where data sets lie (default: $TFDS_DATA_DIR, else ~/tensorflow_datasets)",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="the new index, a folder")
    parser.add_argument(
        "--view",
        choices=("aerial", "ground"),
        help="what the images show (default: the model's target view)",
    )
    parser.add_argument(
        "--coordinates",
        metavar="FILE.csv",
        help="positions of --images, with columns id,latitude,longitude; an id is a path without "
        "suffix",
    )
    parser.add_argument(
        "--checkpoint", default="latest", choices=("latest", "best"), help="checkpoint to use"
    )


def run(args: argparse.Namespace, remarks) -> tuple[list, int]:
    """Writes the index; returns the errors of unreadable images, and the number of all images.

    Raises:
      UserError: flags that cannot be combined; see `load_model`, `pictures.list_files`,
        `catalog.open_dataset`, `coordinates.read_coordinates` and `building.build_index`.
    """
    from retroguide_jax.checkpoints.loading import load_model
    from retroguide_jax.fingerprints import hash_weights
    from retroguide_jax.progress import make_bar
    from retroguide_jax.retrieval.building import build_index
    from retroguide_jax.retrieval.index import About

    if args.coordinates and args.images is None:
        raise UserError("--coordinates: belong to --images; a data set has its own")
    if args.data_dir and args.data is None:
        raise UserError("--data_dir: belongs to --data; leave it out")
    output = to_local_path(args.output)
    model = load_model(args.workdir, args.checkpoint)
    view = args.view or model.target_view
    is_folder = args.images is not None
    pictures = _open_folder(args) if is_folder else _open_examples(args, model, view)
    about = About(
        view=view,
        weights=hash_weights(model.variables["embedder"]),
        workdir=_make_absolute(args.workdir),
        checkpoint=args.checkpoint,
        step=model.step,
        images=_make_absolute(args.images) if is_folder else None,
        split=None if is_folder else args.data or model.config.data.test_split,
        data_dir=_make_absolute(args.data_dir) if args.data_dir else None,
    )
    with make_bar(total=len(pictures), unit="image", desc="index") as bar:
        built = build_index(
            output,
            model,
            about,
            pictures,  # pyright: ignore[reportArgumentType]
            batch_size=args.batch_size,
            progress_fn=bar.update,
            remarks=remarks,
        )
    print(f"{built.num_entries} {view} images in {output}")
    if built.num_repeated:
        print(f"{built.num_repeated} images of the same tile or id are in it once")
    return built.unreadable, len(pictures)


def _open_folder(args: argparse.Namespace) -> list:
    from retroguide_jax.data.listing import make_id
    from retroguide_jax.retrieval.coordinates import read_coordinates
    from retroguide_jax.retrieval.pictures import list_files

    known = read_coordinates(to_local_path(args.coordinates)) if args.coordinates else {}
    files = list_files(to_local_path(args.images), known)
    if known:
        placed = {entry.id for entry, _ in files if entry.coordinates is not None}
        unmatched = [name for name in known if not {name, make_id(name)} & placed]
        named = f"{', '.join(map(repr, unmatched[:3]))}{' ...' if len(unmatched) > 3 else ''}"
        if not placed:
            ids = ", ".join(repr(entry.id) for entry, _ in files[:3])
            raise UserError(
                f"--coordinates={args.coordinates}: none of its {len(known)} ids is an image's: it "
                f"names {named}; the images are {ids}{' ...' if len(files) > 3 else ''}: an id is "
                f"the path inside {args.images}, with or without its suffix"
            )
        print(
            f"coordinates of {len(placed)} of {len(files)} images; "
            f"{len(unmatched)} rows of {args.coordinates} name no image"
            f"{f': {named}' if unmatched else ''}"
        )
    return files


def _open_examples(args: argparse.Namespace, model, view: str):
    from retroguide_jax.data import catalog
    from retroguide_jax.retrieval.pictures import Examples

    data_config = model.config.data
    builder = catalog.open_dataset(data_config, args.data_dir, build=False)
    return Examples(builder, args.data or data_config.test_split, view)


def _make_absolute(path: str) -> str:
    return str(make_absolute(to_path(path)))
