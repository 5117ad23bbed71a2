"""`retroguide retrieve query`: finds the images of an index that are most similar to yours."""

import argparse

from retroguide_jax.commands.data import positive_integer
from retroguide_jax.errors import UserError
from retroguide_jax.files import to_local_path, to_path

_VIEWS = ("aerial", "ground")
_MOST_ROWS = 100  # of a strip, which is then 18,000 pixels high


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the action."""
    parser.add_argument(
        "--index",
        required=True,
        metavar="DIR",
        help="index to search, made by `retroguide retrieve index`",
    )
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE_OR_FOLDER", help="image files, or folders of them"
    )
    parser.add_argument(
        "--workdir", metavar="DIR", help="where the embedder lies now (default: as in the index)"
    )
    parser.add_argument(
        "--top", type=positive_integer, default=5, metavar="K", help="how many to find"
    )
    parser.add_argument(
        "--view",
        choices=_VIEWS,
        help="what the images show (default: the view that the index does not hold)",
    )
    parser.add_argument("--json", metavar="FILE", help="write what was found to this file too")
    parser.add_argument(
        "--strip", metavar="FILE.png", help="draw each query beside what was found for it"
    )


def run(args: argparse.Namespace, remarks) -> tuple[list, int]:
    """Prints the answers; returns the errors of unreadable images, and the number of all images.

    Raises:
      UserError: there is no such image, or too many for a strip; see `Index.open`, `load_model`,
        `embedding.check_weights`, `searching.search` and `strip.draw_strip`.
    """
    from retroguide_jax.evaluation.results import write_json
    from retroguide_jax.retrieval.answers import describe_answers, format_answers
    from retroguide_jax.retrieval.index import Index

    index = Index.open(to_local_path(args.index))
    pictures = _list_queries(args.images)
    if args.strip and len(pictures) > _MOST_ROWS:
        raise UserError(f"--strip: {len(pictures)} images; give {_MOST_ROWS} at most")
    view = args.view or next(view for view in _VIEWS if view != index.about.view)
    model = _open_embedder(index, args)
    answers, unreadable = _search(index, model, view, pictures, args, remarks)
    if answers:
        print(format_answers(answers))
    if args.json:
        found = {"index": str(index.path), "index_view": index.about.view, "view": view}
        problems = [{"path": error.name, "reason": error.reason} for error in unreadable]
        write_json(
            args.json, found | {"queries": describe_answers(answers), "unreadable": problems}
        )
    if args.strip and answers:
        _write_strip(index, model, view, answers, args.strip)
    return unreadable, len(pictures)


def _list_queries(names: list[str]) -> list:
    """Entries of the query files, with paths as they were given."""
    from retroguide_jax.data.listing import make_id
    from retroguide_jax.retrieval.entries import Entry
    from retroguide_jax.retrieval.pictures import list_files

    queries = []
    for name in names:
        path = to_local_path(name)
        if path.is_dir():
            queries += [(Entry(entry.id, str(file)), file) for entry, file in list_files(path)]
        elif path.exists():
            queries.append((Entry(make_id(path.name), str(path)), path))
        else:
            raise UserError(f"{path}: no such file or folder")
    return queries


def _open_embedder(index, args: argparse.Namespace):
    from retroguide_jax.checkpoints.integrity import DamagedCheckpointError
    from retroguide_jax.checkpoints.loading import load_model
    from retroguide_jax.retrieval.embedding import check_weights

    about = index.about
    if args.workdir:
        model = load_model(args.workdir, about.checkpoint)
    elif not to_path(about.workdir).is_dir():
        raise UserError(
            f"{about.workdir}, which made {index.path}, is gone; if it has moved, give --workdir"
        )
    else:
        try:
            # Embeddings of newer steps, from a run that is still training, do not match the index.
            model = load_model(about.workdir, about.checkpoint, step=about.step)
        except DamagedCheckpointError as error:
            raise UserError(
                f"{index.path}: was made by step {about.step} of {about.workdir}, which cannot be "
                f"read ({error.reason}); make the index again"
            ) from error
    check_weights(index, model)
    return model


def _search(index, model, view, pictures, args: argparse.Namespace, remarks) -> tuple[list, list]:
    """The answers, and the errors of unreadable images."""
    import numpy as np

    from retroguide_jax.progress import make_bar
    from retroguide_jax.retrieval.answers import make_answers
    from retroguide_jax.retrieval.embedding import embed_pictures
    from retroguide_jax.retrieval.searching import search

    entries, rows, unreadable = [], [], []
    with make_bar(total=len(pictures), unit="image", desc="query") as bar:
        for batch in embed_pictures(model, pictures, view, args.batch_size, remarks):
            entries += batch.entries
            unreadable += batch.unreadable
            rows += [batch.rows] if batch.entries else []
            bar.update(len(batch.entries) + len(batch.unreadable))
    if not entries:
        return [], unreadable
    nearest = search(index, np.concatenate(rows), args.top)
    return make_answers(index, entries, nearest), unreadable


def _write_strip(index, model, view, answers, path) -> None:
    from retroguide_jax.data.images import write_png
    from retroguide_jax.retrieval.pictures import open_pictures
    from retroguide_jax.retrieval.strip import draw_strip

    sizes = model.networks.sizes
    get_picture = open_pictures(index, model.config.data)
    write_png(path, draw_strip(answers, (sizes[view], sizes[index.about.view]), get_picture))
    print(f"{len(answers)} rows of pictures in {path}")
